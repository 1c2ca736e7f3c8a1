package report

import (
	"cmp"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/resolve"
	"mxcert/deploy/dane"
)

// TLSASight is what a pass, or a look, knows about the TLSA records of a certificate.
type TLSASight struct {
	Mode   dane.Mode // in force
	State  *dane.State
	Facts  dane.Facts
	Plan   dane.Plan
	Chains map[bundle.KeyType][]*x509.Certificate // of the current certificates, leaf first
	// Old returns the type of a key that a stored certificate had; nil if that is not known.
	Old func(spki string) (key bundle.KeyType, ok bool)
}

// NewTLSA describes the records and where each key type stands. Everything that shows TLSA records gets its words from here.
func NewTLSA(s TLSASight) *TLSA {
	t := &TLSA{Mode: string(s.Mode), Records: s.records(), Keys: s.keys(), Ignored: s.ignored(), Owners: []TLSAOwner{}}
	if len(t.Keys) > 0 {
		least := slices.MinFunc(t.Keys, func(a, b TLSAKey) int { return cmp.Compare(progress(a.State), progress(b.State)) })
		t.State, t.WaitingFor, t.Until = least.State, least.WaitingFor, least.Until
	}
	for _, v := range s.Facts.Views {
		if until := v.SignedUntil(); !until.IsZero() && (t.SignedUntil == nil || until.Before(*t.SignedUntil)) {
			t.SignedUntil = moment(until)
		}
	}
	if len(s.Facts.Views) > 0 {
		t.LookedAt = moment(s.Facts.At.At)
	}
	return t
}

// Fault reports whether senders would not accept what is served, or a person has to fix something.
func (t *TLSA) Fault() bool {
	return t != nil && (t.State == string(dane.Blocked) || slices.ContainsFunc(t.Owners, func(o TLSAOwner) bool { return o.Matches != nil && !*o.Matches }))
}

// progress orders the states by how far the keys are: what needs a person comes first.
func progress(state string) int {
	return slices.Index(TLSAStates(), state)
}

// TLSAStates lists the states that a key can have, ordered in this way.
func TLSAStates() (list []string) {
	for _, phase := range []dane.Phase{dane.Blocked, dane.Unprobed, dane.Preparing, dane.Publishing, dane.Spreading, dane.Holding, dane.Rolling, dane.Retiring, dane.Steady} {
		list = append(list, string(phase))
	}
	return list
}

// moment returns a time for a document; nil if it is zero.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}

func (s TLSASight) keys() []TLSAKey {
	list := []TLSAKey{}
	for _, key := range s.types() {
		wait := s.Plan.Waits[key]
		list = append(list, TLSAKey{Key: string(key), State: string(s.Plan.Phases[key]), WaitingFor: wait.For, Until: moment(wait.Until),
			Current: spkiOf(s.Facts.Current, key), Next: spkiOf(s.Facts.Next, key)})
	}
	return list
}

// types lists the key types: those of the current certificates, in their order, then the others that the plan names.
func (s TLSASight) types() (list []bundle.KeyType) {
	for _, k := range s.Facts.Current {
		list = append(list, k.Type)
	}
	var more []bundle.KeyType
	for key := range s.Plan.Phases {
		if !slices.Contains(list, key) {
			more = append(more, key)
		}
	}
	slices.Sort(more)
	return append(list, more...)
}

func spkiOf(keys []dane.KeyOf, key bundle.KeyType) string {
	if i := slices.IndexFunc(keys, func(k dane.KeyOf) bool { return k.Type == key }); i >= 0 {
		return keys[i].SPKI
	}
	return ""
}

// records lists what should be there and what is there, by owner: first what should. With mode check or off, whatever fits is right.
func (s TLSASight) records() []TLSARecord {
	list := []TLSARecord{}
	for i, owner := range s.Facts.Owners {
		var records []string
		for _, w := range s.Plan.Show {
			if w.Owner == owner && s.Facts.Settings.Mode != dane.Check && s.Facts.Settings.Mode != dane.Off {
				records = append(records, w.Record)
			}
		}
		should := len(records)
		for _, a := range s.answers(i) {
			for _, r := range a.Records {
				records = append(records, r.String())
			}
		}
		for j, record := range records {
			if slices.Contains(records[:j], record) {
				continue
			}
			list = append(list, s.record(i, record, j < should))
		}
	}
	return list
}

// record describes a record of an owner.
func (s TLSASight) record(owner int, record string, should bool) TLSARecord {
	r := TLSARecord{Owner: s.Facts.Owners[owner].Name(), Record: record, Ours: s.ours(owner, record), Matches: s.Matches(record), SeenBy: []SeenBy{}}
	for _, a := range s.answers(owner) {
		seen := SeenBy{Server: a.Server.Host, Address: a.Server.Address, Serial: a.serial, Fault: a.Fault, SignedUntil: moment(a.Until)}
		switch {
		case slices.ContainsFunc(a.Records, func(t resolve.TLSA) bool { return t.String() == record }):
			r.SeenBy = append(r.SeenBy, seen)
		case should && !s.justAdded(owner, record):
			r.Missing = append(r.Missing, seen)
		}
	}
	return r
}

// justAdded reports whether mxcert has added a record after the look, which therefore does not tell who gives it.
func (s TLSASight) justAdded(owner int, record string) bool {
	return s.State != nil && s.State.JustAdded(s.Facts.Owners[owner].Name(), record, s.Facts.At)
}

// answer is what a server says, and whether it counts.
type answer struct {
	resolve.Authoritative[resolve.TLSA]
	ignored bool
	serial  uint32 // 0 if it was not asked
}

// answers returns what the servers at the end of the way to the records say. A fault of the signature is a fault of the server.
func (s TLSASight) answers(owner int) (list []answer) {
	if owner >= len(s.Facts.Views) || len(s.Facts.Views[owner].Steps) == 0 {
		return nil
	}
	v := s.Facts.Views[owner]
	step := v.Steps[len(v.Steps)-1]
	for i, a := range step.Served.Answers {
		ignored := i < len(step.Ignored) && step.Ignored[i]
		switch {
		case a.Fault == "" && a.Signature != resolve.Signed && a.Signature != resolve.Unchecked && a.Signature != "" && v.Signed():
			a.Fault = "its signature: " + string(a.Signature)
		case ignored && a.Fault == "":
			a.Fault = "does not count (dane.ignore_servers)"
		}
		serial := uint32(0)
		if i < len(step.Serials) {
			serial = step.Serials[i].Serial
		}
		list = append(list, answer{a, ignored, serial})
	}
	return list
}

// ignored lists the servers that do not count.
func (s TLSASight) ignored() (list []string) {
	for i := range s.Facts.Owners {
		for _, a := range s.answers(i) {
			if text := a.Server.String(); a.ignored && !slices.Contains(list, text) {
				list = append(list, text)
			}
		}
	}
	return list
}

// ours reports whether mxcert has added a record.
func (s TLSASight) ours(owner int, record string) bool {
	if s.State == nil {
		return false
	}
	names := []string{fqdn(s.Facts.Owners[owner].Name())}
	if owner < len(s.Facts.Places) && s.Facts.Places[owner].Name != "" {
		names = append(names, fqdn(s.Facts.Places[owner].Name))
	}
	return slices.ContainsFunc(s.State.Ours, func(o dane.Ours) bool { return o.Record == record && slices.Contains(names, fqdn(o.Owner)) })
}

func fqdn(name string) string { return strings.TrimSuffix(name, ".") + "." }

// Matches says which key or certificate a record fits: current, next or old with the key type, issuer, or "".
func (s TLSASight) Matches(record string) string {
	t, err := resolve.ParseTLSA(record)
	if err != nil {
		return ""
	}
	for _, key := range s.types() {
		for i, c := range s.Chains[key] {
			switch {
			case t.Usage == 3 && i == 0 && t.Matches(c.Raw, c.RawSubjectPublicKeyInfo):
				return "current " + string(key)
			case t.Usage == 2 && i > 0 && t.Matches(c.Raw, c.RawSubjectPublicKeyInfo):
				return "issuer"
			}
		}
	}
	if t.Usage != 3 || t.Selector != 1 {
		return ""
	}
	return s.matchesKey(t)
}

// matchesKey says which key a record of usage 3 and selector 1 names.
func (s TLSASight) matchesKey(t resolve.TLSA) string {
	for _, keys := range []struct {
		role string
		list []dane.KeyOf
	}{{"current ", s.Facts.Current}, {"next ", s.Facts.Next}} {
		if i := slices.IndexFunc(keys.list, func(k dane.KeyOf) bool { return k.Fits(t) }); i >= 0 {
			return keys.role + string(keys.list[i].Type)
		}
	}
	if t.MatchingType == 1 {
		return s.matchesOld(hex.EncodeToString(t.Data))
	}
	return ""
}

// matchesOld says whether a key was served before.
func (s TLSASight) matchesOld(spki string) string {
	if s.State != nil {
		for key, roll := range s.State.Keys {
			if roll != nil && slices.ContainsFunc(roll.Retired, func(r dane.Retired) bool { return r.SPKI == spki }) {
				return "old " + string(key)
			}
		}
	}
	if s.Old != nil {
		if key, ok := s.Old(spki); ok {
			return "old " + string(key)
		}
	}
	return ""
}
