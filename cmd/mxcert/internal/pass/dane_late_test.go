package pass

import (
	"net"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/dane"
)

// foundDANE is a host in signed zones, an MX host of a mail domain, whose own name has no records.
func foundDANE(t *testing.T) *daneHost {
	t.Helper()
	h := &daneHost{newFound(t, lab.Options{Signed: true}), 2 * time.Second}
	_, port, _ := net.SplitHostPort(h.SMTP.Address())
	h.edit("    keys: [", "    dane: {mode: check, hold: 0s, ttl: 2s, ports: ["+port+"]}\n    keys: [")
	return h
}

// publishFound replaces the records of the name that looks find.
func (h *daneHost) publishFound(record string) {
	h.t.Helper()
	_, port, _ := net.SplitHostPort(h.SMTP.Address())
	h.check(h.World.Replace("_" + port + "._tcp." + second + ". 2 TLSA " + record))
}

// The senders of a name that a look has found only now, or found once and the certificate does not have yet, keep what they accept.
func TestGateOfNamesThatLooksFind(t *testing.T) {
	t.Parallel()
	h := foundDANE(t)
	h.mxIs("")
	h.pass(report.CodeOK, renew)
	h.publishFound(h.record())
	h.mxIs(second)
	h.later(11 * time.Minute) // another look is due
	before := h.spki()
	for _, which := range []string{"found in this pass", "found once"} {
		c := h.run(t.Context(), newKey)
		if c.Code == report.CodeOK || h.spki() != before || c.Error.Kind != kindDANE {
			t.Fatalf("%s: %d, %+v, the key was changed: %v", which, c.Code, c.Error, h.spki() != before)
		}
	}
	if c := h.pass(report.CodeOK, Options{DeployOnly: true, IgnoreDANE: true}); h.spki() == before {
		t.Errorf("%+v", c)
	}
	h.publishFound(dane.Record(h.spki()).String())
	h.pass(report.CodeOK, renew)
}

// A rollback is judged by the records of found names before it is stored.
func TestRollbackAndFoundNames(t *testing.T) {
	t.Parallel()
	h := foundDANE(t)
	h.pass(report.CodeOK, atOnce)
	h.pass(report.CodeOK, newKey)
	h.publishFound(h.record())
	record, files := h.stored("record.json"), h.file("mx.crt")
	if c := h.run(t.Context(), rollback); c.Code != report.CodeNotInService || c.Error.Kind != kindDANE || h.stored("record.json") != record || h.file("mx.crt") != files {
		t.Errorf("%d, %+v; the record is as it was: %v", c.Code, c.Error, h.stored("record.json") == record)
	}
}

// A revocation of the key in service is judged by the records of a name that was found once, too: another key could not be served there.
func TestRevocationAndFoundNames(t *testing.T) {
	t.Parallel()
	h := foundDANE(t)
	h.pass(report.CodeOK, renew) // it finds the name, for the first time
	if err := h.runner().MayChangeKey(t.Context(), h.want(), bundle.EC256); err != nil {
		t.Fatalf("without records: %v", err)
	}
	h.publishFound(h.record())
	if err := h.runner().MayChangeKey(t.Context(), h.want(), bundle.EC256); !isDANE(err) {
		t.Errorf("a revocation would leave a key that senders do not know: %v", err)
	}
}
