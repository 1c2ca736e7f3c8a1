package schedule

import (
	"math"
	"time"
)

// Pace is how long a CA takes for a step of an order, as learned from looks at earlier orders: longer than Early, at most
// Enough. With it the first look comes when the step is likely to be done, so that a slow CA is asked once instead of four
// times. The zero value knows nothing. Its owner stores it as JSON.
type Pace struct {
	Early  time.Duration `json:"early,omitempty"`  // the step was not done then, in ns
	Enough time.Duration `json:"enough,omitempty"` // the step was done then, in ns
	Hits   int           `json:"hits,omitempty"`   // how many times in a row the step was done at the first look
}

const (
	// quick is the pace below which nothing is remembered: such a CA costs at most two looks.
	quick = 250 * time.Millisecond
	// closeEnough is how far Enough may be above Early before First tries a time in between.
	closeEnough = 1.1
	// fading bounds how slowly Early shrinks: with each hit, by a power of two of what it is, because the CA may have become
	// faster. At a CA that always takes the same time, this costs one look too many in eight orders.
	fading = 10
)

// First is the time from the start of a step until its first look; 0 if nothing is known.
func (p Pace) First() time.Duration {
	if p.Early > 0 && float64(p.Enough) > closeEnough*float64(p.Early) {
		return time.Duration(math.Sqrt(float64(p.Early) * float64(p.Enough)))
	}
	return p.Enough
}

// Learn notes that a step was not done at early, and was done at enough; early is 0 if enough was the first look.
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

// Differs reports whether two paces lead to different first looks.
func (p Pace) Differs(other Pace) bool {
	a, b := p.First(), other.First()
	return (a - b).Abs() > max(a, b)/10
}
