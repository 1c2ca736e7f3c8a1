package pass

import (
	"os"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert/internal/report"
)

// TestStapleFightIsGivenUp: another program keeps changing the response. After three repairs it has its way for the rest of the hour, and that is
// reported. Neither a newer response nor a repair of the key waits for that.
func TestStapleFightIsGivenUp(t *testing.T) {
	t.Parallel()
	h, r := stapledHost(t, true)
	h.pass(report.CodeOK, renew)
	good := h.file("ocsp.der")
	for i, change := range []func(string) error{
		os.Remove,
		func(path string) error { return os.WriteFile(path, nil, 0o644) },
		func(path string) error { return os.Chmod(path, 0o600) },
	} {
		h.check(change(h.Path("tls", "ocsp.der")))
		if c := h.pass(report.CodeOK, byDaemon); h.file("ocsp.der") != good || c.Error != nil {
			t.Fatalf("change %d is not repaired: %+v", i, c.Error)
		}
	}
	h.check(os.Remove(h.Path("tls", "ocsp.der")))
	held := func(c report.Certificate) {
		t.Helper()
		if e := c.Error; e == nil || e.Kind != "drift" || e.Stage != "ocsp" || !strings.Contains(e.Message, "3 times") || !strings.Contains(e.Message, h.Path("tls", "ocsp.der")+" (missing)") ||
			!strings.Contains(e.Hint, "mxcert deploy mx") {
			t.Errorf("%+v", e)
		}
	}
	c := h.pass(report.CodeFailed, byDaemon)
	if held(c); c.Stage != report.Served || c.OutOfService || !c.HeldOnly || c.HeldUntil.Before(time.Now().Add(50*time.Minute)) || h.stapled() != "none" {
		t.Errorf("%+v", c)
	}
	held(h.look(report.CodeFailed))

	h.check(os.Remove(h.Path("tls", "mx.key")))
	h.pass(report.CodeOK, byDaemon)
	if h.stapled() != h.served() {
		t.Error("the response is not beside the repaired key")
	}
	h.check(os.Remove(h.Path("tls", "ocsp.der")))
	held(h.pass(report.CodeFailed, byDaemon))
	r.set(func(r *responder) { r.this = time.Now().Add(time.Minute) })
	h.due()
	h.pass(report.CodeOK, byDaemon)
	if h.file("ocsp.der") == good || h.stapled() != h.served() {
		t.Error("the newer response is not in place")
	}

	// A person's commands work, and when the hour is over, so does the daemon.
	h.check(os.Remove(h.Path("tls", "ocsp.der")))
	h.pass(report.CodeOK, deployOnly)
	h.check(os.Remove(h.Path("tls", "ocsp.der")))
	held(h.pass(report.CodeFailed, byDaemon))
	s := readStaples(h.lineage())
	if len(s.Heals.At) != MaxRepairs {
		t.Errorf("repairs: %v", s.Heals)
	}
	s.Heals.At[0] = s.Heals.At[0].Add(-time.Hour - 2*time.Second)
	h.check(h.lineage().SaveStaples(s))
	h.pass(report.CodeOK, byDaemon)
	if s := readStaples(h.lineage()); len(s.Heals.At) != 1 || h.stapled() != h.served() {
		t.Errorf("repairs: %v", s.Heals)
	}
}
