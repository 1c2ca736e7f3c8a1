package fleet

import (
	"testing"
	"time"

	"mxcert/acme/state"
)

// Each host at work has the account of the fleet on its disk, also one that has never ordered. So a store that has lost it gets it back from any of
// them, and no host registers another one.
func TestTheAccountOutlivesTheStore(t *testing.T) {
	pair(t, 3, func(t *testing.T, s *storm) {
		first := accountFor(t, "https://ca.example/account/1")
		a := s.hosts[0].start(true)
		must(t, state.New(a.Store()).SaveAccount(first))
		b := s.hosts[1].start(true)
		has := func(what string, m *Member) {
			t.Helper()
			if account, ok, err := state.New(m.Store()).Account(stormCA); err != nil || !ok || account.URL != first.URL {
				t.Errorf("%s: %+v, %v, %v", what, account, ok, err)
			}
		}
		has("a host that has never ordered", b)
		s.hosts[0].weather.force("fails") // the host that ordered does not come back
		time.Sleep(time.Minute)
		s.store.wipe()
		time.Sleep(20 * time.Minute)
		must(t, state.New(s.hosts[2].disk.process()).SaveAccount(accountFor(t, "https://ca.example/account/3")))
		c := s.hosts[2].start(true)
		lead, err := c.Lead(t.Context(), stormName, Danger{})
		must(t, err)
		lead.Release()
		has("a host that joins after the store was lost", c)
		if h := b.Health(); !h.Up || len(h.Faults) > 0 {
			t.Errorf("%+v", h)
		}
	})
}

// An account of before the fleet is not given to a store that never had one: who orders first decides.
func TestAnAccountOfBeforeStays(t *testing.T) {
	pair(t, 1, func(t *testing.T, s *storm) {
		must(t, state.New(s.hosts[0].disk.process()).SaveAccount(accountFor(t, "https://ca.example/account/9")))
		a := s.hosts[0].start(true)
		time.Sleep(time.Hour)
		names, err := a.shared.List("account")
		if err != nil || len(names) != 0 {
			t.Errorf("the store has %q, %v", names, err)
		}
	})
}
