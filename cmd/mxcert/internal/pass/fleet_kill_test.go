package pass

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"mxcert/cmd/mxcert/internal/report"
)

// A host that is killed at any step of an order leaves it to another one, which goes on with it. Both together place one order; one more only
// if the first was killed after the CA had taken its order and before it could note where that is.
func TestFleetAdoptsOrders(t *testing.T) {
	t.Parallel()
	const most = 24
	doubled := make(chan string, most)
	var steps atomic.Int64
	t.Run("killed", func(t *testing.T) {
		for at := 1; at <= most; at++ {
			t.Run(fmt.Sprint(at), func(t *testing.T) {
				t.Parallel()
				c := newTown(t, "mx1", "mx2")
				killed, out := c.hosts[0].killed(at)
				if !killed {
					return // a pass has fewer steps
				}
				before := c.placed()
				r := c.hosts[1].pass(report.CodeOK, renew)
				steps.Add(1)
				if r.Stage != report.Served || len(c.world.World.Challenges()) > 0 && before == 0 {
					t.Errorf("%+v, records %v\n%s", r, c.world.World.Challenges(), out)
				}
				switch n := c.placed(); {
				case n == 2 && before == 1:
					doubled <- out
				case n != 1:
					t.Errorf("%d orders, %d of them before the end of the first:\n%s", n, before, out)
				}
				c.hosts[0].pass(report.CodeOK, renew)
				if c.served(); len(c.world.World.Challenges()) > 0 {
					t.Errorf("records remain: %v", c.world.World.Challenges())
				}
			})
		}
	})
	close(doubled)
	var all []string
	for out := range doubled {
		all = append(all, out)
	}
	if n := steps.Load(); n < 10 || n == most {
		t.Errorf("%d steps", n)
	}
	if len(all) > 1 {
		t.Errorf("%d kills have doubled an order:\n%s", len(all), strings.Join(all, "\n---\n"))
	}
}
