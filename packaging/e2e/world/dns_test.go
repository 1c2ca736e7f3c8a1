package world_test

import (
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
	"mxcert/packaging/e2e/world"
)

// Real programs serve, validate and judge the zones, and see an edit.
func TestDNSWorld(t *testing.T) {
	mailhost.Require(t)
	w := world.Start(t, "")
	d, err := w.ServeDNS(t.Context(),
		world.Zone{Name: "good.test", Records: "mx A 198.51.100.25\nmx AAAA 2001:db8:2::25\n"},
		world.Zone{Name: "plain.example", Server: world.Knot, Sign: world.Unsigned, Records: "mx A 198.51.100.25\n"},
		world.Zone{Name: "old.example", Server: world.Knot, Sign: world.OptOut, Since: time.Now().Add(-48 * time.Hour), Until: time.Now().Add(-12 * time.Hour), Records: "mx A 198.51.100.25\n"})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(name, want string) {
		t.Helper()
		out, err := w.Sender.Must(t.Context(), "dig", "+dnssec", name, "A")
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%s: wanted %s, %v\n%s", name, want, err, out)
		}
	}
	ask("mx.good.test", "flags: qr rd ra ad;")
	ask("mx.plain.example", "flags: qr rd ra;")
	ask("mx.old.example", "SERVFAIL")
	if out, err := w.Sender.Must(t.Context(), "delv", "-a", d.AnchorConf, "mx.good.test", "A"); err != nil || !strings.Contains(out, "; fully validated") {
		t.Errorf("delv: %v\n%s", err, out)
	}
	began := time.Now()
	err = d.Edit(t.Context(), world.Zone{Name: "good.test", Records: "mx A 198.51.100.99\n"}, world.Zone{Name: "old.example", Server: world.Knot, Records: "mx A 198.51.100.98\n"})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("an edit: %v", time.Since(began).Round(time.Millisecond))
	ask("mx.good.test", "198.51.100.99")
	ask("mx.old.example", "198.51.100.98")
	ask("mx.old.example", "flags: qr rd ra ad;")
	if t.Failed() {
		t.Log(d.Logs())
	}
}
