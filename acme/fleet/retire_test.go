package fleet

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"mxcert/acme/bundle"
)

// A host that is at work and has a certificate no more neither keeps its names wanted nor a change of its key waiting; and it may have it again.
func TestACertificateLeavesAHost(t *testing.T) {
	pair(t, 2, func(t *testing.T, s *storm) {
		a, b := s.hosts[0].start(true), s.hosts[1].start(true)
		wish := Wish{Names: []string{stormName}}
		has := func() {
			b.Wants([]string{stormName})
			b.Merge(t.Context(), stormName, Wish{Names: []string{stormName, "old.example"}})
			must(t, b.Keys(stormName).Say(t.Context(), time.Now().UnixNano(), json.RawMessage(`{"has":["k1"]}`)))
			time.Sleep(time.Minute)
		}
		others := func() (names, says bool) {
			sight, err := a.Keys(stormName).Look(t.Context(), []bundle.KeyType{bundle.EC256})
			must(t, err)
			return slices.Contains(a.Merge(t.Context(), stormName, wish).Names, "old.example"),
				slices.ContainsFunc(sight.Hosts, func(h HostSays) bool { return h.Host == b.set.Host })
		}
		a.Merge(t.Context(), stormName, wish)
		has()
		if names, says := others(); !names || !says {
			t.Fatalf("before: %v %v", names, says)
		}
		b.Wants([]string{"other.example"})
		time.Sleep(time.Second)
		b.Note(stormName, Deployed{Wish: wish}) // a pass that was running
		time.Sleep(time.Minute)
		if names, says := others(); names || says {
			t.Errorf("it has the certificate no more: its names are wanted %v, its keys are waited for %v", names, says)
		}
		has()
		if names, says := others(); !names || !says {
			t.Errorf("it has it again: %v %v", names, says)
		}
		if h := a.Health(); !h.Up || len(h.Faults) > 0 {
			t.Errorf("%+v", h)
		}
	})
}
