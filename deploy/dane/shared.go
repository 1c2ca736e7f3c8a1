package dane

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// Shared is what the hosts of a fleet remember together about the TLSA records of one certificate. What one host has published, every other
// can remove. Each host also keeps its own copy of all of it in its [State], so that nothing is forgotten if the store is lost: [State.Take]
// and [State.Give] unite the two, in any order and any number of times with the same result.
type Shared struct {
	Version int                            `json:"version"`
	Keys    map[bundle.KeyType]*SharedRoll `json:"keys,omitempty"`
	Ours    []Ours                         `json:"ours,omitempty"`
	Former  []Ours                         `json:"former,omitempty"`
	Marks   map[string]Mark                `json:"marks,omitempty"`  // by host
	Before  []Before                       `json:"before,omitempty"` // newest last
	Looks   map[string]Looked              `json:"looks,omitempty"`  // by [Owner.Name]
}

// SharedRoll is about the keys of one type.
type SharedRoll struct {
	Asked   []Asked   `json:"asked,omitempty"` // each of another key, newest last
	Retired []Retired `json:"retired,omitempty"`
}

// Mark says that a host changes records at this moment. Until it takes the mark back, no other host begins to serve a key that senders would
// refuse after the change.
type Mark struct {
	At      time.Time `json:"at"`
	Without []string  `json:"without,omitempty"` // SPKIs whose records go
	Only    []string  `json:"only,omitempty"`    // the first records come to some place, and they are of these SPKIs; nil: there are others
}

// Before is a set that a host has found where it added records: senders may hold it, even if no other host's look has met it.
type Before struct {
	Set
	Owner string    `json:"owner"` // [Owner.Name]
	At    time.Time `json:"at"`
	By    string    `json:"by"`
}

func (b Before) equal(other Before) bool {
	return b.Owner == other.Owner && b.At.Equal(other.At) && b.By == other.By
}

// Limits of the sets that hosts tell each other, and remember: the newest ones by their times, everywhere. If hosts kept others than the store does,
// an old set would be new to them again and again, and each time count as held from then on.
const (
	mostBefore      = 8         // of one owner
	mostBeforeBytes = 256 << 10 // of all
)

// newestBefore returns the sets that are kept, the newest last.
func newestBefore(list []Before) []Before {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b Before) int { return a.At.Compare(b.At) })
	count, bytes := map[string]int{}, 0
	var kept []Before
	for _, b := range slices.Backward(list) {
		if count[b.Owner]++; count[b.Owner] > mostBefore {
			continue
		}
		if bytes += (Cached{Set: b.Set}).size() + len(b.Owner) + len(b.By); bytes > mostBeforeBytes {
			break
		}
		kept = append(kept, b)
	}
	slices.Reverse(kept)
	return kept
}

// Found notes which sets were at the places of an edit before it: the memory of looks has them from now on, and the other hosts hear of them.
// It does nothing in a plan without a fleet.
func (s *State) Found(e Edit, f Facts, host string) {
	listed, known := f.listed(e.Place)
	if !known || len(listed) == 0 || f.Elsewhere == nil {
		return
	}
	for i, owner := range f.Owners {
		if f.place(i).same(e.Place) {
			b := Before{Set{slices.Clone(listed), max(f.ttl(), f.Settings.TTL)}.sorted(), owner.Name(), f.At.At, host}
			s.before(b)
		}
	}
}

func (s *State) before(b Before) {
	if slices.ContainsFunc(s.Before, b.equal) {
		return
	}
	s.Before = newestBefore(append(s.Before, b))
	if !slices.ContainsFunc(s.Before, b.equal) {
		return // there were many later ones
	}
	h := s.Memory[b.Owner]
	if h == nil {
		return
	}
	if i := slices.IndexFunc(h.Known, func(c Cached) bool { return slices.Equal(c.Records, b.Records) && c.TTL >= b.TTL && c.Guess == "" }); i >= 0 {
		h.Known[i].Given, h.Known[i].Gone = true, 0
		return
	}
	h.add([]Cached{{Set: b.Set, Given: true}})
	h.bound()
}

// mostRequests limits the requests of one key type that are remembered together.
const mostRequests = 8

// Forbids names a host that changes records, so that another must not begin to serve a key; "" if it may.
func (c *Shared) Forbids(host, spki string) string {
	for _, by := range slices.Sorted(maps.Keys(c.Marks)) {
		m := c.Marks[by]
		if by != host && (slices.Contains(m.Without, spki) || len(m.Only) > 0 && !slices.Contains(m.Only, spki)) {
			return by
		}
	}
	return ""
}

// Clean leaves out what mxcert does not write.
func (c *Shared) Clean() {
	c.Ours, c.Former, c.Before = cleanOurs(c.Ours, mostOurs), cleanOurs(c.Former, mostFormer), cleanBefore(c.Before)
	cleanLooks(c.Looks)
	for key, r := range c.Keys {
		if r == nil {
			delete(c.Keys, key)
			continue
		}
		r.Asked = r.Asked[max(0, len(r.Asked)-mostRequests):]
		for i := range r.Asked {
			one := Roll{Asked: &r.Asked[i]}
			one.clean()
			r.Asked[i].Of = plainKey(r.Asked[i].Of)
		}
		one := Roll{Retired: r.Retired}
		one.clean()
		r.Retired = one.Retired
	}
}

// Take adds to the state what other hosts have noted.
func (s *State) Take(c *Shared, at state.Instant) {
	s.Ours, s.Former = unite(s.Ours, s.Former, c.Ours, c.Former)
	for _, b := range c.Before {
		s.before(b)
	}
	for name, h := range s.Memory {
		if l, there := c.Looks[name]; there && h != nil {
			h.learn(l, at.At)
		}
	}
	for key, shared := range c.Keys {
		if shared == nil {
			continue
		}
		r := s.roll(key)
		for _, a := range shared.Asked {
			r.takeAsked(a)
		}
		for _, old := range shared.Retired {
			if i := slices.IndexFunc(r.Retired, func(o Retired) bool { return o.SPKI == old.SPKI }); i >= 0 {
				r.Retired[i].Compromised = r.Retired[i].Compromised || old.Compromised
				continue
			}
			if old.SPKI != r.Current && old.SPKI != r.Next && named(s.Ours, old.SPKI) {
				r.retire(old.SPKI, old.Compromised, at)
			}
		}
	}
}

// takeAsked takes over that the current key is to be replaced, unless it became the current one later.
func (r *Roll) takeAsked(a Asked) {
	if r.Current == "" || a.Of != r.Current || !a.At.After(r.Since.At) {
		return
	}
	mine := r.Asked
	if mine == nil {
		mine = &Asked{At: a.At, Reason: a.Reason}
	}
	r.Asked = mine.with(a)
}

// with unites two requests for another key.
func (a Asked) with(b Asked) *Asked {
	if b.Emergency && !a.Emergency {
		a.At, a.Reason = b.At, b.Reason
	}
	a.Emergency, a.Fresh, a.Ignore, a.Of = a.Emergency || b.Emergency, a.Fresh || b.Fresh, a.Ignore || b.Ignore, cmp.Or(a.Of, b.Of)
	a.Leaked = slices.Clone(a.Leaked)
	for _, spki := range b.Leaked {
		a.leaks(spki)
	}
	return &a
}

// Give adds to what hosts remember together what this one has noted.
func (s *State) Give(c *Shared) {
	c.Version = state.Version
	c.Ours, c.Former = unite(c.Ours, c.Former, s.Ours, s.Former)
	for _, b := range s.Before {
		if !slices.ContainsFunc(c.Before, b.equal) {
			c.Before = append(c.Before, b)
		}
	}
	c.Before = newestBefore(c.Before)
	if c.Keys == nil {
		c.Keys = map[bundle.KeyType]*SharedRoll{}
	}
	for key, r := range s.Keys {
		if r == nil {
			continue
		}
		shared := c.Keys[key]
		if shared == nil {
			shared = &SharedRoll{}
		}
		if r.Asked != nil && r.Current != "" {
			shared.ask(*r.Asked, r.Current)
		}
		for _, old := range r.Retired {
			i := slices.IndexFunc(shared.Retired, func(o Retired) bool { return o.SPKI == old.SPKI })
			if i < 0 {
				shared.Retired = append(shared.Retired, Retired{SPKI: old.SPKI, Compromised: old.Compromised})
				continue
			}
			shared.Retired[i].Compromised = shared.Retired[i].Compromised || old.Compromised
		}
		if len(shared.Asked)+len(shared.Retired) > 0 {
			c.Keys[key] = shared
		}
	}
	for _, shared := range c.Keys { // without a record, nothing has to be done about an old key
		shared.Retired = slices.DeleteFunc(shared.Retired, func(o Retired) bool { return !named(c.Ours, o.SPKI) })
		shared.Retired = shared.Retired[max(0, len(shared.Retired)-mostRetired):]
	}
}

func (r *SharedRoll) ask(a Asked, of string) {
	a.Of = of
	if i := slices.IndexFunc(r.Asked, func(b Asked) bool { return b.Of == of }); i >= 0 {
		if b := r.Asked[i]; a.At.After(b.At) && !a.Emergency {
			a.At, a.Reason = b.At, b.Reason // the first request is that of the history
		}
		r.Asked[i] = *r.Asked[i].with(a)
		return
	}
	r.Asked = append(r.Asked, a)
	r.Asked = r.Asked[max(0, len(r.Asked)-mostRequests):]
}

func named(list []Ours, spki string) bool {
	return slices.ContainsFunc(list, func(o Ours) bool { return o.SPKI == spki })
}

// unite merges two memories of records. Of one record, what was noted after its last claim holds: that it is gone, or that it was added again.
// No record is left out of both lists.
func unite(ours, former, moreOurs, moreFormer []Ours) (newOurs, newFormer []Ours) {
	gone := func(o Ours, list []Ours) bool {
		return slices.ContainsFunc(list, func(f Ours) bool { return f.equal(o) && !o.Added.After(f.Added) })
	}
	add := func(list []Ours, o Ours) []Ours {
		i := slices.IndexFunc(list, o.equal)
		switch {
		case i < 0:
			return append(list, o)
		case o.Added.After(list[i].Added):
			list[i] = o
		}
		return list
	}
	all := slices.Concat(former, moreFormer)
	for _, o := range slices.Concat(ours, moreOurs) {
		if !gone(o, all) {
			newOurs = add(newOurs, o)
		}
	}
	for _, o := range all {
		if !slices.ContainsFunc(newOurs, o.equal) {
			newFormer = add(newFormer, o)
		}
	}
	return newOurs, newFormer[max(0, len(newFormer)-mostFormer):]
}
