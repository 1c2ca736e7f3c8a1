package dane

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/resolve"
	"mxcert/acme/state"
)

// Claim notes that the records of an edit are ours. Store the state before you carry it out.
func (s *State) Claim(e Edit, at time.Time) {
	for i, record := range e.Records {
		o := Ours{Owner: e.Place.Name, Zone: e.Place.Zone, Primary: e.Place.Primary, For: e.For, Record: record, Added: at.UTC()}
		if i < len(e.Keys) {
			o.SPKI = e.Keys[i]
		}
		for _, f := range s.Former {
			if f.equal(o) && !o.Added.After(f.Added) { // in a fleet clocks differ: a claim is later than what it follows
				o.Added = f.Added.Add(1)
			}
		}
		s.Former = slices.DeleteFunc(s.Former, o.equal)
		if !slices.ContainsFunc(s.Ours, o.equal) {
			s.Ours = append(s.Ours, o)
		}
	}
}

// Removed notes that the records of an edit were removed, before the next list shows it: other hosts of a fleet must know it at once.
func (s *State) Removed(e Edit) {
	for _, record := range e.Records {
		gone := func(o Ours) bool { return o.place().same(e.Place) && o.Record == record }
		for _, o := range s.Ours {
			if gone(o) {
				s.Former = append(slices.DeleteFunc(s.Former, o.equal), o)
			}
		}
		s.Ours = slices.DeleteFunc(s.Ours, gone)
	}
}

// Withdrawn reports whether mxcert has removed a record of a key at one of the owners, and nobody has added it again. Servers may still give it, so a
// look cannot tell.
func (s *State) Withdrawn(owners []Owner, spki string) bool {
	return slices.ContainsFunc(s.Former, func(o Ours) bool {
		return o.SPKI == spki && !slices.ContainsFunc(s.Ours, o.equal) && slices.ContainsFunc(owners, func(w Owner) bool { return w.Name() == o.For })
	})
}

func (o Ours) equal(other Ours) bool {
	return o.place().same(other.place()) && o.Record == other.Record
}

// JustAdded reports whether mxcert has added a record for an owner after a look, so that the look cannot have seen it.
func (s *State) JustAdded(owner, record string, look state.Instant) bool {
	return slices.ContainsFunc(s.Ours, func(o Ours) bool { return o.For == owner && o.Record == record && o.Added.After(look.At) })
}

// Places are all places whose records a publisher has to list: those of the owners, and where our records are.
func (s *State) Places(of []Place) []Place {
	var list []Place
	add := func(p Place) {
		if p.Name != "" && !slices.ContainsFunc(list, p.same) {
			list = append(list, p)
		}
	}
	for _, p := range of {
		add(p)
	}
	for _, o := range slices.Concat(s.Ours, s.Former) {
		add(o.place())
	}
	return list
}

// Adopt makes records of others ours that fit our keys, because the operator agrees: then they are removed like those that mxcert has added.
// It returns them.
func (s *State) Adopt(f Facts) (adopted []Ours) {
	p := newPlanner(s, f)
	keys := slices.Concat(f.Current, f.Next)
	for _, r := range s.Keys {
		if r == nil {
			continue
		}
		keys = append(keys, KeyOf{SPKI: r.Current}, KeyOf{SPKI: r.Next})
		for _, old := range r.Retired {
			keys = append(keys, KeyOf{SPKI: old.SPKI})
		}
	}
	for _, t := range p.targets {
		for _, k := range keys {
			for _, record := range formsOf(k, everyForm()) {
				if k.SPKI == "" || !t.known || !slices.Contains(t.listed, record) || p.mine(t.place, record) {
					continue
				}
				e := Edit{Place: t.place, For: f.Owners[t.owners[0]].Name(), Records: []string{record}, Keys: []string{k.SPKI}}
				s.Claim(e, f.At.At)
				adopted = append(adopted, s.Ours[len(s.Ours)-1])
			}
		}
	}
	return adopted
}

// mostFormer limits the removed records that are remembered.
const mostFormer = 200

// observeOurs notes which of our records are gone, and which came back.
func (s *State) observeOurs(f Facts) {
	p := newPlanner(s, f)
	var ours, former []Ours
	for _, o := range s.Ours {
		if i := slices.IndexFunc(f.Places, o.place().same); i >= 0 && i < len(f.Owners) {
			o.For, o.Primary = f.Owners[i].Name(), f.Places[i].Primary
		}
		if !p.needed(o) && p.gone(o) {
			former = append(former, o)
		} else {
			ours = append(ours, o)
		}
	}
	for _, o := range s.Former {
		listed, known := f.listed(o.place())
		if slices.ContainsFunc(ours, o.equal) {
			continue
		}
		if known && slices.Contains(listed, o.Record) {
			if f.Elsewhere != nil { // later than what other hosts remember: that it is gone
				o.Added = o.Added.Add(1)
			}
			ours = append(ours, o)
		} else if !slices.ContainsFunc(former, o.equal) {
			former = append(former, o)
		}
	}
	s.Ours, s.Former = ours, former[max(0, len(former)-mostFormer):]
}

// gone reports whether a record of ours is certainly not there any more: the service says so, or, if it is not asked, every server.
func (p *planner) gone(o Ours) bool {
	if listed, known := p.f.listed(o.place()); known {
		return !slices.Contains(listed, o.Record)
	}
	if p.f.Settings.Mode == Publish {
		return false
	}
	for i, owner := range p.f.Owners {
		if owner.Name() == o.For {
			v := p.f.view(i)
			return v.Fault() == "" && !slices.ContainsFunc(v.Sets(), func(s Set) bool { return slices.Contains(s.Records, o.Record) })
		}
	}
	return false
}

// mine reports whether a record is one that mxcert has added.
func (p *planner) mine(place Place, record string) bool {
	return slices.ContainsFunc(p.s.Ours, func(o Ours) bool { return o.place().same(place) && o.Record == record })
}

// ours reports whether a record that mxcert has added names a key.
func (p *planner) ours(spki string) bool {
	return slices.ContainsFunc(p.s.Ours, func(o Ours) bool { return o.SPKI == spki })
}

// never reports whether a key was never served, as far as anybody remembers: a next key that was not used.
func (p *planner) never(spki string) bool {
	if p.f.Serving[spki] || slices.ContainsFunc(p.f.Current, withSPKI(spki)) {
		return false
	}
	next := slices.ContainsFunc(p.f.Next, withSPKI(spki))
	for _, r := range p.s.Keys {
		switch {
		case r == nil:
		case r.Current == spki || r.retired(spki):
			return false
		case r.Next == spki:
			next = true
		}
	}
	return next
}

// mayPublish reports whether the record of a next key may be added: the records of old keys go first, so that there are never more than two of
// each type. An emergency does not wait for that.
func (p *planner) mayPublish(key bundle.KeyType, next KeyOf, ok bool) bool {
	r := p.roll(key)
	if r.Asked != nil && r.Asked.Emergency {
		return true
	}
	if ok {
		for _, t := range p.targets {
			if slices.Contains(t.listed, Record(next.SPKI).String()) {
				return true
			}
		}
	}
	_, retiring := p.retiring(r)
	return !retiring && !p.stale
}

// needed reports whether one of our records has to stay as it is.
func (p *planner) needed(o Ours) bool {
	if p.s.Leaving(p.f.Settings) || !p.at(o) {
		return false
	}
	for _, t := range p.targets {
		if t.place.same(o.place()) && t.known && !p.formWanted(o, t) {
			return false
		}
	}
	if slices.ContainsFunc(p.live(), withSPKI(o.SPKI)) {
		return true
	}
	for key, r := range p.s.Keys {
		if r == nil {
			continue
		}
		for _, old := range r.Retired {
			if old.SPKI == o.SPKI {
				return !old.Compromised && old.Gone < p.f.grace()
			}
		}
		if slices.Contains(p.types, key) && p.isNext(key, o.SPKI) {
			return true
		}
	}
	return slices.ContainsFunc(p.types, func(key bundle.KeyType) bool { return p.isNext(key, o.SPKI) })
}

func (p *planner) isNext(key bundle.KeyType, spki string) bool {
	if p.f.Unread[key] != "" && p.roll(key).Next == spki {
		return true
	}
	next, ok := p.next(key)
	return ok && next.SPKI == spki
}

// formWanted reports whether a record has a matching type that is wanted at its place.
func (p *planner) formWanted(o Ours, t target) bool {
	r, err := resolve.ParseTLSA(o.Record)
	return err == nil && slices.Contains(t.forms, r.MatchingType)
}

// at reports whether records are wanted where one of ours is. The names of the certificate that is still served keep theirs, at the ports that
// are wanted.
func (p *planner) at(o Ours) bool {
	for i, owner := range p.f.Owners {
		place := p.f.place(i)
		if place.same(o.place()) || place.Name == "" && (o.For == owner.Name() || o.For == "") {
			return true
		}
	}
	port, host, _ := strings.Cut(o.For, "._tcp.")
	return slices.Contains(p.f.Names, host) && slices.ContainsFunc(p.f.Owners, func(owner Owner) bool { return port == fmt.Sprintf("_%d", owner.Port) })
}

// here reports whether one of our records is where senders look, or may be.
func (p *planner) here(o Ours) bool {
	if _, known := p.f.listed(o.place()); known {
		return true
	}
	return slices.ContainsFunc(p.targets, func(t target) bool { return t.place.Name == "" || t.place.same(o.place()) })
}

func (o Ours) place() Place { return Place{Zone: o.Zone, Name: o.Owner, Primary: o.Primary} }
