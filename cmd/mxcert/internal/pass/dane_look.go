package pass

import (
	"context"
	"crypto/x509"
	"slices"
	"sync"

	"mxcert/acme/bundle"
	"mxcert/acme/issued"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy/dane"
	"mxcert/deploy/served"
)

// TLSALook is a look at the TLSA records of one certificate, for a command. It changes nothing and stores nothing.
type TLSALook struct {
	report.TLSASight
	Want     wanted.Certificate // with the names that looks at MX records have found
	Have     *issued.Lineage
	Warnings []string // what could not be read

	remembered *tlsa
}

// ReadTLSA reads what is issued and what is remembered. It asks nobody. The lineage may have no certificate yet.
func ReadTLSA(want wanted.Certificate, lineage *state.Lineage) (*TLSALook, error) {
	want, _, _ = WithFound(want, lineage)
	have, err := issued.Look(lineage, want.Keys)
	if err != nil {
		return nil, report.At("state", err)
	}
	l := &TLSALook{Want: want, Have: have}
	l.remembered = readTLSA(want, lineage, func(text string) { l.Warnings = append(l.Warnings, text) })
	if l.remembered == nil { // mode off
		l.remembered = &tlsa{name: want.Name, settings: want.DANE(), owners: want.Owners(), keys: map[bundle.KeyType]nextKey{}, serving: map[string]bool{}, state: dane.State{Memory: dane.Memory{}}}
	}
	l.remembered.at, l.remembered.unasked = now(), hasPublisher(want)
	l.see()
	return l, nil
}

// hasPublisher reports whether the configuration has a service that takes TLSA records. It asks nobody.
func hasPublisher(want wanted.Certificate) bool {
	publisher, err := want.Publisher()
	return publisher != nil || err != nil
}

// see brings the sight up to date. The plan is that of the moment.
func (l *TLSALook) see() {
	t := l.remembered
	l.TLSASight = report.TLSASight{Mode: t.settings.Mode, State: &t.state, Facts: t.facts(l.Have.Bundles, l.Have.Record.Applying), Chains: map[bundle.KeyType][]*x509.Certificate{}, Old: oldKeys(l.Have.Lineage)}
	l.Plan = t.state.Plan(l.Facts)
	for _, b := range l.Have.Bundles {
		if b != nil {
			l.Chains[b.KeyType()] = b.Chain()
		}
	}
}

// Look asks every server for the records, and for the serial of its zone. What handshakes have shown says which keys are still served.
func (l *TLSALook) Look(ctx context.Context, shown []served.Result) {
	t := l.remembered
	resolver := l.Want.Resolver()
	found := lookAtTLSA(ctx, resolver, t.owners, t.settings, false, nil)
	together(len(found.views), func(i int) { found.views[i].AskSerials(ctx, resolver) })
	t.at, t.views, t.places = found.at, found.views, make([]dane.Place, len(t.owners))
	for i, v := range t.views {
		t.state.Memory.Note(v, t.settings)
		if n := len(v.Steps); v.Err == nil && n > 0 { // where the look has found the end of the aliases
			t.places[i] = dane.Place{Zone: v.Steps[n-1].Served.Zone, Name: v.Steps[n-1].Name}
		}
	}
	t.noteServing(shown)
	t.allSeen = len(shown) > 0 && !slices.ContainsFunc(shown, func(r served.Result) bool { return r.Shown == nil })
	l.see()
}

// Rejects says why some sender does not accept the chain that it gets at an owner; "" if every sender accepts it.
func (l *TLSALook) Rejects(owner dane.Owner, chain []*x509.Certificate) string {
	t := l.remembered
	return t.state.Memory.Rejects(owner, []string{owner.Host}, chain, t.settings, t.at)
}

// InService are the keys of the certificates that were proven last, by the record of the certificate: also those of which nothing is remembered.
func (l *TLSALook) InService() (keys []dane.KeyOf) {
	if l.Have == nil {
		return nil
	}
	for _, key := range l.Want.Keys {
		if b, err := l.Have.Bundle(l.Have.Record.Slot(key).Served); err == nil {
			keys = append(keys, dane.KeyOf{Type: key, SPKI: b.SPKI(), DER: b.Leaf().RawSubjectPublicKeyInfo})
		}
	}
	return keys
}

// oldKeys returns how to find the type of a key that a stored certificate had. It reads the certificates once, when it is first asked.
func oldKeys(lineage *state.Lineage) func(spki string) (bundle.KeyType, bool) {
	read := sync.OnceValue(func() map[string]bundle.KeyType {
		keys := map[string]bundle.KeyType{}
		generations, _ := lineage.Generations() // without them, only what passes remember counts
		for _, g := range generations {
			keys[g.SPKI] = g.Key
		}
		return keys
	})
	return func(spki string) (bundle.KeyType, bool) {
		key, ok := read()[spki]
		return key, ok
	}
}
