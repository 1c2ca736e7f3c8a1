package deploy

import (
	"errors"
	"slices"
	"time"

	"mxcert/acme/bundle"
)

// Summary is what a plan comes to. It is data and travels as JSON, so that a plan that another process made and keeps answers
// the same questions as one that was made here. Its times do not depend on when it is asked.
type Summary struct {
	Changes []Change `json:"changes"`          // in the order of the deployment; empty if the files are as they should be
	Longer  *Live    `json:"longer,omitempty"` // the certificate in service that ends later than its replacement; nil if there is none

	OldNotAfter time.Time `json:"old_not_after,omitzero"` // when the first of the replaced certificates expires; zero if none is replaced
	OldFault    string    `json:"old_fault,omitempty"`    // why what is replaced is no usable certificate and key; "" if it is
}

// Change is one path that changes, as a person reads it.
type Change struct {
	Path    string      `json:"path"`
	Why     string      `json:"why"`     // "missing", "content", "mode or owner"
	Content bool        `json:"content"` // the content changes, not only owner or mode
	Before  *Attributes `json:"before"`  // nil: there is nothing
	After   Attributes  `json:"after"`
}

// Attributes are what a directory listing shows of a path.
type Attributes struct {
	Owner string `json:"owner"`
	Group string `json:"group"`
	Mode  string `json:"mode"`           // four octal digits
	Link  string `json:"link,omitempty"` // where a symbolic link leads
}

// Empty reports whether the files are as they should be.
func (s Summary) Empty() bool { return len(s.Changes) == 0 }

// ContentChanges reports whether the content of a file changes, not only its owner or mode: only then does a server have to be
// reloaded.
func (s Summary) ContentChanges() bool {
	return slices.ContainsFunc(s.Changes, func(c Change) bool { return c.Content })
}

// Revertible checks whether the files that the plan replaces hold pairs worth going back to: at every target a readable
// certificate with its key that has not expired at a time. The error says why not.
func (s Summary) Revertible(at time.Time) error {
	switch {
	case s.OldFault != "":
		return errors.New(s.OldFault)
	case !s.OldNotAfter.IsZero() && at.After(s.OldNotAfter):
		return errors.New("the certificate that was there before has expired")
	}
	return nil
}

// Summary says what the plan comes to, as it was when it was made.
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

// describe says what a directory listing shows before and after a change.
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
