package fleet

import (
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// A host that was removed while it is at work stops by itself: it would write again what the others refuse, and they would write it again. What it has
// left behind is no fault of the store, and it can still be forgotten by its name.
func TestARemovedHostStops(t *testing.T) {
	pair(t, 3, func(t *testing.T, s *storm) {
		var members []*Member
		for _, h := range s.hosts {
			members = append(members, h.start(true))
			time.Sleep(time.Second) // the last one has signed the list of hosts
		}
		a, b, gone := members[0], members[1], members[2]
		first := s.hosts[2].orders(gone, 30*24*time.Hour)
		for i, m := range members {
			s.hosts[i].takes(m)
		}
		time.Sleep(time.Minute)
		s.hosts[2].weather.force("fails") // it does not hear of it, and its lease goes on
		_, err := a.RemoveRecipient(t.Context(), s.hosts[2].identity.Recipient())
		must(t, err)
		if list := a.Recipients(); !slices.ContainsFunc(list, func(r Trust) bool { return r.State == isRemoved && r.Host == "mx2" }) {
			t.Errorf("nobody says whose recipient was removed: %+v", list)
		}
		a.cannotForget(t, "mx2", "its lease in the store has not ended")
		s.hosts[2].weather.force("")
		time.Sleep(10 * time.Minute)
		for _, m := range []*Member{a, b} {
			if h := m.Health(); !h.Up || len(h.Faults) > 0 {
				t.Errorf("%s: %+v", m.set.Host, h)
			}
			if got, err := m.Take(t.Context(), stormName, bundle.EC256); err != nil || got != nil && got.Bundle.Serial() != first.Serial() {
				t.Errorf("%s takes %v, %v", m.set.Host, got, err)
			}
		}
		if h := gone.Health(); h.Up || !strings.Contains(h.Reason, "was removed from the fleet") || !strings.Contains(h.Hint, "age-keygen") {
			t.Errorf("the host that was removed: %+v", h)
		}
		kept, g := s.hosts[2].current(state.New(gone.Store()).Lineage(stormName))
		if err := gone.Offer(t.Context(), nil, stormName, g, kept); err == nil {
			t.Error("the host that was removed still offers")
		}
		overview, err := a.Overview(t.Context())
		must(t, err)
		if !slices.ContainsFunc(overview.Hosts, func(h HostInfo) bool { return h.Host == "mx2" && !h.Alive }) {
			t.Errorf("it cannot be forgotten: %+v", overview.Hosts)
		}
		must(t, a.Forget(t.Context(), "mx2"))
	})
}
