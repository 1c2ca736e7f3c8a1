package deploy

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"mxcert/acme/bundle"
)

// Plan is the difference between the files that should be there and those that are.
type Plan struct {
	lineage string
	jobs    []Job
	steps   []step
}

// step is one file that has to change.
type step struct {
	item
	access
	old     *snapshot // nil: there was none
	differs bool      // the content differs; otherwise only owner or mode
	why     string
}

// Change is one line of a plan for a person.
type Change struct {
	Path    string      `json:"path"`
	Why     string      `json:"why"` // "missing", "content", "mode or owner"
	Mode    fs.FileMode `json:"-"`
	Content bool        `json:"content"`
}

// Make looks at the files of all jobs and plans what has to change. Nothing is written. The error is an *Error that
// names the path.
func Make(lineage string, jobs []Job) (*Plan, error) {
	p := &Plan{lineage: lineage, jobs: jobs}
	var problems []error
	for _, job := range jobs {
		for _, i := range job.Target.items(job.Bundle) {
			s, changed, err := compare(i)
			if err != nil {
				problems = append(problems, err)
			} else if changed {
				p.steps = append(p.steps, s)
			}
		}
	}
	return p, errors.Join(problems...)
}

// Empty reports that the files are as they should be.
func (p *Plan) Empty() bool { return len(p.steps) == 0 }

// ContentChanges reports whether the content of a file changes, not just its mode: only then has a server to be told.
func (p *Plan) ContentChanges() bool {
	for _, s := range p.steps {
		if s.differs {
			return true
		}
	}
	return false
}

// Changes lists the plan.
func (p *Plan) Changes() []Change {
	list := make([]Change, 0, len(p.steps))
	for _, s := range p.steps {
		list = append(list, Change{Path: s.path, Why: s.why, Mode: s.mode, Content: s.differs})
	}
	return list
}

// compare looks at one file.
func compare(i item) (step, bool, error) {
	dir, name := filepath.Split(i.path)
	root, err := i.target.open(dir)
	if err != nil {
		return step{}, false, err
	}
	defer root.Close()
	if err := checkWay(dir); err != nil {
		return step{}, false, err
	}
	old, err := i.look(root, dir, name)
	if err != nil {
		return step{}, false, err
	}
	want, err := wanted(i, root, old)
	if err != nil {
		return step{}, false, &Error{Op: "plan", Path: i.path, Err: err}
	}
	s := step{item: i, access: want, old: old}
	switch {
	case old == nil:
		s.differs, s.why = true, "missing"
	case !bytes.Equal(old.content, i.content):
		s.differs, s.why = true, "content"
	case want.differs(old):
		s.why = "mode or owner"
	default:
		return step{}, false, nil
	}
	return s, true, nil
}

// Revertible reports whether the files that the plan replaces held pairs worth going back to: at every target a
// readable certificate with its key that has not expired at the given time. The error says why not.
func (p *Plan) Revertible(at time.Time) error {
	before := map[string][]byte{}
	for _, s := range p.steps {
		before[s.path] = nil
		if s.old != nil {
			before[s.path] = s.old.content
		}
	}
	for _, job := range p.jobs {
		content := map[string][]byte{}
		touched := false
		for _, i := range job.Target.items(job.Bundle) {
			content[i.path] = i.content
			if old, ok := before[i.path]; ok {
				content[i.path], touched = old, true
			}
		}
		if !touched {
			continue
		}
		if err := goodPair(job.Target, content, at); err != nil {
			return err
		}
	}
	return nil
}

func goodPair(t Target, content map[string][]byte, at time.Time) error {
	pairs := [][2][]byte{}
	if t.Certificate != "" {
		pairs = append(pairs, [2][]byte{content[t.Certificate], content[t.PrivateKey]})
	}
	if t.Combined != "" {
		key, chain := splitCombined(content[t.Combined])
		pairs = append(pairs, [2][]byte{chain, key})
	}
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
}

// splitCombined takes the certificates out of a combined file; the rest is the key.
func splitCombined(content []byte) (key, chain []byte) {
	marker := []byte("-----BEGIN CERTIFICATE-----")
	end := []byte("-----END CERTIFICATE-----")
	first, last := bytes.Index(content, marker), bytes.LastIndex(content, end)
	if first < 0 || last < first {
		return content, nil
	}
	last += len(end)
	return append(bytes.Clone(content[:first]), content[last:]...), content[first:last]
}
