package pass

import (
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert/internal/report"
)

// A whole rollover on three hosts, one of which is away in the middle: the others change their key, the old record stays, renewals go on, and an
// operator forgets the host. At each moment, what a host serves is in every set that a sender may have.
func TestFleetRollover(t *testing.T) {
	t.Parallel()
	c := newDANETown(t, publishing, "mx1", "mx2", "mx3")
	c.round(c.hosts...)
	watch := c.watch()
	c.steady(c.hosts...)
	first, next := c.hosts[0].spki(), c.hosts[0].next()
	for _, h := range c.hosts {
		want := []string{first, next}
		if slices.Sort(want); !slices.Equal(h.keys(), want) || h.next() != next {
			t.Fatalf("%s: the zone has %q, want %q; its next key is %s", h.name, h.keys(), want, h.next())
		}
	}
	here, gone := c.hosts[:2], c.hosts[2]
	c.goes(gone)
	c.hosts[0].citizen.pass(report.CodeOK, rollNow())
	held := c.until("the key is changed, and the removal is held", here, func(all []report.Certificate) bool {
		return here[0].spki() == next && here[1].spki() == next && strings.Contains(all[0].TLSA.WaitingFor, "mx3 is away") && strings.Contains(all[1].TLSA.WaitingFor, "mx3 is away")
	})
	if !strings.Contains(held[0].TLSA.WaitingFor, "mxcert fleet forget mx3") {
		t.Errorf("it says %q", held[0].TLSA.WaitingFor)
	}
	time.Sleep(4 * gone.ttl)
	c.round(here...)
	if gone.spki() != first || !slices.Contains(gone.keys(), first) {
		t.Fatalf("mx3 serves %s, and the zone has %q", gone.spki(), gone.keys())
	}
	placed := c.placed()
	here[1].citizen.pass(report.CodeOK, atOnce) // a renewal
	if here[1].spki() != next || c.placed() != placed+1 {
		t.Errorf("%d orders, the key is %s", c.placed()-placed, here[1].spki())
	}
	c.world.check(here[0].member.Forget(t.Context(), "mx3"))
	c.world.check(here[0].member.ForgetTLSA(t.Context(), "mx3"))
	watch()
	c.world.check(gone.daneHost.SMTP.Close())
	c.until("the old record goes, and the next key comes", here, func([]report.Certificate) bool {
		return !slices.Contains(here[0].keys(), first) && len(here[0].keys()) == 2
	})
}
