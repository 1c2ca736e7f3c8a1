package dane

import (
	"slices"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/acme/state"
)

// Observe notes what a pass has found, apart from the looks (see [Memory.Note]): for how long old keys have not been served, which of our
// records are gone, and which keys are due for a change. Call it before [State.Plan], and store the state before carrying out the plan.
func (s *State) Observe(f Facts) {
	f = f.together()
	s.observeKeys(f)
	s.observeProbe(f)
	s.observeOurs(f)
	for key, r := range s.Keys {
		if r == nil {
			delete(s.Keys, key)
			continue
		}
		r.Retired = slices.DeleteFunc(r.Retired, func(old Retired) bool { return s.over(old, f) })
	}
}

// observeKeys counts the grace of old keys, and notes keys that are due.
func (s *State) observeKeys(f Facts) {
	wanted := f.types()
	for key, r := range s.Keys {
		if r == nil {
			continue
		}
		if !slices.Contains(wanted, key) && r.Current != "" { // the configuration does not have the type any more
			r.retire(r.Current, false, f.At)
			r.Current, r.Since, r.Asked = "", state.Instant{}, nil
		}
		for i := range r.Retired {
			r.Retired[i].count(f)
		}
		age := f.At.After(r.Since)
		if life := f.Settings.KeyLifetime; life > 0 && r.Asked == nil && r.Current != "" && age >= life {
			r.Asked = &Asked{At: f.At.At, Reason: "the key is older than " + finding.Duration(life)}
		}
	}
	if f.Settings.Mode == Publish || f.Settings.Mode == ByHand {
		s.observeBroken(f)
	}
}

// observeBroken asks for a roll if senders hold records that do not fit the current key, and everybody would accept the next one: so it is
// after the state was restored from an old backup.
func (s *State) observeBroken(f Facts) {
	p := newPlanner(s, f)
	for _, current := range f.Current {
		r := s.Keys[current.Type]
		if r == nil || r.Asked != nil || r.Current != current.SPKI || !p.broken(current) {
			continue
		}
		next, ok := p.next(current.Type)
		if phase, _ := p.spread(next); ok && phase == "" {
			r.Asked = &Asked{At: f.At.At, Reason: "some senders hold TLSA records that do not fit the current key, and all of them fit the next key"}
		}
	}
}

// count adds the time since the last look for which nothing has served the key. A look that does not know stops the count.
func (r *Retired) count(f Facts) {
	switch {
	case f.Serving[r.SPKI]:
		r.Gone = 0
	case f.AllSeen && !f.Applying:
		r.Gone += f.At.Counted(r.Last)
	}
	r.Last = f.At
}

// over reports whether nothing remains to be done about an old key.
func (s *State) over(old Retired, f Facts) bool {
	switch {
	case !old.Compromised && old.Gone < f.grace() || !f.AllSeen || f.Serving[old.SPKI]:
		return false
	case slices.ContainsFunc(f.Next, withSPKI(old.SPKI)): // it must not become the next key again
		return false
	}
	return !slices.ContainsFunc(s.Ours, func(o Ours) bool { return o.SPKI == old.SPKI })
}

// observeProbe notes whether every address serves keys of ours only.
func (s *State) observeProbe(f Facts) {
	for spki, serves := range f.Serving {
		if serves && !s.known(f, spki) {
			s.Probed = state.Instant{}
			return
		}
	}
	if f.Probed && s.Probed.IsZero() {
		s.Probed = f.At
	}
}

// known reports whether a key is one of this certificate, as far as anybody remembers.
func (s *State) known(f Facts, spki string) bool {
	if slices.ContainsFunc(f.Current, withSPKI(spki)) || slices.ContainsFunc(f.Next, withSPKI(spki)) {
		return true
	}
	for _, r := range s.Keys {
		if r != nil && (r.Current == spki || r.Next == spki || r.retired(spki)) {
			return true
		}
	}
	return false
}

func withSPKI(spki string) func(KeyOf) bool { return func(k KeyOf) bool { return k.SPKI == spki } }

func (r *Roll) retired(spki string) bool {
	return slices.ContainsFunc(r.Retired, func(old Retired) bool { return old.SPKI == spki })
}

// mostRetired limits the old keys of one type that are remembered.
const mostRetired = 16

// retire notes that a key was served until now.
func (r *Roll) retire(spki string, compromised bool, at state.Instant) {
	if i := slices.IndexFunc(r.Retired, func(old Retired) bool { return old.SPKI == spki }); i >= 0 {
		compromised = compromised || r.Retired[i].Compromised
		r.Retired = slices.Delete(r.Retired, i, i+1)
	}
	r.Retired = append(r.Retired, Retired{SPKI: spki, Last: at, Compromised: compromised})
	if extra := len(r.Retired) - mostRetired; extra > 0 {
		r.Retired = slices.Delete(r.Retired, 0, extra)
	}
}

// roll returns what is remembered about the keys of a type, made if it is missing.
func (s *State) roll(key bundle.KeyType) *Roll {
	if s.Keys == nil {
		s.Keys = map[bundle.KeyType]*Roll{}
	}
	if s.Keys[key] == nil {
		s.Keys[key] = &Roll{}
	}
	return s.Keys[key]
}

// Promote notes that the current certificates were proven on every endpoint: a key that became current makes the one before it retired, and
// its next key is used up. The stored next key may be removed after that.
func (s *State) Promote(current []KeyOf, at state.Instant) {
	for _, k := range current {
		r := s.roll(k.Type)
		if r.Next == k.SPKI {
			r.Next, r.Made = "", time.Time{}
		}
		if r.Current == k.SPKI {
			continue
		}
		if r.Current != "" {
			r.retire(r.Current, r.Asked != nil && r.Asked.Emergency, at)
		}
		r.Retired = slices.DeleteFunc(r.Retired, func(old Retired) bool { return old.SPKI == k.SPKI && !old.Compromised })
		r.Current, r.Since = k.SPKI, at
		if r.Asked != nil && !slices.Contains(r.Asked.Leaked, k.SPKI) {
			r.Asked = nil
		}
	}
}

// Ask notes that a roll is wanted. An emergency that was asked for stays one.
func (s *State) Ask(key bundle.KeyType, a Asked) {
	r := s.roll(key)
	before := r.Asked
	if before == nil {
		before = &Asked{}
	}
	switch {
	case before.Emergency && !a.Emergency:
		a.At, a.Reason = before.At, before.Reason
	case a.Reason == "":
		a.Reason = before.Reason
	}
	a.Leaked = slices.Clone(before.Leaked)
	if a.Emergency && r.Current != "" {
		a.leaks(r.Current)
	}
	if a.Fresh && !before.Fresh && r.Next != "" {
		a.leaks(r.Next) // one that was made for an earlier request is on the disk only since then
	}
	a.Emergency, a.Fresh, a.Ignore = a.Emergency || before.Emergency, a.Fresh || before.Fresh, a.Ignore || before.Ignore
	r.Asked = &a
}

func (a *Asked) leaks(spki string) {
	if !slices.Contains(a.Leaked, spki) {
		a.Leaked = append(a.Leaked, spki)
	}
}

// Effective returns the mode in force. A configuration that does not say gets Check as soon as an owner has, or may still have, records. With
// Off, Check stays in force until the records that mxcert has added are removed and no sender holds them any more: until then the key is not
// free.
func (s *State) Effective(set Settings) Mode {
	if set.Mode != Off && !set.Unset {
		return set.Mode
	}
	if set.Unset && s.records(set) || s.Leaving(set) || len(s.Former) > 0 && s.records(set) {
		return Check
	}
	return Off
}

// Leaving reports whether mxcert has to remove its own records, because the configuration does not want them any more: the mode is neither
// Publish nor ByHand.
func (s *State) Leaving(set Settings) bool {
	return set.Mode != Publish && set.Mode != ByHand && !set.Elsewhere && len(s.Ours) > 0
}

// records reports whether some sender may hold records.
func (s *State) records(set Settings) bool {
	for _, h := range s.Memory {
		if h == nil {
			continue
		}
		for _, c := range h.Known {
			if len(c.Records) > 0 && (c.Given || c.Gone < Hold(c.TTL, set)) {
				return true
			}
		}
	}
	return false
}
