package deploy

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"mxcert/acme/bundle"
)

// Plan is the difference between the files that should be there and those that are.
type Plan struct {
	lineage string
	jobs    []Job
	steps   []step
	tables  []*table // SNI maps that have to change
	access  map[string]Access

	try func(candidate func(path string) string) error
}

// step is one path that has to change.
type step struct {
	item
	access
	old     *snapshot // nil: there was none
	differs bool      // the content differs; otherwise only owner or mode
	why     string
	members []member // it is a new directory with these files, complete before it has its name
}

// Why a path has to change.
const (
	whyMissing = "missing"
	whyContent = "content"
	whyAccess  = "mode or owner"
)

// Make looks at the files of all jobs and plans what has to change. Nothing is written. What does not depend on the bundles
// (the way to the directories, room) is for [Check]. The error is an *Error that names the path.
func Make(lineage string, jobs []Job) (*Plan, error) {
	p := &Plan{lineage: lineage, jobs: jobs, access: map[string]Access{}}
	var problems []error
	for _, job := range jobs {
		for _, i := range job.Target.items(job.Bundle) {
			problems = append(problems, p.compare(i))
		}
		if job.Target.Directory != "" {
			problems = append(problems, p.compareGeneration(job))
		}
	}
	for _, t := range makeTables(jobs) {
		changed, err := t.compare()
		problems = append(problems, err)
		if err == nil && changed {
			p.tables = append(p.tables, t)
		}
	}
	return p, errors.Join(problems...)
}

// Try has a function called when everything is staged and nothing has changed yet; its error stops the deployment. The
// function it gets tells where the candidate for a path lies: the path itself, where nothing changes there.
func (p *Plan) Try(try func(candidate func(path string) string) error) { p.try = try }

// Empty reports that the files are as they should be.
func (p *Plan) Empty() bool { return len(p.steps) == 0 && len(p.tables) == 0 }

// ContentChanges reports whether the content of a file changes, not just its mode: only then has a server to be told.
func (p *Plan) ContentChanges() bool {
	for _, s := range p.steps {
		if s.differs {
			return true
		}
	}
	return len(p.tables) > 0
}

// Accesses is who may use the planned files now, by path, for the Remembered of later targets. What lies in generation
// directories is not among them.
func (p *Plan) Accesses() map[string]Access {
	found := map[string]Access{}
	for path, want := range p.access {
		info, err := os.Lstat(path)
		if err != nil {
			continue
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			want.UID, want.GID = int(stat.Uid), int(stat.Gid)
		}
		found[path] = want
	}
	return found
}

// compare looks at one file.
func (p *Plan) compare(i item) error {
	dir, name := filepath.Split(i.path)
	root, err := i.target.open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	old, err := i.look(root, dir, name)
	if err != nil {
		return err
	}
	want, err := wanted(i, root, old)
	if err != nil {
		return &Error{Op: "plan", Path: i.path, Err: err}
	}
	p.access[i.path] = want.Access()
	s := step{item: i, access: want, old: old}
	switch {
	case old == nil:
		s.differs, s.why = true, whyMissing
	case !bytes.Equal(old.content, i.content):
		s.differs, s.why = true, whyContent
	case want.differs(old):
		s.why = whyAccess
	default:
		return nil
	}
	p.steps = append(p.steps, s)
	return nil
}

// before is what lay at each path that the plan changes, those in generation directories included.
func (p *Plan) before() map[string][]byte {
	before := map[string][]byte{}
	for _, s := range p.steps {
		before[s.path] = nil
		switch {
		case s.link != "":
			for _, name := range []string{privkeyFile, fullchainFile, combinedFile} {
				before[filepath.Join(s.path, name)] = nil
				if s.old != nil && s.old.files[name] != nil {
					before[filepath.Join(s.path, name)] = s.old.files[name].content
				}
			}
		case s.old != nil:
			before[s.path] = s.old.content
		}
	}
	for _, t := range p.tables {
		t.before(before)
	}
	return before
}

// touched calls a function for each target of which something changes, with what a server found there before.
func (p *Plan) touched(each func(job Job, pairs [][2][]byte) error) error {
	before := p.before()
	for _, job := range p.jobs {
		touched := false
		now := func(path string) []byte {
			if old, ok := before[path]; ok {
				touched = true
				return old
			}
			return job.content(path)
		}
		if pairs := job.Target.pairs(job.Bundle, now); touched {
			if err := each(job, pairs); err != nil {
				return err
			}
		}
	}
	return nil
}

// content is what the job wants at a path.
func (j Job) content(path string) []byte {
	for _, i := range append(j.Target.items(j.Bundle), j.Target.generation(j.Bundle, j.Target.Directory)...) {
		if i.path == path {
			return i.content
		}
	}
	return nil
}

// Revertible reports whether the files that the plan replaces held pairs worth going back to: at every target a
// readable certificate with its key that has not expired at the given time. The error says why not.
func (p *Plan) Revertible(at time.Time) error {
	return p.touched(func(_ Job, pairs [][2][]byte) error {
		for _, pair := range pairs {
			b, err := bundle.Parse(pair[0], pair[1])
			if err != nil {
				return err
			}
			if at.After(b.NotAfter()) {
				return errOldExpired
			}
		}
		return nil
	})
}

// Attributes are what a directory listing shows of a path.
type Attributes struct {
	Owner string `json:"owner"`
	Group string `json:"group"`
	Mode  string `json:"mode"`           // four octal digits
	Link  string `json:"link,omitempty"` // where a symbolic link leads
}

// Change is one line of a plan for a person.
type Change struct {
	Path    string      `json:"path"`
	Why     string      `json:"why"` // "missing", "content", "mode or owner"
	Content bool        `json:"content"`
	Before  *Attributes `json:"before"` // nil: there is nothing
	After   Attributes  `json:"after"`
	Mode    fs.FileMode `json:"-"`
}

// Changes lists the plan.
func (p *Plan) Changes() []Change {
	list := make([]Change, 0, len(p.steps))
	for _, s := range p.steps {
		list = append(list, s.change())
	}
	for _, t := range p.tables {
		list = append(list, t.step().change())
	}
	return list
}

func (s step) change() Change {
	c := Change{Path: s.path, Why: s.why, Content: s.differs, Mode: s.mode, After: s.predicted().attributes()}
	c.After.Link = s.link
	if s.old != nil {
		before := access{mode: s.old.mode, uid: s.old.uid, gid: s.old.gid}.attributes()
		before.Link = s.old.link
		c.Before = &before
	}
	return c
}

// predicted is the access that a file will have, with what the system gives.
func (s step) predicted() access {
	root, err := s.target.open(filepath.Dir(s.path))
	if err != nil { // the directory of the generations is still to be made, where the link will be
		root, err = s.target.open(filepath.Dir(filepath.Dir(s.path)))
	}
	if err != nil {
		return s.access
	}
	defer root.Close()
	return s.made(root)
}
