package state

import "time"

// Instant is a moment whose distance to another can be told although somebody sets the clock: it also has the time since the host
// started.
type Instant struct {
	At   time.Time     `json:"at"`
	Boot string        `json:"boot,omitempty"` // which start of the host; "" if it is not known
	Up   time.Duration `json:"up,omitempty"`   // since then, time in suspension included

	Awake time.Duration `json:"awake,omitempty"` // since then, without time in suspension
	// Outside is what a clock outside of this host says, read within seconds of At; zero if none was asked. It is a reading, such as the time of
	// a TSIG or the Date of a CA. When a signature was made (RRSIG) is none, because that may be hours ago.
	Outside time.Time `json:"outside,omitzero"`
}

// IsZero reports whether there is no such moment.
func (i Instant) IsZero() bool { return i.At.IsZero() }

// After returns how much time has passed since an earlier moment: by the time since the start of the host, if it is the same start, and
// otherwise by the clock. It is negative if there was no earlier moment, or if the clock was set back since: then nothing can be said.
func (i Instant) After(earlier Instant) time.Duration {
	switch {
	case earlier.IsZero():
		return -1
	case i.Boot != "" && i.Boot == earlier.Boot:
		return i.Up - earlier.Up
	}
	return i.At.Sub(earlier.At)
}

// Counted returns how much time has certainly passed since an earlier moment: the smaller of clock and time since the start of the host, if
// both say the same within a minute and the host was not suspended. Otherwise, after a jump of the clock, a suspension or another start of
// the host, it is what an outside clock confirms, and 0 without one. It is never negative, and 0 if there was no earlier moment.
//
// Two moments are of the same start if the clock and the time since the start have moved alike: processes need not agree on a name for it. If
// the clock was set so that another start looks like the same one, the time since the start has passed less than real time has.
func (i Instant) Counted(earlier Instant) time.Duration {
	if earlier.IsZero() {
		return 0
	}
	wall, up, awake := i.At.Sub(earlier.At), i.Up-earlier.Up, i.Awake-earlier.Awake
	if alike(wall, up) && alike(up, awake) {
		return max(0, min(wall, up))
	}
	if i.Outside.IsZero() || earlier.Outside.IsZero() {
		return 0
	}
	confirmed := i.Outside.Sub(earlier.Outside)
	if i.Boot != "" && i.Boot == earlier.Boot {
		confirmed = min(confirmed, up)
	}
	return max(0, confirmed)
}

// alike reports whether two clocks have moved by the same, within a minute.
func alike(a, b time.Duration) bool { return (a - b).Abs() <= time.Minute }
