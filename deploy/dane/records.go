package dane

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"maps"
	"slices"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/resolve"
	"mxcert/deploy/verdict"
)

// formsOf returns the records of a key with usage 3 and selector 1, for each of the matching types. Those for which the key itself would be
// needed are left out if only its digest is known.
func formsOf(k KeyOf, matching []uint8) (list []string) {
	for _, m := range matching {
		switch {
		case m == 1:
			list = append(list, Record(k.SPKI).String())
		case k.DER != nil:
			list = append(list, recordOf(1, m, k.DER).String())
		}
	}
	return list
}

// recordOf makes the record with usage 3 of a certificate, or of its key.
func recordOf(selector, matching uint8, data []byte) resolve.TLSA {
	switch matching {
	case 1:
		sum := sha256.Sum256(data)
		data = sum[:]
	case 2:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	return resolve.TLSA{Usage: 3, Selector: selector, MatchingType: matching, Data: data}
}

// everyForm are all matching types (RFC 6698 section 2.1.3).
func everyForm() []uint8 { return []uint8{0, 1, 2} }

// usable reports whether senders can use some of the records, so that they check the key: with usages 0 and 1, or a digest that is cut off,
// they check nothing.
func usable(records ...resolve.TLSA) bool {
	return verdict.FitTLSA(records, nil, nil, time.Time{}, false).Checked
}

// accepts reports whether a record set certainly lets a key be served: its own record is there, or senders check nothing. With agile, records
// with the strongest digest alone count.
func accepts(records []resolve.TLSA, k KeyOf, agile bool) bool {
	records = slices.DeleteFunc(slices.Clone(records), func(r resolve.TLSA) bool { return !usable(r) })
	if len(records) == 0 {
		return true
	}
	strong := agile && slices.ContainsFunc(records, func(r resolve.TLSA) bool { return r.Usage == 3 && r.Selector == 1 && r.MatchingType == 2 })
	return slices.ContainsFunc(records, func(r resolve.TLSA) bool { return (!strong || r.MatchingType != 1) && k.Fits(r) })
}

// Fits reports whether a record with usage 3 and selector 1 is of the key, as far as it is known.
func (k KeyOf) Fits(r resolve.TLSA) bool {
	if r.Usage != 3 || r.Selector != 1 {
		return false
	}
	return r.MatchingType == 1 && hex.EncodeToString(r.Data) == k.SPKI || r.Matches(nil, k.DER)
}

func parsed(records []string) []resolve.TLSA { return Set{Records: records}.TLSA() }

// spoils names a key that is served, or is about to be, and that senders accept with the records before and not with those after.
func (p *planner) spoils(before, after []string) (KeyOf, bool) {
	old, changed := parsed(before), parsed(after)
	for _, k := range p.live() {
		for _, agile := range []bool{false, true} {
			if accepts(old, k, agile) && !accepts(changed, k, agile) {
				return k, true
			}
		}
	}
	return KeyOf{}, false
}

// live are the keys that are served, or that may be at any moment.
func (p *planner) live() []KeyOf {
	list := slices.Clone(p.f.Current)
	more := p.serving()
	for _, key := range slices.Sorted(maps.Keys(p.s.Keys)) {
		if r := p.s.Keys[key]; r != nil && r.Current != "" {
			more = append(more, r.Current)
		}
	}
	for _, spki := range more {
		if !slices.ContainsFunc(list, withSPKI(spki)) {
			list = append(list, p.full(spki))
		}
	}
	return list
}

// full returns what is known about a key.
func (p *planner) full(spki string) KeyOf {
	for _, k := range slices.Concat(p.f.Current, p.f.Next) {
		if k.SPKI == spki {
			return k
		}
	}
	return KeyOf{SPKI: spki}
}

func (p *planner) serving() (list []string) {
	for _, spki := range slices.Sorted(maps.Keys(p.f.Serving)) {
		if p.f.Serving[spki] {
			list = append(list, spki)
		}
	}
	return list
}

// broken reports whether some sender holds records that certainly do not fit the current key.
func (p *planner) broken(current KeyOf) bool {
	for _, o := range p.f.Owners {
		for _, c := range p.s.Memory.Held(o, p.f.Settings) {
			records := c.TLSA()
			judged := !slices.ContainsFunc(records, func(r resolve.TLSA) bool { return usable(r) && (r.Usage != 3 || r.Selector != 1) })
			if judged && !accepts(records, current, false) {
				return true
			}
		}
	}
	return false
}

// held reports whether a sender may hold a record that names a key, or nobody knows.
func (p *planner) held(spki string) bool {
	k := p.full(spki)
	for _, h := range p.s.Memory {
		if h == nil {
			continue
		}
		if h.Crowded != nil && h.Crowded.held(p.f.Settings) {
			return true
		}
		for _, c := range h.Known {
			if c.held(p.f.Settings) && slices.ContainsFunc(c.TLSA(), k.Fits) {
				return true
			}
		}
	}
	return false
}

// forms lists the matching types of records of others at a target: agile senders look at the strongest alone (RFC 7671 section 9), so each of
// our keys needs a record of each.
func (p *planner) forms(t target) []uint8 {
	lists := [][]string{t.listed}
	if !t.known {
		lists = nil
		for _, i := range t.owners {
			for _, set := range p.f.view(i).Sets() {
				lists = append(lists, set.Records)
			}
		}
	}
	forms := []uint8{1}
	for _, text := range slices.Concat(lists...) {
		r, err := resolve.ParseTLSA(text)
		if err == nil && r.Usage == 3 && r.Selector == 1 && r.MatchingType <= 2 && !slices.Contains(forms, r.MatchingType) && !p.mine(t.place, text) {
			forms = append(forms, r.MatchingType)
		}
	}
	slices.Sort(forms)
	return forms
}

// show lists the records that should be there.
func (p *planner) show() {
	mode := p.f.Settings.Mode
	for _, t := range p.targets {
		for _, i := range t.owners {
			add := func(k KeyOf, key bundle.KeyType, role string) {
				for _, record := range formsOf(k, t.forms) {
					p.out.Show = append(p.out.Show, Wanted{Owner: p.f.Owners[i], Record: record, Key: key, SPKI: k.SPKI, Role: role})
				}
			}
			for _, key := range p.types {
				r := p.roll(key)
				current, ok := find(p.f.Current, key)
				if ok {
					add(current, key, "current")
				}
				if r.Current != "" && r.Current != current.SPKI { // the current one is not in service yet
					add(p.full(r.Current), key, "old")
				}
				if next, ok := p.next(key); ok && (mode == ByHand || mode == Publish) && p.mayPublish(key, next, true) {
					add(next, key, "next")
				}
				for _, old := range r.Retired {
					if !p.s.over(old, p.f) && !old.Compromised {
						add(p.full(old.SPKI), key, "old")
					}
				}
			}
		}
	}
}
