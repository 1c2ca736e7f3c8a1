package fleet

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
)

// costs are how many requests each thing takes, as members on the model ask them.
type costs struct {
	beat, seen, say float64 // of a host: alive, not forgotten, and one statement
	look            float64 // at what others say about a certificate, for each 25 hosts; one more for the list of hosts
	order           float64 // from the lead to its end
	watches         int     // of a host
}

// proofEvery is how often each watch asks for a proof that it misses nothing, as package etcd does it.
const proofEvery = 30 * time.Second

// measure counts the requests of real members.
func measure(t *testing.T) (c costs) {
	t.Helper()
	pair(t, 1, func(t *testing.T, s *storm) {
		h := s.hosts[0]
		m := h.start(false)
		asked := func(f func()) float64 {
			s.store.mu.Lock()
			before := s.store.asked
			s.store.mu.Unlock()
			f()
			s.store.mu.Lock()
			defer s.store.mu.Unlock()
			return float64(s.store.asked - before)
		}
		must(t, m.enter(t.Context()))
		must(t, state.New(m.Store()).SaveAccount(accountFor(t, "https://ca.example/account/1")))
		p := &part{m: m}
		c.watches = len(p.watches())
		must(t, p.beat(t.Context()))
		must(t, p.beSeen(t.Context()))
		c.beat = asked(func() { must(t, p.beat(t.Context())) })
		c.seen = asked(func() { must(t, errors.Join(p.beSeen(t.Context()), m.lookAtLocks(t.Context()))) })
		m.Note(stormName, Deployed{OnDisk: []string{"a"}})
		must(t, m.send(t.Context(), stormName)) // the first time of a process costs one more
		m.Note(stormName, Deployed{OnDisk: []string{"b"}})
		c.say = asked(func() { must(t, m.send(t.Context(), stormName)) })
		c.look = asked(func() { must(t, m.askHosts(t.Context(), stormName)) }) - 1
		c.order = asked(func() {
			lead, err := m.Lead(t.Context(), stormName, Danger{})
			must(t, err)
			l := state.New(m.Store()).Lineage(stormName)
			must(t, h.take(t.Context(), m, l))
			for range 4 { // placed, and what the CA has shown
				must(t, state.New(m.Store()).ChangeUsage(t.Context(), stormCA, func(u *state.Usage) error {
					u.Ledger.Place(time.Now(), schedule.Purchase{Names: []string{stormName}, Key: "ec256"})
					return nil
				}))
			}
			order := orderFor(t, stormName)
			for range 3 { // its key, its URL, finalized
				must(t, l.SaveOrder(order))
			}
			key, err := bundle.EC256.Generate()
			must(t, err)
			b := certify(t, stormName, key, time.Now().Add(90*24*time.Hour))
			must(t, h.keep(l, b, order.URL))
			must(t, l.DropOrder(bundle.EC256))
			_, g := h.current(l)
			must(t, m.Offer(t.Context(), lead, stormName, g, b))
			lead.Release()
		})
	})
	return c
}

// year is what a fleet asks in a year.
type year struct {
	rest    float64       // requests per second to the store, in the mean, with nothing to do
	peak    float64       // in the busiest second
	renewal float64       // requests for one renewal on all hosts
	orders  float64       // at the CA
	all     time.Duration // from the end of an order until all hosts serve it, half of the times
	late    time.Duration // and in 99 of 100
}

// simulate counts the requests of a fleet, second by second of a day, with the times of Run. It is pure: what a request costs was measured, and
// that a change arrives everywhere within a tenth of a second is assumed.
func simulate(c costs, hosts, certificates int, seed uint64) (y year) {
	random := rand.New(rand.NewPCG(seed, 2))
	const day = 24 * 60 * 60
	seconds := make([]float64, day)
	repeat := func(every time.Duration, cost float64) {
		for at := random.Float64() * every.Seconds(); at < day; at += jittered(every).Seconds() {
			seconds[int(at)] += cost
		}
	}
	calm := max(hostsCalm, time.Duration(hosts*certificates)*perStatement)
	again := max(sayAgain, time.Duration(hosts*certificates)*perStatement)
	look := 1 + c.look*math.Ceil(float64(hosts)/25)
	for range hosts {
		repeat(aliveEvery, c.beat)
		repeat(seenEvery, c.seen)
		for range c.watches {
			repeat(proofEvery, 1)
		}
		for range certificates {
			repeat(again, c.say)
			repeat(calm, look)
		}
	}
	total := 0.0
	for _, n := range seconds {
		total += n
	}
	y.rest, y.peak = total/day, slices.Max(seconds)
	// A renewal: one order; each host says that it has it, and looks every so often until all have.
	spread := func() time.Duration { // package daemon: few hosts at once, many within a minute
		if hosts <= 20 {
			return 0
		}
		return rand.N(min(time.Duration(hosts)*60*time.Millisecond, time.Minute))
	}
	var ends []time.Duration
	for range 200 {
		slowest := time.Duration(0)
		for range hosts {
			slowest = max(slowest, 100*time.Millisecond+spread()+deployment)
		}
		ends = append(ends, slowest)
	}
	slices.Sort(ends)
	y.all, y.late = ends[len(ends)/2], ends[len(ends)*99/100]
	looks := math.Ceil(float64(y.all)/float64(max(hostsAgain, time.Duration(hosts)*perHost))) + 1
	y.renewal = c.order + float64(hosts)*(c.say+looks*look)
	y.orders = float64(certificates) * 365 / 60 // 90 days of life, of which two thirds are used
	return y
}

// deployment is how long a host takes from the bundle to its handshake: about what packaging/e2e/fleet measures, with real mail servers under systemd.
const deployment = 600 * time.Millisecond

// The table of the package comment is what a simulation of a year shows, to a third.
func TestAYearOfAFleet(t *testing.T) {
	var c costs
	t.Run("costs", func(t *testing.T) { c = measure(t) })
	t.Logf("requests: %+v", c)
	rows := []struct {
		hosts, certificates         int
		rest, peak, renewal, orders float64
		all                         time.Duration
	}{
		{3, 5, 2.4, 18, 50, 30, 700 * time.Millisecond},
		{50, 50, 16, 54, 385, 304, 3700 * time.Millisecond},
		{1000, 200, 228, 650, 83000, 1217, time.Minute},
	}
	for _, row := range rows {
		y := simulate(c, row.hosts, row.certificates, 1)
		t.Logf("%4d hosts, %3d certificates: %+v", row.hosts, row.certificates, y)
		for what, pair := range map[string][2]float64{
			"requests per second": {y.rest, row.rest}, "in the busiest second": {y.peak, row.peak}, "of a renewal": {y.renewal, row.renewal}, "orders": {y.orders, row.orders},
			"until all serve it": {y.all.Seconds(), row.all.Seconds()},
		} {
			if got, want := pair[0], pair[1]; got < want*2/3 || got > want*3/2 {
				t.Errorf("%d hosts, %s: %.1f, the table says %.1f", row.hosts, what, got, want)
			}
		}
	}
}
