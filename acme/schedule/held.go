package schedule

import (
	"fmt"
	"time"
)

// Held says that an order or an attempt comes too early: it would exceed the limits of a CA, or the CA or earlier attempts
// have just failed. It is the only error for this; the CA was not asked.
type Held struct {
	Until    time.Time
	Why      string
	NextStep string // what to do; may be ""
	// Skippable reports that a person need not wait: `mxcert renew --now` tries at once.
	Skippable bool
}

// Error says until when and why.
func (h *Held) Error() string {
	return fmt.Sprintf("waits until %s: %s", h.Until.UTC().Format(time.RFC3339), h.Why)
}

// Kind is "backoff".
func (h *Held) Kind() string { return "backoff" }

// Temporary is true.
func (h *Held) Temporary() bool { return true }

// Wait returns the time from now on until Until.
func (h *Held) Wait() time.Duration { return time.Until(h.Until) }

// Hint says what to do.
func (h *Held) Hint() string {
	const now = "`mxcert renew --now` tries at once"
	switch {
	case !h.Skippable:
		return h.NextStep
	case h.NextStep == "":
		return now
	}
	return h.NextStep + "; " + now
}
