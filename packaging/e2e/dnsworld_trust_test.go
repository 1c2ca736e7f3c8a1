package e2e

import (
	"slices"
	"testing"

	"mxcert/packaging/e2e/world"
)

// Whose word counts: a resolver that lies, resolvers that do not validate, and a validator that is not on this host.
func testTrust(t *testing.T, w *world.World, d *world.DNS, rows []*stateRow) {
	const liar, validator, masq = "192.0.2.53", "192.0.2.54", "127.0.0.3"
	if _, err := w.Sender.Fronts(t.Context(), world.Front{Address: liar, Mode: world.SetsAD, Upstream: world.PlainResolver}); err != nil {
		t.Fatal(err)
	}
	root, err := d.StartValidator(t.Context(), validator, "dns.example")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Sender.Start("dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--cache-size=0", "--bind-interfaces", "--listen-address="+masq,
		"--server="+world.PlainResolver, "--user=root"); err != nil {
		t.Fatal(err)
	}
	if err := w.Sender.AwaitPort(t.Context(), masq+":53"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, resolver, trust, validator string
		// states are those that an answer may have; nil stands for the one that the world was made with.
		states []string
	}{
		{"sets AD on everything", liar + ":53", "", "", []string{"insecure", "error"}},
		{"BIND without validation on loopback", world.PlainResolver + ":53", "", "", []string{"insecure", "error"}},
		{"dnsmasq on loopback", masq + ":53", "", "", []string{"insecure", "error"}},
		{"validates, but elsewhere", validator + ":53", "", "", []string{"insecure", "bogus", "error"}},
		{"validates elsewhere, and the operator trusts it", validator + ":53", validator + ":53", validator, nil},
		{"validates elsewhere, over TLS with the name", "tls://dns.example@" + validator + ":853", "", "tls://dns.example@" + validator, nil},
		{"has another name over TLS", "tls://dns.test@" + validator + ":853", "", "", []string{"error"}},
	} {
		arguments := []string{"-parallel", "8", "-resolver", tt.resolver, "-roots", root}
		if tt.trust != "" {
			arguments = append(arguments, "-trust", tt.trust)
		}
		asked := rows
		if tt.states != nil { // that servers are dead is the same for all, and takes BIND ten seconds each
			asked = slices.DeleteFunc(slices.Clone(rows), func(r *stateRow) bool { return r.want == "error" })
		}
		wrong := 0
		check := func(r *stateRow, a lookAnswer) {
			states := tt.states
			if states == nil {
				states = []string{r.want}
			}
			if r.question() == "mx.deep.aliasbad.example A" || slices.Contains(states, a.State) && (a.Validator == tt.validator || a.State == "error") {
				return
			}
			if wrong++; wrong < 10 {
				t.Errorf("%s: %s: state %s by %q, wanted %v by %q\n%s", tt.name, r.question(), a.State, a.Validator, states, tt.validator, a.Failure)
			}
		}
		askUs(t, w.Sender, asked, check, arguments...)
		figure(t, "the resolver %s: %d questions, %d wrong", tt.name, len(asked), wrong)
	}
}
