package schedule

import "time"

// probing is how long one process may try a CA that has failed, while the others still leave it alone.
const probing = 2 * time.Minute

// longestBreak is the number of failures after which the delay no longer grows: it is then 100 minutes. A CA that is back after
// days may want certificates replaced within a day, and one order now and then is little load.
const longestBreak = 3

// Breaker is a circuit breaker: a CA that failed is left alone for a while, and then one order tries it. The zero value is
// closed. Its owner stores it as JSON.
type Breaker struct {
	Failures int       `json:"failures,omitempty"` // in a row
	Until    time.Time `json:"until,omitzero"`     // mxcert does not ask the CA before
	Probed   bool      `json:"probed,omitempty"`   // until then one order tries it
	At       time.Time `json:"at,omitzero"`        // of the last failure
	Asked    time.Time `json:"asked,omitzero"`     // the CA wants to be left alone until then
	Reason   string    `json:"reason,omitempty"`   // of the last failure
}

// Open reports whether the CA is left alone.
func (b Breaker) Open(now time.Time) bool { return b.OpenFor(now, time.Time{}) }

// OpenFor reports whether an order leaves the CA alone that renews a certificate with this end; zero for none.
func (b Breaker) OpenFor(now, expires time.Time) bool {
	until := b.UntilFor(expires)
	// A failure in the future, or a time further away than any delay, was noted while the clock was ahead: that of this host, or of another one of
	// the fleet, which must not keep the others from ordering.
	return now.Before(until) && until.Sub(now) < 2*24*time.Hour && b.At.Sub(now) <= clocksApart
}

// UntilFor returns until when an order leaves the CA alone that renews a certificate with this end. It does not wait beyond a part of
// what is left, unless the CA itself asks for that.
func (b Breaker) UntilFor(expires time.Time) time.Time {
	if expires.IsZero() || b.At.IsZero() || !b.Until.After(b.At) {
		return b.Until
	}
	return earlier(b.Until, later(b.At.Add(Within(b.Until.Sub(b.At), b.At, expires)), b.Asked))
}

// Fail notes a failure. asked is the CA's Retry-After; 0 if it sent none. A failure while the CA is left alone, of an order
// that was under way, does not lengthen the delay.
func (b *Breaker) Fail(now time.Time, asked time.Duration, reason string) {
	b.Reason, b.At = reason, now.UTC().Truncate(time.Second)
	if asked > 0 {
		b.Asked = later(b.Asked, now.Add(asked).UTC().Truncate(time.Second))
	}
	if b.Open(now) && !b.Probed {
		return
	}
	b.Failures, b.Probed = b.Failures+1, false
	b.Until = now.Add(max(Backoff(min(b.Failures, longestBreak)), asked)).UTC().Truncate(time.Second)
}

// Probe claims the one try after a delay; false means that the CA is left alone. expires is the end of the certificate that the order
// renews, zero for none. A closed breaker does not change, nor does one that is open for other orders.
func (b *Breaker) Probe(now, expires time.Time) bool {
	if b.OpenFor(now, expires) {
		return false
	}
	if b.Failures > 0 && !b.Open(now) {
		b.Until, b.Probed = now.Add(probing).UTC().Truncate(time.Second), true
	}
	return true
}
