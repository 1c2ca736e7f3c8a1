package dane

import (
	"strings"
	"testing"
)

// TestIgnoredServers are not waited for. What such a server gives counts all the same, because senders get it; what it gave before it fell
// silent is forgotten after the hold.
func TestIgnoredServers(t *testing.T) {
	t.Parallel()
	w, z, h := simple(ecKey)
	other := z.servers[1]
	w.alter = func(v *View) { v.Steps[0].Ignored[1] = true }
	other.silent = true
	steadily(t, h)
	other.silent = false
	h.run()
	other.lag = 100 * day // it is not told of anything any more
	roll := func() bool {
		before := h.current[ecKey]
		h.state.Ask(ecKey, Asked{Reason: "a person asks"})
		h.stored = h.encode()
		return h.until(5*day, func() bool { return h.current[ecKey] != before })
	}
	if !roll() {
		t.Fatalf("it has both records, and %s %+v", h.phase(ecKey), h.plan.Waits)
	}
	if roll() || h.phase(ecKey) != Holding || !strings.Contains(h.plan.Waits[ecKey].For, other.host) {
		t.Fatalf("senders get older records from it: %s %+v", h.phase(ecKey), h.plan.Waits)
	}
	if !strings.Contains(strings.Join(h.plan.Warnings, "\n"), "dane.ignore_servers: "+other.host) {
		t.Errorf("%q", h.plan.Warnings)
	}
	judged(t, w)
	other.silent = true // to mxcert. What senders get from it now is the operator's word.
	if !h.until(day, func() bool { return h.phase(ecKey) != Holding && h.steady() }) {
		t.Errorf("it is silent: %s %+v", h.phase(ecKey), h.plan.Waits)
	}
}
