package deploy

import (
	"bytes"
	"errors"
	"iter"
	"path/filepath"
	"time"
)

// Plan is the difference between the files that should be there and those that are.
type Plan struct {
	lineage string
	jobs    []Job
	changes []change
	maps    []*sniMap         // those that have to change
	access  map[string]Access // of each planned file, by path
	summary Summary
	applied bool

	try    func(staged []Target) error
	settle time.Duration
}

// change is a file that differs from what is there.
type change struct {
	file
	access     Access    // that the file will have
	old        *snapshot // what is there; nil: nothing
	newContent bool      // if not set, only owner or mode change
	why        string
	members    []change // a new generation directory has these files; it is complete before it gets its name
	withdraw   bool     // an OCSP response whose old content is taken away first, because the certificate changes
}

// These are the reasons why a path has to change.
const (
	whyMissing = "missing"
	whyContent = "content"
	whyAccess  = "mode or owner"
	whyExpired = "no valid response" // of an OCSP response, which is removed
)

// Make compares the files of all jobs of a lineage with what is on disk, and plans what has to change. It writes nothing. remembered is the
// access to each path from an earlier plan's Accesses; Make restores it if the configuration sets nothing else. [Check] covers what does
// not depend on the bundles: the way to the directories, and free space. The error is an *Error that names the path.
func Make(lineage string, jobs []Job, remembered map[string]Access) (*Plan, error) {
	p := &Plan{lineage: lineage, jobs: jobs, access: map[string]Access{}}
	var problems []error
	for _, job := range jobs {
		before := len(p.changes)
		for _, f := range job.Target.files(job.Bundle) {
			problems = append(problems, p.compare(f, remembered))
		}
		if job.Target.Directory != "" {
			problems = append(problems, p.compareGeneration(job, remembered))
		}
		if job.Target.OCSP != "" {
			problems = append(problems, p.compareStaple(job, before, remembered))
		}
	}
	for _, m := range makeMaps(jobs) {
		changed, err := m.compare(remembered)
		problems = append(problems, err)
		if err == nil && changed {
			p.maps = append(p.maps, m)
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	p.summarize()
	return p, nil
}

// Try sets a function that Apply calls when everything is staged and nothing has changed yet. If the function returns an error, the
// deployment stops. The function gets the targets with the paths at which their new files wait. If a file does not change, this is its own
// path.
func (p *Plan) Try(try func(staged []Target) error) { p.try = try }

// Settle sets how long Apply and Revert wait after they have taken OCSP responses away, and again before they put the new ones in place. A
// server that opens its files at each connection has then opened all three before the next of them changes.
func (p *Plan) Settle(pause time.Duration) { p.settle = pause }

// Accesses returns the present access to the planned files, by path. Later plans take it as remembered. It leaves out the files of
// generation directories.
func (p *Plan) Accesses() map[string]Access {
	found := map[string]Access{}
	for _, job := range p.jobs {
		for _, f := range append(job.Target.files(job.Bundle), job.stapleFiles()...) {
			has, err := f.accessNow()
			if err != nil {
				continue
			}
			want := p.access[f.path]
			want.UID, want.GID = has.UID, has.GID
			found[f.path] = want
		}
	}
	return found
}

// accessNow returns the present access to a file.
func (f file) accessNow() (Access, error) {
	dir, name := filepath.Split(f.path)
	root, err := f.target.open(dir)
	if err != nil {
		return Access{}, err
	}
	defer root.Close()
	info, err := root.Lstat(name)
	if err != nil {
		return Access{}, err
	}
	if has, ok := accessOf(info); ok && info.Mode().IsRegular() {
		return has, nil
	}
	return Access{}, errNotRegular
}

// compare checks one file.
func (p *Plan) compare(f file, remembered map[string]Access) error {
	dir, name := filepath.Split(f.path)
	root, err := f.target.open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	old, err := f.target.look(root, dir, name)
	if err != nil {
		return err
	}
	want, err := f.wanted(root, old, remembered)
	if err != nil {
		return &Error{Op: "plan", Path: f.path, Err: err}
	}
	p.access[f.path] = want
	c := change{file: f, access: want, old: old}
	switch {
	case old == nil:
		c.newContent, c.why = true, whyMissing
	case !bytes.Equal(old.content, f.content):
		c.newContent, c.why = true, whyContent
	case want.differs(old.access):
		c.why = whyAccess
	default:
		return nil
	}
	p.changes = append(p.changes, c)
	return nil
}

// oldPair is a certificate and key as a server finds them before the deployment.
type oldPair struct{ chain, key []byte }

// touched lists the jobs whose target the plan changes, with what a server found there before.
func (p *Plan) touched() iter.Seq2[Job, []oldPair] {
	return func(yield func(Job, []oldPair) bool) {
		before := p.before()
		for _, job := range p.jobs {
			touched := false
			at := func(path string) []byte {
				if old, ok := before[path]; ok {
					touched = true
					return old
				}
				return job.content(path)
			}
			var pairs []oldPair
			for _, ways := range job.Target.layouts(job.Bundle) {
				chain, key := ways[0].chainAndKey(at)
				pairs = append(pairs, oldPair{chain, key})
			}
			if touched && !yield(job, pairs) {
				return
			}
		}
	}
}

// before returns what was at each path that the plan changes, including the files of generation directories.
func (p *Plan) before() map[string][]byte {
	before := map[string][]byte{}
	for _, c := range p.changes {
		before[c.path] = nil
		switch {
		case c.link != "":
			for _, f := range c.target.generation(nil, c.path) {
				before[f.path] = nil
				if c.old != nil && c.old.files[filepath.Base(f.path)] != nil {
					before[f.path] = c.old.files[filepath.Base(f.path)].content
				}
			}
		case c.old != nil:
			before[c.path] = c.old.content
		}
	}
	for _, m := range p.maps {
		m.before(before)
	}
	return before
}

// predicted returns the access that a file will have, including what the system chooses.
func (c change) predicted() Access {
	root, err := c.target.open(filepath.Dir(c.path))
	if err != nil { // the directory of the generations does not exist yet; it will be next to the link
		root, err = c.target.open(filepath.Dir(filepath.Dir(c.path)))
	}
	if err != nil {
		return c.access
	}
	defer root.Close()
	return c.access.made(root)
}
