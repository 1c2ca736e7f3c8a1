package resolve_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/nameserver"
)

// order does what an order does with DNS: it finds the places of n names in one zone, eight at once, and waits for them.
func (f *fleet) order(t *testing.T, n int) {
	t.Helper()
	records := make([]resolve.TXT, n)
	var group errgroup.Group
	group.SetLimit(8)
	for i := range n {
		group.Go(func() error {
			place, err := f.Locate(t.Context(), fmt.Sprintf("_acme-challenge.h%d.many.example", i))
			records[i] = resolve.TXT{Name: place.Name, Zone: place.Zone, Values: []string{"x"}}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	lines := make([]string, n)
	for i, r := range records {
		lines[i] = r.Name + ` 60 IN TXT "x"`
	}
	if _, err := f.Delegation(t.Context(), "many.example."); err != nil { // as an order does while its records are being made
		t.Fatal(err)
	}
	if err := f.world.Add(lines...); err != nil {
		t.Fatal(err)
	}
	if err := f.AwaitTXT(t.Context(), records, resolve.All, 20*time.Second, nil); err != nil {
		t.Fatal(err)
	}
}

// counted sorts the questions in the log.
func (f *fleet) counted() (all int, byType map[string]int) {
	byType = map[string]int{}
	for _, q := range f.world.Queries() {
		byType[dns.TypeToString[q.Type]]++
	}
	return len(f.world.Queries()), byType
}

// TestMessagesOfAnOrder: one question a name for its place and one for its record on each server; everything else is asked
// once for the zone or the server.
func TestMessagesOfAnOrder(t *testing.T) {
	t.Parallel()
	for _, servers := range []int{1, 3} {
		for _, n := range []int{1, 10, 100} {
			f := newFleet(t, servers)
			f.world.ResetLog()
			f.order(t, n)
			all, byType := f.counted()
			t.Logf("%d servers, %d names: %d messages: %v", servers, n, all, byType)
			// The zone; NS of the zone and of its parent; two addresses a server; the serial of each.
			if most := n*(1+servers) + 1 + 2 + 2*servers + servers; all > most {
				t.Errorf("%d servers, %d names: %d messages, %d would do: %v", servers, n, all, most, byType)
			}
			if got := byType["TXT"]; got != n*servers {
				t.Errorf("%d servers, %d names: %d questions for TXT", servers, n, got)
			}
			f.world.ResetLog()
			f.order(t, n)
			if again, byType := f.counted(); again > n*(1+servers)+servers {
				t.Errorf("%d servers, %d names: %d messages for the same zone again: %v", servers, n, again, byType)
			}
		}
	}
}

// TestMessagesToALaggingServer: while it is behind, one name stands for all.
func TestMessagesToALaggingServer(t *testing.T) {
	t.Parallel()
	const n, lag = 50, 2 * time.Second
	f := newFleet(t, 2)
	f.servers[1].SetFaults(nameserver.Faults{Lag: lag})
	f.order(t, n)
	_, byType := f.counted()
	if most := 2*n + int(lag/(100*time.Millisecond)); byType["TXT"] > most {
		t.Errorf("%d questions for TXT, %d would do", byType["TXT"], most)
	}
}
