package acme_test

import (
	"fmt"
	"testing"

	"github.com/miekg/dns"

	"mxcert/acme"
	"mxcert/cmd/mxcert-lab/lab"
)

// TestDNSMessagesOfAnOrder: n names in a zone with one server need 2n questions of ours (where the record has to be, and
// whether it is there) and one update each way; what is more belongs to the zone and its server, not to the names. With
// the CA's own n that makes 3n and a few; Pebble asks three times a name, over TCP.
func TestDNSMessagesOfAnOrder(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 20} {
		w := newWorld(t, lab.Options{})
		var names []string
		for i := range n {
			names = append(names, fmt.Sprintf("h%d.example.org", i))
		}
		w.World.ResetLog()
		w.order(t, func(r *acme.Request) { r.Names = names })
		all, byType := 0, map[string]int{}
		for _, q := range w.World.Queries() {
			if q.UDP {
				byType[dns.TypeToString[q.Type]]++
				all++
			}
		}
		updates := len(w.World.Updates())
		all += updates
		t.Logf("%d names: %d messages: %d updates, %v", n, all, updates, byType)
		if most := 2*n + 8; all > most || updates != 2 {
			t.Errorf("%d names: %d messages, %d would do: %d updates, %v", n, all, most, updates, byType)
		}
	}
}
