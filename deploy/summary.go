package deploy

import (
	"errors"
	"slices"
	"time"

	"mxcert/acme/bundle"
)

// Summary describes the changes of a plan. It is data and can be sent as JSON, so that a plan of another process answers the
// same questions as a plan of this one. Its times do not depend on the moment of the question.
type Summary struct {
	Changes []Change `json:"changes"`          // in the order of the deployment; empty if the files are as they should be
	Longer  *Live    `json:"longer,omitempty"` // the certificate in service that expires later than its replacement; nil if there is none

	OldNotAfter time.Time `json:"old_not_after,omitzero"` // when the first of the replaced certificates expires; zero if the plan replaces none
	OldFault    string    `json:"old_fault,omitempty"`    // why the replaced files are not a usable certificate and key; "" if they are
}

// Change is one path that changes, as a person reads it.
type Change struct {
	Path    string      `json:"path"`
	Why     string      `json:"why"`     // "missing", "content", "mode or owner"
	Content bool        `json:"content"` // the content changes, not only owner or mode
	Before  *Attributes `json:"before"`  // nil if the path does not exist
	After   Attributes  `json:"after"`
}

// Attributes are what a directory listing shows for a path.
type Attributes struct {
	Owner string `json:"owner"`
	Group string `json:"group"`
	Mode  string `json:"mode"`           // four octal digits
	Link  string `json:"link,omitempty"` // target of a symbolic link
}

// Empty reports whether the files are as they should be.
func (s Summary) Empty() bool { return len(s.Changes) == 0 }

// ContentChanges reports whether the content of a file changes, not only its owner or mode: only then does a server have to be
// reloaded.
func (s Summary) ContentChanges() bool {
	return slices.ContainsFunc(s.Changes, func(c Change) bool { return c.Content })
}

// Revertible checks that the files that the plan replaces contain pairs worth restoring: at every target a readable certificate
// with its key, not expired at the given time. The error says what is wrong.
func (s Summary) Revertible(at time.Time) error {
	switch {
	case s.OldFault != "":
		return errors.New(s.OldFault)
	case !s.OldNotAfter.IsZero() && at.After(s.OldNotAfter):
		return errors.New("the previous certificate has expired")
	}
	return nil
}

// Summary describes the changes of the plan, as they were when it was made.
func (p *Plan) Summary() Summary { return p.summary }

func (p *Plan) summarize() {
	p.summary = Summary{Changes: make([]Change, 0, len(p.changes)+len(p.maps))}
	if len(p.changes)+len(p.maps) == 0 {
		return // nothing is replaced
	}
	p.summary.Longer = p.longer()
	for _, c := range p.changes {
		p.summary.Changes = append(p.summary.Changes, c.describe())
	}
	for _, m := range p.maps {
		p.summary.Changes = append(p.summary.Changes, m.describe())
	}
	for _, pairs := range p.touched() {
		for _, pair := range pairs {
			b, err := bundle.Parse(pair.chain, pair.key)
			switch {
			case err != nil && p.summary.OldFault == "":
				p.summary.OldFault = err.Error()
			case err == nil && (p.summary.OldNotAfter.IsZero() || b.NotAfter().Before(p.summary.OldNotAfter)):
				p.summary.OldNotAfter = b.NotAfter()
			}
		}
	}
}

// describe returns what a directory listing shows before and after a change.
func (c change) describe() Change {
	d := Change{Path: c.path, Why: c.why, Content: c.newContent, After: c.predicted().attributes()}
	d.After.Link = c.link
	if c.old != nil {
		before := c.old.access.attributes()
		before.Link = c.old.link
		d.Before = &before
	}
	return d
}
