package schedule

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestAgain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		failures int
		ordered  bool
		least    time.Duration
	}{
		{0, true, 10 * time.Minute}, {1, true, 10 * time.Minute}, {2, true, 100 * time.Minute}, {3, true, 24 * time.Hour}, {100, true, 24 * time.Hour},
		{1, false, 10 * time.Minute}, {2, false, time.Hour}, {100, false, time.Hour},
	} {
		if got := Again(tt.failures, tt.ordered); got < tt.least || got > tt.least*11/10 {
			t.Errorf("after %d failures, ordered %v: %s, want %s and a tenth at most", tt.failures, tt.ordered, got, tt.least)
		}
	}
}

// flapping is a certificate with an optional name that cannot always be proven, and the CA's own count of what it costs.
type flapping struct {
	works    func(time.Time) bool // whether the CA accepts the proof
	looks    bool                 // a look before the order finds what does not work
	lifetime time.Duration

	now, renewAt, nextTry time.Time
	notAfter              time.Time
	with, left            bool // the name is in the certificate; it is left out
	tries                 int
	ledger                Ledger
	orders, failures      []time.Time // of the CA; failed proofs of the name
	issued                map[bool][]time.Time
	least                 time.Duration // of life that was left at a renewal
}

var mostNames = []string{"mx.example.org", "host7.example.org"}

// order places one order, if the budget allows it, and reports whether it was issued and how long to wait otherwise.
func (f *flapping) order(with bool) (issued bool, held *Held) {
	names := mostNames
	if with {
		names = append(slices.Clone(names), "mx.customer.example")
	}
	purchase := Purchase{Names: names, Key: "ec256", New: with != f.with, Life: f.lifetime, Expires: f.notAfter}
	limits := LimitsOf("https://acme-v02.api.letsencrypt.org/directory").Own()
	if held := f.ledger.Check(f.now, purchase, limits); held != nil {
		return false, held
	}
	f.ledger.Place(f.now, purchase)
	f.orders = append(f.orders, f.now)
	if with && !f.works(f.now) {
		f.ledger.Fail(f.now, "mx.customer.example")
		f.failures = append(f.failures, f.now)
		return false, nil
	}
	f.issued[with] = append(f.issued[with], f.now)
	f.with, f.notAfter, f.renewAt = with, f.now.Add(f.lifetime), RenewalTime(f.now, f.now.Add(f.lifetime), f.now)
	return true, nil
}

// fail leaves the name out.
func (f *flapping) fail(ordered bool) {
	f.tries, f.left = f.tries+1, true
	f.nextTry = f.now.Add(Again(f.tries, ordered))
}

// pass does what a pass does about the name.
func (f *flapping) pass() {
	due := !f.now.Before(f.renewAt)
	try := !f.left
	if f.left && !f.now.Before(f.nextTry) {
		if try = !f.looks || f.works(f.now); !try {
			f.fail(false)
		}
	}
	if try && (due || !f.with) {
		issued, held := f.order(true)
		switch {
		case issued:
			f.left, f.tries = false, 0
			return
		case held != nil:
			f.left, f.nextTry = true, held.Until
		default:
			f.fail(true)
		}
	}
	if due {
		f.least = min(f.least, f.notAfter.Sub(f.now))
		f.order(false)
	}
}

// most counts how many of the times lie in any window.
func most(times []time.Time, window time.Duration) (n int) {
	first := 0
	for last := range times {
		for times[last].Sub(times[first]) >= window {
			first++
		}
		n = max(n, last-first+1)
	}
	return n
}

// TestFlappingName: two years with a name that fails in various ways stay within the limits of the CA, and never cost the others a renewal.
func TestFlappingName(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for what, works := range map[string]func(time.Time) bool{
		"never":            func(time.Time) bool { return false },
		"every other hour": func(at time.Time) bool { return at.Hour()%2 == 0 },
		"every other day":  func(at time.Time) bool { return at.YearDay()%2 == 0 },
		"by chance":        func(time.Time) bool { return random.IntN(2) == 0 },
		"nearly never":     func(time.Time) bool { return random.IntN(200) == 0 },
	} {
		for _, looks := range []bool{false, true} {
			for _, lifetime := range []time.Duration{90 * day, 47 * day, 160 * time.Hour} {
				f := &flapping{works: works, looks: looks, lifetime: lifetime, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), issued: map[bool][]time.Time{}, least: lifetime}
				f.renewAt = f.now
				f.notAfter = f.now.Add(lifetime)
				for end := f.now.Add(730 * day); f.now.Before(end); {
					f.pass()
					wake := f.now.Add(time.Hour)
					if f.left && f.nextTry.After(f.now) && f.nextTry.Before(wake) {
						wake = f.nextTry
					}
					f.now = wake
				}
				set := max(most(f.issued[true], 7*day), most(f.issued[false], 7*day))
				proofs := most(f.failures, time.Hour)
				t.Logf("%s, looks %v, %s: %d orders, %d failed proofs; at most %d of one set in 7 days, %d failed proofs in an hour, least life left %s",
					what, looks, lifetime, len(f.orders), len(f.failures), set, proofs, f.least.Round(time.Hour))
				if set > 5 || proofs > 5 || most(f.orders, 3*time.Hour) > 20 {
					t.Errorf("%s, looks %v, %s: over the limits", what, looks, lifetime)
				}
				if f.least < lifetime/4 {
					t.Errorf("%s, looks %v, %s: a renewal came with %s left", what, looks, lifetime, f.least)
				}
			}
		}
	}
}
