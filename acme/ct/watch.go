package ct

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/state"
)

const (
	// mostPages limits the pages of one question in one round: a service that never ends must not keep the others waiting.
	mostPages = 100
	// backoff is the wait after a first failure of a source; each further one doubles it, up to the interval.
	backoff = 5 * time.Minute
	// mostCompleted limits the certificates that are fetched one by one after a page.
	mostCompleted = 10
	// reread is how often the memory is read again while something is unknown: somebody may have accepted it.
	reread = 10 * time.Minute
	// storeAfter is how often it is stored although nothing is new in it but what was asked.
	storeAfter = 10 * time.Minute
)

// Watch asks sources about names, in turn. It is for one goroutine at a time. Names and sources must not change after Begin.
type Watch struct {
	Sources  []Source
	Names    Names
	Interval time.Duration
	Ours     func() *Ours // reads what is ours
	Book     *state.Book

	memory  *Memory
	plan    []turn               // all questions of all sources, from Begin on
	asked   map[string]time.Time // by key: when the next page was asked for last
	pages   map[string]int       // by key, in this round
	more    map[string]bool      // by key: the round is not over
	held    map[string]time.Time // by key or source: not to be asked before
	free    map[string]time.Time // by source: when its pace allows the next request
	failed  map[string]int       // by source: failures in a row
	stored  time.Time
	unsaved bool            // the last store has failed
	pending []func(*Memory) // what has changed since, in order
}

// turn is a question and a source to ask.
type turn struct {
	source Source
	q      Question
	key    string
}

// turns lists all questions of all sources.
func (w *Watch) turns() (list []turn) {
	names := make([]string, 0, len(w.Names))
	for name := range w.Names {
		names = append(names, name)
	}
	for _, q := range Questions(names) {
		for _, s := range w.Sources {
			list = append(list, turn{s, q, s.Name() + "/" + q.String()})
		}
	}
	return list
}

// Begin reads what is remembered, and forgets what is no longer asked about. The error says why it is not known; then the watch learns anew.
func (w *Watch) Begin(ctx context.Context) error {
	w.asked, w.pages, w.more = map[string]time.Time{}, map[string]int{}, map[string]bool{}
	w.held, w.free, w.failed = map[string]time.Time{}, map[string]time.Time{}, map[string]int{}
	w.plan = w.turns()
	places := map[string]bool{}
	for _, t := range w.plan {
		places[t.key] = true
	}
	err := w.update(ctx, func(m *Memory) { m.keep(places, w.Names, time.Now()) })
	for _, t := range w.plan {
		if w.learned(t.q) { // otherwise the first look was not finished
			w.asked[t.key] = w.memory.place(t.key).asked
		}
	}
	return err
}

// Memory returns what is remembered now. It must not be changed.
func (w *Watch) Memory() *Memory { return w.memory }

// update changes the memory and stores it. If the last one could not be stored, that of this process counts.
func (w *Watch) update(ctx context.Context, change func(*Memory)) (err error) {
	if w.unsaved {
		change(w.memory)
		err = w.memory.Store(w.Book)
	} else {
		w.memory, err = Update(ctx, w.Book, func(m *Memory) {
			for _, earlier := range w.pending {
				earlier(m)
			}
			change(m)
		})
	}
	w.pending = nil
	w.unsaved, w.stored = err != nil && !errors.Is(err, state.ErrDamaged), time.Now()
	return err
}

// Step does what is due now: it makes at most one request for a page and some for certificates in it. It returns when something is due
// again. The error says what of the store has failed; errors of sources are in the memory.
func (w *Watch) Step(ctx context.Context) (next time.Time, err error) {
	t, due := w.due()
	now := time.Now()
	if t.source == nil {
		return time.Time{}, nil
	}
	if due.After(now) {
		if len(w.memory.Unknown) == 0 {
			return due, nil
		}
		err := w.update(ctx, func(m *Memory) { newJudge(m, w.Names, w.Ours, now).again() })
		return sooner(due, now.Add(reread)), err
	}
	page, problem := t.source.Since(ctx, t.q, w.memory.place(t.key).cursor)
	if ctx.Err() != nil {
		return time.Time{}, nil //nolint:nilerr // the look was ended; a newer configuration looks again
	}
	if problem == nil {
		page.Entries = w.relevant(page.Entries)
		w.complete(ctx, t.source, page.Entries)
	}
	now = time.Now()
	w.schedule(t, page, problem, now)
	done := !w.more[t.key]
	fold := func(m *Memory) { w.fold(m, t, page, problem, now, done) }
	if w.worth(t, page, problem, now) {
		err = w.update(ctx, fold)
	} else {
		fold(w.memory)
		w.pending = append(w.pending, fold)
	}
	_, next = w.due()
	if len(w.memory.Unknown) > 0 {
		next = sooner(next, now.Add(reread))
	}
	return next, err
}

func sooner(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// due returns what is to be asked next, and when: of several that may be asked then, the one that waits for longest.
func (w *Watch) due() (first turn, at time.Time) {
	var longest time.Time
	for _, t := range w.plan {
		when := w.asked[t.key].Add(w.Interval)
		if w.more[t.key] {
			when = w.asked[t.key]
		}
		since := when
		for _, wait := range []time.Time{w.held[t.key], w.held[t.source.Name()], w.free[t.source.Name()]} {
			if wait.After(when) {
				when = wait
			}
		}
		if first.source == nil || when.Before(at) || when.Equal(at) && since.Before(longest) {
			first, at, longest = t, when, since
		}
	}
	return first, at
}

// schedule notes when the source and the question may be asked again.
func (w *Watch) schedule(t turn, page Page, problem error, now time.Time) {
	name := t.source.Name()
	w.free[name], w.asked[t.key], w.more[t.key] = now.Add(t.source.Pace(t.q)), now, false
	e, _ := errors.AsType[*Error](problem)
	switch {
	case problem == nil:
		w.failed[name] = 0
		w.held[t.key] = page.NotYet
		if w.pages[t.key]++; page.More && w.pages[t.key] < mostPages {
			w.more[t.key] = true
			return
		}
	case e == nil || !e.Refused:
		wait := min(backoff<<min(w.failed[name], 8), w.Interval)
		w.failed[name]++
		w.held[name] = now.Add(jitter(wait))
		if e != nil && e.RetryAt.After(w.held[name]) {
			w.held[name] = e.RetryAt
		}
		w.asked[t.key] = now.Add(-w.Interval) // it stays due
	}
	w.pages[t.key] = 0
	w.asked[t.key] = w.asked[t.key].Add(jitter(w.Interval) - w.Interval) // many hosts must not ask together
}

// jitter returns a time that differs by a tenth.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(max(d/5, 1)) //nolint:gosec // no secret
}

// relevant keeps the entries that are about our names, and leaves out those of staging services.
func (w *Watch) relevant(list []Entry) []Entry {
	return slices.DeleteFunc(list, func(e Entry) bool { return e.rehearsal() || len(w.Names.Owners(e)) == 0 })
}

// complete fetches the certificates of entries that the source alone does not tell enough about.
func (w *Watch) complete(ctx context.Context, s Source, list []Entry) {
	source, ok := s.(Completer)
	if !ok {
		return
	}
	j := newJudge(w.memory, w.Names, once(w.Ours), time.Now())
	for i, n := 0, 0; i < len(list) && n < mostCompleted; i++ {
		if list[i].SPKI != "" || j.standing(list[i]) != Hidden {
			continue
		}
		n++
		full, err := source.Complete(ctx, list[i])
		if err != nil {
			return // it is unsure until the next look
		}
		list[i] = full
	}
}

func once(read func() *Ours) func() *Ours {
	var ours *Ours
	return func() *Ours {
		if ours == nil {
			ours = read()
		}
		return ours
	}
}

// worth reports whether something has to be stored now. Otherwise it is enough if a restart finds what was stored some minutes before.
func (w *Watch) worth(t turn, page Page, problem error, now time.Time) bool {
	_, failing := w.memory.Failing[t.source.Name()]
	return len(page.Entries) > 0 || failing != (problem != nil) || problem == nil && !w.more[t.key] && !w.learned(t.q) || now.Sub(w.stored) >= storeAfter
}

// learned reports whether all names of a question were looked at to the end before.
func (w *Watch) learned(q Question) bool {
	for _, name := range q.of(w.Names) {
		if w.memory.Learned[name] == 0 {
			return false
		}
	}
	return true
}

// fold puts an answer into the memory.
func (w *Watch) fold(m *Memory, t turn, page Page, problem error, now time.Time, done bool) {
	for _, list := range []*[]string{&m.Found, &m.Accepted, &m.Issued} {
		*list = unexpired(*list, now) // a daemon may run for years
	}
	j := newJudge(m, w.Names, once(w.Ours), now)
	for _, e := range page.Entries {
		j.note(e)
	}
	j.again()
	name := t.source.Name()
	cursor := m.place(t.key).cursor
	if problem == nil {
		delete(m.Failing, name)
		if cursor = page.Cursor; done {
			for _, name := range t.q.of(w.Names) {
				if m.Learned[name] == 0 {
					m.Learned[name] = now.Unix()
				}
			}
		}
	} else if e, _ := errors.AsType[*Error](problem); e == nil || !e.Refused {
		since := now.UTC().Truncate(time.Second)
		if before, failing := m.Failing[name]; failing {
			since = before.Since
		}
		m.Failing[name] = Failing{Since: since, Text: finding.Quote(problem.Error(), finding.MostQuoted), Token: e != nil && e.Token}
	}
	m.setPlace(t.key, place{cursor: cursor, asked: w.asked[t.key]})
	for key, at := range w.asked {
		if !at.IsZero() && key != t.key {
			m.setPlace(key, place{cursor: m.place(key).cursor, asked: at})
		}
	}
}
