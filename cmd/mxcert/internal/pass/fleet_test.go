package pass

import (
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/fleet"
	"mxcert/acme/state"

	"mxcert/cmd/mxcert/internal/report"
)

// One host orders, and all serve what it has got: the first certificate, a renewal that another host was asked for, and a new key.
func TestFleetOrdersOnce(t *testing.T) {
	t.Parallel()
	c := newTown(t, "mx1", "mx2", "mx3")
	for n, step := range []struct {
		host    int
		options Options
	}{{0, renew}, {1, atOnce}, {2, newKey}} {
		before := ""
		if n > 0 {
			before = c.served()
		}
		got := c.hosts[step.host].pass(report.CodeOK, step.options).Keys[0].Serial
		for i, h := range c.hosts {
			if i == step.host {
				continue
			}
			if r := h.pass(report.CodeOK, byDaemon); !r.Changed || r.Keys[0].Serial != got || len(r.Issued) > 0 || !h.heard("taken: ") {
				t.Errorf("%d: %s: %+v\n%q", n, h.name, r, h.said)
			}
			if again := h.pass(report.CodeOK, byDaemon); again.Changed {
				t.Errorf("%d: %s takes it twice: %+v", n, h.name, again)
			}
		}
		if c.placed() != n+1 || c.served() != got || got == before {
			t.Errorf("%d: %d orders, %s is served, %s was issued", n, c.placed(), c.served(), got)
		}
	}
	if events := c.hosts[0].events(); !slices.Contains(events, "taken") || !slices.Contains(events, "issued") {
		t.Errorf("the history of mx1: %q", events)
	}
}

// Hosts that want a certificate at once, and people who ask for one at once on all of them, cost one order.
func TestFleetAtOnce(t *testing.T) {
	t.Parallel()
	c := newTown(t, "mx1", "mx2", "mx3")
	for n, options := range []Options{renew, {Force: true, Asked: time.Now()}} {
		if options.Force {
			options.Asked = time.Now()
		}
		var group sync.WaitGroup
		for _, h := range c.hosts {
			group.Go(func() {
				if r := h.run(t.Context(), options); r.Code != report.CodeOK {
					t.Errorf("%d: %s: %+v", n, h.name, r.Error)
				}
			})
		}
		group.Wait()
		if c.placed() != n+1 {
			t.Errorf("%d: %d orders", n, c.placed())
		}
		c.served()
	}
}

// While another host orders, a pass of the daemon ends soon, and that is no failure. The next one takes what the other host has got.
func TestFleetBusy(t *testing.T) {
	t.Parallel()
	c := newTown(t, "mx1", "mx2")
	lead, err := c.hosts[0].member.Lead(t.Context(), "mx", fleet.Danger{})
	c.world.check(err)
	r := c.hosts[1].pass(report.CodeTemporary, byDaemon)
	record := c.hosts[1].record()
	if r.Stage != report.Waiting || r.Error.Kind != KindFleetBusy || !strings.Contains(r.Error.Message, "mx1") || !r.Elsewhere || r.NextTry == nil ||
		record.Failure != nil || record.Held != nil || c.placed() != 0 {
		t.Errorf("%+v, %+v, %+v, %d orders", r, r.Error, record, c.placed())
	}
	lead.Release()
	c.hosts[0].pass(report.CodeOK, renew)
	c.hosts[1].pass(report.CodeOK, byDaemon)
	if c.served(); c.placed() != 1 {
		t.Errorf("%d orders", c.placed())
	}
}

// While the store is away, what is issued is deployed, proven, repaired and rolled back; an order that is due waits, and is no failure.
func TestFleetAway(t *testing.T) {
	t.Parallel()
	c := newTown(t, "mx1", "mx2")
	h := c.hosts[0]
	first := h.pass(report.CodeOK, renew).Keys[0].Serial
	second := h.pass(report.CodeOK, atOnce).Keys[0].Serial
	c.etcd.Members[0].Stop()
	h.put("tls/mx.crt", "lost")
	if r := h.pass(report.CodeOK, byDaemon); r.Keys[0].Serial != second || r.Stage != report.Served || !r.Changed {
		t.Errorf("a repair: %+v", r)
	}
	if r := h.pass(report.CodeOK, rollback); r.Keys[0].Serial != first || r.Stage != report.Served {
		t.Errorf("a rollback: %+v", r)
	}
	if r := h.pass(report.CodeOK, deployOnly); r.Keys[0].Serial != second || r.Stage != report.Served {
		t.Errorf("forward: %+v", r)
	}
	if h.heard("could not be offered") {
		t.Errorf("the other hosts have it: %q", h.said)
	}
	h.check(os.Remove(h.Path("state", "fleet.json"))) // as if it never was
	if h.pass(report.CodeOK, deployOnly); !h.heard("the ec256 certificate could not be offered to the other hosts yet") {
		t.Errorf("the other hosts may lack it: %q", h.said)
	}
	h.remember(func(r *state.Record) {
		r.Slot(bundle.EC256).RenewAt, r.Slot(bundle.EC256).Renewal = time.Now().Add(-time.Hour), state.RenewalInfo{}
	})
	h.remember(func(r *state.Record) { r.Slot(bundle.EC256).Renewal.NextCheck = time.Now().Add(time.Hour) })
	r := h.pass(report.CodeTemporary, byDaemon)
	if r.Error.Kind != KindFleetAway || r.Stage != report.Waiting || !r.Elsewhere || h.record().Failure != nil || c.placed() != 2 || r.Keys[0].Serial != second {
		t.Errorf("due: %+v, %+v, %d orders", r, r.Error, c.placed())
	}
	c.etcd.Members[0].Start()
	if r := h.pass(report.CodeOK, byDaemon); r.Keys[0].Serial == second || c.placed() != 3 {
		t.Errorf("back: %+v, %d orders", r, c.placed())
	}
	c.hosts[1].pass(report.CodeOK, byDaemon)
	c.served()
}

// A pass of the daemon asks the store of the fleet nothing before its deployment is proven, whether an order is due or not: here each call to
// it hangs, also after its context has ended, until the mail server shows the certificate.
func TestFleetHangs(t *testing.T) {
	t.Parallel()
	for _, due := range []bool{false, true} {
		c := newTown(t, "mx1", "mx2")
		h := c.hosts[0]
		serial := h.pass(report.CodeOK, renew).Keys[0].Serial
		if due {
			h.expires()
		}
		h.serves()
		over := h.store.calls.hangs()
		defer over()
		h.runs()
		h.put("tls/mx.crt", "lost")
		proven := make(chan struct{})
		shown := sync.OnceFunc(func() { close(proven) })
		r, ended := h.fleetRunner(), make(chan report.Certificate, 1)
		go func() {
			ended <- r.Run(t.Context(), r.Host.Certificates[0], byDaemon, func(stage, message string) {
				if stage == "verify" && strings.Contains(message, "shows serial "+serial) {
					shown()
				}
			})
		}()
		select {
		case <-proven:
		case <-time.After(time.Minute): // the end of a test that would never end
			t.Errorf("due %v: the pass waits for the store of the fleet: %q", due, h.store.calls.made())
		}
		over()
		if r := <-ended; !due && (r.Code != report.CodeOK || r.Stage != report.Served || !r.Changed) || h.file("mx.crt") == "lost" {
			t.Errorf("due %v: %+v, %+v", due, r, r.Error)
		}
	}
}

// expires makes the certificate due.
func (h *citizen) expires() {
	h.t.Helper()
	h.remember(func(r *state.Record) {
		r.Slot(bundle.EC256).RenewAt, r.Slot(bundle.EC256).Renewal = time.Now().Add(-time.Hour), state.RenewalInfo{NextCheck: time.Now().Add(time.Hour)}
	})
}

// Names of all hosts are in one certificate, whichever host orders it, and each report says who wants which. Another order is placed only
// because of the name that is new.
func TestFleetNames(t *testing.T) {
	t.Parallel()
	c := newTown(t, "mx1", "mx2")
	c.hosts[1].edit(`"mx.example.org", "host7.example.org"`, `"mx.example.org", "host7.example.org", "example.com"`)
	c.hosts[0].pass(report.CodeOK, renew)
	r := c.hosts[1].pass(report.CodeOK, renew)
	if !slices.Contains(r.Names, "example.com") || c.placed() != 2 {
		t.Errorf("mx2: %+v, %d orders", r, c.placed())
	}
	r = c.hosts[0].pass(report.CodeOK, renew)
	if !slices.Contains(r.Names, "example.com") || r.Reasons["example.com"] != "wanted by mx2" || len(r.Missing) > 0 || c.placed() != 2 {
		t.Errorf("mx1: %+v, %d orders", r, c.placed())
	}
	if seen := c.hosts[0].look(report.CodeOK); seen.Reasons["example.com"] != "wanted by mx2" || len(seen.Warnings) > 0 {
		t.Errorf("a look: %+v", seen)
	}
	if serial := c.served(); c.hosts[0].pass(report.CodeOK, renew).Changed || serial != c.served() {
		t.Error("hosts order in turn")
	}
	c.hosts[1].edit(`, "example.com"`, "")
	c.hosts[1].pass(report.CodeOK, renew)
	r = c.hosts[0].pass(report.CodeOK, renew)
	if slices.Contains(r.Names, "example.com") || c.placed() != 3 {
		t.Errorf("nobody wants it any more: %+v, %d orders", r, c.placed())
	}
	c.served()
}

// A name that one host has wrong keeps only that host from a new certificate, and the reports of the others say whose name it is.
func TestFleetTypo(t *testing.T) {
	t.Parallel()
	c := newTown(t, "mx1", "mx2")
	for _, h := range c.hosts {
		h.pass(report.CodeOK, renew)
	}
	c.hosts[1].edit(`"mx.example.org", "host7.example.org"`, `"mx.example.org", "host7.example.org", "mx.exampel.org"`)
	if r := c.hosts[1].run(t.Context(), renew); r.Code == report.CodeOK || !strings.Contains(r.Error.Message, "exampel") {
		t.Errorf("mx2: %+v, %+v", r, r.Error)
	}
	r := c.hosts[0].pass(report.CodeOK, atOnce)
	at := slices.IndexFunc(r.LeftOut, func(l report.LeftOut) bool { return l.Name == "mx.exampel.org" })
	if at < 0 || r.Reasons["mx.exampel.org"] != "wanted by mx2" || slices.Contains(r.Names, "") || r.Stage != report.Served || c.placed() != 2 {
		t.Errorf("mx1: %+v, %d orders", r, c.placed())
	}
	r = c.hosts[1].run(t.Context(), renew)
	if !strings.Contains(strings.Join(r.Warnings, "\n"), "it is not for mx.exampel.org, which the configuration of this host requires") {
		t.Errorf("mx2 does not say why it keeps what it has: %+v", r)
	}
	c.hosts[1].edit(`, "mx.exampel.org"`, "")
	c.hosts[1].pass(report.CodeOK, renew)
	if c.served(); c.placed() != 2 {
		t.Errorf("%d orders", c.placed())
	}
}

// A rollback is about one host. It is not undone by what that host had rolled back, but by the next certificate.
func TestFleetRollback(t *testing.T) {
	t.Parallel()
	c := newTown(t, "mx1", "mx2")
	a, b := c.hosts[0], c.hosts[1]
	first := a.pass(report.CodeOK, renew).Keys[0].Serial
	b.pass(report.CodeOK, byDaemon)
	second := a.pass(report.CodeOK, atOnce).Keys[0].Serial
	b.pass(report.CodeOK, byDaemon)
	b.pass(report.CodeOK, rollback)
	for range 2 {
		if r := b.pass(report.CodeOK, byDaemon); r.Keys[0].Serial != first || r.Changed {
			t.Errorf("the rollback is undone: %+v", r)
		}
	}
	if r := a.pass(report.CodeOK, byDaemon); r.Keys[0].Serial != second || r.Changed {
		t.Errorf("the rollback has reached another host: %+v", r)
	}
	third := a.pass(report.CodeOK, atOnce).Keys[0].Serial
	if r := b.pass(report.CodeOK, byDaemon); r.Keys[0].Serial != third || c.placed() != 3 {
		t.Errorf("%+v, %d orders", r, c.placed())
	}
	if c.served() != third {
		t.Error("not the third is served")
	}
}

// An empty store is no reason for anything: it gets back what the hosts have. So does one from before the last order.
func TestFleetStoreIsLost(t *testing.T) {
	t.Parallel()
	c := newTown(t, "mx1", "mx2", "mx3")
	a, b, late := c.hosts[0], c.hosts[1], c.hosts[2]
	a.pass(report.CodeOK, renew)
	serial := a.pass(report.CodeOK, atOnce).Keys[0].Serial
	b.pass(report.CodeOK, byDaemon)
	c.etcd.Wipe()
	for _, h := range []*citizen{a, b} {
		h.leave()
		h.join()
		if r := h.pass(report.CodeOK, byDaemon); r.Changed || r.Keys[0].Serial != serial || c.placed() != 2 {
			t.Errorf("%s: %+v, %d orders", h.name, r, c.placed())
		}
	}
	late.leave()
	late.join()
	if r := late.pass(report.CodeOK, byDaemon); r.Keys[0].Serial != serial || c.placed() != 2 {
		t.Errorf("%+v, %d orders", r, c.placed())
	}
	c.served()
}
