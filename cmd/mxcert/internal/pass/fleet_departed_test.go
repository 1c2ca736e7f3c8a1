package pass

import (
	"testing"
	"time"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/dane"
)

// A request for another key is carried out once, also where no name has TLSA records: later passes of any host order nothing for it.
func TestFleetChangesKeysOnce(t *testing.T) {
	t.Parallel()
	c := newTown(t, "mx1", "mx2")
	a, b := c.hosts[0], c.hosts[1]
	a.pass(report.CodeOK, renew)
	b.pass(report.CodeOK, byDaemon)
	for n, asked := range []*dane.Asked{Departed("mx3"), {At: time.Now(), Reason: "it has leaked", Emergency: true, Fresh: true}, Departed("mx4")} {
		before := a.look(report.CodeOK).Keys[0].SPKI
		a.pass(report.CodeOK, Options{Asked: time.Now(), Roll: asked})
		for range 2 {
			a.pass(report.CodeOK, renew)
			a.pass(report.CodeOK, byDaemon)
			b.pass(report.CodeOK, byDaemon)
		}
		c.served()
		if after := a.look(report.CodeOK).Keys[0].SPKI; c.placed() != n+2 || after == before {
			t.Fatalf("%s: %d orders, the key was %s and is %s", asked.Reason, c.placed(), before, after)
		}
	}
}
