package pass

import (
	"testing"
	"time"

	"mxcert/acme/state"
	"mxcert/deploy/dane"
)

// A look that finds what was there before is stored once an hour, and not each time: only its times are new.
func TestTimesOfLooksAreNoChange(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration, told time.Time) *tlsa {
		moment := state.Instant{At: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC).Add(d)}
		return &tlsa{state: dane.State{Memory: dane.Memory{"_25._tcp.mx.example.org": {Last: moment, Whole: moment.At, Told: told}}}}
	}
	if at(0, time.Time{}).print() != at(time.Minute, time.Time{}).print() {
		t.Error("each look is stored")
	}
	if at(0, time.Time{}).print() == at(0, time.Now()).print() {
		t.Error("what the other hosts were told is not stored")
	}
}
