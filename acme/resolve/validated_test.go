package resolve_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mxcert/acme/resolve"
)

// TestStatesOfRealZones asks a real Unbound about zones that BIND has signed, and that BIND and Knot serve.
func TestStatesOfRealZones(t *testing.T) {
	t.Parallel()
	for _, server := range []string{"BIND", "Knot"} {
		t.Run(server, func(t *testing.T) {
			t.Parallel()
			w := realWorld(t, server)
			r := w.resolver()
			for _, tt := range []struct{ name, state, final, records string }{
				{"mx.signed", "secure", "", "192.0.2.1"}, {"www.signed", "secure", "mx.signed", "192.0.2.1"}, {"none.signed", "secure", "", ""},
				{"signed", "secure", "", ""}, {"below.signed", "secure", "", ""}, {"a.wildalias.signed", "secure", "mx.signed", "192.0.2.1"},
				{"x.tree.signed", "secure", "x.mx.signed", "192.0.2.7"}, {"mx.far.signed", "insecure", "mx.plain", "192.0.2.2"},
				{"out.signed", "insecure", "mx.plain", "192.0.2.2"}, {"mx.plain", "insecure", "", "192.0.2.2"}, {"none.plain", "insecure", "", ""},
				{"in.plain", "insecure", "mx.signed", "192.0.2.1"}, {"mx.nods", "insecure", "", "192.0.2.3"},
				{"mx.expired", "bogus", "", ""}, {"none.expired", "bogus", "", ""}, {"mx.future", "bogus", "", ""}, {"mx.otherds", "bogus", "", ""}, {"mx.stripped", "bogus", "", ""},
				{"mx.hashed", "secure", "", "192.0.2.4"}, {"none.hashed", "insecure", "", ""}, {"hashed", "secure", "", ""}, {"none.", "secure", "", ""},
			} {
				got := r.LookIPv4(t.Context(), tt.name)
				if tt.final == "" {
					tt.final = strings.TrimSuffix(tt.name, ".")
				}
				if string(got.State) != tt.state || got.Final != tt.final || strings.Trim(fmt.Sprint(got.Records), "[]") != tt.records || got.Validator != w.unbound {
					t.Errorf("%s: %+v", tt.name, got)
				}
				if (got.State == resolve.Secure) == got.Until.IsZero() || got.State == resolve.Secure && (got.At(got.Until.Add(time.Second)) != resolve.Bogus || got.At(got.Since.Add(-time.Second)) != resolve.Bogus || got.At(time.Now()) != resolve.Secure) {
					t.Errorf("%s is secure from %s until %s", tt.name, got.Since, got.Until)
				}
			}
			for name, state := range map[string]resolve.State{"good": resolve.Secure, "expired": resolve.Bogus, "future": resolve.Bogus, "wrong": resolve.Bogus, "broken": resolve.Bogus, "stripped": resolve.Bogus, "alias": resolve.Secure, "none": resolve.Secure} {
				if got := r.LookTLSA(t.Context(), "_25._tcp."+name+".signed"); got.State != state {
					t.Errorf("TLSA of %s: %+v", name, got)
				}
			}
			for name, state := range map[string]resolve.State{"out.signed": resolve.Secure, "in.plain": resolve.Insecure, "x.tree.signed": resolve.Secure, "mx.far.signed": resolve.Secure} {
				if got := r.LookAlias(t.Context(), name); got.State != state || len(got.Records) != 1 {
					t.Errorf("the alias %s: %+v", name, got)
				}
			}
			if got := r.LookTXT(t.Context(), "big.signed"); got.State != resolve.Secure || len(got.Records) != 1 || len(got.Records[0]) != 3000 {
				t.Errorf("an answer that does not fit into a datagram: %+v", got)
			}
		})
	}
}

// TestSignaturesOfServers asks the authoritative servers, and verifies what they answer.
func TestSignaturesOfServers(t *testing.T) {
	t.Parallel()
	for _, server := range []string{"BIND", "Knot"} {
		t.Run(server, func(t *testing.T) {
			t.Parallel()
			w := realWorld(t, server)
			r := w.resolver()
			for _, tt := range []struct {
				name      string
				signature resolve.Signature
				records   int
				alias     string
			}{
				{"_25._tcp.good.signed", resolve.Signed, 2, ""}, {"_25._tcp.expired.signed", resolve.Expired, 1, ""}, {"_25._tcp.future.signed", resolve.NotYetValid, 1, ""},
				{"_25._tcp.wrong.signed", resolve.WrongKey, 1, ""}, {"_25._tcp.broken.signed", resolve.Broken, 1, ""}, {"_25._tcp.stripped.signed", resolve.Unsigned, 1, ""},
				{"any.wild.signed", resolve.Signed, 1, ""}, {"_25._tcp.none.signed", resolve.Signed, 0, ""}, {"mx.signed", resolve.Signed, 0, ""}, {"_25._tcp.alias.signed", resolve.Signed, 0, "_25._tcp.good.signed"},
				{"_25._tcp.mx.plain", resolve.Unsigned, 1, ""}, {"mx.hashed", resolve.Signed, 0, ""}, {"mx.nods", resolve.Unchecked, 0, ""},
			} {
				got, err := r.ServedTLSA(t.Context(), tt.name)
				if err != nil || len(got.Answers) != 1 {
					t.Errorf("%s: %+v, %v", tt.name, got, err)
					continue
				}
				a := got.Answers[0]
				if a.Signature != tt.signature || len(a.Records) != tt.records || a.Alias != tt.alias || a.Fault != "" || a.TTL != time.Minute {
					t.Errorf("%s: %+v; keys %+v", tt.name, a, got.Keys)
				}
				checked := a.Signature == resolve.Signed || a.Signature == resolve.Expired || a.Signature == resolve.NotYetValid
				if checked != (a.Until.After(a.Since) && !a.Since.IsZero()) {
					t.Errorf("%s: from %s until %s", tt.name, a.Since, a.Until)
				}
			}
		})
	}
}
