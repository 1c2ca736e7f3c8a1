package e2e

import (
	"strings"
	"testing"

	"mxcert/packaging/e2e/mailhost"
	"mxcert/packaging/e2e/world"
)

// What resolve.ValidatorHint says gets a validator: Unbound as Debian's packages configure it, with the key of the root from dns-root-data,
// as its service starts it. Only root and key are those of the test's world.
func TestUnboundOfDebianValidates(t *testing.T) {
	mailhost.Require(t)
	t.Parallel()
	w := world.Start(t, "")
	d, err := w.ServeDNS(t.Context(), world.Zone{Name: "good.test", Records: "mx A 198.51.100.25\n"},
		world.Zone{Name: "plain.example", Server: world.Knot, Sign: world.Unsigned, Records: "mx A 198.51.100.25\n"},
		world.Zone{Name: "wrong.test", DS: world.Wrong, Records: "mx A 198.51.100.25\n"})
	if err != nil {
		t.Fatal(err)
	}
	s := w.Sender
	if err := s.Install(t.Context(), "mxcert/packaging/e2e/world/look", "/usr/bin/look"); err != nil {
		t.Fatal(err)
	}
	key, err := s.Read(d.Anchor)
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{
		"/usr/share/dns/root.key":                key,
		"/etc/unbound/unbound.conf.d/world.conf": "server:\n  root-hints: " + d.Hints + "\n  local-zone: \"test.\" nodefault\n",
	} {
		if err := s.Write(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Must(t.Context(), "sh", "-ec", "unbound-control -c /etc/world/unbound.conf stop; rm -f /var/lib/unbound/root.key; /usr/libexec/unbound-helper root_trust_anchor_update"); err != nil {
		t.Fatal(err)
	}
	unbound, err := s.Start("unbound", "-d", "-p")
	if err != nil {
		t.Fatal(err)
	}
	defer unbound.Stop()
	if err := s.AwaitPort(t.Context(), world.Resolver); err != nil {
		t.Fatalf("%v\n%s", err, unbound.Output())
	}
	want := map[string]string{"mx.good.test A": "secure", "none.good.test A": "secure", "mx.plain.example A": "insecure", "mx.wrong.test A": "bogus"}
	var rows []*stateRow
	for question := range want {
		name, kind, _ := strings.Cut(question, " ")
		rows = append(rows, &stateRow{name: name, kind: kind})
	}
	askUs(t, s, rows, func(r *stateRow, a lookAnswer) {
		if a.State != want[r.question()] || a.Validator != "127.0.0.1" {
			t.Errorf("%s: %s by %q, %s\n%s", r.question(), a.State, a.Validator, a.Failure, unbound.Output())
		}
	})
}
