package dane

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"mxcert/acme/bundle"
)

// progress is after how many certificates a long run says how far it is.
const progress = 25

// TestYears lives through three years of certificates, each in its own world: servers fall silent, lag, come back from backups and answer
// without signatures, updates fail, the CA is out of reach, mail servers do not answer or go back, clocks jump, processes are killed. Every
// roll ends, none breaks I4, and no name has more records than two for each key type. MXCERT_YEARS says how many certificates (1000 with make
// dane).
func TestYears(t *testing.T) {
	t.Parallel()
	n := 4
	if raced {
		n = 2
	}
	if text := os.Getenv("MXCERT_YEARS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	rolls, passes := make([]int, n), make([]int, n)
	var lived, faulty atomic.Int64
	start := time.Now()
	t.Run("certificates", func(t *testing.T) {
		for seed := range n {
			t.Run(strconv.Itoa(seed), func(t *testing.T) {
				t.Parallel()
				y := newYears(uint64(seed))
				y.live()
				rolls[seed], passes[seed] = y.h.promoted, y.passes
				faults := slices.Concat(y.stuck, y.w.model.faults)
				for _, fault := range faults {
					t.Errorf("%s", fault)
				}
				if len(faults) > 0 {
					faulty.Add(1)
				}
				if done := lived.Add(1); done%progress == 0 {
					t.Logf("%d of %d certificates have lived for three years, %d with faults, in %s", done, n, faulty.Load(), time.Since(start).Round(time.Second))
				}
			})
		}
	})
	total, most := 0, 0
	for i := range n {
		total, most = total+rolls[i], most+passes[i]
		if rolls[i] < 4 {
			t.Errorf("certificate %d has rolled %d times", i, rolls[i])
		}
	}
	t.Logf("%d certificates, %d rolls, %d passes", n, total, most)
}

// years is one certificate, and what happens to it.
type years struct {
	*rand.Rand
	w      *simWorld
	h      *simHost
	ends   []yearEnd // of faults that last
	passes int
	stuck  []string
}

type yearEnd struct {
	at time.Duration
	do func()
}

const threeYears = 3 * 365 * day

func newYears(seed uint64) *years {
	y := &years{Rand: rand.New(rand.NewPCG(seed, 13)), w: newSimWorld()}
	types := []bundle.KeyType{bundle.EC256, bundle.RSA2048}[:1+y.IntN(2)]
	owners := []Owner{{"mx.example.org", 25}, {"mx.example.net", 25}, {"mx.example.org", 465}}[:1+y.IntN(3)]
	ttl := []time.Duration{5 * time.Minute, time.Hour, 4 * time.Hour}[y.IntN(3)]
	for _, name := range []string{"example.org", "example.net"} {
		var lags []time.Duration
		for range 1 + y.IntN(3) {
			lags = append(lags, time.Duration(y.IntN(3600))*time.Second)
		}
		y.w.zone(name, ttl, lags...)
	}
	life := time.Duration(90+y.IntN(200)) * day
	y.h = newSimHost(y.w, types, owners, Settings{Mode: Publish, TTL: ttl, Hold: day, KeyLifetime: life}, []string{"a", "b"}[:1+y.IntN(2)]...)
	y.w.model.limit = 2 * len(types)
	return y
}

// live lives, and waits for the end of the last roll without faults.
func (y *years) live() {
	fault := y.pause()
	for y.w.now < threeYears {
		y.pass()
		next := y.w.now + y.wait()
		next = min(next, fault)
		for _, e := range y.ends {
			next = min(next, e.at)
		}
		y.w.advance(max(next, y.w.now+time.Second))
		y.end(y.w.now)
		if y.w.now >= fault {
			y.fault()
			fault = y.w.now + y.pause()
		}
	}
	for len(y.ends) > 0 {
		y.end(1 << 62)
	}
	y.h.kill, y.h.broken = 0, 0
	if !y.h.until(60*day, y.h.steady) {
		y.stuck = append(y.stuck, fmt.Sprintf("the last roll does not end: %v %+v", y.h.plan.Phases, y.h.plan.Waits))
	}
}

func (y *years) pass() {
	y.passes++
	y.h.run()
	if y.h.effects >= y.h.kill {
		y.h.kill = 0
	}
}

// wait is how long nothing happens: an hour, or longer if all is steady.
func (y *years) wait() time.Duration {
	pause := time.Hour
	if y.h.steady() {
		pause = 3 * day
	}
	if next := y.h.plan.Next; !next.IsZero() {
		pause = min(pause, max(next.Sub(y.w.instant().At), time.Second))
	}
	return pause
}

// pause is how long it takes until something goes wrong.
func (y *years) pause() time.Duration { return time.Duration(y.ExpFloat64() * float64(9*day)) }

// lasts says for how long something lasts.
func (y *years) lasts(most time.Duration, do func()) {
	y.ends = append(y.ends, yearEnd{y.w.now + time.Duration(y.Float64()*float64(most)), do})
}

// end ends faults.
func (y *years) end(now time.Duration) {
	list := y.ends
	y.ends = nil
	for _, e := range list {
		if e.at > now {
			y.ends = append(y.ends, e)
			continue
		}
		e.do() // it may begin another one
	}
}

// fault is one thing that goes wrong.
func (y *years) fault() {
	z := y.w.zones[y.IntN(len(y.w.zones))]
	s := z.servers[y.IntN(len(z.servers))]
	switch y.IntN(12) {
	case 0:
		s.silent = true
		y.lasts(3*day, func() { s.silent = false })
	case 1:
		s.unsigned = true
		y.lasts(day, func() { s.unsigned = false; y.w.tell(z, s) })
	case 2:
		before := s.lag
		s.lag = time.Duration(y.Float64() * float64(2*day))
		y.lasts(5*day, func() { s.lag = before })
	case 3:
		y.restore(z, s)
	case 4:
		z.fault, z.faults = updateFault(y.IntN(5)), 1+y.IntN(20)
	case 5:
		y.h.noCA = true
		y.lasts(20*day, func() { y.h.noCA = false })
	case 6:
		a := y.h.addresses[y.IntN(len(y.h.addresses))]
		y.w.deaf[a] = true
		y.lasts(2*day, func() { y.w.deaf[a] = false })
	case 7:
		y.w.wall += time.Duration((y.Float64() - 0.5) * float64(20*day))
	case 8:
		y.w.boot++
		y.w.since = y.w.now
	case 9:
		y.h.kill, y.h.after = y.h.effects+1+y.IntN(8), y.IntN(2) == 0
	case 10:
		y.h.broken, y.h.halfway = 1+y.IntN(5), y.IntN(2) == 0
	case 11:
		key := y.h.types[y.IntN(len(y.h.types))]
		if y.h.steady() {
			y.h.state.Ask(key, Asked{Reason: "a person asks", Emergency: y.IntN(3) == 0, Fresh: y.IntN(6) == 0})
			y.h.stored = y.h.encode()
		}
	}
}

// restore gives a server the zone of some hours ago.
func (y *years) restore(z *simZone, s *simServer) {
	old := maps.Clone(s.copied)
	y.lasts(10*time.Hour, func() {
		newest := maps.Clone(s.copied)
		s.copied = old
		y.w.tell(z, s)
		y.lasts(10*time.Hour, func() {
			if maps.EqualFunc(s.copied, old, func(a, b []string) bool { return fmt.Sprint(a) == fmt.Sprint(b) }) {
				s.copied = newest
				y.w.tell(z, s)
			}
		})
	})
}
