package verdict

import (
	"crypto/x509"
	"fmt"
	"slices"
	"testing"

	"mxcert/acme/resolve"
)

// everyRow lists the facts of all tables.
func everyRow() map[string]Facts {
	all := map[string]Facts{}
	for i, rows := range [][]row{pkixRows(), daneDNS, daneRecords, daneIssuers()} {
		for n, r := range rows {
			all[fmt.Sprintf("%d.%d %s", i, n, r.name)] = facts(r.edits...)
		}
	}
	return all
}

// rank orders results: what may become what when something is taken away or added.
func rank(v Verdict) int {
	return slices.Index([]Result{Fail, NotApplicable, Pass}, v.Result)
}

// TestProperties checks, for each row of the tables, what must hold whatever the facts are.
func TestProperties(t *testing.T) {
	for name, f := range everyRow() {
		before, _ := Judge(f)
		expect := func(what string, changed Facts, holds func(kind Kind, old, new Verdict) bool) {
			t.Helper()
			after, findings := Judge(changed)
			sound(t, after, findings)
			for _, kind := range Kinds {
				if !holds(kind, before[kind], after[kind]) {
					t.Errorf("%s, %s, %s: %s became %s: %s", name, what, kind, short(before[kind]), short(after[kind]), after[kind].Reason)
				}
			}
		}
		same := func(kind Kind, old, new Verdict) bool { return short(old) == short(new) }
		never := func(kind Kind, old, new Verdict) bool { return new.Result != Pass || old.Result == Pass }

		without := f
		without.Roots = x509.NewCertPool()
		expect("no trusted roots", without, func(kind Kind, old, new Verdict) bool {
			return never(kind, old, new) && (kind != PKIX || new.Result != Pass) && (kind != DANE || same(kind, old, new))
		})
		expect("no TLSA records", edited(f, noTLSA), func(kind Kind, old, new Verdict) bool {
			return kind != DANE || new.Result != Pass
		})
		expect("a matching TLSA record more", edited(f, addTLSA), func(kind Kind, old, new Verdict) bool {
			return kind != DANE || rank(new) >= rank(old) || old.Result == NotApplicable
		})
		expect("another order of records", edited(f, reverseTLSA), same)
		expect("insecure MX", edited(f, func(f *Facts) {
			if f.MX != nil && f.MX.At(f.At) == resolve.Secure {
				f.MX.State = resolve.Insecure
			}
		}), func(kind Kind, old, new Verdict) bool { return kind == RequireTLS || never(kind, old, new) }) // MTA-STS may secure the name, and DANE no longer asks
		expect("no STARTTLS", edited(f, fails("no STARTTLS")), func(kind Kind, old, new Verdict) bool { return new.Result != Pass })
		expect("all handshakes twice", edited(f, func(f *Facts) { f.Handshakes = slices.Concat(f.Handshakes, f.Handshakes) }), same)
		expect("refused in between", edited(f, alsoFails("refused")), func(kind Kind, old, new Verdict) bool {
			return len(f.Handshakes) == 0 || same(kind, old, new)
		})
	}
}

// edited changes a copy.
func edited(f Facts, change edit) Facts {
	if f.MX != nil {
		set := *f.MX
		f.MX = &set
	}
	f.Bases, f.Handshakes = slices.Clone(f.Bases), slices.Clone(f.Handshakes)
	for i := range f.Bases {
		f.Bases[i].TLSA.Records = slices.Clone(f.Bases[i].TLSA.Records)
	}
	change(&f)
	return f
}

// addTLSA adds a record for each leaf of the handshakes, where there are secure ones.
func addTLSA(f *Facts) {
	for i := range f.Bases {
		if f.Bases[i].TLSA.State != resolve.Secure || len(f.Bases[i].TLSA.Records) == 0 {
			continue
		}
		for _, h := range f.Handshakes {
			if h.Shown != nil {
				f.Bases[i].TLSA.Records = append(f.Bases[i].TLSA.Records, tlsa(3, 1, 2, &entity{Certificate: h.Shown.Chain[0]}))
			}
		}
	}
}

func reverseTLSA(f *Facts) {
	for i := range f.Bases {
		slices.Reverse(f.Bases[i].TLSA.Records)
	}
}
