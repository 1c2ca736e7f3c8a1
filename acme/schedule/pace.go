package schedule

import (
	"math"
	"time"
)

// Pace is how long a CA takes for a step of an order, as far as looks at earlier orders tell: longer than Early, at most
// Enough. With it the first look comes when the step is likely to be done, so that a slow CA is asked once instead of four
// times. The zero value knows nothing. It is stored as JSON by its owner.
type Pace struct {
	Early  time.Duration `json:"early,omitempty"`  // it was not done then, in ns
	Enough time.Duration `json:"enough,omitempty"` // it was done then, in ns
	Hits   int           `json:"hits,omitempty"`   // how often in a row it was done at the first look
}

const (
	// quick is what is not worth remembering: a CA that is done so soon is looked at once and once more.
	quick = 250 * time.Millisecond
	// closeEnough is how far Enough may be above Early before something in between is tried.
	closeEnough = 1.1
	// fading: a CA that was done at the first look so often that Hits would be this as a power of two may be twice as fast
	// by now. Of a CA that takes always the same time, this costs one look too many in eight orders.
	fading = 10
)

// First is how long after its begin a step is to be looked at first; 0 for nothing known.
func (p Pace) First() time.Duration {
	if p.Early > 0 && float64(p.Enough) > closeEnough*float64(p.Early) {
		return time.Duration(math.Sqrt(float64(p.Early) * float64(p.Enough)))
	}
	return p.Enough
}

// Learn takes in that a step was not done at early, 0 for never looked before, and was done at enough.
func (p *Pace) Learn(early, enough time.Duration) {
	hits := 0
	if early == 0 { // at the first look
		early = min(p.Early-p.Early>>max(1, fading-p.Hits), enough)
		hits = min(p.Hits+1, fading)
	}
	if *p = (Pace{early, enough, hits}); early < quick {
		*p = Pace{}
	}
}

// Differs reports whether it matters which of the two is known.
func (p Pace) Differs(other Pace) bool {
	a, b := p.First(), other.First()
	return (a - b).Abs() > max(a, b)/10
}
