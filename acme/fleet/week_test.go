package fleet

import (
	"context"
	"maps"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

const day = 24 * time.Hour

// weekHost is a host that makes a pass each hour. Its daemon is started anew by the test.
type weekHost struct {
	*stormHost
	process *process
	member  *Member
	stop    func()
	alone   bool           // it has ordered alone
	held    map[string]int // for which reason no order was placed, and how often
}

// starts starts the daemon of a host, which ends the one before.
func (h *weekHost) starts(alone bool) {
	h.t.Helper()
	if h.stop != nil {
		h.stop()
	}
	h.process = h.disk.process()
	m, err := New(Settings{Name: "berlin", Host: h.name, Identity: h.identity, Recipients: h.all, Alone: alone, Session: random()},
		&faulty{h.store.open(), h.weather, h.process}, h.process, h.log)
	must(h.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { m.Run(ctx, func([]string) {}) })
	h.member, h.stop = m, func() { cancel(); running.Wait() }
}

// makes makes a pass, and notes whether it has ordered.
func (h *weekHost) makes() {
	before, alone := h.ca.placed, time.Time{}
	if b, _ := h.current(state.New(h.member.Store()).Lineage(stormName)); b != nil {
		alone = h.member.aloneAt(stormName, h.danger(b))
	}
	err := h.pass(context.Background(), h.member, h.process)
	switch {
	case h.ca.placed > before && h.weather.always != "":
		if late := time.Since(alone); late < 0 || late > 70*time.Minute || h.alone {
			h.t.Errorf("%s orders alone %s after the time that was drawn for it, once more %t", h.name, late, h.alone)
		}
		h.alone = true
	case err != nil && h.stormHost.held != nil:
		h.held[h.stormHost.held.Kind()]++
		if until := h.stormHost.held.Until; !until.After(time.Now()) || time.Until(until) > lookAgain || h.stormHost.held.Advice == "" {
			h.t.Errorf("%s waits until %s, it is %s: %q", h.name, until, time.Now(), h.stormHost.held.Advice)
		}
	}
	h.stormHost.held = nil
}

// A week without the store: nobody asks it in vain for long, mail is served as before, and each host knows since when, also after its daemon was started
// anew each day. The renewal comes in this week. It is ordered when the store is back, once; or, by hosts that may order alone, when less than a fifth of
// the life is left, by each after a delay of its own; but not if TLSA records are managed. That the store is then empty, or an old one, is no
// reason for an order, and nothing goes back.
func TestAWeekWithoutTheStore(t *testing.T) {
	const life = 30 * day
	for what, c := range map[string]struct {
		left           time.Duration // of the life, when the store goes away
		alone, managed bool
		in, after      int // orders of the week, and after it
	}{
		"nothing is due":      {left: 25 * day},
		"not alone":           {left: life/3 + day, after: 1},
		"alone":               {left: life/3 + day, alone: true, in: 3},
		"alone, but TLSA":     {left: life/3 + day, alone: true, managed: true, after: 1},
		"alone, but too soon": {left: life/5 + 8*day, alone: true, after: 1},
	} {
		for _, comes := range []string{"empty", "from before the last order"} {
			if raceDetector && (what != "alone" || comes == "empty") { // which makes cryptography slow; packaging/test.sh runs all without it
				continue
			}
			t.Run(what+", "+comes, func(t *testing.T) {
				pair(t, 3, func(t *testing.T, s *storm) {
					w := newWeek(t, s, life, c.left, c.alone, c.managed)
					served := w.hosts[0].served.Serial()
					w.orders("before the week", 0)
					for _, kind := range []string{"hangs", "fails"} {
						w.weather(kind)
						w.passes(84, time.Hour)
					}
					w.orders("in the week", c.in)
					w.away(served, c.in)
					switch comes {
					case "empty":
						s.store.wipe()
					default:
						s.store.restore(w.old)
					}
					w.weather("")
					w.passes(6, 5*time.Minute)
					w.orders("after the week", c.after)
					w.agree()
					if problems := slices.Concat(s.backward, s.ca.violations); len(problems) > 0 {
						t.Errorf("%q", problems)
					}
				})
			})
		}
	}
}

// week is three hosts that have a certificate, and know of each other.
type week struct {
	t       *testing.T
	s       *storm
	hosts   []*weekHost
	alone   bool
	old     map[string]modelValue // the store before the last order
	placed  int
	began   time.Time // of the time without the store
	working int       // goroutines after some hours without it
	hours   int       // without it
}

func newWeek(t *testing.T, s *storm, life, left time.Duration, alone, managed bool) *week {
	t.Helper()
	w := &week{t: t, s: s, alone: alone}
	s.ca.life = life
	for i, h := range s.hosts {
		h.weather = newWeather(uint64(i), 0)
		h.weather.calm.Store(true)
		h.danger = func(b *bundle.Bundle) Danger {
			if b == nil {
				return Danger{}
			}
			return Danger{NotAfter: b.NotAfter(), Life: life, Managed: managed, Serial: b.Serial()}
		}
		w.hosts = append(w.hosts, &weekHost{stormHost: h, held: map[string]int{}})
	}
	w.passes(2, 5*time.Minute)
	w.old = s.store.snapshot()
	s.hosts[0].orders(w.hosts[0].member, life)
	w.passes(2, 5*time.Minute)
	for _, h := range w.hosts {
		h.stop()
		h.stop = nil
	}
	time.Sleep(life - left - 20*time.Minute)
	w.passes(2, 5*time.Minute)
	w.placed = s.ca.placed
	t.Cleanup(func() {
		for _, h := range w.hosts {
			h.stop()
		}
	})
	return w
}

// passes has each host make some passes. Each day, one daemon is started anew.
func (w *week) passes(n int, every time.Duration) {
	w.t.Helper()
	for range n {
		for i, h := range w.hosts {
			if h.stop == nil || every == time.Hour && w.hours%24 == 8*i {
				h.starts(w.alone)
				time.Sleep(time.Minute)
			}
			h.makes()
		}
		if every == time.Hour {
			w.hours++
		}
		if w.hours == 24 {
			w.working = runtime.NumGoroutine()
		}
		time.Sleep(every)
	}
}

func (w *week) weather(kind string) {
	if kind != "" && w.began.IsZero() {
		w.began = time.Now()
	}
	for _, h := range w.hosts {
		h.weather.force(kind)
	}
}

// orders checks how many orders were placed since it was last asked.
func (w *week) orders(when string, want int) {
	w.t.Helper()
	if got := w.s.ca.placed - w.placed; got != want {
		w.t.Errorf("%s: %d orders, want %d", when, got, want)
	}
	w.placed = w.s.ca.placed
}

// away checks what hosts know and serve at the end of the week.
func (w *week) away(served string, orders int) {
	w.t.Helper()
	for _, h := range w.hosts {
		health := h.member.Health()
		if late := health.Since.Sub(w.began); health.Up || late < -time.Second || late > 10*time.Minute || health.Reason == "" || health.Hint == "" || len(health.Faults) > 0 {
			w.t.Errorf("%s, %s after the beginning: %+v", h.name, late, health)
		}
		if h.served.Serial() != served != (orders > 0) || h.alone != (orders > 0) {
			w.t.Errorf("%s serves what it served before: %t; it has ordered: %t", h.name, h.served.Serial() == served, h.alone)
		}
		due := h.served.NotAfter().Sub(w.began) < w.s.ca.life/3
		if orders == 0 && due && (h.held["fleet-away"] < 50 || len(h.held) != 1) {
			w.t.Errorf("%s says why it does not order: %v", h.name, h.held)
		}
	}
	if now := runtime.NumGoroutine(); now > w.working+5 {
		w.t.Errorf("%d goroutines, and %d after the first days", now, w.working)
	}
}

// agree checks that all serve one certificate, the newest, and that the store has it as the generation that hosts know.
func (w *week) agree() {
	w.t.Helper()
	marks := map[mark]bool{}
	for _, h := range w.hosts {
		if h.served.Serial() != w.hosts[0].served.Serial() {
			w.t.Errorf("%s serves another one", h.name)
		}
		if health := h.member.Health(); !health.Up || len(health.Faults) > 0 {
			w.t.Errorf("%s: %+v", h.name, health)
		}
		hosts, err := h.member.Hosts(w.t.Context(), stormName)
		if err != nil || len(hosts) != 3 || slices.ContainsFunc(hosts, func(d Deployed) bool { return !d.Alive }) {
			w.t.Errorf("%s knows %+v, %v", h.name, hosts, err)
		}
		marks[h.member.mark(bundlePlace(stormName, bundle.EC256))] = true
	}
	if len(marks) != 1 {
		w.t.Errorf("they know %v", slices.Collect(maps.Keys(marks)))
	}
	v, err := w.s.store.open().Get(w.t.Context(), bundlePlace(stormName, bundle.EC256))
	must(w.t, err)
	theirs, err := w.hosts[0].member.vault().openBundle(v.Value, stormName, bundle.EC256, 0)
	if must(w.t, err); !marks[markOf(theirs)] {
		w.t.Errorf("the store has %+v, and they know %v", markOf(theirs), slices.Collect(maps.Keys(marks)))
	}
}
