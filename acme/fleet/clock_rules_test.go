package fleet

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// ahead is the setting of a host whose clock is ahead.
func ahead(by time.Duration) func(*Settings) {
	return func(set *Settings) { set.Now = func() time.Time { return time.Now().Add(by) } }
}

// says makes a process of a host say something; it is a command.
func (h *stormHost) says(d Deployed, change ...func(*Settings)) {
	h.t.Helper()
	m := h.start(false, change...)
	m.Note(stormName, d)
	must(h.t, m.Flush(h.t.Context()))
}

// hears returns what a host knows of another one; nil if that does not count.
func hears(t *testing.T, m *Member, host string) *Deployed {
	t.Helper()
	hosts, err := m.Hosts(t.Context(), stormName)
	must(t, err)
	if i := slices.IndexFunc(hosts, func(d Deployed) bool { return d.Host == host }); i >= 0 {
		return &hosts[i]
	}
	return nil
}

// A host whose clock was far ahead and that then loses its disk is still believed: its notes go on from what the store has.
func TestNotesOfAHostWhoseClockWasAhead(t *testing.T) {
	pair(t, 2, func(t *testing.T, s *storm) {
		s.hosts[0].says(Deployed{OnDisk: []string{"aa"}}, ahead(48*time.Hour))
		other := s.hosts[1].start(false)
		if d := hears(t, other, "mx0"); d == nil || d.Seen.After(time.Now()) {
			t.Fatalf("%+v", d)
		}
		s.hosts[0].disk = newMemoryDisk()
		s.hosts[0].says(Deployed{OnDisk: []string{"bb"}})
		if d := hears(t, other, "mx0"); d == nil || !slices.Equal(d.OnDisk, []string{"bb"}) {
			t.Errorf("what the others know: %+v", d)
		}
		m := s.hosts[0].start(true) // it takes back what it has said
		m.Wants([]string{"another.example"})
		time.Sleep(time.Minute)
		if d := hears(t, other, "mx0"); d == nil || len(d.OnDisk) > 0 || len(other.Health().Faults) > 0 {
			t.Errorf("%+v, %q", d, other.Health().Faults)
		}
	})
}

// A host that was forgotten, came back, and is to be forgotten again by another whose clock is a day behind that of the first one: it is.
func TestForgottenByTwoClocks(t *testing.T) {
	pair(t, 3, func(t *testing.T, s *storm) {
		a, b := s.hosts[0].start(false, ahead(24*time.Hour)), s.hosts[1].start(false)
		for round, by := range []*Member{a, b, a} {
			s.hosts[2].says(Deployed{OnDisk: []string{string(rune('a' + round))}})
			for _, m := range []*Member{a, b} {
				if hears(t, m, "mx2") == nil {
					t.Fatalf("round %d: %s does not see it", round, m.set.Host)
				}
			}
			must(t, by.Forget(t.Context(), "mx2"))
			for _, m := range []*Member{a, b} {
				if d := hears(t, m, "mx2"); d != nil {
					t.Errorf("round %d: %s has not forgotten it: %+v", round, m.set.Host, d)
				}
			}
		}
	})
}

// A store that comes back empty after more time than the fleet takes to forget a host is no reason to forget one. Who does not come back is forgotten
// that time later.
func TestNobodyIsForgottenBecauseTheStoreWasAway(t *testing.T) {
	pair(t, 3, func(t *testing.T, s *storm) {
		for i, h := range s.hosts {
			h.says(Deployed{Wish: Wish{Names: []string{string(rune('a'+i)) + ".example"}}})
		}
		for _, h := range s.hosts {
			hears(t, h.start(false), "mx0")
		}
		for _, h := range s.hosts {
			h.sky = "fails"
		}
		time.Sleep(20 * 24 * time.Hour)
		s.store.wipe()
		s.hosts[0].sky = ""
		looks := func() []string {
			return s.hosts[0].start(false).Merge(t.Context(), stormName, Wish{Names: []string{"a.example"}}).Names
		}
		for range 14 {
			if names := looks(); !slices.Equal(names, []string{"a.example", "b.example", "c.example"}) {
				t.Fatalf("the first host that is back wants %q", names)
			}
			time.Sleep(24 * time.Hour)
		}
		time.Sleep(48 * time.Hour)
		if names := looks(); !slices.Equal(names, []string{"a.example"}) {
			t.Errorf("it still waits for hosts that have not come back: %q", names)
		}
	})
}

// A clock that was ahead and is set right does not keep a host from being seen as it is.
func TestAClockThatIsSetBack(t *testing.T) {
	pair(t, 2, func(t *testing.T, s *storm) {
		other := s.hosts[1].start(true)
		other.Note(stormName, Deployed{OnDisk: []string{"aa"}})
		time.Sleep(time.Minute)
		early := s.hosts[0].start(false, ahead(90*24*time.Hour))
		if d := hears(t, early, "mx1"); d == nil || !d.Alive {
			t.Fatalf("%+v", d)
		}
		m := s.hosts[0].start(false)
		if d := hears(t, m, "mx1"); d == nil || time.Since(d.Seen) > time.Hour || d.Seen.After(time.Now()) {
			t.Errorf("%+v", d)
		}
		if at := m.lastSeen("mx1"); at.After(time.Now()) {
			t.Errorf("it remembers %s, and it is %s", at, time.Now())
		}
		over, err := m.Overview(t.Context())
		must(t, err)
		for _, h := range over.Hosts {
			if h.Seen.After(time.Now()) {
				t.Errorf("%s was seen in the future: %s", h.Host, h.Seen)
			}
		}
	})
}

// An order that another host has taken over, given up, and replaced by one of its own is not gone on with, whatever the clocks say.
func TestAnOrderThatWasReplacedIsDropped(t *testing.T) {
	for what, skew := range map[string]time.Duration{"ahead": 5 * time.Minute, "behind": -5 * time.Minute, "a day ahead": 24 * time.Hour} {
		t.Run(what, func(t *testing.T) {
			pair(t, 2, func(t *testing.T, s *storm) {
				a, b := s.hosts[0].start(false, ahead(skew)), s.hosts[1].start(false)
				lead, err := a.Lead(t.Context(), stormName, Danger{})
				must(t, err)
				here, there := state.New(a.Store()).Lineage(stormName), state.New(b.Store()).Lineage(stormName)
				order := orderFor(t, stormName)
				order.Created = a.now()
				must(t, here.SaveOrder(order))
				lead.lose() // it is killed
				lead, err = b.Lead(t.Context(), stormName, Danger{})
				must(t, err)
				must(t, there.DropOrder(bundle.EC256)) // the CA does not know it any more
				second := orderFor(t, stormName)
				second.URL, second.Created = "https://ca.example/order/2", b.now()
				must(t, there.SaveOrder(second))
				key, err := bundle.EC256.Generate()
				must(t, err)
				issued := certify(t, stormName, key, time.Now().Add(90*24*time.Hour))
				must(t, s.hosts[1].keep(there, issued, second.URL))
				must(t, there.DropOrder(bundle.EC256))
				_, g := s.hosts[1].current(there)
				must(t, b.Offer(t.Context(), lead, stormName, g, issued))
				lead.Release()
				a = s.hosts[0].start(false, ahead(skew))
				if got := s.hosts[0].takes(a); got != issued.Serial() {
					t.Fatalf("it has %q", got)
				}
				if skew < clocksApart {
					expectNoOrder(t, a)
				}
				lead, err = a.Lead(t.Context(), stormName, Danger{})
				must(t, err)
				lead.Release()
				expectNoOrder(t, a)
			})
		})
	}
}

func expectNoOrder(t *testing.T, m *Member) {
	t.Helper()
	if order, ok, err := state.New(m.Store()).Lineage(stormName).Order(bundle.EC256); ok || err != nil {
		t.Errorf("%s goes on with the order %s, %v", m.set.Host, order.URL, err)
	}
}

// What is known about a bundle that was issued before an order that this host has just adopted does not end that order.
func TestAnAdoptedOrderOutlivesAnOlderBundle(t *testing.T) {
	pair(t, 2, func(t *testing.T, s *storm) {
		a, b := s.hosts[0].start(false), s.hosts[1].start(false)
		s.hosts[0].orders(a, 30*24*time.Hour)
		lead, err := a.Lead(t.Context(), stormName, Danger{})
		must(t, err)
		order := orderFor(t, stormName)
		order.URL = "https://ca.example/order/renewal"
		must(t, state.New(a.Store()).Lineage(stormName).SaveOrder(order))
		lead.lose()
		lead, err = b.Lead(t.Context(), stormName, Danger{})
		must(t, err)
		defer lead.Release()
		if s.hosts[1].takes(b) == "" {
			t.Fatal("nothing is taken")
		}
		if got, ok, err := state.New(b.Store()).Lineage(stormName).Order(bundle.EC256); !ok || err != nil || got.URL != order.URL {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// A host whose clock is ahead is forgotten by hand with all that it has said about its keys; when it is back, it counts again.
func TestKeysOfAForgottenHostWhoseClockIsAhead(t *testing.T) {
	pair(t, 2, func(t *testing.T, s *storm) {
		change := func(k *Keys) {
			t.Helper()
			must(t, k.Change(t.Context(), func(text []byte, _ map[string]time.Time) ([]byte, error) {
				return json.Marshal(map[string]int{"bytes": len(text)})
			}))
		}
		look := func(m *Member) *Sight {
			t.Helper()
			sight, err := m.Keys(stormName).Look(context.Background(), nil)
			must(t, err)
			return sight
		}
		a, gone := s.hosts[0].start(false), s.hosts[1].start(false, ahead(5*time.Minute))
		change(a.Keys(stormName))
		number := gone.now().UnixNano()
		must(t, gone.Keys(stormName).Say(t.Context(), number, []byte(`{}`)))
		time.Sleep(4 * time.Minute)
		must(t, a.ForgetTLSA(t.Context(), "mx1"))
		if at := look(a).Forgotten["mx1"]; at.UnixNano() < number {
			t.Errorf("it was forgotten at %s, and has said something at %s", at, time.Unix(0, number))
		}
		change(a.Keys(stormName))
		if look(a).Forgotten["mx1"].IsZero() {
			t.Error("another host has taken back that it was forgotten")
		}
		must(t, gone.Keys(stormName).Say(t.Context(), number+1, []byte(`{}`)))
		change(gone.Keys(stormName))
		if at := look(a).Forgotten["mx1"]; !at.IsZero() {
			t.Errorf("it is back, and still forgotten at %s", at)
		}
	})
}
