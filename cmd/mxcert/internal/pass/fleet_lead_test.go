package pass

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/fleet"
	"mxcert/acme/state"

	"mxcert/cmd/mxcert/internal/report"
)

// leavesOrder stores an order in flight with a new key, as a host does that leads.
func (h *citizen) leavesOrder(o state.Order) {
	h.t.Helper()
	key, err := bundle.EC256.Generate()
	h.check(err)
	text, err := bundle.MarshalKey(key)
	h.check(err)
	o.KeyType, o.Key = bundle.EC256, string(text)
	h.check(state.New(h.member.Store()).Lineage("mx").SaveOrder(o))
}

// A dry run says what would be taken, and that another host has an order in flight; it changes nothing.
func TestFleetDryRun(t *testing.T) {
	t.Parallel()
	c := newTown(t, "mx1", "mx2")
	a, b := c.hosts[0], c.hosts[1]
	lead, err := a.member.Lead(t.Context(), "mx", fleet.Danger{})
	a.check(err)
	a.leavesOrder(state.Order{URL: "https://ca.example/order/7", Names: []string{"mx.example.org"}})
	if text := strings.Join(b.run(t.Context(), dryRun).Plan, "\n"); !strings.Contains(text, "order: ec256") || !strings.Contains(text, "another host orders: mx1 has one in flight") {
		t.Errorf("%q", text)
	}
	a.check(a.lineage().DropOrder(bundle.EC256))
	lead.Release()
	got := a.pass(report.CodeOK, renew).Keys[0]
	if text := strings.Join(b.run(t.Context(), dryRun).Plan, "\n"); !strings.Contains(text, "take: ec256 certificate with serial "+got.Serial+", which mx1 has ordered") || strings.Contains(text, "order:") {
		t.Errorf("%q", text)
	}
	if len(b.generationsOf(bundle.EC256)) > 0 {
		t.Error("the dry run has stored it")
	}
}

// How errors of the lead are told.
func TestWaiting(t *testing.T) {
	t.Parallel()
	soon := time.Now().Add(time.Minute)
	for _, tt := range []struct {
		err  error
		kind string
	}{
		{&fleet.Held{Until: soon, Why: "the store is away", Advice: "bring it back"}, KindFleetAway},
		{errors.Join(state.ErrAway), KindFleetAway},
		{errors.Join(state.ErrLocked, context.DeadlineExceeded), KindFleetBusy},
		{errors.Join(state.ErrLocked, &fleet.Refused{ID: fleet.NoLease, Key: "k", Why: "nobody has made this lock", Next: "remove it"}), KindFleetBusy},
		{errBoom, "error"},
	} {
		err := waiting(tt.err)
		until, waits := fleetHold(report.At("order", err))
		if report.KindOf(err) != tt.kind || waits != (tt.kind != "error") || waits && (report.CodeOf(err) != report.CodeTemporary || report.HintOf(err) == "" || until.Before(time.Now())) {
			t.Errorf("%v: %s, %v, %v", tt.err, report.KindOf(err), waits, until)
		}
	}
}

// An order that another host has taken over, given up and replaced is not gone on with by the host that began it, even if its clock was a day ahead:
// its certificate is not due because of it.
func TestFleetOrderThatWasReplaced(t *testing.T) {
	t.Parallel()
	c := newTown(t, "mx1", "mx2")
	a, b := c.hosts[0], c.hosts[1]
	lead, err := a.member.Lead(t.Context(), "mx", fleet.Danger{})
	a.check(err)
	want := a.wants().Certificates[0]
	a.leavesOrder(state.Order{URL: c.world.CA.DirectoryURL() + "/order/none", Directory: want.Directories[0], Names: want.Names, Created: time.Now().Add(24 * time.Hour)})
	lead.Release()
	serial := b.pass(report.CodeOK, renew).Keys[0].Serial
	for range 2 {
		if r := a.pass(report.CodeOK, byDaemon); r.Keys[0].Serial != serial || c.placed() != 1 {
			t.Errorf("%+v, %d orders", r, c.placed())
		}
	}
	c.served()
}
