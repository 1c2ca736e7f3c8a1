package schedule

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"
)

// Rate is so many in any window of a duration; N 0 is no limit.
type Rate struct {
	N   int
	Per time.Duration
}

// Limits are what a CA allows one account. Orders that replace a certificate within the window that the CA suggested
// (RFC 9773 section 5) may be exempt.
type Limits struct {
	Orders     Rate // orders of the account
	Domain     Rate // certificates for new sets of names below one registered domain
	Set        Rate // certificates for exactly one set of names
	Failures   Rate // failed proofs for one name
	ExemptARI  bool // replacements count for nothing
	SetIsFixed bool // otherwise the set's window shrinks to a third of the certificate's life, and is kept for each key type
}

// LimitsOf gives the published limits of a CA, by the URL of its directory. Of a CA that publishes none, the account's
// and the names' limits of Let's Encrypt are assumed, and the set's against loops.
//
// Source: https://letsencrypt.org/docs/rate-limits/ of 2026-11.
func LimitsOf(directory string) Limits {
	known := Limits{Orders: Rate{300, 3 * time.Hour}, Set: Rate{5, 7 * 24 * time.Hour}, Failures: Rate{5, time.Hour}}
	if strings.HasPrefix(directory, "https://acme-v02.api.letsencrypt.org/") {
		known.Domain, known.ExemptARI, known.SetIsFixed = Rate{50, 7 * 24 * time.Hour}, true, true
	}
	return known
}

// Own are the limits that mxcert keeps by itself: below what the CA allows, so that there is something left for an
// operator.
func (l Limits) Own() Limits {
	l.Orders.N, l.Domain.N, l.Set.N, l.Failures.N = l.Orders.N*9/10, l.Domain.N*9/10, l.Set.N-1, l.Failures.N-1
	return l
}

// newShare is the part of the account's orders that is for names which have no certificate yet: new ones must not starve
// renewals.
const newShare = 0.7

// Order is an order that is to be placed, or was.
type Order struct {
	Names       []string // DNS names
	Key         string   // key type
	New         bool     // there is no certificate for this set of names yet
	Replacement bool     // it replaces a certificate within the CA's window
	Life        time.Duration
}

// Ledger is what an account has asked of a CA. It is stored as JSON by its owner.
type Ledger struct {
	Orders   []Placed `json:"orders,omitempty"`
	Failures []Failed `json:"failures,omitempty"`
}

// Placed is one order of the past.
type Placed struct {
	At          time.Time `json:"at"`
	Set         string    `json:"set"` // the names, sorted, separated by spaces
	Key         string    `json:"key,omitempty"`
	New         bool      `json:"new,omitempty"`
	Replacement bool      `json:"replacement,omitempty"`
}

// Failed is one failed proof of the past.
type Failed struct {
	At   time.Time `json:"at"`
	Name string    `json:"name"`
}

// Held says that an order would come too early for the CA's limits.
type Held struct {
	Until time.Time
	Why   string
}

// Error says until when and why.
func (h *Held) Error() string {
	return fmt.Sprintf("waits until %s: %s", h.Until.UTC().Format(time.RFC3339), h.Why)
}

// Check reports whether an order fits the limits; nil when it does. Entries from the future, as a wrong clock leaves
// them, do not count.
func (l *Ledger) Check(now time.Time, o Order, limits Limits) *Held {
	set, window := setOf(o.Names), limits.Set
	if o.Life > 0 && !(limits.SetIsFixed && !o.Replacement) {
		window.Per = min(window.Per, o.Life/3)
	}
	held := l.over(now, window, "certificates for these names were ordered", func(p Placed) bool {
		return p.Set == set && (limits.SetIsFixed || p.Key == o.Key) && (!limits.ExemptARI || p.Replacement == o.Replacement)
	})
	if !o.Replacement || !limits.ExemptARI {
		account := limits.Orders
		if o.New {
			account.N = int(float64(account.N) * newShare)
		}
		held = longer(held, l.over(now, account, "orders were placed with this account", func(p Placed) bool { return !limits.ExemptARI || !p.Replacement }))
		for _, domain := range registered(o.Names) {
			if !o.New {
				break
			}
			held = longer(held, l.over(now, limits.Domain, "new certificates were ordered below "+domain, func(p Placed) bool {
				return p.New && slices.Contains(registered(strings.Fields(p.Set)), domain)
			}))
		}
	}
	for _, name := range o.Names {
		held = longer(held, l.failing(now, limits.Failures, strings.TrimPrefix(name, "*.")))
	}
	return held
}

// over compares the orders of the past that count with a rate.
func (l *Ledger) over(now time.Time, rate Rate, what string, counts func(Placed) bool) *Held {
	if rate.N <= 0 {
		return nil
	}
	var recent []time.Time
	for _, p := range l.Orders {
		if since := now.Sub(p.At); since >= 0 && since < rate.Per && counts(p) {
			recent = append(recent, p.At)
		}
	}
	return wait(recent, rate, what)
}

func (l *Ledger) failing(now time.Time, rate Rate, name string) *Held {
	if rate.N <= 0 {
		return nil
	}
	var recent []time.Time
	for _, f := range l.Failures {
		if since := now.Sub(f.At); since >= 0 && since < rate.Per && f.Name == name {
			recent = append(recent, f.At)
		}
	}
	return wait(recent, rate, "proofs for "+name+" failed")
}

func wait(recent []time.Time, rate Rate, what string) *Held {
	if len(recent) < rate.N {
		return nil
	}
	return &Held{Until: recent[len(recent)-rate.N].Add(rate.Per), Why: fmt.Sprintf("%d %s within %s", len(recent), what, Words(rate.Per))}
}

func longer(a, b *Held) *Held {
	if a == nil || b != nil && b.Until.After(a.Until) {
		return b
	}
	return a
}

// Place notes an order, and forgets what no limit looks at any more.
func (l *Ledger) Place(now time.Time, o Order) {
	l.trim(now)
	l.Orders = append(l.Orders, Placed{At: now.UTC(), Set: setOf(o.Names), Key: o.Key, New: o.New, Replacement: o.Replacement})
}

// Withdraw takes back the last note of an order: it came to nothing before the CA counted it.
func (l *Ledger) Withdraw(o Order) {
	set := setOf(o.Names)
	for i, p := range slices.Backward(l.Orders) {
		if p.Set == set && p.Key == o.Key {
			l.Orders = slices.Delete(l.Orders, i, i+1)
			return
		}
	}
}

// Fail notes a failed proof.
func (l *Ledger) Fail(now time.Time, name string) {
	l.trim(now)
	l.Failures = append(l.Failures, Failed{At: now.UTC(), Name: strings.TrimPrefix(name, "*.")})
}

// remembered is longer than every window.
const remembered = 8 * 24 * time.Hour

func (l *Ledger) trim(now time.Time) {
	old := func(at time.Time) bool { return now.Sub(at) > remembered || at.Sub(now) > time.Hour }
	l.Orders = slices.DeleteFunc(l.Orders, func(p Placed) bool { return old(p.At) })
	l.Failures = slices.DeleteFunc(l.Failures, func(f Failed) bool { return old(f.At) })
}

func setOf(names []string) string {
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(names))), " ")
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

// Words says a duration in days where it is some.
func Words(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 2*day && d%day == 0 {
		return fmt.Sprintf("%d days", d/day)
	}
	return d.Round(time.Second).String()
}
