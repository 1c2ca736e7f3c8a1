package acme

import (
	"sync"
	"time"

	"mxcert/acme/schedule"
	"mxcert/acme/state"
)

// paces says how long the CA takes to validate and to issue, in all orders of a client. It is stored with the usage of the CA,
// for the next process.
type paces struct{ validation, issuance paceNote }

type paceNote struct {
	mu     sync.Mutex
	known  schedule.Pace
	stored schedule.Pace
}

func (p *paceNote) first() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known.First()
}

func (p *paceNote) learn(early, enough time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known.Learn(early, enough)
}

// exchange takes over what an earlier process has stored, if nothing is known yet; otherwise it stores what is known.
func (p *paceNote) exchange(stored *schedule.Pace) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == (schedule.Pace{}) && p.stored == (schedule.Pace{}) {
		p.known = *stored
	}
	*stored, p.stored = p.known, p.known
}

// news reports whether the pace has changed so much that it is worth a write.
func (p *paceNote) news() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known.Differs(p.stored)
}

func (p *paces) exchange(u *state.Usage) {
	p.validation.exchange(&u.Validation)
	p.issuance.exchange(&u.Issuance)
}

// keepPaces stores what was learned from the last order.
func (c *Client) keepPaces() error {
	if !c.paces.validation.news() && !c.paces.issuance.news() {
		return nil
	}
	return c.change(c.paces.exchange)
}
