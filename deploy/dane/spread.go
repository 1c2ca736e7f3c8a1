package dane

import (
	"fmt"
	"slices"
	"time"

	"mxcert/acme/resolve"
)

// spread says what a key waits for before it may be served; "" if for nothing.
func (p *planner) spread(k KeyOf) (Phase, Wait) {
	if phase, wait := p.published(k); phase != "" {
		return phase, wait
	}
	var until time.Time
	var whys []reason
	blocked := false
	for i, owner := range p.f.Owners {
		ok, at, why := p.s.Memory.Ready(owner, k.SPKI, p.f.Settings, p.f.At)
		if ok {
			ok, at, why = p.agile(i, k)
		}
		if ok {
			continue
		}
		blocked = blocked || at.IsZero()
		if at.After(until) {
			until = at
		}
		whys = append(whys, reason{owner.Name(), why})
	}
	if len(whys) == 0 {
		return "", Wait{}
	}
	if blocked {
		return Holding, Wait{For: gathered(whys)}
	}
	whys = append(whys, p.expireBefore(until)...)
	return Holding, Wait{For: gathered(whys), Until: until}
}

// agile reports whether senders that look at the strongest digest only would find the key in every set that they may hold (RFC 7671 section 9).
func (p *planner) agile(i int, k KeyOf) (ok bool, until time.Time, why string) {
	owner := p.f.Owners[i]
	for _, c := range p.s.Memory.Held(owner, p.f.Settings) {
		records := c.TLSA()
		if accepts(records, k, true) || !accepts(records, k, false) {
			continue
		}
		why = fmt.Sprintf("some senders may still hold records of %s with SHA-512 digests, none of which is of this key", owner.Name())
		if c.Given {
			return false, time.Time{}, why
		}
		if end := p.f.At.At.Add(Hold(c.TTL, p.f.Settings) - c.Gone); end.After(until) {
			until = end
		}
	}
	return why == "", until, why
}

// published says which records of a key are not published, or not seen; "" if all are.
func (p *planner) published(k KeyOf) (Phase, Wait) {
	if k.SPKI == "" {
		return "", Wait{}
	}
	for _, t := range p.targets {
		for _, record := range formsOf(k, t.forms) {
			if t.known && !slices.Contains(t.listed, record) {
				return Publishing, Wait{For: "mxcert has to add the records of " + p.f.Owners[t.owners[0]].Name()}
			}
		}
	}
	var whys []reason
	phase := Spreading
	for _, t := range p.targets {
		for _, i := range t.owners {
			seen, why := p.seen(i, k, t.forms)
			if why == "" {
				continue
			}
			whys = append(whys, reason{p.f.Owners[i].Name(), why})
			if !seen && (p.f.Settings.Mode == ByHand || p.blind != "" || p.f.Unasked && !p.ours(k.SPKI)) {
				phase = Publishing
			}
		}
	}
	switch {
	case len(whys) == 0:
		return "", Wait{}
	case p.blind != "":
		whys = append(whys, reason{why: p.blind})
	}
	return phase, Wait{For: gathered(whys)}
}

// seen says where the records of a key are missing; "" if every server gives them. some reports whether any server does.
func (p *planner) seen(i int, k KeyOf, forms []uint8) (some bool, why string) {
	owner, v := p.f.Owners[i].Name(), p.f.view(i)
	if fault := v.Fault(); fault != "" {
		return true, fmt.Sprintf("the look at %s was not complete: %s", owner, fault)
	}
	for _, text := range formsOf(k, forms) {
		record, err := resolve.ParseTLSA(text)
		if err != nil {
			continue
		}
		ok, missing := v.Everywhere(record)
		if ok {
			continue
		}
		some = slices.ContainsFunc(v.Sets(), func(s Set) bool { return slices.Contains(s.Records, text) })
		switch {
		case !some && p.f.Settings.Mode == ByHand:
			return false, fmt.Sprintf("you have to publish %s IN TLSA %s", owner, text)
		case !some && p.f.Unasked && !p.ours(k.SPKI):
			return false, fmt.Sprintf("mxcert has to add %s IN TLSA %s", owner, text)
		case !some && p.s.JustAdded(owner, text, p.f.At):
			return false, fmt.Sprintf("mxcert has just added %s IN TLSA %s, and the next look shows which servers give it", owner, text)
		case len(missing) == 0:
			return some, fmt.Sprintf("no server was seen to give %s IN TLSA %s yet", owner, text)
		}
		return some, fmt.Sprintf("%s %s not give %s IN TLSA %s yet", listed(missing), verb(len(missing), "does", "do"), owner, text)
	}
	return true, ""
}
