package pass

import (
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// window moves the CA's renewal window of a certificate, and lets the time come at which the CA is asked again.
func (h *host) window(serial string, start, end time.Duration) {
	h.t.Helper()
	n, ok := new(big.Int).SetString(serial, 16)
	if !ok {
		h.t.Fatalf("serial %q", serial)
	}
	h.check(h.CA.SetRenewalWindow(n, time.Now().Add(start), time.Now().Add(end)))
	h.remember(func(record *state.Record) {
		for _, slot := range record.Keys {
			slot.Renewal.NextCheck = time.Time{}
		}
	})
}

// A CA that is about to revoke asks for an early renewal: the next pass follows, once.
func TestRenewalWindowOfTheCA(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	first := h.pass(report.CodeOK, renew).Keys[0].Serial
	h.window(first, -2*time.Hour, -time.Hour)
	renewed := h.pass(report.CodeOK, renew)
	second := renewed.Keys[0].Serial
	if !renewed.Changed || second == first {
		t.Fatalf("not renewed: %+v", renewed)
	}
	// A new certificate has a window of its own; then comes the one that the CA has moved to next month.
	h.window(second, 30*24*time.Hour, 31*24*time.Hour)
	later := h.pass(report.CodeOK, renew)
	next := later.NextRenewal
	if later.Changed || next.Before(time.Now().Add(30*24*time.Hour-time.Minute)) || next.After(time.Now().Add(31*24*time.Hour)) {
		t.Errorf("next renewal %v", next)
	}
	if h.pass(report.CodeOK, renew).NextRenewal.Equal(*next) == false {
		t.Error("another instant was drawn from the same window")
	}
}

// A CA that does not like the link to the old certificate still gets the order.
func TestRefusedReplacement(t *testing.T) {
	t.Parallel()
	for _, status := range []int{400, 403, 404, 409, 500} {
		h := newHost(t, lab.Options{}, lab.ConfigOptions{})
		h.pass(report.CodeOK, renew)
		refused := 0
		h.CA.SetWrap(func(inner http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if ca.EndpointOf(r.URL.Path) != ca.NewOrder || refused > 0 {
					inner.ServeHTTP(w, r)
					return
				}
				refused++
				w.Header().Set("Content-Type", "application/problem+json")
				w.WriteHeader(status)
				_, _ = w.Write([]byte(`{"type":"urn:ietf:params:acme:error:malformed","detail":"replaces: no such certificate"}`))
			})
		})
		if h.pass(report.CodeOK, atOnce); refused != 1 || !h.heard("ordering without") {
			t.Errorf("%d: refused %d\n%s", status, refused, h.said)
		}
	}
}

// A renewal that is due waits for the maintenance window, says when that is, and is not held by it when the certificate is
// in danger or a person asks.
func TestMaintenanceWindow(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	first := h.pass(report.CodeOK, renew)
	begin := time.Now().Add(6 * time.Hour)
	h.write(h.text() + fmt.Sprintf("renewal: {window: \"%s-%s\"}\n", begin.Format("15:04"), begin.Add(2*time.Hour).Format("15:04")))
	h.makeDue()

	c := h.pass(report.CodeOK, renew)
	if c.Changed || c.Keys[0].Serial != first.Keys[0].Serial {
		t.Fatalf("renewed outside of the window: %+v", c)
	}
	if next := *c.NextRenewal; next.Before(begin.Truncate(time.Minute)) || next.After(begin.Add(2*time.Hour)) {
		t.Errorf("next renewal %s, the window begins at %s", next, begin)
	}
	now := time.Now().Add(-time.Hour)
	h.edit(begin.Format("15:04"), now.Format("15:04"))
	if c := h.pass(report.CodeOK, renew); !c.Changed {
		t.Errorf("not renewed within the window: %+v", c)
	}
	h.edit(now.Format("15:04"), begin.Format("15:04"))
	if c := h.pass(report.CodeOK, atOnce); !c.Changed {
		t.Errorf("--now waited for the window: %+v", c)
	}
}

// makeDue lets the renewal instants have come.
func (h *host) makeDue() {
	h.t.Helper()
	h.remember(func(record *state.Record) {
		for _, slot := range record.Keys {
			slot.RenewAt = time.Now().Add(-time.Minute)
			slot.Renewal = state.RenewalInfo{NextCheck: time.Now().Add(time.Hour)}
		}
	})
}

// A failure that was recorded while the clock was ahead says nothing about now.
func TestClockWasAhead(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.pass(report.CodeOK, renew)
	h.makeDue()
	ahead := time.Now().AddDate(10, 0, 0)
	h.remember(func(record *state.Record) {
		record.Failure = &state.Failure{At: ahead, NotBefore: ahead.Add(time.Hour), ChargedToCA: true, Count: 1}
	})
	if r := h.pass(report.CodeOK, renew); !r.Changed {
		t.Errorf("not renewed: %+v", r)
	}
}

// A rollback stands, although the older certificate was replaced because it was due.
func TestRollbackStands(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	first := h.pass(report.CodeOK, renew).Keys[0].Serial
	h.window(first, -2*time.Hour, -time.Hour)
	if second := h.pass(report.CodeOK, renew).Keys[0].Serial; second == first {
		t.Fatal("not renewed")
	}
	for _, options := range []Options{rollback, renew, renew} {
		if got := h.pass(report.CodeOK, options).Keys[0].Serial; got != first {
			t.Errorf("%+v: serial %s, want %s", options, got, first)
		}
	}
	for _, options := range []Options{rollback, atOnce} {
		if got := h.pass(report.CodeOK, options).Keys[0].Serial; got == first {
			t.Errorf("%+v does not end a rollback", options)
		}
	}
}

// A rollback says that the next renewal is later than usual, and what ends it; deploy does, and the usual time is back.
func TestRollbackAndForward(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	first := h.pass(report.CodeOK, renew).Keys[0].Serial
	second := h.pass(report.CodeOK, atOnce)
	latest := func(c report.Certificate) bool { return c.NextRenewal.After(*second.NextRenewal) }
	warned := func(c report.Certificate) bool {
		return slices.ContainsFunc(c.Warnings, func(w string) bool {
			return strings.Contains(w, "until it must be renewed at "+report.Minute(*c.NextRenewal)+"; mxcert deploy mx goes forward")
		})
	}
	if c := h.pass(report.CodeOK, rollback); c.Keys[0].Serial != first || !latest(c) || !warned(c) {
		t.Errorf("the rollback: next renewal %v, %q", c.NextRenewal, c.Warnings)
	}
	if c := h.look(report.CodeOK); !latest(c) || !warned(c) {
		t.Errorf("status: next renewal %v, %q", c.NextRenewal, c.Warnings)
	}
	if c := h.pass(report.CodeOK, Options{DeployOnly: true, DryRun: true}); c.Keys[0].Serial != second.Keys[0].Serial || len(c.Plan) == 0 {
		t.Errorf("deploy --dry-run: %+v", c)
	}
	if c := h.pass(report.CodeOK, deployOnly); c.Keys[0].Serial != second.Keys[0].Serial || !c.Changed || c.Stage != report.Served || warned(c) {
		t.Errorf("deploy: %+v", c)
	}
	if c := h.pass(report.CodeOK, renew); c.Keys[0].Serial != second.Keys[0].Serial || warned(c) || c.NextRenewal.After(second.NextRenewal.Add(72*time.Hour)) {
		t.Errorf("afterwards: next renewal %v, %q", c.NextRenewal, c.Warnings)
	}
}

// After a failed order the next renewal is the next try, not the day that would have come without it.
func TestNextRenewalAfterFailure(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.pass(report.CodeOK, renew)
	h.edit(`, "host7.example.org"`, "")
	h.check(h.CA.Close())
	c := h.pass(report.CodeTemporary, renew)
	if c.NextRenewal == nil || time.Until(*c.NextRenewal) > 5*time.Minute {
		t.Errorf("next renewal %v", c.NextRenewal)
	}
}
