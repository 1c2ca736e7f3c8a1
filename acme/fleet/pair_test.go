package fleet

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
)

// pair is a few hosts on the model, each with weather of its own, in the time of a bubble.
func pair(t *testing.T, hosts int, test func(t *testing.T, s *storm)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newStorm(t, 1, 0, hosts)
		test(t, s)
	})
}

// start starts a process of a host, with Run if daemon. The test ends it.
func (h *stormHost) start(daemon bool, change ...func(*Settings)) *Member {
	h.t.Helper()
	h.weather = newWeather(1, 0)
	h.weather.calm.Store(true)
	h.weather.force(h.sky)
	p := h.disk.process()
	set := Settings{Name: "berlin", Host: h.name, Identity: h.identity, Recipients: h.all}
	for _, c := range change {
		c(&set)
	}
	m, err := New(set, &faulty{h.store.open(), h.weather, p}, p, slog.New(slog.DiscardHandler))
	must(h.t, err)
	if daemon {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		h.t.Cleanup(func() { cancel(); <-ended })
		go func() { defer close(ended); m.Run(ctx, func(names []string) { h.woken.Add(int32(len(names))) }) }()
		synctest.Wait()
	}
	return m
}

// orders orders a certificate and offers it, with nothing in the way.
func (h *stormHost) orders(m *Member, life time.Duration) *bundle.Bundle {
	h.t.Helper()
	lead, err := m.Lead(context.Background(), stormName, Danger{})
	must(h.t, err)
	defer lead.Release()
	key, err := bundle.EC256.Generate()
	must(h.t, err)
	b := certify(h.t, stormName, key, time.Now().Add(life))
	l := state.New(m.Store()).Lineage(stormName)
	must(h.t, h.keep(l, b, "https://ca.example/order/"+b.Serial()))
	_, g := h.current(l)
	must(h.t, m.Offer(context.Background(), lead, stormName, g, b))
	return b
}

// takes does what a pass does with what the fleet has; it returns the serial number that the host has then.
func (h *stormHost) takes(m *Member) string {
	h.t.Helper()
	l := state.New(m.Store()).Lineage(stormName)
	must(h.t, h.take(context.Background(), m, l))
	b, _ := h.current(l)
	if b == nil {
		return ""
	}
	return b.Serial()
}

func (h *stormHost) seeds(m *Member) {
	h.t.Helper()
	b, g := h.current(state.New(m.Store()).Lineage(stormName))
	must(h.t, m.Offer(context.Background(), nil, stormName, g, b))
}

// A store that was emptied or restored from a backup is filled again from the disks, with the generations that hosts have seen; and nothing
// goes backward.
func TestALostStoreIsFilledAgain(t *testing.T) {
	for what, lose := range map[string]func(*storm, map[string]modelValue){
		"emptied": func(s *storm, _ map[string]modelValue) { s.store.wipe() }, "restored": func(s *storm, old map[string]modelValue) { s.store.restore(old) },
	} {
		t.Run(what, func(t *testing.T) {
			pair(t, 3, func(t *testing.T, s *storm) {
				a, b := s.hosts[0].start(true), s.hosts[1].start(true)
				s.hosts[1].takes(b) // from now on Run looks after it
				s.hosts[0].orders(a, 10*24*time.Hour)
				old := s.store.snapshot()
				newest := s.hosts[0].orders(a, 20*24*time.Hour)
				time.Sleep(time.Second)
				if got := s.hosts[1].takes(b); got != newest.Serial() {
					t.Fatalf("%s is taken, want %s", got, newest.Serial())
				}
				lose(s, old)
				time.Sleep(time.Minute)
				if _, err := b.Take(t.Context(), stormName, bundle.EC256); what == "restored" && !isRefused(err, Replayed) {
					t.Errorf("an old generation: %v", err)
				}
				s.hosts[1].seeds(b)
				time.Sleep(time.Second)
				s.hosts[0].seeds(a)
				if got := s.hosts[0].takes(a); got != newest.Serial() {
					t.Errorf("the first host has %s", got)
				}
				c := s.hosts[2].start(false)
				if got := s.hosts[2].takes(c); got != newest.Serial() {
					t.Errorf("a third host gets %q", got)
				}
				for _, m := range []*Member{a, b, c} {
					if g := m.mark(bundlePlace(stormName, bundle.EC256)).Generation; g != 2 {
						t.Errorf("%s has generation %d", m.set.Host, g)
					}
					if h := m.Health(); !h.Up || len(h.Faults) > 0 {
						t.Errorf("%s: %+v", m.set.Host, h)
					}
				}
			})
		})
	}
}

// A host that was stopped while it led can neither store an order nor offer a certificate afterwards. The next one goes on with its order.
func TestAStaleLeaderIsRefused(t *testing.T) {
	for name, unfenced := range map[string]bool{"fence": false, "no fence": true} {
		t.Run(name, func(t *testing.T) {
			pair(t, 2, func(t *testing.T, s *storm) {
				s.store.unfenced = unfenced
				a, b := s.hosts[0].start(false), s.hosts[1].start(false)
				lead, err := a.Lead(t.Context(), stormName, Danger{})
				must(t, err)
				order := orderFor(t, stormName)
				here := state.New(a.Store()).Lineage(stormName)
				must(t, here.SaveOrder(order))
				time.Sleep(2 * lockLease) // it is stopped
				next, err := b.Lead(t.Context(), stormName, Danger{})
				must(t, err)
				defer next.Release()
				there := state.New(b.Store()).Lineage(stormName)
				if adopted, ok, _ := there.Order(bundle.EC256); !ok || adopted.URL != order.URL {
					t.Fatal("the order is not adopted")
				}
				order.URL = "https://ca.example/order/stale"
				saved := here.SaveOrder(order)
				key, err := bundle.EC256.Generate()
				must(t, err)
				stale := certify(t, stormName, key, time.Now().Add(time.Hour))
				offered := a.Offer(t.Context(), lead, stormName, generationOf(stale), stale)
				if unfenced {
					if saved != nil {
						t.Error("without a fence the stale order is refused nevertheless: this test sees nothing")
					}
					return
				}
				isErr(t, "an order", saved, state.ErrLocked)
				isErr(t, "a certificate", offered, state.ErrLocked)
				e, ok := errors.AsType[*state.Error](saved)
				if !ok || !e.Temporary() {
					t.Errorf("%#v", saved)
				}
				must(t, there.SaveOrder(order))
			})
		})
	}
}

// What is noted while the store is away is merged when it is back; nothing counts twice, and what was withdrawn stays so.
func TestBudgetsAreMerged(t *testing.T) {
	pair(t, 2, func(t *testing.T, s *storm) {
		a, b := s.hosts[0].start(true), s.hosts[1].start(true)
		purchase := schedule.Purchase{Names: []string{stormName}, Key: "ec256"}
		place := func(m *Member, n int) {
			t.Helper()
			for range n {
				time.Sleep(time.Second)
				must(t, state.New(m.Store()).ChangeUsage(t.Context(), stormCA, func(u *state.Usage) error {
					u.Ledger.Place(time.Now(), purchase)
					return nil
				}))
			}
		}
		count := func(m *Member) (n int) {
			t.Helper()
			must(t, state.New(m.Store()).ChangeUsage(t.Context(), stormCA, func(u *state.Usage) error {
				n = len(u.Ledger.Orders)
				return nil
			}))
			return n
		}
		place(a, 2)
		place(b, 1)
		if count(a) != 3 || count(b) != 3 {
			t.Fatalf("%d and %d orders, want 3", count(a), count(b))
		}
		s.hosts[0].weather.force("fails")
		place(a, 2)
		place(b, 3)
		must(t, state.New(b.Store()).ChangeUsage(t.Context(), stormCA, func(u *state.Usage) error { u.Ledger.Withdraw(purchase); return nil }))
		if got := count(a); got != 5 {
			t.Errorf("alone it counts %d", got)
		}
		s.hosts[0].weather.force("")
		time.Sleep(3 * time.Minute)
		for range 3 {
			if count(a) != 7 || count(b) != 7 {
				t.Fatalf("%d and %d orders, want 7", count(a), count(b))
			}
		}
	})
}

// An offer that failed is made again when the store is back, although nothing else happens: the order's certificate is newer than the fleet's.
func TestAFailedOfferIsMadeAgain(t *testing.T) {
	pair(t, 2, func(t *testing.T, s *storm) {
		a, b := s.hosts[0].start(true), s.hosts[1].start(true)
		s.hosts[1].takes(b)
		s.hosts[0].orders(a, 10*24*time.Hour)
		time.Sleep(time.Second)
		s.hosts[1].takes(b)
		lead, err := a.Lead(t.Context(), stormName, Danger{})
		must(t, err)
		key, err := bundle.EC256.Generate()
		must(t, err)
		newest := certify(t, stormName, key, time.Now().Add(20*24*time.Hour))
		l := state.New(a.Store()).Lineage(stormName)
		must(t, s.hosts[0].keep(l, newest, "https://ca.example/order/2"))
		s.hosts[0].weather.force("fails")
		isErr(t, "the offer", a.Offer(t.Context(), lead, stormName, generationOf(newest), newest), state.ErrAway)
		lead.Release()
		time.Sleep(10 * time.Minute)
		s.hosts[0].woken.Store(0)
		s.hosts[0].weather.force("")
		time.Sleep(2 * time.Minute)
		if s.hosts[0].woken.Load() == 0 {
			t.Fatal("nothing wakes the pass that would offer it")
		}
		s.hosts[0].seeds(a)
		time.Sleep(time.Second)
		if got := s.hosts[1].takes(b); got != newest.Serial() {
			t.Errorf("the other host has %q", got)
		}
		if g := a.mark(bundlePlace(stormName, bundle.EC256)).Generation; g != 2 {
			t.Errorf("generation %d", g)
		}
		s.hosts[0].woken.Store(0)
		time.Sleep(time.Hour)
		if n := s.hosts[0].woken.Load(); n > 0 {
			t.Errorf("it is woken %d times for nothing", n)
		}
	})
}
