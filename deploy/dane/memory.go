package dane

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"mxcert/acme/resolve"
	"mxcert/acme/state"
)

// Set is one TLSA record set. The zero Set is "no records", which asks senders for nothing.
type Set struct {
	Records []string      `json:"records"` // in the form of [resolve.TLSA.String], sorted
	TTL     time.Duration `json:"ttl"`
}

// TLSA returns the records.
func (s Set) TLSA() []resolve.TLSA {
	var list []resolve.TLSA
	for _, text := range s.Records {
		if r, err := resolve.ParseTLSA(text); err == nil { // without data, senders cannot use it either
			list = append(list, r)
		}
	}
	return list
}

// Asks reports whether senders can use some record of the set, so that they check the key.
func (s Set) Asks() bool { return usable(s.TLSA()...) }

// Memory is what senders may hold, by the name of the owner ([Owner.Name]).
type Memory map[string]*History

// History is what looks at one owner have found.
type History struct {
	First state.Instant `json:"first"`           // the first complete look; zero if there was none
	Last  state.Instant `json:"last"`            // the last look
	Whole time.Time     `json:"whole,omitzero"`  // the last complete look
	Since time.Time     `json:"since,omitzero"`  // since when there was a complete look at least once a day
	Told  time.Time     `json:"told,omitzero"`   // the complete look about which the other hosts of a fleet were told last
	Fault string        `json:"fault,omitempty"` // why the last look was not complete
	Known []Cached      `json:"known"`           // without "no records"
	Final string        `json:"final,omitempty"` // where aliases led in the last look that got so far, fully qualified
	// Crowded stands for the sets that were too many to be remembered: nobody knows what they ask for. Its TTL is the longest of them.
	Crowded *Cached `json:"crowded,omitempty"`
	// Signed is when the first signature ends that the last complete look has seen, and Renewed the last look that has seen it move on.
	Signed  time.Time     `json:"signed,omitzero"`
	Renewed state.Instant `json:"renewed,omitzero"`
	// Away is for how long, in counted time until Seen, the owner has not been wanted.
	Away time.Duration `json:"away,omitempty"`
	Seen state.Instant `json:"seen,omitzero"`
}

// Cached is a set that a sender may hold. The same records with another TTL are another set.
type Cached struct {
	Set
	// Given says that the last look may have met a server that gives it: one did, or the look was not complete.
	Given bool `json:"given,omitempty"`
	// By are servers that gave it in the last look, the first few; nil if none did.
	By []string `json:"by,omitempty"`
	// Gone is for how long, in counted time, an unbroken run of complete looks has seen that no server gives it.
	Gone time.Duration `json:"gone,omitempty"`
	// Guess says why it is remembered although no server was seen to give it, and Guessed since when; "" if one was.
	Guess   Guess     `json:"guess,omitempty"`
	Guessed time.Time `json:"guessed,omitzero"`
}

// longestTTL is for how long resolvers hold a set at most, whatever its TTL says (RFC 8767 section 4), and unknownTTL what counts as the TTL
// if nobody knows what it was a moment ago.
const (
	longestTTL = 7 * 24 * time.Hour
	unknownTTL = 24 * time.Hour
)

// Hold is for how long a set may be held after no server gives it any more: twice its TTL and a margin, and at least Settings.Hold.
// Resolvers forget a set after a week, so a longer TTL counts as a week.
func Hold(ttl time.Duration, s Settings) time.Duration {
	ttl = min(max(ttl, 0), longestTTL)
	margin := min(max(ttl/10, time.Second), 10*time.Minute)
	return max(2*ttl+margin, s.Hold)
}

// left is for how long, after the last look, a sender may still hold the set if no server gives it any more.
func (c Cached) left(s Settings) time.Duration {
	if c.Given {
		return Hold(c.TTL, s)
	}
	return max(0, Hold(c.TTL, s)-c.Gone)
}

// held reports whether a sender may hold the set.
func (c Cached) held(s Settings) bool { return c.Given || c.left(s) > 0 }

// Held returns the sets of an owner that a sender may hold, the current ones first. "No records" is not among them.
func (m Memory) Held(o Owner, s Settings) []Cached {
	h := m[o.Name()]
	if h == nil {
		return nil
	}
	list := slices.DeleteFunc(slices.Clone(h.Known), func(c Cached) bool { return !c.held(s) })
	slices.SortStableFunc(list, func(a, b Cached) int { return cmp.Or(rank(a)-rank(b), cmp.Compare(a.Gone, b.Gone)) })
	return list
}

// Crowded reports whether a sender may hold a set of an owner that is not remembered, because there were too many.
func (m Memory) Crowded(o Owner, s Settings) bool {
	h := m[o.Name()]
	return h != nil && h.Crowded != nil && h.Crowded.held(s)
}

// rank sorts sets: those that a server gives, those that one may give, the others.
func rank(c Cached) int {
	switch {
	case len(c.By) > 0:
		return 0
	case c.Given:
		return 1
	}
	return 2
}

// Ready reports whether a key may be served at an owner as far as its record 3 1 1 is concerned: every set that a sender may hold has it, or
// asks for nothing. Otherwise until is when it will be so if nothing changes; zero if that depends on a server or on a person, and why says
// on which.
func (m Memory) Ready(o Owner, spki string, s Settings, now state.Instant) (ok bool, until time.Time, why string) {
	h := m[o.Name()]
	if h == nil {
		return false, time.Time{}, fmt.Sprintf("mxcert has not looked at %s yet", o.Name())
	}
	record := Record(spki).String()
	var blocking []Cached
	for _, c := range m.Held(o, s) {
		if !slices.Contains(c.Records, record) && c.Asks() {
			blocking = append(blocking, c)
		}
	}
	if m.Crowded(o, s) {
		blocking = append(blocking, *h.Crowded)
	}
	if len(blocking) == 0 {
		return true, time.Time{}, ""
	}
	until, why = h.wait(o, blocking, s, now)
	return false, until, why
}

// wait says until when sets are held, or why nobody knows that.
func (h *History) wait(o Owner, blocking []Cached, s Settings, now state.Instant) (until time.Time, why string) {
	var left time.Duration
	for _, c := range blocking {
		switch {
		case len(c.By) > 0:
			return time.Time{}, fmt.Sprintf("%s %s records of %s without that of the new key", listed(c.By), verb(len(c.By), "gives", "give"), o.Name())
		case c.Given && h.Fault != "":
			return time.Time{}, fmt.Sprintf("the last look at %s was not complete: %s", o.Name(), h.Fault)
		case c.Given:
			return time.Time{}, fmt.Sprintf("records of %s without that of the new key may appear at any moment", o.Name())
		}
		left = max(left, c.left(s))
	}
	if now.IsZero() {
		now = h.Last
	}
	left = max(0, left-now.Counted(h.Last))
	return now.At.Add(left), fmt.Sprintf("senders may still hold records of %s without that of the new key", o.Name())
}

// Keep forgets owners that are not in the list any more, after their longest hold.
func (m Memory) Keep(owners []Owner, s Settings) {
	wanted, latest := map[string]bool{}, state.Instant{}
	for _, o := range owners {
		wanted[o.Name()] = true
		if h := m[o.Name()]; h != nil && h.Last.At.After(latest.At) {
			latest = h.Last
		}
	}
	for name, h := range m {
		switch {
		case h == nil:
			delete(m, name)
			continue
		case wanted[name]:
			h.Away, h.Seen = 0, state.Instant{}
			continue
		case latest.IsZero():
			continue
		case h.Seen.IsZero():
			h.Seen = h.Last
		}
		h.Away += latest.Counted(h.Seen)
		if h.Seen = latest; h.Away >= h.longest(s) {
			delete(m, name)
		}
	}
}

// longest is the longest hold of the sets.
func (h *History) longest(s Settings) time.Duration {
	var longest time.Duration
	for _, c := range h.Known {
		longest = max(longest, Hold(c.TTL, s))
	}
	if h.Crowded != nil {
		longest = max(longest, Hold(h.Crowded.TTL, s))
	}
	return longest
}
