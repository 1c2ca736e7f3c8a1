package cli

import (
	"fmt"
	"testing"
	"time"

	"mxcert/acme/state"
	"mxcert/acme/state/disk"

	"mxcert/cmd/mxcert/internal/report"
)

// A renewal that is due waits for the maintenance window, says when that is, and is not held by it when the certificate is
// in danger or a person asks.
func TestMaintenanceWindow(t *testing.T) {
	t.Parallel()
	h := newHost(t, labDefault, configDefault)
	first := h.report(report.CodeOK, "renew").Certificates[0]
	begin := time.Now().Add(6 * time.Hour)
	h.write(h.text() + fmt.Sprintf("renewal: {window: \"%s-%s\"}\n", begin.Format("15:04"), begin.Add(2*time.Hour).Format("15:04")))
	h.makeDue()

	c := h.report(report.CodeOK, "renew").Certificates[0]
	if c.Changed || c.Keys[0].Serial != first.Keys[0].Serial {
		t.Fatalf("renewed outside of the window: %+v", c)
	}
	if next := *c.NextRenewal; next.Before(begin.Truncate(time.Minute)) || next.After(begin.Add(2*time.Hour)) {
		t.Errorf("next renewal %s, the window begins at %s", next, begin)
	}
	now := time.Now().Add(-time.Hour)
	h.edit(begin.Format("15:04"), now.Format("15:04"))
	if c := h.report(report.CodeOK, "renew").Certificates[0]; !c.Changed {
		t.Errorf("not renewed within the window: %+v", c)
	}
	h.edit(now.Format("15:04"), begin.Format("15:04"))
	if c := h.report(report.CodeOK, "renew", "--now").Certificates[0]; !c.Changed {
		t.Errorf("--now waited for the window: %+v", c)
	}
}

// makeDue lets the renewal instants have come.
func (h *host) makeDue() {
	h.t.Helper()
	lineage := state.New(disk.At(h.Path("state"))).Lineage("mx")
	record, _, err := lineage.Load()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, slot := range record.Keys {
		slot.RenewAt = time.Now().Add(-time.Minute)
		slot.Renewal = state.RenewalInfo{NextCheck: time.Now().Add(time.Hour)}
	}
	if err := lineage.Save(record); err != nil {
		h.t.Fatal(err)
	}
}
