package schedule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	_ "time/tzdata" // the zones of the tests
)

func TestRenewalTime(t *testing.T) {
	issued := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	for _, tt := range []struct{ life, dated, earliest, latest time.Duration }{
		{life: 90 * day, earliest: 90*day*2/3 - 90*day/50, latest: 90 * day * 2 / 3},
		{life: 47 * day, dated: time.Hour, earliest: 47*day*2/3 - 47*day/50 - time.Hour, latest: 47 * day * 2 / 3},
		{life: 160 * time.Hour, earliest: 80*time.Hour - 160*time.Hour/50, latest: 80 * time.Hour},
		{life: time.Hour, dated: 50 * time.Minute, earliest: 5*time.Minute - time.Second, latest: 5 * time.Minute}, // half of what was left
	} {
		for range 200 {
			notBefore := issued.Add(-tt.dated)
			after := RenewalTime(notBefore, notBefore.Add(tt.life), issued).Sub(issued)
			if after < tt.earliest || after > tt.latest {
				t.Fatalf("life %s, dated back %s: renewed %s after it was issued, want %s to %s", tt.life, tt.dated, after, tt.earliest, tt.latest)
			}
		}
	}
}

func TestBackoff(t *testing.T) {
	for failures, least := range map[int]time.Duration{0: time.Minute, 1: time.Minute, 2: 10 * time.Minute, 3: 100 * time.Minute, 4: day, 99: day} {
		seen := map[time.Duration]bool{}
		for range 100 {
			d := Backoff(failures)
			if seen[d] = true; d < least || d > least*11/10 {
				t.Errorf("after %d failures %s, want %s and up to a tenth more", failures, d, least)
			}
		}
		if len(seen) < 50 {
			t.Errorf("after %d failures hosts come back together: %d different delays", failures, len(seen))
		}
	}
}

func TestMaintenanceWindows(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	all := [7]bool{true, true, true, true, true, true, true}
	night := Span{Days: all, From: 2 * time.Hour, To: 5 * time.Hour}
	weekend := Span{Days: [7]bool{time.Saturday: true}, From: 22 * time.Hour, To: 4 * time.Hour}
	at := func(text string) time.Time {
		when, err := time.ParseInLocation("2006-01-02 15:04", text, berlin)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	long := at("2026-12-20 00:00")
	for name, tt := range map[string]struct {
		w           Wanted
		spans       []Span
		now         string
		first, last string // what is right; the same for an instant
	}{
		"no windows":             {w: Wanted{At: at("2026-11-24 10:00"), Latest: long}, now: "2026-11-24 08:00", first: "2026-11-24 10:00", last: "2026-11-24 10:00"},
		"no windows, danger":     {w: Wanted{At: at("2026-12-24 10:00"), Latest: long}, now: "2026-11-24 08:00", first: "2026-12-20 00:00", last: "2026-12-20 00:00"},
		"inside":                 {w: Wanted{At: at("2026-11-24 03:00"), Latest: long}, spans: []Span{night}, now: "2026-11-23 08:00", first: "2026-11-24 03:00", last: "2026-11-24 03:00"},
		"before":                 {w: Wanted{At: at("2026-11-24 10:00"), Latest: long}, spans: []Span{night}, now: "2026-11-24 08:00", first: "2026-11-25 02:00", last: "2026-11-25 05:00"},
		"over midnight, inside":  {w: Wanted{At: at("2026-11-29 01:00"), Latest: long}, spans: []Span{weekend}, now: "2026-11-24 08:00", first: "2026-11-29 01:00", last: "2026-11-29 01:00"},
		"over midnight, other":   {w: Wanted{At: at("2026-11-28 01:00"), Latest: long}, spans: []Span{weekend}, now: "2026-11-24 08:00", first: "2026-11-28 22:00", last: "2026-11-29 04:00"},
		"the CA's window":        {w: Wanted{At: at("2026-11-24 20:00"), Start: at("2026-11-24 01:00"), End: at("2026-11-24 23:00"), Latest: long}, spans: []Span{night}, now: "2026-11-23 08:00", first: "2026-11-24 02:00", last: "2026-11-24 05:00"},
		"danger before a window": {w: Wanted{At: at("2026-11-24 10:00"), Latest: at("2026-11-24 20:00")}, spans: []Span{weekend}, now: "2026-11-24 08:00", first: "2026-11-24 20:00", last: "2026-11-24 20:00"},
		"missed, now inside":     {w: Wanted{At: at("2026-11-24 03:00"), Latest: long}, spans: []Span{night}, now: "2026-11-25 03:30", first: "2026-11-24 03:00", last: "2026-11-24 03:00"},
		"missed, now outside":    {w: Wanted{At: at("2026-11-24 03:00"), Latest: long}, spans: []Span{night}, now: "2026-11-25 09:00", first: "2026-11-26 02:00", last: "2026-11-26 05:00"},
		"missed, now in danger":  {w: Wanted{At: at("2026-11-24 03:00"), Latest: at("2026-11-25 01:00")}, spans: []Span{night}, now: "2026-11-25 09:00", first: "2026-11-24 03:00", last: "2026-11-24 03:00"},
		"the hour that is left out": {w: Wanted{At: at("2027-03-28 00:30"), Latest: at("2027-06-01 00:00")}, spans: []Span{{Days: all, From: 2 * time.Hour, To: 3 * time.Hour}}, now: "2027-03-27 08:00",
			first: "2027-03-28 01:00", last: "2027-03-29 03:00"},
	} {
		for _, tt.w.Fraction = range []float64{0, 0.3, 0.999} {
			got := tt.w.In(tt.spans, berlin, at(tt.now))
			if got.Before(at(tt.first)) || got.After(at(tt.last)) {
				t.Errorf("%s: %s, want %s to %s", name, got.In(berlin).Format("2006-01-02 15:04"), tt.first, tt.last)
			}
		}
	}
}

func TestDrawCoversTheWindow(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var early, late int
	for range 1000 {
		at := Draw(start, start.Add(time.Hour))
		if at.Before(start) || !at.Before(start.Add(time.Hour)) {
			t.Fatal(at)
		}
		if at.Before(start.Add(30 * time.Minute)) {
			early++
		} else {
			late++
		}
	}
	if early < 350 || late < 350 {
		t.Errorf("%d instants in the first half, %d in the second", early, late)
	}
}

var letsEncrypt = LimitsOf("https://acme-v02.api.letsencrypt.org/directory")

func TestLedgerLimits(t *testing.T) {
	now := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	own := letsEncrypt.Own()
	name := func(i int) []string { return []string{fmt.Sprintf("mx%d.example.org", i)} }
	fill := func(n int, o func(int) Purchase) *Ledger {
		l := &Ledger{}
		for i := range n {
			l.Place(now.Add(-time.Minute), o(i))
		}
		return restarted(t, l)
	}
	renewal := func(i int) Purchase { return Purchase{Names: name(i), Life: 90 * day} }
	first := func(i int) Purchase { return Purchase{Names: name(i), New: true} }
	same := func(int) Purchase { return Purchase{Names: name(0), Life: 90 * day} }
	replacement := func(int) Purchase { return Purchase{Names: name(0), Life: 90 * day, Replacement: true} }
	for what, tt := range map[string]struct {
		ledger *Ledger
		order  Purchase
		held   bool
	}{
		"the account has room":                 {fill(269, renewal), renewal(999), false},
		"the account's own limit":              {fill(270, renewal), renewal(999), true},
		"new names leave room for renewals":    {fill(200, renewal), Purchase{Names: []string{"mx.example.com"}, New: true}, true},
		"which use it":                         {fill(200, renewal), renewal(999), false},
		"replacements are exempt":              {fill(270, renewal), Purchase{Names: []string{"mx.example.net"}, Life: 90 * day, Replacement: true}, false},
		"a registered domain":                  {fill(45, first), Purchase{Names: []string{"*.sub.example.org"}, New: true}, true},
		"another registered domain":            {fill(45, first), Purchase{Names: []string{"mx.example.co.uk"}, New: true}, false},
		"the domain does not hold renewals":    {fill(45, first), renewal(999), false},
		"one set":                              {fill(4, same), same(0), true},
		"one set, other key":                   {fill(4, same), Purchase{Names: name(0), Key: "rsa2048", Life: 90 * day}, true},
		"one set, but a replacement":           {fill(4, same), replacement(0), false},
		"replacements without end":             {fill(4, replacement), replacement(0), true},
		"short-lived: a third of the life":     {fill(4, same), Purchase{Names: name(0), Life: time.Minute, Replacement: true}, false},
		"entries from the future do not count": {future(now, 48*time.Hour), same(0), false},
		"those of a host that is ahead do":     {future(now, 5*time.Minute), same(0), true},
	} {
		held := tt.ledger.Check(now, tt.order, own)
		if (held != nil) != tt.held {
			t.Errorf("%s: %v", what, held)
		}
		if held != nil && !held.Until.After(now) {
			t.Errorf("%s: until %s", what, held.Until)
		}
	}
}

// restarted is a ledger as the next process reads it.
func restarted(t *testing.T, l *Ledger) *Ledger {
	t.Helper()
	text, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	again := &Ledger{}
	if err := json.Unmarshal(text, again); err != nil {
		t.Fatal(err)
	}
	return again
}

func future(now time.Time, ahead time.Duration) *Ledger {
	l := &Ledger{}
	for range 10 {
		l.Place(now.Add(ahead), Purchase{Names: []string{"mx0.example.org"}})
	}
	return l
}

func TestFailedProofs(t *testing.T) {
	now, own := time.Now(), letsEncrypt.Own()
	l := &Ledger{}
	for i := range 4 {
		if held := l.Check(now, Purchase{Names: []string{"a.example.org", "*.b.example.org"}, New: true}, own); held != nil {
			t.Fatalf("after %d failures: %v", i, held)
		}
		l.Fail(now, "b.example.org")
	}
	held := l.Check(now, Purchase{Names: []string{"a.example.org", "*.b.example.org"}, New: true}, own)
	if held == nil || held.Until.Sub(now) > time.Hour+time.Second {
		t.Errorf("%v", held)
	}
	if l.Check(now, Purchase{Names: []string{"a.example.org"}, New: true}, own) != nil || l.Check(now.Add(time.Hour), Purchase{Names: []string{"b.example.org"}, New: true}, own) != nil {
		t.Error("another name, or an hour later, is held")
	}
}

// Whatever is asked for in whatever order, no window of any limit is ever exceeded.
func TestLedgerNeverExceeds(t *testing.T) {
	own := letsEncrypt.Own()
	for seed := range uint64(5) {
		random := rand.New(rand.NewPCG(seed, 1))
		l, now := &Ledger{}, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		var account []time.Time
		sets, domains := map[string][]time.Time{}, map[string][]time.Time{}
		for range 3_000 {
			now = now.Add(time.Duration(random.Int64N(int64(5 * time.Minute))))
			set := fmt.Sprintf("mx%d.example%d.org", random.IntN(40), random.IntN(4))
			_, domain, _ := cut(set)
			o := Purchase{Names: []string{set}, New: random.IntN(2) == 0, Life: 90 * day}
			if l.Check(now, o, own) != nil {
				continue
			}
			l.Place(now, o)
			if random.IntN(50) == 0 {
				l = restarted(t, l)
			}
			account, sets[set] = since(append(account, now), now.Add(-3*time.Hour)), since(append(sets[set], now), now.Add(-7*day))
			if o.New {
				domains[domain] = since(append(domains[domain], now), now.Add(-7*day))
			}
			if len(account) > 270 || len(sets[set]) > 4 || len(domains[domain]) > 45 {
				t.Fatalf("seed %d: %d orders, %d of the set, %d of the domain", seed, len(account), len(sets[set]), len(domains[domain]))
			}
		}
	}
}

func cut(name string) (host, domain string, ok bool) {
	for i, r := range name {
		if r == '.' {
			return name[:i], name[i+1:], true
		}
	}
	return name, "", false
}

func TestWithdraw(t *testing.T) {
	now := time.Now()
	l, o := &Ledger{}, Purchase{Names: []string{"a.example.org"}, Life: 90 * day}
	for range 10 {
		l.Place(now, o)
		l.Withdraw(o)
	}
	if held := l.Check(now, o, letsEncrypt.Own()); held != nil || len(l.Orders) != 0 {
		t.Errorf("%v, %d left", held, len(l.Orders))
	}
}

func TestBreaker(t *testing.T) {
	var b Breaker
	now := time.Now()
	if b.Open(now) || !b.Probe(now, time.Time{}) || b.Probed {
		t.Fatalf("a new one: %+v", b)
	}
	for i, least := range []time.Duration{time.Minute, 10 * time.Minute, 100 * time.Minute, 100 * time.Minute, 100 * time.Minute} {
		b.Fail(now, 0, "down")
		b.Fail(now.Add(time.Second), 0, "another order that was under way")
		if b.Failures != i+1 || !b.Open(now.Add(least-time.Second)) || b.Open(now.Add(least*11/10+time.Second)) {
			t.Fatalf("after %d failures: %+v", i+1, b)
		}
		now = b.Until.Add(time.Second)
		if !b.Probe(now, time.Time{}) || b.Probe(now.Add(time.Minute), time.Time{}) || !b.Open(now.Add(time.Minute)) {
			t.Fatalf("one probe at a time: %+v", b)
		}
	}
	b = Breaker{}
	if b.Fail(now, 3*time.Hour, "Retry-After"); !b.Open(now.Add(3*time.Hour - time.Second)) {
		t.Errorf("Retry-After is not kept: %+v", b)
	}
	if b := (Breaker{Failures: 1, Until: now.Add(400 * day)}); b.Open(now) {
		t.Error("what a wrong clock wrote holds for ever")
	}
	b = Breaker{}
	if b.Fail(now.Add(20*time.Hour), 0, "noted by a host whose clock is ahead"); b.Open(now) || !b.Open(now.Add(20*time.Hour-5*time.Minute)) {
		t.Errorf("a host whose clock is ahead keeps the others from ordering: %+v", b)
	}
}

// TestBreakerForTheExpiring: a certificate that ends soon does not wait for the end of a long break, and does not end or lengthen it for
// others; what the CA asks for holds for all.
func TestBreakerForTheExpiring(t *testing.T) {
	var b Breaker
	now := time.Now().Truncate(time.Second)
	for range 3 {
		b.Fail(now, 0, "down")
		b.Probe(b.Until, time.Time{})
		now = b.Until.Add(-time.Minute)
	}
	b.Fail(now, 0, "down") // for 100 minutes
	long, until := now.Add(30*day), b.Until
	soon := now.Add(16 * time.Minute)
	if !b.OpenFor(now.Add(time.Minute), soon) || b.OpenFor(now.Add(2*time.Minute), soon) || !b.OpenFor(now.Add(2*time.Minute), long) || !b.UntilFor(soon).Equal(now.Add(2*time.Minute)) {
		t.Errorf("%+v", b)
	}
	if now = now.Add(2 * time.Minute); b.Probe(now, long) || !b.Probe(now, soon) || b.Probed || !b.Until.Equal(until) {
		t.Errorf("an early try: %+v", b)
	}
	failures := b.Failures
	if b.Fail(now, 0, "still down"); b.Failures != failures || !b.Until.Equal(until) || !b.OpenFor(now.Add(time.Minute), soon) || b.OpenFor(now.Add(2*time.Minute), soon) {
		t.Errorf("after it: %+v", b)
	}
	if b.Fail(now, 30*time.Minute, "maintenance"); !b.OpenFor(now.Add(29*time.Minute), soon) {
		t.Errorf("Retry-After: %+v", b)
	}
	if b := restored(t, Breaker{Failures: 3, Until: now.Add(time.Hour)}); !b.OpenFor(now.Add(50*time.Minute), soon) {
		t.Errorf("of an earlier version: %+v", b)
	}
}

func restored(t *testing.T, b Breaker) (again Breaker) {
	t.Helper()
	text, err := json.Marshal(b)
	if err == nil {
		err = json.Unmarshal(text, &again)
	}
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// TestWithin: no wait passes the end of a certificate, however often mxcert has failed before.
func TestWithin(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct{ delay, left, want time.Duration }{
		{day, 30 * day, day}, {day, 8 * day, day}, {day, 4 * day, 12 * time.Hour}, {10 * time.Minute, 4 * time.Minute, 30 * time.Second},
		{day, 10 * time.Second, 5 * time.Second}, {day, 0, 5 * time.Second}, {day, -8 * time.Minute, time.Minute}, {day, -30 * day, day}, {time.Second, time.Minute, time.Second},
	} {
		if got := Within(tt.delay, now, now.Add(tt.left)); got != tt.want {
			t.Errorf("%s with %s left: %s, want %s", tt.delay, tt.left, got, tt.want)
		}
	}
	if got := Within(day, now, time.Time{}); got != day {
		t.Errorf("without a certificate: %s", got)
	}
	for _, life := range []time.Duration{15 * time.Minute, 6 * day, 90 * day} {
		at, end, tries := now, now.Add(life/3), 0
		last := at
		for failures := 1; at.Before(end); failures++ {
			last = at
			at = at.Add(Within(Backoff(failures), at, end))
			tries++
		}
		if end.Sub(last) > time.Minute || tries > 150 {
			t.Errorf("life %s: the last of %d tries is %s before the end", life, tries, end.Sub(last))
		}
	}
}

// TestCrowdOfTheExpiring: orders that wait for a limit are spread over hours, but not beyond a part of what is left of a certificate.
func TestCrowdOfTheExpiring(t *testing.T) {
	now := time.Now()
	l, limits := &Ledger{}, Limits{Orders: Rate{1, time.Hour}}
	l.Place(now, Purchase{Names: []string{"a.example.org"}})
	for range 100 {
		held := l.Check(now, Purchase{Names: []string{"b.example.org"}, Life: day, Expires: now.Add(time.Hour + 16*time.Minute)}, limits)
		if held == nil || held.Until.After(now.Add(time.Hour+2*time.Minute)) {
			t.Fatalf("%v", held)
		}
	}
}

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(4)
		far := time.Now().Add(90 * day)
		var mu sync.Mutex
		var order []int
		seen := func() []int {
			mu.Lock()
			defer mu.Unlock()
			return append([]int(nil), order...)
		}
		enter := func(i int, notAfter time.Time) {
			leave, err := g.Enter(t.Context(), notAfter)
			if err != nil {
				t.Errorf("%d: %v", i, err)
				return
			}
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			time.Sleep(time.Hour)
			leave()
			leave() // twice is once
		}
		for i := range 4 {
			go enter(i, time.Time{}) // new ones: three of them get in
			synctest.Wait()
		}
		if n := len(seen()); n != 3 {
			t.Fatalf("%d: a place is kept for renewals", order)
		}
		go enter(10, far)
		synctest.Wait()
		go enter(11, far.Add(-day))
		go enter(12, far.Add(-2*day)) // ends first
		synctest.Wait()
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if got := fmt.Sprint(seen()); got != "[0 1 2 10]" {
			t.Errorf("%s", got)
		}
		time.Sleep(40 * time.Minute)
		synctest.Wait()
		if n := len(seen()); n != 7 {
			t.Errorf("%d: three places became free, and three waited", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		for range 4 {
			go enter(20, far)
		}
		synctest.Wait()
		refused := make(chan error)
		go func() { _, err := g.Enter(ctx, far); refused <- err }()
		synctest.Wait()
		cancel()
		if err := <-refused; !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if g.inside != 0 || g.new != 0 || len(g.renewals)+len(g.fresh) != 0 {
			t.Errorf("places are lost: %+v", g)
		}
	})
}

// Of those that wait, the certificate that ends first goes first, and new ones go last.
func TestGateOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(1)
		far := time.Now().Add(90 * day)
		leave, err := g.Enter(t.Context(), far)
		if err != nil {
			t.Fatal(err)
		}
		turns := make(chan int, 9)
		for i, notAfter := range []time.Time{{}, far, far.Add(-2 * day), far.Add(-day)} {
			go func() {
				out, err := g.Enter(t.Context(), notAfter)
				if err != nil {
					t.Error(err)
					return
				}
				turns <- i
				out()
			}()
			synctest.Wait()
		}
		leave()
		synctest.Wait()
		if got := []int{<-turns, <-turns, <-turns, <-turns}; fmt.Sprint(got) != "[2 3 1 0]" {
			t.Errorf("turns: %v", got)
		}
	})
}
