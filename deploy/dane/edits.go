package dane

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"mxcert/acme/finding"
)

// remove plans the removal of our records that are not needed.
func (p *planner) remove() {
	for _, o := range p.s.Ours {
		if p.needed(o) {
			continue
		}
		p.stale = p.stale || p.here(o)
		if p.mayRemove(o) {
			p.edit(&p.out.Remove, o.place(), o.For, o.Record, o.SPKI)
		}
	}
	p.out.Remove = slices.DeleteFunc(p.out.Remove, func(e Edit) bool { return !p.harmless(&e) })
}

// mayRemove reports whether nothing can need the record of a key any more.
func (p *planner) mayRemove(o Ours) bool {
	if p.f.Applying || p.f.Elsewhere != nil && p.f.Elsewhere.Unknown != "" {
		return false
	}
	if slices.ContainsFunc(p.live(), withSPKI(o.SPKI)) { // the place goes, or the matching type: harmless judges it
		return p.f.AllSeen
	}
	return p.never(o.SPKI) || p.f.AllSeen && !p.f.Serving[o.SPKI]
}

// harmless reports whether an edit spoils nothing for senders; otherwise it notes why not.
func (p *planner) harmless(e *Edit) bool {
	listed, known := p.f.listed(e.Place)
	if !known {
		return false
	}
	after := slices.DeleteFunc(slices.Clone(listed), func(r string) bool { return slices.Contains(e.Records, r) })
	if k, bad := p.spoils(listed, after); bad {
		p.stuck = fmt.Sprintf("mxcert cannot remove its records of %s: senders would then refuse the key %.16s…, because records of others remain that do not fit it (%s). Remove or change those first",
			strings.TrimSuffix(e.Place.Name, "."), k.SPKI, finding.Quote(strings.Join(after, ", "), finding.MostQuoted))
		return false
	}
	return true
}

// add plans the records that are missing. Those that senders have not asked for before are added in one step.
func (p *planner) add() {
	if p.f.Settings.Mode != Publish {
		return
	}
	for _, t := range p.targets {
		if !t.known || !p.ready(t) {
			continue
		}
		var add []Edit
		for _, k := range p.wanted() {
			for _, record := range formsOf(k, t.forms) {
				if !slices.Contains(t.listed, record) {
					p.edit(&add, t.place, p.f.Owners[t.owners[0]].Name(), record, k.SPKI)
				}
			}
		}
		rest := p.rest(t)
		for _, e := range add {
			_, now := p.spoils(t.listed, slices.Concat(t.listed, e.Records))
			if _, then := p.spoils(rest, slices.Concat(rest, e.Records)); !now && !then {
				p.out.Add = append(p.out.Add, e)
				p.narrows(t)
			}
		}
	}
}

// narrows notes which keys senders accept after an addition to a place where they have checked nothing, or weaker digests.
func (p *planner) narrows(t target) {
	if p.checked(t) && len(t.forms) == 1 {
		return
	}
	for _, k := range p.wanted() {
		if !slices.Contains(p.out.Narrows, k.SPKI) {
			p.out.Narrows = append(p.out.Narrows, k.SPKI)
		}
	}
}

// ready reports whether records may be added at a target. If senders check nothing there so far, everything about all places has to be known.
func (p *planner) ready(t target) bool {
	if p.checked(t) {
		return true
	}
	for _, phase := range p.out.Phases {
		if phase == Unprobed || phase == Blocked || phase == Preparing {
			return false
		}
	}
	return p.blind == "" && len(p.types) > 0
}

// checked reports whether senders check the key at a target, also after the planned removals.
func (p *planner) checked(t target) bool { return Set{Records: p.rest(t)}.Asks() }

// rest is what a place has after the planned removals.
func (p *planner) rest(t target) []string {
	rest := slices.Clone(t.listed)
	for _, e := range p.out.Remove {
		if e.Place.same(t.place) {
			rest = slices.DeleteFunc(rest, func(r string) bool { return slices.Contains(e.Records, r) })
		}
	}
	return rest
}

// wanted are the keys whose records have to be there.
func (p *planner) wanted() []KeyOf {
	list := slices.DeleteFunc(p.live(), func(k KeyOf) bool { return !p.s.known(p.f, k.SPKI) })
	if p.blind != "" {
		return list
	}
	for _, key := range p.types {
		next, ok := p.next(key)
		if !ok || !p.mayPublish(key, next, true) || p.out.Phases[key] == Blocked || p.out.Phases[key] == Unprobed {
			continue
		}
		if !slices.ContainsFunc(list, withSPKI(next.SPKI)) {
			list = append(list, next)
		}
	}
	return list
}

func (p *planner) edit(list *[]Edit, place Place, owner, record, spki string) {
	i := slices.IndexFunc(*list, func(e Edit) bool { return e.Place.same(place) })
	if i < 0 {
		i = len(*list)
		*list = append(*list, Edit{Place: place, For: owner})
	}
	e := &(*list)[i]
	e.Records, e.Keys = append(e.Records, record), append(e.Keys, spki)
}

// leave removes what mxcert has added, because the configuration does not want it any more.
func (p *planner) leave() {
	if !p.s.Leaving(p.f.Settings) {
		p.fade()
		return
	}
	p.remove()
	wait := Wait{For: "mxcert removes the records that it has added, because dane.mode is not publish any more"}
	phase := Retiring
	switch {
	case p.stuck != "":
		phase, wait.For = Blocked, p.stuck
	case p.f.Listed == nil && !p.f.Unasked:
		phase, wait.For = Blocked, fmt.Sprintf("mxcert has added %d records and does not know how to remove them: configure dane.publisher until they are removed, or remove them yourself", len(p.s.Ours))
	case !p.f.AllSeen:
		wait.For += "; an endpoint did not answer"
	}
	for _, key := range p.types {
		p.out.Phases[key], p.out.Waits[key] = phase, wait
	}
	p.wake(phase, wait)
}

// fade says until when senders may hold the records that mxcert has removed: with mode off, the key is free after that.
func (p *planner) fade() {
	if p.f.Settings.Mode != Off {
		return
	}
	held, given := false, false
	wait := Wait{For: "senders may still hold the records that mxcert has removed; until then the key stays"}
	for _, owner := range p.f.Owners {
		for _, c := range p.s.Memory.Held(owner, p.f.Settings) {
			if !slices.ContainsFunc(p.s.Former, func(o Ours) bool { return o.For == owner.Name() && slices.Contains(c.Records, o.Record) }) {
				continue
			}
			held, given = true, given || c.Given
			if end := p.f.At.At.Add(c.left(p.f.Settings)); end.After(wait.Until) {
				wait.Until = end
			}
		}
	}
	if given {
		wait = Wait{For: "some server may still give the records that mxcert has removed; until then the key stays"}
	}
	if !held {
		return
	}
	for _, key := range p.types {
		p.out.Phases[key], p.out.Waits[key] = Retiring, wait
	}
	p.wake(Retiring, wait)
}

// free lists stored next keys that nobody needs: they have become the current key, or no next key is wanted and no sender may hold a record that
// names them.
func (p *planner) free() {
	wanted := p.f.Settings.Mode == Publish || p.f.Settings.Mode == ByHand
	for _, next := range p.f.Next {
		if r := p.roll(next.Type); r.Next == "" && r.Current == next.SPKI && !slices.Contains(p.out.Make, next.Type) {
			p.out.Free = append(p.out.Free, next.Type)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(p.s.Keys)) {
		r := p.s.Keys[key]
		if r == nil || r.Next == "" || p.ours(r.Next) || wanted && slices.Contains(p.types, key) || slices.ContainsFunc(p.f.Current, withSPKI(r.Next)) {
			continue
		}
		if p.held(r.Next) { // an operator has published it, or senders have not forgotten it yet
			continue
		}
		p.out.Free = append(p.out.Free, key)
	}
}
