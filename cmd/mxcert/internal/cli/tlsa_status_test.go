package cli

import (
	"strings"
	"testing"

	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert/internal/report"
)

// Monitoring learns from status that senders refuse what is served. A renew has converged all the same: it broke nothing, and says so in a
// warning.
func TestExitCodesOfATLSAFault(t *testing.T) {
	t.Parallel()
	h := daneHost(t, "check", lab.Options{})
	key := h.report(report.CodeOK, "renew").Certificates[0].Keys[0]
	h.records("3 1 1 " + strings.Repeat("ab", 32))
	r, got := h.status()
	c := r.Certificates[0]
	if got.code != report.CodeFault || c.Stage != report.Served || c.TLSA.State != "blocked" || c.TLSA.Owners[0].Matches == nil || *c.TLSA.Owners[0].Matches {
		t.Errorf("status: %d, %s, %+v", got.code, c.Stage, c.TLSA)
	}
	c = h.report(report.CodeOK, "renew").Certificates[0]
	if !strings.Contains(strings.Join(c.Warnings, "\n"), "senders that use DANE do not accept") || c.TLSA.State != "blocked" {
		t.Errorf("renew: %q, %+v", c.Warnings, c.TLSA)
	}
	h.records("3 1 1 " + key.SPKI)
	h.report(report.CodeOK, "renew")
	if r, got := h.status(); got.code != report.CodeFault || !strings.Contains(r.Certificates[0].TLSA.WaitingFor, "do not accept") {
		t.Errorf("while senders may hold the wrong record: %d, %+v", got.code, r.Certificates[0].TLSA)
	}
	eventually(t, "nobody holds the wrong record", func() bool {
		h.report(report.CodeOK, "renew")
		_, got := h.status()
		return got.code == report.CodeOK
	})
}
