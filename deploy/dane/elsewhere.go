package dane

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"mxcert/acme/state"
)

// Several hosts may share a certificate: a fleet. Each proves its own endpoints, and says in a [Statement] which keys they show. A host makes
// its statement before it serves another key, so that the statements together are always at least what is served. From this follows what the
// fleet needs for invariant I4:
//
//   - The record of a key stays while some host serves it, or may: a host that is away and not forgotten counts as one that may.
//   - A record of a next key is added as soon as the key is in the fleet's store, sealed for all hosts, and on the disk of the host that adds it.
//     It need not be on the other disks: nobody serves the key yet, a record without a server harms no sender, and no key can be lost. A host
//     that lags so delays no hold, which an emergency would have to wait for.
//   - A key is served only if it is on the disk of every host that is at work. So a change that has begun can end everywhere.
//   - A host that takes records away, or adds the first ones, announces that (see [Mark]) and then reads the statements again; a host that is to
//     serve another key makes its statement and then reads the marks, and looks at DNS after that. One of the two sees the other.

// Statement is what a host of a fleet says about the keys of one certificate.
type Statement struct {
	Version   int       `json:"version"`
	Host      string    `json:"host"`
	Number    int64     `json:"number"` // grows with each statement of the host: nanoseconds since 1970, or more
	At        time.Time `json:"at"`
	Mode      Mode      `json:"mode,omitempty"`      // in force there
	Serves    []string  `json:"serves"`              // SPKIs that its endpoints show, or may show at any moment
	Has       []string  `json:"has"`                 // SPKIs of the keys on its disk, next ones included
	Certain   bool      `json:"certain,omitempty"`   // every endpoint has answered, and no deployment is under way
	Addresses []string  `json:"addresses,omitempty"` // of the host, for which it speaks
}

// Says reports whether two statements say the same, whenever they were made.
func (s Statement) Says(other Statement) bool {
	return s.Host == other.Host && s.Mode == other.Mode && s.Certain == other.Certain && slices.Equal(s.Serves, other.Serves) &&
		slices.Equal(s.Has, other.Has) && slices.Equal(s.Addresses, other.Addresses)
}

// Heard is what the store of a fleet says about another host.
type Heard struct {
	Host      string
	Alive     bool       // it is at work
	Member    bool       // it is not forgotten, by the store's clock
	Forgotten time.Time  // an operator has forgotten it then; zero if not
	Statement *Statement // the last one; nil if there is none
}

// Peer is what is remembered about another host.
type Peer struct {
	Statement
	Alive     bool          `json:"alive,omitempty"`
	Last      time.Time     `json:"last,omitzero"`       // when it was last heard to be at work
	Seen      state.Instant `json:"seen,omitzero"`       // the last time that the store was heard
	Away      time.Duration `json:"away,omitempty"`      // counted time until Seen for which it was not at work
	Forgotten bool          `json:"forgotten,omitempty"` // it does not count any more
	Replayed  bool          `json:"replayed,omitempty"`  // the store has an older statement than one that was heard
}

// Hear notes what the store of a fleet says about the other hosts. A host of which the store says nothing, because it was lost or is older, is
// away. It is forgotten after the given time for which it was not at work, or when an operator says so.
func (s *State) Hear(list []Heard, at state.Instant, forget time.Duration) {
	if s.Peers == nil && len(list) > 0 {
		s.Peers = map[string]*Peer{}
	}
	before := map[string]bool{}
	for name, p := range s.Peers {
		before[name] = p != nil && p.Alive
	}
	for _, h := range list {
		known := s.Peers[h.Host] != nil
		if !known && h.Statement == nil {
			continue // it has nothing to do with this certificate
		}
		if !known {
			s.Peers[h.Host] = &Peer{Statement: *h.Statement, Seen: at, Forgotten: !h.Member && !h.Alive}
		}
		s.Peers[h.Host].hear(h, at)
	}
	for name, p := range s.Peers {
		if p == nil {
			delete(s.Peers, name)
			continue
		}
		was := before[name]
		if !slices.ContainsFunc(list, func(h Heard) bool { return h.Host == name }) {
			p.Alive = false
		}
		p.count(at, was, forget)
	}
}

func (p *Peer) hear(h Heard, at state.Instant) {
	p.Alive, p.Replayed = h.Alive, false
	switch s := h.Statement; {
	case s == nil:
	case s.Number > p.Number:
		p.Statement, p.Forgotten = *s, false
	case s.Number < p.Number:
		p.Replayed = true
	}
	if h.Alive {
		p.Last = at.At
	}
	said := !h.Forgotten.IsZero() && p.Number <= h.Forgotten.UnixNano() && h.Statement == nil
	p.Forgotten = (p.Forgotten || said) && !h.Alive
}

// longestGap is how much time between two looks at the store counts: if it was away for longer, nobody knows who was at work meanwhile.
const longestGap = 2 * time.Hour

// count adds the time for which the host was not at work: between two looks at the store that have both not found it.
func (p *Peer) count(at state.Instant, was bool, forget time.Duration) {
	switch {
	case p.Alive:
		p.Away = 0
	case !was:
		p.Away += min(at.Counted(p.Seen), longestGap)
	}
	p.Seen = at
	p.Forgotten = p.Forgotten || !p.Alive && p.Away >= forget
}

// Elsewhere is what the other hosts of a fleet serve, for a plan.
type Elsewhere struct {
	Hosts []Host
	// Unknown says why nobody knows that now, such as "the fleet's store is away"; Hosts are then the last that were known.
	Unknown string
}

// Host is another host of a fleet that is not forgotten.
type Host struct {
	Name      string
	Alive     bool
	Certain   bool
	Mode      Mode
	Serves    []string
	Has       []string
	Addresses []string
	Doubt     string // why it may serve other keys, too; "" if it does not
}

// Elsewhere lists the hosts that are not forgotten. unknown is as in [Elsewhere].
func (s *State) Elsewhere(unknown string) *Elsewhere {
	e := &Elsewhere{Unknown: unknown}
	for _, name := range slices.Sorted(maps.Keys(s.Peers)) {
		p := s.Peers[name]
		if p.Forgotten {
			continue
		}
		e.Hosts = append(e.Hosts, Host{Name: name, Alive: p.Alive, Certain: p.Certain && !p.Replayed, Mode: p.Mode, Serves: p.Serves, Has: p.Has, Addresses: p.Addresses, Doubt: p.doubt()})
	}
	return e
}

// doubt says why the host may serve other keys than it says.
func (p *Peer) doubt() string {
	switch {
	case p.Replayed:
		return fmt.Sprintf("the fleet's store has an old statement of %s: somebody has put it back", p.Host)
	case !p.Alive && p.Last.IsZero():
		return p.Host + " is away"
	case !p.Alive:
		return fmt.Sprintf("%s is away since %s", p.Host, p.Last.UTC().Format("2006-01-02 15:04 UTC"))
	case !p.Certain:
		return "not every endpoint of " + p.Host + " has shown its key"
	}
	return ""
}

// Lacks names the hosts at work that do not have a key on their disks.
func (e *Elsewhere) Lacks(spki string) (names []string) {
	for _, h := range e.Hosts {
		if h.Alive && !slices.Contains(h.Has, spki) {
			names = append(names, h.Name)
		}
	}
	return names
}

// Publishes reports whether another host wants mxcert to look after the records.
func (e *Elsewhere) Publishes() bool {
	return e != nil && slices.ContainsFunc(e.Hosts, func(h Host) bool { return h.Mode == Publish || h.Mode == ByHand })
}

// serves says which other hosts serve a key, or may; "" if none does.
func (e *Elsewhere) serves(spki string) string {
	if e == nil {
		return ""
	}
	var names []string
	doubt := ""
	for _, h := range e.Hosts {
		if slices.Contains(h.Serves, spki) {
			names = append(names, h.Name)
			if !h.Alive {
				doubt = fmt.Sprintf("; %s, and if it never comes back: mxcert fleet forget %s", h.Doubt, h.Name)
			}
		}
	}
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf("%s still %s the old key, or may%s", listed(names), verb(len(names), "serves", "serve"), doubt)
}

// doubt says why it is not known what the other hosts serve; "" if it is.
func (e *Elsewhere) doubt() string {
	if e.Unknown != "" {
		return e.Unknown
	}
	var away, other []string
	for _, h := range e.Hosts {
		switch {
		case h.Doubt == "":
		case h.Alive:
			other = append(other, h.Doubt)
		default:
			away = append(away, h.Name)
			other = append(other, h.Doubt)
		}
	}
	if len(other) == 0 {
		return ""
	}
	text := listed(other) + ", and may still serve the old key"
	if len(away) > 0 {
		text += "; if it never comes back: mxcert fleet forget " + away[0]
	}
	return text
}

// together adds to the facts of this host what the others say.
func (f Facts) together() Facts {
	if f.Elsewhere == nil || f.joined {
		return f
	}
	f.joined = true
	f.Serving = maps.Clone(f.Serving)
	if f.Serving == nil {
		f.Serving = map[string]bool{}
	}
	for _, h := range f.Elsewhere.Hosts {
		for _, spki := range h.Serves {
			f.Serving[spki] = true
		}
	}
	if f.doubt = f.Elsewhere.doubt(); f.doubt != "" {
		f.AllSeen, f.Probed = false, false
	}
	f.Settings.Elsewhere = f.Settings.Elsewhere || f.Elsewhere.Publishes()
	return f
}
