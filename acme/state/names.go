package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"mxcert/acme/finding"
)

// Names is what looks at DNS have found about the names that senders use for a host: the memory of the discovery of names for one lineage.
// It is kept apart from the record, so that a look changes nothing while a pass works.
//
// A name changes only after two looks that agree, [Names.Fold] says how. If the file is missing or damaged, it is made again from the
// names that the current certificates have because of earlier looks ([Generation.Found]).
type Names struct {
	Version  int               `json:"version"`
	Last     Instant           `json:"last,omitzero"` // of the last look
	Seen     []SeenName        `json:"seen,omitempty"`
	Findings []finding.Finding `json:"findings,omitempty"` // of the last look
}

// SeenName is one name that a look has found.
type SeenName struct {
	Name   string  `json:"name"`
	Reason string  `json:"reason"`           // "MX of DOMAIN" or "host name"
	Wanted bool    `json:"wanted,omitempty"` // two looks agree about it
	Since  Instant `json:"since,omitzero"`   // the first of the looks that see it otherwise than Wanted says; zero if the last one agrees
}

// Look is what one look at all mail domains of a certificate has found.
type Look struct {
	Names    []SeenName // Name and Reason, in the order in which the certificate should have them
	Unsure   bool       // something could not be asked: a name that is not there may be there all the same
	Findings []finding.Finding
}

// mostNames limits how many names are remembered: more than a certificate can have.
const mostNames = 200

// Fold adds a look at an instant, and reports whether other names are wanted now. A name is wanted once two looks have found it that are at
// least wait apart, with none between them that did not find it; at once, if a person asks for it. It is no longer wanted once two looks
// that are as far apart have found that it is gone, with none between them that found it. A look that is unsure says only which names
// there are.
func (n *Names) Fold(look Look, at Instant, wait time.Duration, atOnce bool) (changed bool) {
	before := n.Wanted()
	n.Last, n.Findings = at, look.Findings
	var seen []SeenName
	for _, found := range look.Names {
		if slices.ContainsFunc(seen, named(found.Name)) || len(seen) == mostNames {
			continue
		}
		s := SeenName{Name: found.Name, Reason: found.Reason}
		if i := slices.IndexFunc(n.Seen, named(found.Name)); i >= 0 {
			s.Wanted, s.Since = n.Seen[i].Wanted, n.Seen[i].Since
		}
		switch {
		case s.Wanted:
			s.Since = Instant{}
		case atOnce || at.After(s.Since) >= wait:
			s.Wanted, s.Since = true, Instant{}
		case at.After(s.Since) < 0:
			s.Since = at
		}
		seen = append(seen, s)
	}
	for _, s := range n.Seen {
		if slices.ContainsFunc(seen, named(s.Name)) || len(seen) == mostNames {
			continue
		}
		switch {
		case look.Unsure:
		case !s.Wanted || at.After(s.Since) >= wait:
			continue
		case at.After(s.Since) < 0:
			s.Since = at
		}
		seen = append(seen, s)
	}
	n.Seen = seen
	return !slices.EqualFunc(before, n.Wanted(), func(a, b SeenName) bool { return a.Name == b.Name })
}

func named(name string) func(SeenName) bool {
	return func(s SeenName) bool { return s.Name == name }
}

// Wanted lists the names that belong into the certificate.
func (n *Names) Wanted() (list []SeenName) {
	for _, s := range n.Seen {
		if s.Wanted {
			list = append(list, s)
		}
	}
	return list
}

// Next returns how long after an instant a look may decide something; ok is false if all looks agree.
func (n *Names) Next(at Instant, wait time.Duration) (in time.Duration, ok bool) {
	for _, s := range n.Seen {
		if s.Since.IsZero() {
			continue
		}
		if left := max(0, wait-max(0, at.After(s.Since))); !ok || left < in {
			in, ok = left, true
		}
	}
	return in, ok
}

// Due reports whether the last look is at least pause ago.
func (n *Names) Due(at Instant, pause time.Duration) bool {
	passed := at.After(n.Last)
	return passed < 0 || passed >= pause
}

const namesFile = "names.json"

// Names reads what looks have found. If nothing usable is stored, it is made again from the current certificates, and repaired says so.
func (l *Lineage) Names() (names Names, repaired string, err error) {
	err = l.book.read(l.key(namesFile), &names)
	switch {
	case err == nil:
		names.clean()
		return names, "", nil
	case errors.Is(err, ErrDamaged):
		repaired = fmt.Sprintf("%s is damaged; which names looks at DNS have found was read from the certificates", l.book.name(l.key(namesFile)))
	case !errors.Is(err, fs.ErrNotExist):
		return Names{}, "", err
	}
	return l.foundBefore(), repaired, nil
}

// clean leaves out what no look has written, and makes texts safe to print: root reads what the service's user can write.
func (n *Names) clean() {
	n.Seen = slices.DeleteFunc(n.Seen, func(s SeenName) bool { return !isHostName(s.Name) })
	n.Seen = n.Seen[:min(len(n.Seen), mostNames)]
	for i := range n.Seen {
		n.Seen[i].Reason = finding.Quote(n.Seen[i].Reason, finding.MostQuoted)
	}
	for i, f := range n.Findings {
		n.Findings[i].Message, n.Findings[i].Hint = finding.Quote(f.Message, mostMessage), finding.Quote(f.Hint, mostMessage)
	}
}

// foundBefore makes the names from the current certificates.
func (l *Lineage) foundBefore() (names Names) {
	record, err := l.read()
	if err != nil {
		return names
	}
	for _, slot := range record.Keys {
		g, err := l.Generation(slot.Current)
		if err != nil {
			continue
		}
		for _, name := range g.Names {
			if reason, ok := g.Found[name]; ok && !strings.HasPrefix(reason, WantedBy) && !slices.ContainsFunc(names.Seen, named(name)) {
				names.Seen = append(names.Seen, SeenName{Name: name, Reason: reason, Wanted: true})
			}
		}
	}
	return names
}

// ChangeNames changes what looks have found, durably: no other process changes it at the same time. The change is not stored if change
// returns false.
func (l *Lineage) ChangeNames(ctx context.Context, change func(*Names) bool) error {
	unlock, err := l.book.store.Lock(ctx, l.key("names.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	names, _, err := l.Names()
	if err != nil {
		return err
	}
	if !change(&names) {
		return nil
	}
	names.Version = version
	for i := range names.Findings {
		names.Findings[i].Message = short(names.Findings[i].Message)
	}
	return l.book.write(l.key(namesFile), names)
}

// NamesFile returns the path of what looks have found; "" for a store without files.
func (l *Lineage) NamesFile() string { return l.book.store.Path(l.key(namesFile)) }
