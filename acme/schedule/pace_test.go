package schedule_test

import (
	"testing"
	"time"

	"mxcert/acme/schedule"
)

// TestPace: how often a CA is looked at that takes always the same time, and how late it is seen that it is done.
func TestPace(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, tt := range []struct {
		takes time.Duration
		looks int // at the first 20 orders
		late  time.Duration
	}{
		{0, 20, 0}, {100 * ms, 40, 200 * ms}, {300 * ms, 30, 250 * ms}, {time.Second, 30, 250 * ms}, {10 * time.Second, 36, 250 * ms},
		{3 * time.Minute, 85, 1500 * ms},
	} {
		var p schedule.Pace
		looks, late := 0, time.Duration(0)
		for order := range 20 {
			at, early := max(p.First(), 20*ms), time.Duration(0)
			for pause := 250 * ms; ; pause = min(pause*3/2, 5*time.Second) { // as orders are looked at
				if looks++; at >= tt.takes {
					break
				}
				at, early = at+pause, at
			}
			p.Learn(early, at)
			if order > 10 {
				late = max(late, at-tt.takes)
			}
		}
		if t.Logf("%s: %d looks, at most %s late after the first 10", tt.takes, looks, late); looks > tt.looks || late > tt.late+20*ms {
			t.Errorf("%s: more than %d looks or later than %s", tt.takes, tt.looks, tt.late)
		}
	}
}

// TestPaceOfACAThatBecameFaster: what was learned fades.
func TestPaceOfACAThatBecameFaster(t *testing.T) {
	t.Parallel()
	p := schedule.Pace{Early: time.Second, Enough: 1100 * time.Millisecond}
	for range 20 {
		p.Learn(0, p.First())
	}
	if p != (schedule.Pace{}) {
		t.Errorf("%+v is still known", p)
	}
}
