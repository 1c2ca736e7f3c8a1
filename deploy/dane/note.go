package dane

import (
	"cmp"
	"slices"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/acme/state"
)

// Limits of what is remembered about one owner. Who controls the zone chooses its records, and may choose others each time.
const (
	mostSets    = 64
	mostBytes   = 256 << 10
	mostServers = 4
)

// Note folds a look. Counted time passes between two looks only as [state.Instant.Counted] says.
//
// The first look at an owner that has records does not know which TTL they had a moment before. A copy of that set with a TTL of a day is
// then remembered too, unless Settings.Hold is 0. The same holds until a look is complete, and after a day without a look. In a fleet, another
// host may know better ([State.Take]).
//
// If a validating resolver says that the zone is not signed, senders use none of its records. Those that were remembered while it was signed
// then stay for the hold of a day's TTL, because senders may still believe that it is.
func (m Memory) Note(v View, s Settings) { m.note(v.Owner, v.seen(), s) }

// seen is what a look tells the memory.
type seen struct {
	at       state.Instant
	sets     []Cached // that servers give
	rumour   Set      // that a recursive resolver has
	fault    string   // why the look is not complete; "" if it is
	insecure bool     // senders use no records of the zone
	blind    bool     // a server that does not count gave no answer: another host may hear it
	final    string   // where the records are, fully qualified; "" if the look did not get so far
	signed   time.Time
}

func (v View) seen() seen {
	look := seen{at: v.At, insecure: v.insecure()}
	if look.insecure {
		return look
	}
	if v.Err == nil && len(v.Steps) > 0 {
		look.final = finding.Quote(v.Steps[len(v.Steps)-1].Name, finding.MostQuoted)
	}
	look.fault = finding.Quote(v.Fault(), finding.MostQuoted)
	look.sets, look.signed, look.blind = v.given(), v.SignedUntil(), v.blind()
	if v.Recursive.Err == nil {
		look.rumour = Set{Records: texts(v.Recursive.Records), TTL: v.Recursive.TTL}
	}
	return look
}

func (m Memory) note(o Owner, look seen, s Settings) {
	h := m[o.Name()]
	if h == nil {
		h = &History{}
		m[o.Name()] = h
	}
	complete := look.fault == ""
	h.pass(look.sets, complete, look.at.Counted(h.Last))
	h.forget(s)
	added := h.add(look.sets)
	switch {
	case s.Hold <= 0:
	case look.insecure:
		h.copies(h.Known, Cached{})
	case h.First.IsZero() || look.at.At.Sub(h.Last.At) > unknownTTL:
		h.copies(added, Cached{Guess: guessTTL, Guessed: look.at.At})
	}
	h.rumour(look.rumour, look.at.At, s)
	if !complete {
		h.doubt()
	}
	h.bound()
	if complete && !look.insecure && h.First.IsZero() {
		h.First = look.at
	}
	if complete {
		h.begin(look, s)
		h.Whole = look.at.At
		h.sign(look.signed, look.at)
	}
	if look.final != "" {
		h.Final = look.final
	}
	h.Last, h.Fault = look.at, look.fault
	h.Away, h.Seen = 0, state.Instant{}
}

// begin notes since when the looks know all that senders may hold, if a complete one has to begin anew with that. What it does not know, and does not
// guess, no sender holds after a day.
func (h *History) begin(look seen, s Settings) {
	switch {
	case look.blind:
		h.Since = look.at.At.Add(unknownTTL)
	case look.at.At.Sub(h.Whole) <= unknownTTL && !look.insecure:
	case s.Hold <= 0:
		h.Since = look.at.At.Add(unknownTTL)
	default:
		h.Since = look.at.At
	}
}

// blind reports whether a server that does not count has given no answer.
func (v View) blind() bool {
	return slices.ContainsFunc(v.Steps, func(s Step) bool {
		return slices.ContainsFunc(s.Served.Answers, func(a resolve.Authoritative[resolve.TLSA]) bool { return a.Fault != "" })
	})
}

// insecure reports whether a validating resolver says that the records, or an alias on the way to them, are not signed, and neither is a zone
// on the way. Which of its servers answer does not matter then.
func (v View) insecure() bool {
	r := v.Recursive
	return v.Err == nil && r.Err == nil && r.State == resolve.Insecure && r.Validator != "" && slices.ContainsFunc(v.Steps, func(s Step) bool {
		return s.Served.Keys.Err == nil && s.Served.Keys.State == resolve.Insecure
	})
}

// given returns the sets that servers give, with the names of these servers.
func (v View) given() []Cached {
	var list []Cached
	for _, set := range v.Sets() {
		if set = set.sorted(); len(set.Records) > 0 {
			list = append(list, Cached{Set: set, Given: true, By: v.givers(set)})
		}
	}
	return list
}

// sorted returns the set with its records sorted, each once.
func (s Set) sorted() Set {
	records := slices.Clone(s.Records)
	slices.Sort(records)
	return Set{Records: slices.Compact(records), TTL: s.TTL}
}

// givers names servers that give the records of a set, whatever their TTL.
func (v View) givers(s Set) (list []string) {
	for _, step := range v.Steps {
		for _, a := range step.Served.Answers {
			name := finding.Quote(a.Server.String(), finding.MostQuoted)
			if len(list) < mostServers && len(a.Records) > 0 && slices.Equal(texts(a.Records), s.Records) && !slices.Contains(list, name) {
				list = append(list, name)
			}
		}
	}
	return list
}

// pass lets time pass for the sets that are remembered. The look at its end has found some sets. An incomplete one may have missed any.
func (h *History) pass(found []Cached, complete bool, counted time.Duration) {
	for i := range h.Known {
		c := &h.Known[i]
		given := slices.IndexFunc(found, func(f Cached) bool { return f.same(*c) })
		c.By = nil
		if given >= 0 {
			c.By, c.Guess, c.Guessed = found[given].By, "", time.Time{}
		}
		c.age(given < 0 && complete, counted)
	}
	if h.Crowded != nil {
		h.Crowded.age(complete, counted)
	}
}

// age folds one look: whether it has seen that no server gives the set.
func (c *Cached) age(gone bool, counted time.Duration) {
	switch {
	case !gone:
		c.Given, c.Gone = true, 0
	case c.Given: // this look begins the run
		c.Given, c.Gone = false, 0
	default:
		c.Gone += counted
	}
}

func (c Cached) same(other Cached) bool {
	return c.TTL == other.TTL && slices.Equal(c.Records, other.Records)
}

// doubt says that a server may give any of the sets, because it was not heard.
func (h *History) doubt() {
	for i := range h.Known {
		h.Known[i].Given, h.Known[i].Gone = true, 0
	}
}

// add remembers sets, and returns those that were not known. What is more than a guess takes the place of one.
func (h *History) add(sets []Cached) []Cached {
	var added []Cached
	for _, c := range sets {
		switch i := slices.IndexFunc(h.Known, c.same); {
		case i < 0:
			h.Known = append(h.Known, c)
			added = append(added, c)
		case c.Guess == "":
			h.Known[i].Guess, h.Known[i].Guessed = "", time.Time{}
		}
	}
	return added
}

// copies remembers sets with a TTL of a day too, which no server gives now; why is what is known about them.
func (h *History) copies(sets []Cached, why Cached) {
	for _, c := range slices.Clone(sets) {
		if c.TTL < unknownTTL {
			why.Set = Set{Records: c.Records, TTL: unknownTTL}
			h.add([]Cached{why})
		}
	}
}

// rumour remembers a set that a recursive resolver has and no server gives: senders may have it too. Its TTL was counted down in a cache.
func (h *History) rumour(set Set, at time.Time, s Settings) {
	if s.Hold > 0 {
		set.TTL = max(set.TTL, unknownTTL)
	}
	if len(set.Records) > 0 && !slices.ContainsFunc(h.Known, func(c Cached) bool { return slices.Equal(c.Records, set.Records) }) {
		h.add([]Cached{{Set: set, Guess: guessCache, Guessed: at}})
	}
}

// forget removes the sets that nobody holds any more.
func (h *History) forget(s Settings) {
	h.Known = slices.DeleteFunc(h.Known, func(c Cached) bool { return !c.held(s) })
	if h.Crowded != nil && !h.Crowded.held(s) {
		h.Crowded = nil
	}
}

// bound keeps the memory small without ending a hold: of the same records with many TTLs it makes one, and the rest becomes Crowded.
func (h *History) bound() {
	if h.fits() {
		return
	}
	h.merge()
	// Those that a server gives come first: they matter to every sender that asks now. Then the smallest, so that more of them fit.
	slices.SortStableFunc(h.Known, func(a, b Cached) int { return cmp.Or(rank(a)-rank(b), a.size()-b.size()) })
	for !h.fits() {
		last := h.Known[len(h.Known)-1]
		if h.Known = h.Known[:len(h.Known)-1]; h.Crowded == nil {
			h.Crowded = &Cached{}
		}
		h.Crowded.TTL = max(h.Crowded.TTL, last.TTL)
		h.Crowded.Given, h.Crowded.Gone = h.Crowded.Given || last.Given, 0
	}
}

func (h *History) fits() bool {
	size := 0
	for _, c := range h.Known {
		size += c.size()
	}
	return len(h.Known) <= mostSets && size <= mostBytes
}

// size is about what the set takes in a file.
func (c Cached) size() int {
	size := 0
	for _, r := range c.Records {
		size += len(r) + 16
	}
	return size
}

// merge makes one set of those with the same records: with the longest TTL, and held as long as any of them.
func (h *History) merge() {
	var list []Cached
	for _, c := range h.Known {
		i := slices.IndexFunc(list, func(other Cached) bool { return slices.Equal(c.Records, other.Records) })
		if i < 0 {
			list = append(list, c)
			continue
		}
		one := &list[i]
		one.TTL, one.Given, one.Gone, one.Guess = max(one.TTL, c.TTL), one.Given || c.Given, min(one.Gone, c.Gone), ""
		if one.Given {
			one.Gone = 0
		}
		if len(one.By) == 0 {
			one.By = c.By
		}
	}
	h.Known = list
}
