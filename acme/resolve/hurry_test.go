package resolve_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/nameserver"
)

// TestServersFoundInAHurry: what a look at the servers of a zone did not find before its own time was over is not remembered as all that
// there is. Otherwise a server that lags would not be waited for.
func TestServersFoundInAHurry(t *testing.T) {
	t.Parallel()
	const owner = "_acme-challenge.fresh.many.example."
	f := newFleet(t, 3)
	resolver := listen(t, f.world, "127.0.0.1:0")
	f.Resolver = resolve.New([]string{resolver.Address()}, f.servers[0].Address(), f.servers[1].Address(), f.servers[2].Address())
	f.servers[2].SetFaults(nameserver.Faults{Lag: time.Hour})
	var awake atomic.Bool
	resolver.SetFaults(nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
		if request.Question[0].Name == "ns3.many.example." && !awake.Load() {
			return nil
		}
		return reply
	}})
	place, err := f.Locate(t.Context(), owner) // which does not wait for the address of ns3
	if err != nil || place.Zone != "many.example." {
		t.Fatalf("%+v, %v", place, err)
	}
	awake.Store(true)
	if err := f.world.Add(owner + ` 60 IN TXT "new"`); err != nil {
		t.Fatal(err)
	}
	err = f.AwaitTXT(t.Context(), []resolve.TXT{{Name: owner, Zone: place.Zone, Values: []string{"new"}}}, resolve.All, 3*time.Second, nil)
	if err == nil || !strings.Contains(err.Error(), "ns3.many.example [127.0.0.13:") {
		t.Errorf("one server has been forgotten: %v", err)
	}
}

// TestDelegationFoundInAHurry: that the time of a caller ended is not remembered as a parent that cannot be asked.
func TestDelegationFoundInAHurry(t *testing.T) {
	t.Parallel()
	f := newFamily(t, []string{"many NS ns1.many"}, []string{"@ NS ns1"})
	if _, err := f.Locate(t.Context(), "_acme-challenge.mx.many.example"); err != nil { // the zone's own records are known from now on
		t.Fatal(err)
	}
	hurried, cancel := context.WithCancel(t.Context())
	f.parent.SetFaults(nameserver.Faults{Edit: func(_, _ *dns.Msg) *dns.Msg { cancel(); return nil }})
	if d, err := f.Delegation(hurried, "many.example"); !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", d, err)
	}
	f.parent.SetFaults(nameserver.Faults{})
	if d, err := f.Delegation(t.Context(), "many.example"); err != nil || d.NotAsked != nil || d.Undelegated {
		t.Errorf("%+v, %v", d, err)
	}
}
