package fleet

import (
	"slices"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

// Limits for a busy machine; nothing is judged by them.
const (
	firstLimit = 3 * time.Minute
	laterLimit = 3 * time.Minute
	leaseLimit = 6 * time.Minute // what a snapshot says of hosts at work ends with their leases of three minutes
)

// Three hosts that begin at the same time order once, and serve one certificate. A renewal on any of them is soon served by all.
func TestFleet(t *testing.T) {
	w := newTown(t, "mx1", "mx2", "mx3", "mx4")
	w.hosts = w.boot(1, 2, 3)
	w.install(w.hosts...)
	w.recovery()
	w.configure(w.hosts...)
	w.say("hosts with mxcert")
	w.eachHost(func(h *host) { w.must(h, "systemctl", "enable", "--now", "--no-block", "mxcert") })
	serial := w.serve(firstLimit, "", w.hosts...)
	w.say("the first certificate is served by all")
	if orders := w.orders.list(); len(orders) != 1 {
		t.Errorf("%d orders for the first certificate of three hosts", len(orders))
	}
	w.served(serial)

	var times, own []time.Duration
	for i := range 6 {
		h := w.hosts[i%3]
		if r := w.mxcert(h, "renew", "--now", "mx"); r.Code != 0 {
			t.Fatalf("renew --now on %s: exit status %d\n%s%s", h.name, r.Code, r.Stdout, r.Stderr)
		}
		serial = w.serve(laterLimit, serial, w.hosts...)
		shown := w.shown(serial)
		times, own = append(times, slices.Max(shown)), append(own, shown[i%3])
	}
	figure(t, "from the end of an order to the wire of the third host: median %v of %v; to that of the host that ordered: median %v of %v", median(times), times, median(own), own)
	w.served(serial)
	yesterday, err := w.snapshot(t.Context())
	w.check(err)
	w.publish(t)
	w.storm(t)
	w.lose(t, yesterday)
	w.enter(t)
	if long(t) {
		w.upgrade(t)
	}
	w.judgeTLSA(t)
	w.conclude()
}

// eachHost does something on all hosts, one after the other.
func (w *town) eachHost(do func(*host)) {
	for _, h := range w.hosts {
		do(h)
	}
}

// served asks a stranger, openssl, what the hosts serve.
func (w *town) served(serial string) {
	w.t.Helper()
	w.eachHost(func(h *host) {
		s, err := h.ServedBy(w.t.Context(), "127.0.0.1:25", "mx1.example.org", mailhost.RootsFile)
		w.check(err)
		if s.Serial != serial || s.VerifyCode != 0 {
			w.t.Errorf("%s serves %s, verify code %d (%s), wanted %s", h.name, s.Serial, s.VerifyCode, s.VerifyText, serial)
		}
	})
}

// shown is the time from the authority's answer with a certificate to the first handshake with it on each host.
func (w *town) shown(serial string) (times []time.Duration) {
	w.t.Helper()
	n, _ := w.orders.rank(serial)
	end := w.orders.issued()[n].end
	w.eachHost(func(h *host) {
		at, ok := mailhost.FirstShown(h.wire.sessions(), serial, end.Add(-time.Minute))
		if !ok {
			w.t.Errorf("%s has not shown %s", h.name, serial)
		}
		times = append(times, at.Sub(end).Round(time.Millisecond))
	})
	return times
}

func median(list []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(list))[len(list)/2]
}

// conclude ends the look at all hosts and judges it.
func (w *town) conclude() {
	w.t.Helper()
	sessions := 0
	w.eachHost(func(h *host) {
		n, err := h.wire.judge(w.orders.rank)
		if err != nil {
			w.t.Error(err)
		}
		sessions += n
	})
	lost, err := alone(w.orders.list())
	if err != nil {
		w.t.Error(err)
	}
	orders, issued := w.orders.list(), w.orders.issued()
	figure(w.t, "%d handshakes, 0 failed; %d orders, %d certificates, never two live orders, %d orders lost with their host", sessions, len(orders), len(issued), lost)
}
