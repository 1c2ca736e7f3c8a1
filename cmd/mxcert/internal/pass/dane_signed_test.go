package pass

import (
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/nameserver"
	"mxcert/cmd/mxcert/internal/report"
)

// A change of keys does not begin if the signatures end before it could be over. Renewals go on, and so does the change when the zone was
// signed again.
func TestKeyWaitsForSignatures(t *testing.T) {
	t.Parallel()
	h := newDANEHost(t, publishing, lab.Options{})
	signed := time.Now().Add(90 * time.Minute)
	h.Primary.SetFaults(nameserver.Faults{SignedUntil: signed})
	h.edit("hold: 0s", "hold: 1h")
	h.pass(report.CodeOK, renew)
	h.steady()
	h.edit("hold: 1h", "hold: 2h")
	before := h.spki()
	c := h.pass(report.CodeTemporary, newKey)
	if h.spki() != before || c.Error.Kind != kindDANE || !strings.Contains(c.Error.Message, "sign the zone again") || !strings.HasPrefix(c.Error.Hint, "have the zone signed again") || !strings.Contains(c.TLSA.WaitingFor, "signatures") {
		t.Fatalf("%+v, %+v", c.Error, c.TLSA)
	}
	if c := h.pass(report.CodeOK, atOnce); h.spki() != before || !strings.Contains(strings.Join(c.Warnings, "\n"), "sooner than a change of keys takes (2h)") {
		t.Errorf("%q", c.Warnings)
	}
	h.Primary.SetFaults(nameserver.Faults{SignedUntil: signed.Add(10 * time.Minute)})
	h.until(patience, "the zone is signed again", func(report.Certificate) bool { return h.spki() != before })
}
