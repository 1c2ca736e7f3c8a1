package alarm

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/hooks/notify"
)

const (
	// restless is how long an earlier recovery makes the next one wait.
	restless = 24 * time.Hour
	// firstWait is how long a matter has to stay away until it counts as over, if it was over once before lately. Each further time makes that
	// four times as long, up to mostWait.
	firstWait = 8 * time.Minute
	mostWait  = 12 * time.Hour
	// firstGap is how long matters wait that join a cause that was told already. Each further message about the cause makes that four times
	// as long, up to mostGap.
	firstGap = 10 * time.Minute
	mostGap  = 6 * time.Hour
	// partly is how long the end of a matter waits for the end of others of the same cause.
	partly = time.Hour
	// stale is how long nobody may have known whether a matter holds before it is forgotten: what looked for it is not configured any more.
	stale = 7 * 24 * time.Hour
	// atOnce is how many messages about changes can be made at once; then one each refill.
	atOnce = 6
	refill = 30 * time.Minute
	// mostEntries limits the matters that are remembered.
	mostEntries = 1500
	// mostQueued limits the messages that wait for a channel.
	mostQueued = 24
)

// Book is what people were told, what they are to be told, and what waits to be sent.
type Book struct {
	Version  int              `json:"version"`
	Entries  []*entry         `json:"entries"`
	Causes   map[string]cause `json:"causes"`   // by group: those that were told
	Lanes    map[string]*lane `json:"channels"` // by name
	Messages float64          `json:"messages"` // how many can be made at once
	At       time.Time        `json:"at"`       // when that was so

	lost []string // the channels whose queues have lost a message in the last update
}

// entry is a matter as the book remembers it.
type entry struct {
	Matter
	Since     time.Time   `json:"since"`
	Known     time.Time   `json:"known"`               // when it was last known to hold, to half a day
	Seen      time.Time   `json:"seen,omitzero"`       // when the last pass ended that has found it
	Passes    int         `json:"passes,omitempty"`    // in a row that have found it
	Once      bool        `json:"once,omitempty"`      // see Matter
	Calm      int         `json:"calm,omitempty"`      // see Matter; in seconds
	Told      time.Time   `json:"told,omitzero"`       // when the message about it was made; zero if there is none
	Good      time.Time   `json:"good,omitzero"`       // since when it does not hold any more; zero if it does, or if it is over
	Over      bool        `json:"over,omitempty"`      // it is told that it is over, or nothing was told
	Recovered []time.Time `json:"recovered,omitempty"` // when it was over lately

	Reminded map[string]time.Time `json:"reminded,omitempty"` // when a channel was told last that it is still so

	sure bool // this process knows that it holds
	ripe bool // it can be told
}

// cause is a group of matters that was told.
type cause struct {
	Last  time.Time `json:"last"`  // when the last message about it was made
	Times int       `json:"times"` // how many there were
}

// lane is a channel as the book remembers it.
type lane struct {
	Queue   []notify.Message `json:"queue,omitempty"` // what it has to send, the oldest first
	More    int              `json:"more,omitempty"`  // how many messages were dropped since it could send
	Failing time.Time        `json:"failing,omitzero"`
	Error   string           `json:"error,omitempty"`
	Tries   int              `json:"tries,omitempty"` // that failed in a row

	next  time.Time     // when it tries again
	pause time.Duration // how long that was after its last try
}

// recipient is a channel that gets messages.
type recipient struct {
	name   string
	repeat time.Duration // 0: nothing is repeated
}

// newBook returns an empty book.
func newBook() *Book {
	return &Book{Version: state.Version, Causes: map[string]cause{}, Lanes: map[string]*lane{}, Messages: atOnce}
}

// update notes what is known now, and puts the messages that follow into the queues of the recipients. It returns when it has to be called
// again although nothing has changed; zero if that does not matter.
func (b *Book) update(v View, to []recipient, host string, now time.Time) (again time.Time) {
	now = now.UTC().Truncate(time.Second)
	b.lost = nil
	b.adjust(now)
	b.note(v, now)
	b.forget(v, now)
	if len(b.Entries) > mostEntries {
		b.Entries = b.Entries[:mostEntries]
	}
	news := b.hire(to)
	c := clock{now: now}
	b.open(&c, host, news)
	b.close(&c, host)
	b.remind(&c, to, host)
	b.tidy()
	return c.again
}

// clock collects when the book has to be looked at again.
type clock struct {
	now   time.Time
	again time.Time
}

// due reports whether a time has come, and otherwise notes it.
func (c *clock) due(at time.Time) bool {
	if !at.After(c.now) {
		return true
	}
	if c.again.IsZero() || at.Before(c.again) {
		c.again = at
	}
	return false
}

// adjust makes sense of a clock that was set back: nothing has happened in the future.
func (b *Book) adjust(now time.Time) {
	past := func(times ...*time.Time) {
		for _, t := range times {
			if t.After(now) {
				*t = now
			}
		}
	}
	for _, e := range b.Entries {
		past(&e.Since, &e.Known, &e.Told, &e.Good)
		for i := range e.Recovered {
			past(&e.Recovered[i])
		}
		e.Recovered = slices.DeleteFunc(e.Recovered, func(t time.Time) bool { return now.Sub(t) > restless })
		for name, t := range e.Reminded {
			if past(&t); b.Lanes[name] != nil {
				e.Reminded[name] = t
			} else {
				delete(e.Reminded, name)
			}
		}
	}
	for k, c := range b.Causes {
		past(&c.Last)
		b.Causes[k] = c
	}
	for _, l := range b.Lanes {
		past(&l.Failing)
		if l.next.After(now.Add(l.pause)) { // the clock went back
			l.next = now
		}
	}
	past(&b.At)
}

// note enters the matters that hold.
func (b *Book) note(v View, now time.Time) {
	known := map[string]*entry{}
	for _, e := range b.Entries {
		known[e.key()], e.sure, e.ripe = e, false, false
	}
	for _, m := range v.Matters {
		e := known[m.key()]
		switch {
		case e == nil:
			e = &entry{Since: began(m, now)}
			known[m.key()] = e
			b.Entries = append(b.Entries, e)
		case e.Over:
			*e = entry{Since: began(m, now), Recovered: e.Recovered}
		}
		if e.sure { // the same matter twice
			continue
		}
		e.Matter, e.Once, e.Calm, e.Good, e.sure = m, m.once, int(m.calm.Seconds()), time.Time{}, true
		if at := m.at.UTC().Round(0); e.Told.IsZero() && !m.waits && !at.Equal(e.Seen) {
			e.Seen = at
			e.Passes = min(e.Passes+1, 100)
		}
		if now.Sub(e.Known) > 12*time.Hour {
			e.Known = now
		}
		e.ripe = max(m.found, e.Passes) >= m.passes && now.Sub(e.Since) >= m.age
	}
}

func began(m Matter, now time.Time) time.Time {
	if m.since.IsZero() || m.since.After(now) {
		return now
	}
	return m.since.UTC().Truncate(time.Second)
}

// forget removes what does not hold any more and was not told, and what nobody can know about.
func (b *Book) forget(v View, now time.Time) {
	replaced := map[string]bool{}
	for _, m := range v.Matters {
		if m.instead != "" {
			replaced[(&Matter{ID: m.instead, Certificate: m.Certificate}).key()] = true
		}
	}
	b.Entries = slices.DeleteFunc(b.Entries, func(e *entry) bool {
		switch {
		case v.gone(&e.Matter):
			return true
		case e.sure:
			return false
		case e.Over:
			return len(e.Recovered) == 0
		case !v.knows(&e.Matter):
			return now.Sub(e.Known) > stale
		case e.Once, replaced[e.key()]:
			return true
		case e.Told.IsZero() && len(e.Recovered) > 0:
			e.Over, e.Passes = true, 0
		case e.Told.IsZero():
			return true
		case e.Good.IsZero():
			e.Good, e.Passes = now, 0
		}
		return false
	})
}

// hire takes over the recipients, and returns the new ones: they have to be told what is wrong already. Others are forgotten.
func (b *Book) hire(to []recipient) (fresh []string) {
	maps.DeleteFunc(b.Lanes, func(name string, _ *lane) bool {
		return !slices.ContainsFunc(to, func(r recipient) bool { return r.name == name })
	})
	for _, r := range to {
		if b.Lanes[r.name] == nil {
			b.Lanes[r.name] = &lane{}
			fresh = append(fresh, r.name)
		}
	}
	return fresh
}

// tidy forgets causes of which nothing is left, and orders the entries.
func (b *Book) tidy() {
	open := groups(b.Entries)
	maps.DeleteFunc(b.Causes, func(group string, _ cause) bool {
		return !slices.ContainsFunc(open[group], func(e *entry) bool { return !e.Over })
	})
	slices.SortStableFunc(b.Entries, func(x, y *entry) int {
		return cmp.Or(worstFirst(x.Matter, y.Matter), x.Since.Compare(y.Since), cmp.Compare(x.ID, y.ID), cmp.Compare(x.Certificate, y.Certificate), cmp.Compare(x.Subject, y.Subject))
	})
}

// groups returns entries by group.
func groups(list []*entry) map[string][]*entry {
	m := map[string][]*entry{}
	for _, e := range list {
		m[e.group()] = append(m[e.group()], e)
	}
	return m
}

// wrong lists the errors that people were told and that are not over.
func (b *Book) wrong() (list []*entry) {
	for _, e := range b.Entries {
		if !e.Over && !e.Told.IsZero() && e.Severity == finding.Error {
			list = append(list, e)
		}
	}
	return list
}
