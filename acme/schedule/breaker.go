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
	Reason   string    `json:"reason,omitempty"`   // of the last failure
}

// Open reports whether the CA is left alone.
func (b Breaker) Open(now time.Time) bool {
	// A time further away than any delay was written while the clock was ahead.
	return now.Before(b.Until) && b.Until.Sub(now) < 2*24*time.Hour
}

// Fail notes a failure. asked is the CA's Retry-After; 0 if it sent none. A failure while the CA is left alone, of an order
// that was under way, does not lengthen the delay.
func (b *Breaker) Fail(now time.Time, asked time.Duration, reason string) {
	b.Reason = reason
	if b.Open(now) && !b.Probed {
		return
	}
	b.Failures, b.Probed = b.Failures+1, false
	b.Until = now.Add(max(Backoff(min(b.Failures, longestBreak)), asked)).UTC().Truncate(time.Second)
}

// Probe claims the one try after a delay; false means that the CA is left alone. A closed breaker does not change.
func (b *Breaker) Probe(now time.Time) bool {
	if b.Open(now) {
		return false
	}
	if b.Failures > 0 {
		b.Until, b.Probed = now.Add(probing).UTC().Truncate(time.Second), true
	}
	return true
}
