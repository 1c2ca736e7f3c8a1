package schedule

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"mxcert/acme/finding"

	"golang.org/x/net/publicsuffix"
)

// Rate is so many in any window of a duration; N 0 is no limit.
type Rate struct {
	N   int
	Per time.Duration
}

// Limits are what a CA allows one account. A CA may exempt orders that replace a certificate within the window it
// suggested (RFC 9773 section 5).
type Limits struct {
	Orders     Rate // orders of the account
	Domain     Rate // certificates for new sets of names below one registered domain
	Set        Rate // certificates for exactly one set of names
	Failures   Rate // failed proofs for one name
	ExemptARI  bool // replacements do not count
	SetIsFixed bool // otherwise the set's window shrinks to a third of the certificate's life, and is kept for each key type
	NewUseAll  bool // first-time orders need not leave a share of Orders for renewals
}

// LimitsOf returns the published limits of the CA with that directory URL. For a CA that publishes no limits it assumes
// those of Let's Encrypt for the account and for names, and one for the set of names, which stops loops.
//
// Source: https://letsencrypt.org/docs/rate-limits/ of 2026-11.
func LimitsOf(directory string) Limits {
	known := Limits{Orders: Rate{300, 3 * time.Hour}, Set: Rate{5, 7 * 24 * time.Hour}, Failures: Rate{5, time.Hour}}
	if strings.HasPrefix(directory, "https://acme-v02.api.letsencrypt.org/") {
		known.Domain, known.ExemptARI, known.SetIsFixed = Rate{50, 7 * 24 * time.Hour}, true, true
	}
	return known
}

// Own returns the limits that mxcert keeps for itself, below what the CA allows: the rest is for the operator.
func (l Limits) Own() Limits {
	l.Orders.N, l.Domain.N, l.Set.N, l.Failures.N = l.Orders.N*9/10, l.Domain.N*9/10, l.Set.N-1, l.Failures.N-1
	return l
}

// String lists the limits, for people.
func (l Limits) String() string {
	var parts []string
	for _, limit := range []struct {
		Rate
		what string
	}{{l.Orders, "orders"}, {l.Domain, "new certificates below one domain"}, {l.Set, "certificates for the same names"}, {l.Failures, "failed proofs of one name"}} {
		if limit.N > 0 {
			parts = append(parts, fmt.Sprintf("%d %s in %s", limit.N, limit.what, finding.Duration(limit.Per)))
		}
	}
	if len(parts) == 0 {
		return "as much as is due"
	}
	return strings.Join(parts, ", ")
}

// newShare is the share of the account's orders that names without a certificate may use: they must not starve renewals.
const newShare = 0.7

// Purchase is an order that is about to be placed, or was placed.
type Purchase struct {
	Names       []string      // DNS names
	Key         string        // key type
	New         bool          // this set of names has no certificate yet
	Replacement bool          // it replaces a certificate within the CA's window
	Life        time.Duration // of the certificate in service; 0 if there is none
	Expires     time.Time     // its end; zero if there is none
}

// Ledger is what an account has ordered from a CA. Its owner stores it as JSON.
type Ledger struct {
	Orders   []Placed `json:"orders,omitempty"` // in the order of time
	Failures []Failed `json:"failures,omitempty"`

	bySet map[string][]Placed // Orders once more; nil until it is needed
}

// Placed is one order of the past.
type Placed struct {
	At          time.Time `json:"at"`
	Set         string    `json:"set"`               // mark of the names
	Domains     []string  `json:"domains,omitempty"` // registered domains, of a new set
	Key         string    `json:"key,omitempty"`
	New         bool      `json:"new,omitempty"`
	Replacement bool      `json:"replacement,omitempty"`
}

// Failed is one failed proof of the past.
type Failed struct {
	At   time.Time `json:"at"`
	Name string    `json:"name"`
}

// clocksApart is how far in the future a note counts: another host of a fleet may have made it, or this one before its clock was set.
const clocksApart = time.Hour

// Check returns nil if an order fits the limits, else how long it has to wait. Entries from the future, which a wrong
// clock leaves behind, do not count if they are more than an hour ahead.
func (l *Ledger) Check(now time.Time, o Purchase, limits Limits) *Held {
	window := limits.Set
	if o.Life > 0 && !(limits.SetIsFixed && !o.Replacement) {
		window.Per = min(window.Per, o.Life/3)
	}
	held := wait(l.ofSet(now, window, o, limits), window, "certificates for these names were ordered")
	if !o.Replacement || !limits.ExemptARI {
		account := limits.Orders
		if o.New && !limits.NewUseAll {
			account.N = int(float64(account.N) * newShare)
		}
		counted := func(p Placed) bool { return !limits.ExemptARI || !p.Replacement }
		held = longer(held, wait(l.recent(now, account, counted), account, "orders were placed with this account").spread(o.Expires))
	}
	if held != nil {
		return held // any other limit shows when the order comes back
	}
	if o.New {
		for _, domain := range registered(o.Names) {
			below := func(p Placed) bool { return p.New && slices.Contains(p.Domains, domain) }
			held = longer(held, wait(l.recent(now, limits.Domain, below), limits.Domain, "new certificates were ordered below "+domain).spread(o.Expires))
		}
	}
	if len(l.Failures) == 0 {
		return held
	}
	for _, name := range o.Names {
		held = longer(held, wait(l.failing(now, limits.Failures, proven(name)), limits.Failures, "proofs for "+name+" failed"))
	}
	return held
}

// ofSet returns when the same set of names was ordered within a window.
func (l *Ledger) ofSet(now time.Time, rate Rate, o Purchase, limits Limits) (recent []time.Time) {
	for _, p := range l.sets()[setOf(o.Names)] {
		since := now.Sub(p.At)
		if since >= -clocksApart && since < rate.Per && (limits.SetIsFixed || p.Key == o.Key) && (!limits.ExemptARI || p.Replacement == o.Replacement) {
			recent = append(recent, p.At)
		}
	}
	return recent
}

// sets returns the orders of each set of names.
func (l *Ledger) sets() map[string][]Placed {
	if l.bySet == nil {
		l.bySet = map[string][]Placed{}
		for _, p := range l.Orders {
			l.bySet[p.Set] = append(l.bySet[p.Set], p)
		}
	}
	return l.bySet
}

// recent returns the times of the orders within a window that count, oldest first. It looks from the end, because the
// entries are in the order of time.
func (l *Ledger) recent(now time.Time, rate Rate, counts func(Placed) bool) (recent []time.Time) {
	if rate.N <= 0 {
		return nil
	}
	for _, p := range slices.Backward(l.Orders) {
		since := now.Sub(p.At)
		if since >= rate.Per {
			break
		}
		if since >= -clocksApart && counts(p) {
			recent = append(recent, p.At)
		}
	}
	slices.Reverse(recent)
	return recent
}

func (l *Ledger) failing(now time.Time, rate Rate, name string) (recent []time.Time) {
	for _, f := range l.Failures {
		if since := now.Sub(f.At); since >= -clocksApart && since < rate.Per && f.Name == name {
			recent = append(recent, f.At)
		}
	}
	return recent
}

// wait returns nil if there is room for one more.
func wait(recent []time.Time, rate Rate, what string) *Held {
	if rate.N <= 0 || len(recent) < rate.N {
		return nil
	}
	return &Held{Until: recent[len(recent)-rate.N].Add(rate.Per), Why: fmt.Sprintf("%d %s within %s", len(recent), what, finding.Duration(rate.Per))}
}

// crowd is the time over which the orders that wait for a shared limit are spread. Otherwise all of them would come at
// the moment at which there is room for one.
const crowd = 3 * time.Hour

// spread delays the end of a hold for a certificate that ends at expires; zero if there is none.
func (h *Held) spread(expires time.Time) *Held {
	if h != nil {
		h.Until = h.Until.Add(time.Duration(rand.Int64N(int64(Within(crowd, h.Until, expires)))))
	}
	return h
}

func longer(a, b *Held) *Held {
	if a == nil || b != nil && b.Until.After(a.Until) {
		return b
	}
	return a
}

// Place notes an order, and forgets the entries that no limit looks at any more.
func (l *Ledger) Place(now time.Time, o Purchase) {
	l.trim(now)
	p := Placed{At: now.UTC(), Set: setOf(o.Names), Key: o.Key, New: o.New, Replacement: o.Replacement}
	if o.New {
		p.Domains = registered(o.Names)
	}
	sets := l.sets()
	l.Orders, sets[p.Set] = append(l.Orders, p), append(sets[p.Set], p)
}

// Withdraw removes the last note of an order that failed before the CA counted it.
func (l *Ledger) Withdraw(o Purchase) {
	set := setOf(o.Names)
	for i, p := range slices.Backward(l.Orders) {
		if p.Set == set && p.Key == o.Key {
			l.Orders, l.bySet = slices.Delete(l.Orders, i, i+1), nil
			return
		}
	}
}

// Fail notes a failed proof.
func (l *Ledger) Fail(now time.Time, name string) {
	l.trim(now)
	l.Failures = append(l.Failures, Failed{At: now.UTC(), Name: proven(name)})
}

// proven is the name that has to be proven for a name: a wildcard is proven by its base.
func proven(name string) string { return strings.TrimPrefix(name, "*.") }

// remembered is longer than every window.
const remembered = 8 * 24 * time.Hour

// trim forgets old entries, and entries from the future, which only a wrong clock can have made.
func (l *Ledger) trim(now time.Time) {
	old := func(at time.Time) bool { return now.Sub(at) > remembered }
	first := slices.IndexFunc(l.Orders, func(p Placed) bool { return !old(p.At) })
	if first < 0 {
		first = len(l.Orders)
	}
	for _, p := range l.Orders[:first] {
		l.forget(p)
	}
	l.Orders = l.Orders[first:]
	if n := len(l.Orders); n > 0 && l.Orders[n-1].At.Sub(now) > clocksApart {
		l.Orders, l.bySet = slices.DeleteFunc(l.Orders, func(p Placed) bool { return p.At.Sub(now) > clocksApart }), nil
	}
	l.Failures = slices.DeleteFunc(l.Failures, func(f Failed) bool { return old(f.At) || f.At.Sub(now) > clocksApart })
}

// forget removes the oldest order of a set from the index.
func (l *Ledger) forget(p Placed) {
	if l.bySet == nil {
		return
	}
	if rest := l.bySet[p.Set][1:]; len(rest) > 0 {
		l.bySet[p.Set] = rest
	} else {
		delete(l.bySet, p.Set)
	}
}

// setOf returns a short mark of a set of names.
func setOf(names []string) string {
	sum := sha256.Sum256([]byte(strings.Join(slices.Compact(slices.Sorted(slices.Values(names))), " ")))
	return hex.EncodeToString(sum[:12])
}

// registered lists the registered domains of names: one label more than the public suffix.
func registered(names []string) []string {
	var list []string
	for _, name := range names {
		domain, err := publicsuffix.EffectiveTLDPlusOne(strings.TrimPrefix(name, "*."))
		if err != nil {
			domain = strings.TrimPrefix(name, "*.") // a public suffix itself
		}
		if !slices.Contains(list, domain) {
			list = append(list, domain)
		}
	}
	return list
}
