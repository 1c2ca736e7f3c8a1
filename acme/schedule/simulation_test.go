package schedule

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const (
	day      = 24 * time.Hour
	twoYears = 730 * day
	passes   = 16
)

// plan is one simulated fleet.
type plan struct {
	count    int
	lifetime time.Duration
	ari      bool          // the CA gives renewal windows and exempts replacements from its limits
	poll     time.Duration // its Retry-After for them
	notice   time.Duration // between the mass revocation's announcement and its effect
}

func (p plan) String() string {
	ca := "no ARI"
	if p.ari {
		ca = "ARI"
	}
	return fmt.Sprintf("%d × %d h, %s", p.count, p.lifetime/time.Hour, ca)
}

// simulatedCA enforces the published limits by its own counting, and counts what it has to refuse.
type simulatedCA struct {
	plan
	limits  Limits
	started time.Time
	revoked time.Time // certificates from before are revoked then, and asked to be renewed notice earlier

	mu       sync.Mutex
	orders   []time.Time            // that count against the account
	sets     map[string][]time.Time // the same, by set
	domains  map[string][]time.Time // first orders, by registered domain
	total    int
	refused  int
	downFor  int // orders that met a CA which is down
	peak     int // orders of the account in 3 hours
	random   *rand.Rand
	unlucky  float64 // share of orders that fail for another reason
	outageAt time.Duration
}

var (
	errDown    = errors.New("the CA is down")
	errRefused = errors.New("rate limited")
	errOther   = errors.New("internal error")
)

func (c *simulatedCA) down(now time.Time) bool {
	since := now.Sub(c.started) - c.outageAt
	return since >= 0 && since < 36*time.Hour
}

// order is one order, as a CA sees it.
func (c *simulatedCA) order(now time.Time, set, domain string, isNew, replacement bool) (simulatedCert, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down(now) {
		c.downFor++
		return simulatedCert{}, errDown
	}
	if !replacement || !c.ari {
		c.orders = since(c.orders, now.Add(-c.limits.Orders.Per))
		c.sets[set] = since(c.sets[set], now.Add(-7*day))
		c.domains[domain] = since(c.domains[domain], now.Add(-7*day))
		over := len(c.orders) >= c.limits.Orders.N || c.limits.SetIsFixed && len(c.sets[set]) >= c.limits.Set.N || isNew && c.limits.Domain.N > 0 && len(c.domains[domain]) >= c.limits.Domain.N
		if over {
			c.refused++
			return simulatedCert{}, errRefused
		}
		c.orders, c.sets[set] = append(c.orders, now), append(c.sets[set], now)
		if isNew {
			c.domains[domain] = append(c.domains[domain], now)
		}
		c.peak = max(c.peak, len(c.orders))
	}
	c.total++
	if c.random.Float64() < c.unlucky {
		return simulatedCert{}, errOther
	}
	// Back-dated by an hour, as CAs do.
	return simulatedCert{notBefore: now.Add(-time.Hour), notAfter: now.Add(-time.Hour + c.lifetime), issued: now}, nil
}

func since(list []time.Time, from time.Time) []time.Time {
	for len(list) > 0 && !list[0].After(from) {
		list = list[1:]
	}
	return list
}

// window is the CA's renewal information: 2 % of the lifetime wide, around the last third or half; before a revocation in the past.
func (c *simulatedCA) window(now time.Time, cert simulatedCert) (start, end time.Time, err error) {
	if c.down(now) {
		return start, end, errDown
	}
	if cert.issued.Before(c.revoked.Add(-c.notice)) && !now.Before(c.revoked.Add(-c.notice)) {
		return now.Add(-2 * time.Hour), now.Add(-time.Hour), nil
	}
	middle := cert.notAfter.Add(-c.lifetime / 3)
	if c.lifetime < 10*day {
		middle = cert.notAfter.Add(-c.lifetime / 2)
	}
	return middle.Add(-c.lifetime / 100), middle.Add(c.lifetime / 100), nil
}

type simulatedCert struct{ notBefore, notAfter, issued time.Time }

// fleet is what one host does: the daemon's loop for each certificate, with the functions of this package.
type fleet struct {
	ca   *simulatedCA
	gate *Gate
	own  Limits
	end  time.Time

	mu      sync.Mutex
	ledger  Ledger
	breaker Breaker
	inside  int
	result  outcome
}

// outcome is a row of the table.
type outcome struct {
	first     int // certificates that got one at all
	expired   int // that were in service after their end, or after their revocation
	leastLeft time.Duration
	most      int // passes at once
	maxHeld   time.Duration
}

// tend is the daemon's loop for one certificate.
func (f *fleet) tend(ctx context.Context, i int) {
	set, domain := fmt.Sprintf("mx%d.example%d.org", i, i/40), fmt.Sprintf("example%d.org", i/40)
	var cert simulatedCert
	var wanted Wanted
	var nextCheck, notBefore time.Time
	failures := 0
	for {
		leave, err := f.gate.Enter(ctx, cert.notAfter)
		if err != nil {
			return
		}
		f.enter(1)
		now := time.Now()
		if f.ca.ari && !cert.issued.IsZero() && !now.Before(nextCheck) {
			nextCheck = f.ask(now, cert, &wanted)
		}
		if due := cert.issued.IsZero() || !now.Before(wanted.In(nil, time.UTC, now)); due && !now.Before(notBefore) {
			replacement := !wanted.Start.IsZero() && !now.Before(wanted.Start)
			o := Purchase{Names: []string{set}, Key: "ec256", New: cert.issued.IsZero(), Replacement: replacement, Life: cert.notAfter.Sub(cert.notBefore)}
			var fresh simulatedCert
			var held time.Time
			if fresh, held, err = f.order(now, o, set, domain); err == nil && held.IsZero() {
				f.renewed(now, cert)
				cert, failures, notBefore = fresh, 0, time.Time{}
				latest := Latest(cert.notBefore, cert.notAfter)
				wanted = Wanted{At: RenewalTime(cert.notBefore, cert.notAfter, cert.issued), Latest: latest}
				nextCheck = time.Time{}
			} else if held.IsZero() {
				failures++
				notBefore = time.Now().Add(Backoff(failures))
			} else {
				notBefore = held
			}
		}
		f.enter(-1)
		leave()
		next := f.wake(cert, wanted, nextCheck, notBefore)
		if !next.Before(f.end) {
			f.ended(cert)
			return
		}
		time.Sleep(max(time.Until(next), time.Second))
	}
}

// wake is when there is something to do again.
func (f *fleet) wake(cert simulatedCert, wanted Wanted, nextCheck, notBefore time.Time) time.Time {
	if cert.issued.IsZero() {
		return notBefore
	}
	next := later(wanted.In(nil, time.UTC, time.Now()), notBefore)
	if f.ca.ari && !nextCheck.IsZero() {
		next = earlier(next, nextCheck)
	} else if f.ca.ari {
		return time.Now() // the window of a new certificate is asked for at once
	}
	return next
}

// ask is the look at the renewal information.
func (f *fleet) ask(now time.Time, cert simulatedCert, wanted *Wanted) (next time.Time) {
	start, end, err := f.ca.window(now, cert)
	if err != nil {
		return now.Add(6 * time.Hour)
	}
	if !start.Equal(wanted.Start) || !end.Equal(wanted.End) {
		if wanted.Start.IsZero() || start.Before(wanted.Start) { // the window of the past moves with the clock
			wanted.Start, wanted.End, wanted.At = start, end, Draw(start, end)
		}
	}
	return now.Add(f.ca.poll)
}

// order is held, fails or gives a certificate; it takes ten seconds.
func (f *fleet) order(now time.Time, o Purchase, set, domain string) (cert simulatedCert, held time.Time, err error) {
	f.mu.Lock()
	if !f.breaker.Probe(now, time.Time{}) {
		until := f.breaker.Until
		f.mu.Unlock()
		return cert, until, nil
	}
	if h := f.ledger.Check(now, o, f.own); h != nil {
		f.result.maxHeld = max(f.result.maxHeld, h.Until.Sub(now))
		f.mu.Unlock()
		return cert, h.Until, nil
	}
	f.ledger.Place(now, o)
	f.mu.Unlock()
	time.Sleep(10 * time.Second)
	cert, err = f.ca.order(now, set, domain, o.New, o.Replacement)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case errors.Is(err, errDown):
		f.ledger.Withdraw(o)
		f.breaker.Fail(time.Now(), 0, "down")
	default:
		f.breaker = Breaker{}
	}
	return cert, time.Time{}, err
}

func (f *fleet) enter(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inside += n
	f.result.most = max(f.result.most, f.inside)
}

// renewed looks at the certificate that goes out of service.
func (f *fleet) renewed(now time.Time, old simulatedCert) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if old.issued.IsZero() {
		f.result.first++
		return
	}
	left := old.notAfter.Sub(now)
	revoked := !f.ca.revoked.IsZero() && old.issued.Before(f.ca.revoked.Add(-f.ca.notice)) && now.After(f.ca.revoked)
	if left < 0 || revoked {
		f.result.expired++
	}
	f.result.leastLeft = min(f.result.leastLeft, left)
}

// ended looks at what is in service at the end.
func (f *fleet) ended(last simulatedCert) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if last.issued.IsZero() || last.notAfter.Before(f.end) {
		f.result.expired++
	}
}

// run simulates two years and gives the row.
func (p plan) run(t *testing.T) (row string) {
	synctest.Test(t, func(t *testing.T) {
		ca := &simulatedCA{plan: p, limits: LimitsOf("https://acme-v02.api.letsencrypt.org/directory"), started: time.Now(), sets: map[string][]time.Time{},
			domains: map[string][]time.Time{}, random: rand.New(rand.NewPCG(1, uint64(p.count))), unlucky: 0.01, outageAt: 200*day + 7*time.Hour}
		if !p.ari {
			ca.limits = LimitsOf("https://ca.example.org/directory")
		} else {
			ca.revoked = time.Now().Add(400*day + p.notice)
		}
		f := &fleet{ca: ca, gate: NewGate(passes), own: ca.limits.Own(), end: time.Now().Add(twoYears), result: outcome{leastLeft: p.lifetime}}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var all sync.WaitGroup
		for i := range p.count {
			all.Go(func() { f.tend(ctx, i) })
		}
		all.Wait()
		r := f.result
		if r.first != p.count || r.expired != 0 {
			t.Errorf("%s: %d of %d got a certificate, %d expired or served a revoked one", p, r.first, p.count, r.expired)
		}
		if ca.refused != 0 {
			t.Errorf("%s: the CA had to refuse %d orders", p, ca.refused)
		}
		if r.most > passes || r.most < min(p.count, passes-passes/reserved) {
			t.Errorf("%s: %d passes at once", p, r.most)
		}
		least := p.count * int(twoYears/p.lifetime)
		if ca.total < least || ca.total > 3*least+20*p.count {
			t.Errorf("%s: %d orders, %d are the least", p, ca.total, least)
		}
		row = fmt.Sprintf("%6d %5d d  %-7s %8d %8d %8d %9d %7d h", p.count, p.lifetime/day, strings.TrimPrefix(p.String(), strings.Split(p.String(), ", ")[0]+", "),
			ca.total, ca.refused, r.expired, ca.peak, r.leastLeft/time.Hour)
	})
	return row
}

// TestTwoYears runs fleets through two years: a CA that is down for 36 hours, one order in a hundred that fails, and a mass
// revocation. No certificate may expire or be served after its revocation, and the CA may never have to refuse an order.
func TestTwoYears(t *testing.T) {
	table := fmt.Sprintf("%6s %7s  %-7s %8s %8s %8s %9s %9s", "fleet", "life", "CA", "orders", "refused", "expired", "peak/3h", "left")
	for _, p := range []plan{
		{count: 1, lifetime: 90 * day}, {count: 1, lifetime: 47 * day, ari: true}, {count: 1, lifetime: 160 * time.Hour, ari: true},
		{count: 100, lifetime: 90 * day}, {count: 100, lifetime: 90 * day, ari: true}, {count: 100, lifetime: 47 * day}, {count: 100, lifetime: 47 * day, ari: true},
		{count: 100, lifetime: 160 * time.Hour}, {count: 100, lifetime: 160 * time.Hour, ari: true},
		{count: 10_000, lifetime: 90 * day}, {count: 10_000, lifetime: 47 * day, ari: true}, {count: 10_000, lifetime: 160 * time.Hour, ari: true},
	} {
		if p.count > 5_000 && raceDetector {
			continue // it takes 8,128 goroutines at most; packaging/test.sh runs this test without it too
		}
		if p.poll, p.notice = 6*time.Hour, day; p.count > 100 {
			p.poll, p.notice = day, 5*day
		}
		began := time.Now()
		table += "\n" + p.run(t)
		t.Logf("%s: simulated in %.1f s", p, time.Since(began).Seconds())
	}
	t.Logf("\n%s", table)
}
