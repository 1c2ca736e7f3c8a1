package ct

import (
	"slices"
	"time"
)

// Standing says what mxcert knows about an entry.
type Standing string

// The standings.
const (
	Own      Standing = "ours"
	Learned  Standing = "learned"  // it was there at the first look
	Accepted Standing = "accepted" // somebody has accepted it, or another one for its key
	Alien    Standing = "unknown"
	Hidden   Standing = "unsure" // the certificate itself could not be looked at yet
)

// hiddenTime is how long an entry may stay unsure before it is told all the same.
const hiddenTime = 24 * time.Hour

// Told reports whether people are told about it now.
func (u Unknown) Told(now time.Time) bool { return u.SPKI != "" || now.Sub(u.Seen) >= hiddenTime }

// judge compares entries with what is remembered and what is ours.
type judge struct {
	m     *Memory
	names Names
	ours  func() *Ours // reads it, once
	now   time.Time

	lists    map[*[]string]map[string][]string // the keys in each list, by ID
	accepted map[string]bool                   // keys
}

func newJudge(m *Memory, names Names, ours func() *Ours, now time.Time) *judge {
	j := &judge{m: m, names: names, ours: ours, now: now, lists: map[*[]string]map[string][]string{}, accepted: map[string]bool{}}
	for _, list := range []*[]string{&m.Found, &m.Accepted, &m.Issued} {
		j.lists[list] = map[string][]string{}
		for _, text := range *list {
			serial, spki, _ := parseLine(text)
			j.enter(list, Entry{Serial: serial, SPKI: spki})
		}
	}
	return j
}

// enter notes an entry in the index of a list.
func (j *judge) enter(list *[]string, e Entry) {
	j.lists[list][e.ID()] = append(j.lists[list][e.ID()], e.SPKI)
	if list == &j.m.Accepted && e.SPKI != "" {
		j.accepted[e.SPKI] = true
	}
}

// add puts an entry into a list, unless it is there.
func (j *judge) add(list *[]string, e Entry) {
	if !j.has(list, e) {
		*list = append(*list, line(e))
		j.enter(list, e)
	}
}

func (j *judge) has(list *[]string, e Entry) bool {
	return slices.ContainsFunc(j.lists[list][e.ID()], func(spki string) bool { return spki == e.SPKI || spki == "" || e.SPKI == "" })
}

// standing judges an entry.
func (j *judge) standing(e Entry) Standing {
	switch {
	case e.SPKI != "" && j.has(&j.m.Issued, e):
		return Own
	case j.has(&j.m.Accepted, e) || j.accepted[e.SPKI]:
		return Accepted
	case j.has(&j.m.Found, e):
		return Learned
	}
	switch j.ours().Is(e) {
	case Yes:
		return Own
	case Unsure:
		return Hidden
	}
	return Alien
}

// first reports whether none of the names of an entry was looked at before.
func (j *judge) first(e Entry) bool {
	for _, other := range e.Names {
		if slices.ContainsFunc(j.names.like(other), func(name string) bool { return j.m.Learned[name] != 0 }) {
			return false
		}
	}
	return true
}

// note judges an entry, and remembers it.
func (j *judge) note(e Entry) Standing {
	standing := j.standing(e)
	switch {
	case standing == Own && e.SPKI != "":
		j.add(&j.m.Issued, e)
	case standing != Alien && standing != Hidden:
	case j.first(e):
		j.add(&j.m.Found, e)
		return Learned
	default:
		j.alarm(e)
	}
	return standing
}

// alarm remembers an unknown entry, or what is new about it.
func (j *judge) alarm(e Entry) {
	if i := slices.IndexFunc(j.m.Unknown, func(u Unknown) bool { return u.same(e) }); i >= 0 {
		if u := &j.m.Unknown[i]; u.SPKI == "" && e.SPKI != "" || e.Revoked {
			u.Entry = j.bounded(e)
		}
		return
	}
	if len(j.m.Unknown) == mostUnknown {
		j.m.Dropped++
		return
	}
	j.m.Unknown = append(j.m.Unknown, Unknown{Entry: j.bounded(e), Seen: j.now.UTC().Truncate(time.Second)})
}

// bounded returns an entry with no more names than are kept: those that are ours, too, come first.
func (j *judge) bounded(e Entry) Entry {
	shared := j.names.Shared(e)
	for _, name := range e.Names {
		if len(shared) >= mostNames {
			break
		}
		if !slices.Contains(shared, name) {
			shared = append(shared, name)
		}
	}
	e.Names = nil
	left := mostNameBytes
	for _, name := range shared[:min(len(shared), mostNames)] {
		if left -= len(name); left >= 0 || len(e.Names) == 0 {
			e.Names = append(e.Names, name)
		}
	}
	return e
}

// again judges once more what was unknown: its order may have been in flight, or somebody has accepted it or named its file.
func (j *judge) again() {
	if len(j.m.Unknown) == 0 {
		j.m.Dropped = 0
	}
	j.m.Unknown = slices.DeleteFunc(j.m.Unknown, func(u Unknown) bool {
		standing := j.standing(u.Entry)
		return standing == Own || standing == Accepted || len(j.names.Owners(u.Entry)) == 0
	})
}

// Accept makes an entry known, and all others for its key: those that replace it.
func (m *Memory) Accept(e Entry) {
	if !slices.Contains(m.Accepted, line(e)) {
		m.Accepted = append(m.Accepted, line(e))
	}
	m.Unknown = slices.DeleteFunc(m.Unknown, func(u Unknown) bool { return u.same(e) || e.SPKI != "" && u.SPKI == e.SPKI })
}

// Knows reports whether an entry is ours or was accepted, and says why.
func (m *Memory) Knows(e Entry, ours *Ours) (known bool, why string) {
	switch newJudge(m, Names{}, func() *Ours { return ours }, time.Now()).standing(e) {
	case Own:
		if where := ours.Where(e); where != "" {
			return true, "its key is that of " + where
		}
		return true, "mxcert has ordered it"
	case Accepted:
		return true, "it or its key was accepted with mxcert ct check --accept"
	case Learned:
		return false, "mxcert did not order it; it was there at the first look"
	case Alien, Hidden:
	}
	return false, "mxcert did not order it"
}
