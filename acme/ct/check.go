package ct

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// Judged is an entry and what mxcert knows about it.
type Judged struct {
	Entry
	Standing Standing
	Sources  []string // that have it
}

// Asked says how far a source was asked.
type Asked struct {
	Source    string
	Questions int
	Answered  int
	Refused   []string // questions that the source refuses
	Err       error    // why the others have no answer; nil if all have
}

// Check asks all sources about all names now, from the beginning, and stores nothing. Entries are in the order of their expiry, the latest
// first. say hears what is asked.
func (w *Watch) Check(ctx context.Context, m *Memory, say func(source, question string)) ([]Judged, []Asked) {
	w.memory = m
	answers, found := make([]Asked, len(w.Sources)), make([][]Entry, len(w.Sources))
	var group errgroup.Group
	for i, s := range w.Sources {
		answers[i].Source = s.Name()
		group.Go(func() error {
			for _, t := range w.turns() {
				if t.source.Name() == s.Name() {
					say(s.Name(), t.q.String())
					found[i] = append(found[i], w.askAll(ctx, t, &answers[i])...)
				}
			}
			return nil
		})
	}
	_ = group.Wait() // what failed is in the answers
	j := newJudge(m, w.Names, once(w.Ours), time.Now())
	var all []Judged
	for _, list := range found {
		for _, e := range list {
			all = merge(all, e)
		}
	}
	for i := range all {
		all[i].Standing = j.standing(all[i].Entry)
	}
	slices.SortStableFunc(all, func(a, b Judged) int { return cmp.Or(b.NotAfter.Compare(a.NotAfter), cmp.Compare(a.ID(), b.ID())) })
	return all, answers
}

// askAll asks one question to its end. After a failure it asks the source no more.
func (w *Watch) askAll(ctx context.Context, t turn, asked *Asked) (list []Entry) {
	asked.Questions++
	if asked.Err != nil {
		return nil
	}
	cursor := ""
	for range mostPages {
		page, err := t.source.Since(ctx, t.q, cursor)
		if err != nil {
			if e, _ := errors.AsType[*Error](err); e != nil && e.Refused {
				asked.Refused = append(asked.Refused, t.q.String())
				return list
			}
			asked.Err = err
			return list
		}
		entries := w.relevant(page.Entries)
		w.complete(ctx, t.source, entries)
		if list = append(list, entries...); len(list) > mostKnown {
			asked.Err = &Error{Source: t.source.Name(), Text: "has more certificates than mxcert can judge"}
			return list[:mostKnown]
		}
		if cursor = page.Cursor; !page.More {
			asked.Answered++
			return list
		}
	}
	asked.Err = &Error{Source: t.source.Name(), Text: "does not come to an end"}
	return list
}

// merge adds an entry, unless it is there: a certificate, its pre-certificate and what another source says about it are one.
func merge(all []Judged, e Entry) []Judged {
	i := slices.IndexFunc(all, func(other Judged) bool { return other.same(e) })
	if i < 0 {
		return append(all, Judged{Entry: e, Sources: []string{e.Source}})
	}
	if all[i].SPKI == "" && e.SPKI != "" {
		all[i].Entry = e
	}
	if !slices.Contains(all[i].Sources, e.Source) {
		all[i].Sources = append(all[i].Sources, e.Source)
	}
	return all
}
