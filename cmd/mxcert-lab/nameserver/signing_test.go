package nameserver_test

import (
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/nameserver"
)

// TestSignedZone looks at a signed zone as mxcert does: with the keys for which the server vouches as a resolver.
func TestSignedZone(t *testing.T) {
	w := newWorld(t)
	if err := w.AddZone("."); err != nil {
		t.Fatal(err)
	}
	sign(t, w, ".", nameserver.Signing{})
	if err := w.Add("_25._tcp.alias.example.org. CNAME _25._tcp.mx.example.org.", "*.any.example.org. TLSA 3 1 1 01"); err != nil {
		t.Fatal(err)
	}
	s := listen(t, w)
	soon, past := time.Now().Add(time.Hour).Truncate(time.Second), time.Now().Add(-time.Hour)
	const tlsa = "_25._tcp.mx.example.org"
	before := time.Now()
	if err := w.Replace(tlsa + ". TLSA 3 1 1 00fe"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		what, name string
		signing    nameserver.Signing
		trust      nameserver.Trust
		faults     nameserver.Faults
		state      resolve.State
		signature  resolve.Signature
		records    int
	}{
		{what: "signed", name: tlsa, trust: nameserver.Secure, state: resolve.Secure, signature: resolve.Signed, records: 1},
		{what: "its end", name: tlsa, trust: nameserver.Secure, signing: nameserver.Signing{Until: soon}, state: resolve.Secure, signature: resolve.Signed, records: 1},
		{what: "alias", name: "_25._tcp.alias.example.org", trust: nameserver.Secure, state: resolve.Secure, signature: resolve.Signed},
		{what: "wildcard", name: "a.any.example.org", trust: nameserver.Secure, state: resolve.Secure, signature: resolve.Signed, records: 1},
		{what: "no such name", name: "nothing.example.org", trust: nameserver.Secure, state: resolve.Secure, signature: resolve.Signed},
		{what: "no such type", name: "mx.example.org", trust: nameserver.Secure, state: resolve.Secure, signature: resolve.Signed},
		{what: "empty name", name: "deep.example.org", trust: nameserver.Secure, state: resolve.Secure, signature: resolve.Signed},
		{what: "another zone", name: "target.example.com", trust: nameserver.Secure, state: resolve.Insecure, signature: resolve.Unsigned},
		{what: "island", name: tlsa, trust: nameserver.Insecure, state: resolve.Insecure, signature: resolve.Unchecked, records: 1},
		{what: "bogus", name: tlsa, trust: nameserver.Bogus, state: resolve.Bogus},
		{what: "expired", name: tlsa, trust: nameserver.Secure, signing: nameserver.Signing{Until: past}, state: resolve.Bogus},
		{what: "a server without signatures", name: tlsa, trust: nameserver.Secure, faults: nameserver.Faults{Unsigned: true}, state: resolve.Secure, signature: resolve.Unsigned, records: 1},
		{what: "a server with bad ones", name: tlsa, trust: nameserver.Secure, faults: nameserver.Faults{BadSignatures: true}, state: resolve.Secure, signature: resolve.Broken, records: 1},
		{what: "a server with old ones", name: tlsa, trust: nameserver.Secure, faults: nameserver.Faults{SignedUntil: past}, state: resolve.Secure, signature: resolve.Expired, records: 1},
		{what: "a server that lags", name: tlsa, trust: nameserver.Secure, faults: nameserver.Faults{AsOf: before}, state: resolve.Secure, signature: resolve.Signed, records: 1},
	} {
		sign(t, w, "example.org", tt.signing)
		if err := w.SetTrust("example.org", tt.trust); err != nil {
			t.Fatal(err)
		}
		s.SetFaults(tt.faults)
		r := resolve.New([]string{s.Address()})
		set := r.LookTLSA(t.Context(), tt.name)
		if set.State != tt.state {
			t.Errorf("%s: the resolver says %+v", tt.what, set)
		}
		if tt.state == resolve.Bogus {
			continue
		}
		served, err := r.ServedTLSA(t.Context(), tt.name)
		if err != nil || len(served.Answers) != 1 {
			t.Errorf("%s: %+v, %v", tt.what, served, err)
			continue
		}
		got := served.Answers[0]
		if got.Signature != tt.signature || len(got.Records) != tt.records || got.Fault != "" {
			t.Errorf("%s: %+v; keys %+v", tt.what, got, served.Keys)
		}
		if tt.signing.Until.Equal(soon) && !got.Until.Equal(soon) {
			t.Errorf("signed until %s, want %s", got.Until, soon)
		}
		if lags := !tt.faults.AsOf.IsZero(); lags == (tt.name == tlsa && got.Records[0].String() == "3 1 1 00fe") && tt.name == tlsa {
			t.Errorf("%s: %v", tt.what, got.Records)
		}
	}
}

// TestDelegationSigner: the parent has the DS record of a signed zone below.
func TestDelegationSigner(t *testing.T) {
	w := newWorld(t)
	s := listen(t, w)
	for _, zone := range []string{"example.org", "sub.example.org"} {
		sign(t, w, zone, nameserver.Signing{})
	}
	if got := ask(t, "udp", s.Address(), "sub.example.org", dns.TypeDS, false).Answer; len(got) != 1 || got[0].Header().Rrtype != dns.TypeDS {
		t.Errorf("DS of a signed zone: %v", got)
	}
	if err := w.SetTrust("sub.example.org", nameserver.Insecure); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, "udp", s.Address(), "sub.example.org", dns.TypeDS, false).Answer; len(got) != 0 {
		t.Errorf("DS of an island: %v", got)
	}
	if err := w.Sign("nowhere.test", nameserver.Signing{}); err == nil {
		t.Error("a zone that is not there was signed")
	}
}

func sign(t *testing.T, w *nameserver.World, zone string, s nameserver.Signing) {
	t.Helper()
	if err := w.Sign(zone, s); err != nil {
		t.Fatal(err)
	}
}
