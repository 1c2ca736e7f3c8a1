package dane

import (
	"fmt"
	"slices"

	"mxcert/acme/bundle"
)

// stand finds where the keys of one type stand, and what comes next for them.
func (p *planner) stand(key bundle.KeyType) (Phase, Wait) {
	r := p.roll(key)
	current, has := find(p.f.Current, key)
	if !has && !p.asked() && len(p.f.Current) == 0 {
		return Preparing, Wait{For: "there is no certificate yet"}
	}
	if !has {
		p.out.Wait = append(p.out.Wait, key)
	}
	if why, blocked := p.blocked(key); blocked {
		return Blocked, Wait{For: why}
	}
	if why := p.unprobed(); why != "" {
		return Unprobed, Wait{For: why}
	}
	if has && r.Current != "" && current.SPKI != r.Current { // ordered, and not proven yet
		phase, wait := p.spread(current)
		if phase == "" {
			return Rolling, Wait{For: "a certificate with the new key has to be deployed and proven"}
		}
		return phase, wait
	}
	next, ok := p.next(key)
	old, retiring := p.retiring(r)
	if retiring && !p.mayPublish(key, next, ok) {
		return Retiring, old
	}
	if !ok {
		return p.prepare(key)
	}
	phase, wait := p.spread(next)
	due := r.Asked != nil || !has
	if why := p.waits(r.Asked); phase == "" && why != "" {
		return Holding, Wait{For: why}
	}
	switch {
	case due && (phase == "" || r.Asked != nil && r.Asked.Ignore):
		if !p.f.Applying {
			p.out.Roll = append(p.out.Roll, key)
		}
		return Rolling, Wait{For: "a certificate with the next key has to be ordered and deployed"}
	case phase != "" && due && r.Asked != nil && r.Asked.Emergency:
		wait.For += "; some senders defer mail if the key changes before that (--ignore-dane changes it at once)"
		return phase, wait
	case phase != "":
		return phase, wait
	}
	if phase, wait = p.published(current); phase != "" {
		return phase, wait
	}
	if retiring {
		return Retiring, old
	}
	return Steady, Wait{}
}

// next returns the stored next key of a type, unless it is used up, retired or leaked.
func (p *planner) next(key bundle.KeyType) (KeyOf, bool) {
	k, ok := find(p.f.Next, key)
	r := p.roll(key)
	current, _ := find(p.f.Current, key)
	switch {
	case !ok, k.SPKI == r.Current, r.retired(k.SPKI), r.Asked != nil && slices.Contains(r.Asked.Leaked, k.SPKI):
		return KeyOf{}, false
	case r.Current == "" && k.SPKI == current.SPKI: // used up before what was remembered was lost
		return KeyOf{}, false
	}
	return k, true
}

// prepare is the phase without a next key.
func (p *planner) prepare(key bundle.KeyType) (Phase, Wait) {
	stored, ok := find(p.f.Next, key)
	if ok && p.ours(stored.SPKI) && p.never(stored.SPKI) {
		return Preparing, Wait{For: "the record of the next key that leaked has to be removed before another key takes its place"}
	}
	p.out.Make = append(p.out.Make, key)
	return Preparing, Wait{For: "the next key has to be stored"}
}

// blocked says what a person has to fix.
func (p *planner) blocked(key bundle.KeyType) (why string, yes bool) {
	if why := p.f.Unread[key]; why != "" {
		return "the stored next key cannot be read, and mxcert does not replace a key whose record may be published: " + why, true
	}
	for i, owner := range p.f.Owners {
		v := p.f.view(i)
		switch {
		case v.Fault() != "" || v.Signed():
		case v.Unvalidated():
			return fmt.Sprintf("no resolver of this host validates, so nobody knows whether senders can use records of %s: configure a validating resolver in dns.resolvers or dns.resolvers_trusted", owner.Name()), true
		default:
			return fmt.Sprintf("the zone of %s is not signed, so senders ignore TLSA records: sign the zone, and publish its DS record", owner.Name()), true
		}
	}
	return p.stuck, p.stuck != ""
}

// asked reports whether some sender may hold records at some owner.
func (p *planner) asked() bool {
	for i, o := range p.f.Owners {
		for _, c := range p.s.Memory.Held(o, p.f.Settings) {
			if c.Asks() {
				return true
			}
		}
		for _, set := range p.f.view(i).Sets() {
			if set.Asks() {
				return true
			}
		}
	}
	return false
}

// unprobed says why records must not be published yet at places where senders check nothing so far.
func (p *planner) unprobed() string {
	if p.f.Settings.Mode != Publish {
		return ""
	}
	for _, t := range p.targets {
		if !t.known || p.checked(t) {
			continue
		}
		if why := p.foreign(t); why != "" {
			return why
		}
		if p.f.doubt != "" {
			return p.f.doubt
		}
		if !p.f.Probed {
			return "not every address of every name has answered yet, and some may serve a key that the records would lack"
		}
	}
	return ""
}

// foreign names a key that is served and that records at a place would lack.
func (p *planner) foreign(t target) string {
	for _, spki := range p.serving() {
		if p.s.known(p.f, spki) || slices.Contains(t.listed, Record(spki).String()) {
			continue
		}
		return fmt.Sprintf("an address of the names serves a key that is not of this certificate, and senders would refuse it: stop that, or publish %s IN TLSA %s first", t.place.Name, Record(spki))
	}
	return ""
}

// idle reports whether an old key is remembered only because it is still stored as a next key, or because a record of it is where senders do
// not look any more, and the service does not let mxcert remove it.
func (p *planner) idle(old Retired) bool {
	return p.f.AllSeen && !p.f.Serving[old.SPKI] && (old.Compromised || old.Gone >= p.f.grace()) &&
		!slices.ContainsFunc(p.s.Ours, func(o Ours) bool { return o.SPKI == old.SPKI && p.here(o) })
}

// taken reports whether no record of an old key is there any more, as far as this pass or this look knows.
func (p *planner) taken(spki string) bool {
	record := Record(spki).String()
	for i := range p.f.Owners {
		if listed, known := p.f.listed(p.f.place(i)); known {
			if slices.Contains(listed, record) {
				return false
			}
			continue
		}
		v := p.f.view(i)
		if v.Fault() != "" || slices.ContainsFunc(v.Sets(), func(s Set) bool { return slices.Contains(s.Records, record) }) {
			return false
		}
	}
	return true
}

// retiring says what the record of an old key waits for.
func (p *planner) retiring(r Roll) (Wait, bool) {
	for _, old := range r.Retired {
		if p.s.over(old, p.f) || p.idle(old) {
			continue
		}
		left := p.f.grace() - old.Gone
		switch {
		case p.f.Elsewhere.serves(old.SPKI) != "":
			return Wait{For: p.f.Elsewhere.serves(old.SPKI)}, true
		case p.f.Serving[old.SPKI]:
			return Wait{For: "something still serves the old key"}, true
		case p.f.doubt != "":
			return Wait{For: p.f.doubt}, true
		case !p.f.AllSeen:
			return Wait{For: "an endpoint did not answer, and may still serve the old key"}, true
		case p.f.Applying:
			return Wait{For: "a deployment is under way"}, true
		case left > 0 && !old.Compromised:
			return Wait{For: "the old key's record stays for a while after the last handshake with that key", Until: p.f.At.At.Add(left)}, true
		case p.taken(old.SPKI):
			return Wait{For: "the old key's record is gone, and the next pass makes a new next key"}, true
		}
		if _, listed := p.f.listed(p.f.place(0)); !listed && p.f.Settings.Mode == ByHand {
			return Wait{For: "you have to remove the record " + Record(old.SPKI).String() + " of the old key, which mxcert added when dane.mode was publish"}, true
		}
		return Wait{For: "mxcert has to remove the old key's record"}, true
	}
	return Wait{}, false
}
