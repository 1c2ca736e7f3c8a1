package fleet

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// The ground that the other tests stand on: the members want a certificate and let a host do what its role says; a pulled and a cut cable part
// who they should, and senders are served all the same.
func TestGround(t *testing.T) {
	w := newTown(t, "mx1", "mx3")
	hosts := w.boot(1, 3)
	first := hosts[0]
	w.say("hosts")
	if r, err := w.members[1].Run(t.Context(), "env", "ETCDCTL_API=3", "etcdctl", "--endpoints", w.endpoints()[0], "--cacert", "/etc/etcd/ca.pem", "get", "x"); err != nil || r.Code == 0 {
		t.Errorf("a client without a certificate: exit status %d, %v\n%s", r.Code, err, r.Stdout)
	}
	w.credentials(w.members[0].Host, "mx1", w.ca.clients["mx1"])
	as := func(arguments ...string) (string, int) {
		r, err := w.members[0].Run(t.Context(), append([]string{"env", "ETCDCTL_API=3", "etcdctl", "--endpoints", strings.Join(w.endpoints(), ","),
			"--cacert", "/etc/etcd/ca.pem", "--cert", "/etc/etcd/mx1.pem", "--key", "/etc/etcd/mx1.key"}, arguments...)...)
		w.check(err)
		return r.Stdout + r.Stderr, r.Code
	}
	if out, code := as("put", "/mxcert/v1/berlin/x", "y"); code != 0 {
		t.Errorf("a host's own prefix: %s", out)
	}
	if out, code := as("put", "/mxcert/v1/hamburg/x", "y"); code == 0 || !strings.Contains(out, "permission denied") {
		t.Errorf("another prefix: %s", out)
	}

	reaches := func(h *host, m *member) bool {
		r, err := h.Run(t.Context(), "timeout", "1", "bash", "-c", fmt.Sprintf("</dev/tcp/%s/2379", m.address))
		w.check(err)
		return r.Code == 0
	}
	expect := func(what string, want ...bool) {
		t.Helper()
		w.within(30*time.Second, what, func() error { // on a busy machine, a repaired cable takes longer than one attempt
			got := []bool{reaches(first, w.members[0]), reaches(first, w.members[1]), reaches(hosts[1], w.members[0])}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				return fmt.Errorf("mx1 reaches e1, mx1 reaches e2, mx3 reaches e1: %v", got)
			}
			return nil
		})
	}
	expect("at first", true, true, true)
	w.check(w.cut(t.Context(), &first.plug, &w.members[0].plug))
	expect("a cut between mx1 and e1", false, true, true)
	w.check(w.mend(t.Context(), &first.plug, &w.members[0].plug))
	w.check(w.pull(t.Context(), &first.plug, "down"))
	expect("mx1 alone", false, false, true)
	w.check(w.pull(t.Context(), &first.plug, "up"))
	expect("repaired", true, true, true)

	w.say("cables")
	// A member that is killed, stopped or has a full disk is missed by nobody.
	w.members[1].kill()
	w.within(30*time.Second, "two of three members take a write", func() error { return w.writes() })
	w.say("killed")
	w.check(w.members[1].start(t.Context(), "existing"))
	w.check(w.members[2].freeze(true))
	w.within(30*time.Second, "two of three members take a write", func() error { return w.writes() })
	w.say("frozen")
	w.check(w.members[2].freeze(false))
	w.check(w.members[2].fill(t.Context()))
	w.within(30*time.Second, "two of three members take a write", func() error { return w.writes() })
	w.say("full")
	w.check(w.members[2].free(t.Context()))
	w.check(w.members[2].revive(t.Context()))
	w.check(w.etcdReady(t.Context()))

	w.say("healthy")
	for _, h := range hosts {
		if n, err := h.wire.judge(w.orders.rank); n < 10 || err != nil {
			t.Errorf("%s: %d sessions, %v", h.name, n, err)
		}
	}
}
