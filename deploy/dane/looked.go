package dane

import (
	"maps"
	"slices"
	"time"
)

// Looked is what the looks of one host know about an owner: which sets senders may hold. A host that has just begun to look does not know what was
// there before, and has to assume the worst about it for two days; in a fleet, another host knows it.
type Looked struct {
	By    string    `json:"by"`    // the host
	Since time.Time `json:"since"` // since when it looks without a gap, by its clock
	Last  time.Time `json:"last"`  // its last look
	Known []Cached  `json:"known,omitempty"`
}

// Guess says why a set is remembered that no server was seen to give.
type Guess string

// The guesses.
const (
	guessTTL   Guess = "ttl"   // the records were there at a first look: their TTL may have been longer a moment before
	guessCache Guess = "cache" // a recursive resolver has the records: nobody knows with which TTL they were given
)

// Limits of what hosts tell each other about looks. Without it, a host is careful for longer.
const (
	mostLooked      = 16      // sets of one owner
	mostLookedBytes = 8 << 10 // of one owner
	mostLookedAll   = 64 << 10
	mostLookedOf    = 150 // owners
)

// A host that is at work says every hour that it still looks, and another one takes its place if it does not for two. What was there in a gap of
// three hours before a first look counts as known. Clocks of hosts differ by less than an hour.
const (
	repeatLooks = 50 * time.Minute
	soonLooks   = time.Minute // what it says has changed
	longestLull = 3 * time.Hour
	clocksApart = time.Hour
	justHeard   = 10 * time.Minute // a pass
)

// GiveLooks adds to what hosts remember together what the looks of this host know. What another host has said stays if it is as good.
func (s *State) GiveLooks(c *Shared, host string, settings Settings) {
	if settings.Hold <= 0 {
		return // this host assumes nothing about the time before its first look
	}
	for _, name := range slices.Sorted(maps.Keys(s.Memory)) {
		mine, ok := s.Memory[name].looked(host)
		if before, there := c.Looks[name]; !ok || there && (!mine.better(before) || s.Memory[name].saidJustNow(mine, before)) {
			continue
		}
		maps.DeleteFunc(c.Looks, func(other string, l Looked) bool { return other == name || mine.Last.Sub(l.Last) > 2*unknownTTL })
		if c.fits(mine) {
			c.Looks[name], s.Memory[name].Told = mine, mine.Last
		}
	}
}

// saidJustNow reports whether the host has said something so short a time ago that it waits. Each change of what is said wakes all hosts: two whose
// clocks differ by hours, or a zone that answers differently each time, must not make them look all the time.
func (h *History) saidJustNow(mine, before Looked) bool {
	pause := repeatLooks
	if mine.By == before.By {
		pause = soonLooks
	}
	age := mine.Last.Sub(h.Told) // 0: it is said again, because another host was faster
	return !h.Told.IsZero() && age > 0 && age < pause
}

// fits reports whether there is room for what is said about one owner more: who controls a zone chooses how much its records take.
func (c *Shared) fits(one Looked) bool {
	if c.Looks == nil {
		c.Looks = map[string]Looked{}
	}
	size := one.size()
	for _, l := range c.Looks {
		size += l.size()
	}
	return size <= mostLookedAll && len(c.Looks) < mostLookedOf
}

func (l Looked) size() (size int) {
	for _, c := range l.Known {
		size += c.size()
	}
	return size
}

// looked is what a host may tell the others.
func (h *History) looked(host string) (Looked, bool) {
	if h == nil || h.First.IsZero() || h.Since.IsZero() || h.Since.After(h.Whole) || h.Fault != "" || h.Away > 0 || h.Crowded != nil || len(h.Known) > mostLooked {
		return Looked{}, false
	}
	l := Looked{By: host, Since: h.Since, Last: h.Whole}
	for _, c := range h.Known {
		c.By = nil
		l.Known = append(l.Known, c)
	}
	return l, l.size() <= mostLookedBytes
}

// better reports whether something is to be said instead of what was said before.
func (l Looked) better(before Looked) bool {
	switch age := l.Last.Sub(before.Last); {
	case age < -clocksApart: // a clock was ahead
		return true
	case l.By == before.By:
		return age >= repeatLooks || !slices.EqualFunc(l.Known, before.Known, func(a, b Cached) bool { return a.same(b) && a.Given == b.Given && a.Guess == b.Guess })
	default:
		return age >= 2*repeatLooks || before.guesses() && !l.guesses()
	}
}

func (l Looked) guesses() bool {
	return slices.ContainsFunc(l.Known, func(c Cached) bool { return c.Guess != "" })
}

// covers reports whether the host has looked before a moment, and went on until then or until shortly before. If it is heard just after the moment,
// it was there. If it is heard later, it may have begun since with a clock that is behind.
func (l Looked) covers(at, now time.Time) bool {
	since := l.Since
	if now.Sub(at).Abs() > justHeard {
		since = since.Add(clocksApart)
	}
	return !l.Since.IsZero() && l.Since.Before(at) && !since.After(at) && at.Sub(l.Last) <= longestLull && l.Last.Sub(now) <= clocksApart
}

// answers reports whether the host knows what is only guessed here.
func (l Looked) answers(c Cached, now time.Time) bool {
	switch {
	case c.Guess == "" || !l.covers(c.Guessed, now):
		return false
	case c.Gone > now.Sub(c.Guessed)+clocksApart: // the own clock was ahead when it was guessed
		return false
	case c.Guess == guessTTL:
		return true
	}
	return slices.ContainsFunc(l.Known, func(k Cached) bool { return k.Guess == "" && slices.Equal(k.Records, c.Records) })
}

// learn takes what the looks of another host know in the place of guesses. Where nothing is guessed, the own looks know all.
func (h *History) learn(l Looked, now time.Time) {
	answered := func(c Cached) bool { return l.answers(c, now) }
	if !slices.ContainsFunc(h.Known, answered) {
		return
	}
	h.Known = slices.DeleteFunc(h.Known, answered)
	missed := h.Fault != "" // the own last look has not met all servers, so that some may give any of the sets
	for _, c := range l.Known {
		if c.Given || missed {
			c.Gone = 0 // since then, it may have been given
		}
		c.Given, c.By = missed, nil
		h.add([]Cached{c})
	}
	h.bound()
}

// strange reports whether a set is a guess of a kind that this mxcert does not know: it would take it for knowledge.
func (c Cached) strange() bool { return c.Guess != "" && c.Guess != guessTTL && c.Guess != guessCache }

// cleanLooks leaves out what mxcert does not write.
func cleanLooks(looks map[string]Looked) {
	maps.DeleteFunc(looks, func(name string, l Looked) bool {
		return !plainName(name) || !plainName(l.By) || len(l.Known) > mostLooked || l.Since.IsZero() || slices.ContainsFunc(l.Known, Cached.strange)
	})
	for i, name := range slices.Sorted(maps.Keys(looks)) {
		if i >= mostLookedOf {
			delete(looks, name)
			continue
		}
		for j := range looks[name].Known {
			looks[name].Known[j].clean()
		}
	}
}
