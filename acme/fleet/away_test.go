package fleet

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// A store that hangs costs a command its patience once, and a pass of the daemon nothing; since when it is away is known after a restart.
func TestAStoreThatHangs(t *testing.T) {
	pair(t, 2, func(t *testing.T, s *storm) {
		h := s.hosts[0]
		m := h.start(false)
		served := h.orders(m, 30*24*time.Hour)
		m = h.start(false)
		h.weather.force("hangs")
		start := time.Now()
		if got := h.takes(m); got != served.Serial() {
			t.Errorf("it has %q", got)
		}
		m.Merge(t.Context(), stormName, Wish{Names: []string{stormName}})
		_, err := m.Hosts(t.Context(), stormName)
		isErr(t, "hosts", err, state.ErrAway)
		_, err = m.Lead(t.Context(), stormName, Danger{})
		held, ok := errors.AsType[*Held](err)
		if !ok || held.Kind() != "fleet-away" || !held.Temporary() || held.Until.Before(time.Now()) {
			t.Errorf("%#v", err)
		}
		b, g := h.current(state.New(m.Store()).Lineage(stormName))
		isErr(t, "an offer", m.Offer(t.Context(), nil, stormName, g, b), state.ErrAway)
		if took := time.Since(start); took > patience {
			t.Errorf("a command has waited %s", took)
		}
		since := m.Health().Since
		if m.Health().Up || m.Health().Reason == "" || since.IsZero() {
			t.Errorf("%+v", m.Health())
		}
		time.Sleep(time.Hour)
		h.sky = "hangs"
		m = h.start(true)
		time.Sleep(time.Minute)
		if m.Health().Up || !m.Health().Since.Equal(since) || !Known(h.disk.process()).Since.Equal(since) {
			t.Errorf("after a restart: %+v, want since %s", m.Health(), since)
		}
		start = time.Now()
		h.takes(m)
		m.Merge(t.Context(), stormName, Wish{Names: []string{stormName}})
		m.Note(stormName, Deployed{OnDisk: []string{"x"}})
		_, _ = m.Lead(t.Context(), stormName, Danger{})
		_ = m.Offer(t.Context(), nil, stormName, g, b)
		if took := time.Since(start); took > 0 {
			t.Errorf("a pass of the daemon has waited %s", took)
		}
		h.weather.force("")
		time.Sleep(3 * time.Minute)
		if !m.Health().Up {
			t.Errorf("%+v", m.Health())
		}
		other := s.hosts[1].start(false)
		hosts, err := other.Hosts(t.Context(), stormName)
		if err != nil || len(hosts) != 1 || !slices.Equal(hosts[0].OnDisk, []string{"x"}) {
			t.Errorf("what was noted meanwhile: %+v, %v", hosts, err)
		}
	})
}

// A host orders alone only if it is told to, late, not if it manages TLSA records, and not when the others do.
func TestAlone(t *testing.T) {
	pair(t, 3, func(t *testing.T, s *storm) {
		alone := func(set *Settings) { set.Alone = true }
		const life = 90 * 24 * time.Hour
		var froms []time.Duration
		for i, h := range s.hosts {
			m := h.start(false, alone)
			danger := Danger{NotAfter: time.Now().Add(life), Life: life, Serial: "01"}
			from := time.Until(m.aloneAt(stormName, danger))
			if from < life*4/5 || from > life*4/5+24*time.Hour {
				t.Errorf("%s orders alone after %s", h.name, from)
			}
			for _, other := range froms {
				if (other - from).Abs() < time.Minute {
					t.Errorf("two hosts order alone at the same time")
				}
			}
			froms = append(froms, from)
			if i > 0 {
				continue
			}
			h.weather.force("fails")
			for what, d := range map[string]Danger{
				"early": danger, "without a certificate": {}, "managed": {NotAfter: time.Now().Add(time.Hour), Life: life, Managed: true},
				"just below a fifth": {NotAfter: time.Now().Add(life / 5), Life: life, Serial: "01"},
			} {
				if _, err := m.Lead(t.Context(), stormName, d); errors.As(err, new(*Held)) == false {
					t.Errorf("%s: %v", what, err)
				}
			}
			late := Danger{NotAfter: time.Now().Add(life/5 - 25*time.Hour), Life: life, Serial: "01"}
			lead, err := m.Lead(t.Context(), stormName, late)
			must(t, err)
			if !lead.Alone {
				t.Error("it is not alone")
			}
			must(t, state.New(m.Store()).Lineage(stormName).SaveOrder(orderFor(t, stormName)))
			lead.Release()
			other := h.start(false)
			h.weather.force("fails")
			_, err = other.Lead(t.Context(), stormName, late)
			if errors.As(err, new(*Held)) == false {
				t.Errorf("a host that may not: %v", err)
			}
		}
	})
}

// One clear error each, and nothing written: two hosts with one name, two fleets on one prefix, another fleet's store.
func TestWhoMustNotTakePart(t *testing.T) {
	pair(t, 3, func(t *testing.T, s *storm) {
		a := s.hosts[0].start(true)
		s.hosts[0].orders(a, 30*24*time.Hour)
		before := s.store.snapshot()
		refusedFor := func(what, word string, m *Member) {
			t.Helper()
			err := m.Join(t.Context())
			r, ok := errors.AsType[*Refusal](err)
			if !ok || !strings.Contains(r.Why, word) || r.Advice == "" || !errors.Is(err, state.ErrAway) {
				t.Errorf("%s: %v", what, err)
			}
			_, err = m.Lead(t.Context(), stormName, Danger{NotAfter: time.Now().Add(time.Minute), Life: time.Hour})
			if errors.As(err, new(*Held)) == false {
				t.Errorf("%s: it may order: %v", what, err)
			}
			if now := s.store.snapshot(); len(now) != len(before) {
				t.Errorf("%s: something was written", what)
			}
		}
		refusedFor("one name, another identity", "has the name", s.hosts[1].start(false, func(set *Settings) { set.Host = "mx0"; set.Alone = true }))
		clone := &stormHost{storm: s, name: "mx0", identity: s.hosts[0].identity, all: s.hosts[0].all, disk: newMemoryDisk()}
		refusedFor("the same host twice", "same identity", clone.start(false, func(set *Settings) { set.Alone = true }))
		refusedFor("another fleet", `"berlin"`, s.hosts[1].start(false, func(set *Settings) { set.Name = "paris" }))
		stranger := &stormHost{storm: s, name: "mx7", identity: newIdentity(t), disk: newMemoryDisk()}
		refusedFor("a fleet of strangers", "does not trust", stranger.start(false))
		if err := s.hosts[1].start(false).Join(t.Context()); err != nil {
			t.Errorf("a host that may: %v", err)
		}
		if now := s.store.snapshot(); len(now) != len(before) {
			t.Error("joining has written something")
		}
		// A restart of the same host is none of these.
		if err := s.hosts[0].start(false).Join(t.Context()); err != nil {
			t.Errorf("a command beside the daemon: %v", err)
		}
	})
}

// A value of a later mxcert is refused by name, is not replaced, and changes nothing that is served.
func TestALaterVersion(t *testing.T) {
	pair(t, 2, func(t *testing.T, s *storm) {
		a, b := s.hosts[0].start(false), s.hosts[1].start(false)
		served := s.hosts[0].orders(a, 30*24*time.Hour)
		s.hosts[1].takes(b)
		place := bundlePlace(stormName, bundle.EC256)
		later := []byte(`{"version":2,"payload":"eyJ2ZXJzaW9uIjoyfQ==","signer":"age1x","signature":"AA=="}`)
		must(t, s.store.open().Replace(place, later))
		_, err := b.Take(t.Context(), stormName, bundle.EC256)
		if !isRefused(err, LaterVersion) || !strings.Contains(err.Error(), "later mxcert") {
			t.Errorf("%v", err)
		}
		if got := s.hosts[1].takes(b); got != served.Serial() {
			t.Errorf("it has %q", got)
		}
		current, g := s.hosts[1].current(state.New(b.Store()).Lineage(stormName))
		if err := b.Offer(t.Context(), nil, stormName, g, current); !isRefused(err, LaterVersion) {
			t.Errorf("an offer: %v", err)
		}
		if v, _ := s.store.open().Read(place); string(v) != string(later) {
			t.Error("it was replaced")
		}
		if f := b.Health().Faults; len(f) != 1 || !strings.Contains(f[0], place) {
			t.Errorf("%q", f)
		}
	})
}
