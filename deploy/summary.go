package deploy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/bundle"
)

// Summary says what a plan would change. It is plain data and can be sent as JSON. So a plan in another process answers the same questions
// as a plan in this process. Its times do not depend on when somebody asks.
type Summary struct {
	Changes []Change `json:"changes"`          // in the order of the deployment; empty if the files are as they should be
	Longer  *Live    `json:"longer,omitempty"` // the certificate in service that expires later than its replacement; nil if there is none

	OldNotAfter time.Time `json:"old_not_after,omitzero"` // when the first of the replaced certificates expires; zero if none is replaced
	OldFault    string    `json:"old_fault,omitempty"`    // why the replaced files hold no usable certificate and key; "" if they do
}

// Change is one path that changes, described for a person.
type Change struct {
	Path    string      `json:"path"`
	Why     string      `json:"why"`     // "missing", "content", "mode or owner"
	Content bool        `json:"content"` // the content changes, not only owner or mode
	Before  *Attributes `json:"before"`  // nil: nothing is there
	After   Attributes  `json:"after"`
	Staple  bool        `json:"ocsp,omitempty"` // it is an OCSP response
}

// String says in words how the path differs from what it should be.
func (c Change) String() string {
	switch {
	case c.Why == whyExpired:
		return c.Path + " holds an OCSP response that is expired or of another certificate"
	case c.Staple && c.Content && c.Before != nil:
		return c.Path + " does not hold the newest OCSP response"
	case c.Before == nil:
		return c.Path + " does not exist"
	case c.Content:
		return c.Path + " differs from the issued certificate"
	}
	return fmt.Sprintf("%s has mode %s, owner %s and group %s; it should have mode %s, owner %s and group %s", c.Path,
		c.Before.Mode, c.Before.Owner, c.Before.Group, c.After.Mode, c.After.Owner, c.After.Group)
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

// ContentChanges reports whether the content of a file changes, not only its owner or mode. A server has to be reloaded only then.
func (s Summary) ContentChanges() bool {
	return slices.ContainsFunc(s.Changes, func(c Change) bool { return c.Content })
}

// StaplesOnly reports whether only OCSP responses change. No server has to be reloaded for that.
func (s Summary) StaplesOnly() bool {
	return !s.Empty() && !slices.ContainsFunc(s.Changes, func(c Change) bool { return !c.Staple })
}

// Revertible checks whether it is worth going back to the files that the plan replaces. At every target there must be a readable
// certificate with its key that has not expired at the given time. The error says why not.
func (s Summary) Revertible(at time.Time) error {
	switch {
	case s.OldFault != "":
		return errors.New(s.OldFault)
	case !s.OldNotAfter.IsZero() && at.After(s.OldNotAfter):
		return errors.New("the certificate that was there before has expired")
	}
	return nil
}

// Summary says what the plan would change, as it was when the plan was made.
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

// Merge makes one summary from those of several plans, each for some of the jobs. The changes are in the order that one plan for all jobs has.
func Merge(jobs []Job, parts ...Summary) Summary {
	merged := Summary{Changes: []Change{}}
	for _, part := range parts {
		merged.Changes = append(merged.Changes, part.Changes...)
		if part.Longer != nil && part.Longer.precedes(merged.Longer) {
			merged.Longer = part.Longer
		}
		if at := part.OldNotAfter; merged.OldNotAfter.IsZero() || !at.IsZero() && at.Before(merged.OldNotAfter) {
			merged.OldNotAfter = at
		}
		merged.OldFault = cmp.Or(merged.OldFault, part.OldFault)
	}
	slices.SortStableFunc(merged.Changes, func(a, b Change) int { return cmp.Compare(a.rank(jobs), b.rank(jobs)) })
	return merged
}

// rank returns the position of a change among the jobs; maps come last.
func (c Change) rank(jobs []Job) int {
	for i, job := range jobs {
		t := job.Target
		ours := t.OCSP == c.Path || t.served() == c.Path || slices.ContainsFunc(t.files(job.Bundle), func(f file) bool { return f.path == c.Path })
		if ours || t.Directory != "" && (c.Path == t.Directory || strings.HasPrefix(c.Path, t.Directory+generationsSuffix+"/")) {
			return i
		}
	}
	return len(jobs)
}

// describe returns what a directory listing shows before and after a change.
func (c change) describe() Change {
	d := Change{Path: c.path, Why: c.why, Content: c.newContent, After: c.predicted().attributes(), Staple: c.staple}
	d.After.Link = c.link
	if c.old != nil {
		before := c.old.access.attributes()
		before.Link = c.old.link
		d.Before = &before
	}
	return d
}
