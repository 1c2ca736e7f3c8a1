package daemon

import (
	"testing"
	"time"

	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
)

// The daemon takes a name in again when its time has come and the reason is gone: with one order, and without a pass that somebody asks for.
func TestNameComesBackByItself(t *testing.T) {
	t.Parallel()
	const name = "mail.example.com"
	h := newHost(t, lab.Options{}, lab.ConfigOptions{Optional: []string{name}})
	h.check(h.World.AddKey(lab.KeyName, "hmac-sha256.", h.Secret(), lab.Zone))
	if c := h.pass(report.CodeOK, pass.Options{}); len(c.LeftOut) != 1 {
		t.Fatalf("%+v", c)
	}
	soon := time.Now().Add(4 * time.Second).UTC()
	record := h.record()
	record.LeftOut[0].NextTry = soon
	h.check(h.lineage().Save(record))
	placed := h.placed()
	d := h.daemon()
	d.awaitLog("sleeps")
	h.check(h.World.AddKey(lab.KeyName, "hmac-sha256.", h.Secret()))
	if h.placed() != placed || time.Now().After(soon) {
		t.Fatalf("%d orders before its time", h.placed()-placed)
	}
	d.awaitLog("certificate in service")
	if early := time.Until(soon); early > 0 {
		t.Errorf("%s too early", early)
	}
	if c := h.look(); len(c.LeftOut)+len(c.Missing) != 0 || c.Stage != report.Served {
		t.Errorf("%+v", c)
	}
	if n := h.placed(); n != placed+1 || h.events("taken-in") != 1 || h.events("left-out") != 1 {
		t.Errorf("%d orders more, %d events", n-placed, h.events("taken-in"))
	}
	d.stop()
}

// The journal has one warning about a name that is left out, however often the daemon finds it so.
func TestLeftOutIsToldOnce(t *testing.T) {
	t.Parallel()
	const name = "mail.example.com"
	h := newHost(t, lab.Options{}, lab.ConfigOptions{Optional: []string{name}})
	h.check(h.World.AddKey(lab.KeyName, "hmac-sha256.", h.Secret(), lab.Zone))
	d := h.daemon()
	d.awaitLog("certificate in service")
	h.asked(report.CodeOK, Order{})
	record := h.record()
	record.LeftOut = []state.LeftOut{record.LeftOut[0]}
	record.LeftOut[0].NextTry = time.Now().Add(-time.Second)
	h.check(h.lineage().Save(record))
	if c := h.asked(report.CodeOK, Order{}); len(c.LeftOut) != 1 || !c.LeftOut[0].NextTry.After(time.Now()) {
		t.Errorf("%+v", c)
	}
	if n := d.log.count(name + " is left out: "); n != 1 || !d.log.has("level=WARN", name+" is left out: ", "REFUSED") {
		t.Errorf("%d warnings:\n%s", n, d.log)
	}
	d.stop()
}
