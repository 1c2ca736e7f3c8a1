package pass

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"mxcert/acme/bundle"
)

// A host is killed before and after changes of its store and of the zone while it changes the key of a fleet. The other one goes on with what it
// has begun: no served key is without a record, no record is without a key, and both come to rest. MXCERT_FLEET_KILLS=all kills at each change.
func TestFleetKillRoll(t *testing.T) {
	t.Parallel()
	step := 6
	if os.Getenv("MXCERT_FLEET_KILLS") == "all" {
		step = 1
	}
	for _, kind := range []string{afterStore, beforeUpdate, afterUpdate} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := newDANETown(t, publishing, "mx1", "mx2")
			c.round(c.hosts...)
			c.steady(c.hosts...)
			watch := c.watch()
			e := newExecutioner(c.hosts[0].daneHost, kind)
			n, killed := 1, 0
			for ; e.kill(n, true); n += step {
				killed++
				when := fmt.Sprintf("%s, %d", kind, n)
				c.round(c.hosts[1]) // whatever it finds
				c.whole(when)
				c.steady(c.hosts...)
				c.whole(when)
				if keys := c.hosts[0].keys(); len(keys) != 2 {
					t.Errorf("%s: at rest, the zone has %q", when, keys)
				}
			}
			t.Logf("%d kills, it lived through change %d", killed, n)
			if killed == 0 && kind == afterStore {
				t.Error("it was never killed")
			}
			watch()
		})
	}
}

// whole fails the test if a record is published whose key no host has.
func (c *daneTown) whole(when string) {
	c.t.Helper()
	var has []string
	for _, h := range c.hosts {
		generations, err := h.daneHost.lineage().Generations()
		c.world.check(err)
		for _, g := range generations {
			has = append(has, g.SPKI)
		}
		if next, err := readNext(h.daneHost.lineage(), bundle.EC256); err == nil {
			has = append(has, next.SPKI)
		}
	}
	for _, h := range c.hosts {
		for _, spki := range h.keys() {
			if !slices.Contains(has, spki) {
				c.t.Errorf("%s: the record of %s is published, and its key is lost", when, spki)
			}
		}
	}
}
