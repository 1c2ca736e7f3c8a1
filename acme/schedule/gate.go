package schedule

import (
	"context"
	"slices"
	"sync"
	"time"
)

// reserved is the share of places, one of so many, that certificates which do not exist yet leave free: a renewal that
// becomes due finds one.
const reserved = 4

// Gate lets a number of passes be under way at once. Of those that wait, the one whose certificate expires first goes
// first; those without a certificate go last.
type Gate struct {
	mu      sync.Mutex
	size    int
	inside  int
	fresh   int // of those inside, without a certificate
	waiting []*waiter
}

type waiter struct {
	notAfter time.Time
	turn     chan struct{}
}

// NewGate makes a gate for size passes at once, at least one.
func NewGate(size int) *Gate { return &Gate{size: max(size, 1)} }

// Enter waits for a place. notAfter is the end of the certificate in service, zero where there is none. leave must be
// called once. The error is the context's, and leave is nil then.
func (g *Gate) Enter(ctx context.Context, notAfter time.Time) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w := &waiter{notAfter: notAfter, turn: make(chan struct{})}
	g.mu.Lock()
	g.waiting = append(g.waiting, w)
	g.admit()
	g.mu.Unlock()
	select {
	case <-w.turn:
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		if i := slices.Index(g.waiting, w); i >= 0 {
			g.waiting = slices.Delete(g.waiting, i, i+1)
			return nil, ctx.Err()
		}
		g.out(w) // it was let in at the same moment
		return nil, ctx.Err()
	}
	var once sync.Once
	return func() {
		once.Do(func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.out(w)
		})
	}, nil
}

func (g *Gate) out(w *waiter) {
	g.inside--
	if w.notAfter.IsZero() {
		g.fresh--
	}
	g.admit()
}

// admit lets in as many as there are places for.
func (g *Gate) admit() {
	for g.inside < g.size {
		next := -1
		for i, w := range g.waiting {
			if w.notAfter.IsZero() && g.fresh >= g.size-g.size/reserved {
				continue
			}
			if next < 0 || before(w, g.waiting[next]) {
				next = i
			}
		}
		if next < 0 {
			return
		}
		w := g.waiting[next]
		g.waiting = slices.Delete(g.waiting, next, next+1)
		g.inside++
		if w.notAfter.IsZero() {
			g.fresh++
		}
		close(w.turn)
	}
}

func before(a, b *waiter) bool {
	if a.notAfter.IsZero() || b.notAfter.IsZero() {
		return !a.notAfter.IsZero() && b.notAfter.IsZero()
	}
	return a.notAfter.Before(b.notAfter)
}
