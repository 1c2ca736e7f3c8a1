package schedule

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// reserved: one place in this many is only for renewals, so that a renewal that becomes due finds a place.
const reserved = 4

// Gate limits the passes that are under way at once. The pass whose certificate expires first goes first; passes without a
// certificate go last.
type Gate struct {
	mu       sync.Mutex
	size     int
	inside   int
	new      int   // passes inside, without a certificate
	renewals queue // by the end of the certificate
	fresh    queue // without a certificate, in no order
}

type waiter struct {
	notAfter time.Time
	turn     chan struct{}
	place    int // in its queue; -1 after it was admitted
}

// NewGate makes a gate for size passes at once, at least one.
func NewGate(size int) *Gate { return &Gate{size: max(size, 1)} }

// Enter waits for a place. notAfter is the end of the certificate in service, zero if there is none. The caller calls leave
// once. The error is the context's, and leave is nil then.
func (g *Gate) Enter(ctx context.Context, notAfter time.Time) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w := &waiter{notAfter: notAfter, turn: make(chan struct{})}
	g.mu.Lock()
	heap.Push(g.queueOf(w), w)
	g.admit()
	g.mu.Unlock()
	select {
	case <-w.turn:
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		if w.place >= 0 {
			heap.Remove(g.queueOf(w), w.place)
		} else {
			g.out(w) // it was admitted at the same moment
		}
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

func (g *Gate) queueOf(w *waiter) *queue {
	if w.notAfter.IsZero() {
		return &g.fresh
	}
	return &g.renewals
}

func (g *Gate) out(w *waiter) {
	g.inside--
	if w.notAfter.IsZero() {
		g.new--
	}
	g.admit()
}

// admit lets passes in while there are places.
func (g *Gate) admit() {
	for g.inside < g.size {
		var w *waiter
		switch {
		case len(g.renewals) > 0:
			w = heap.Pop(&g.renewals).(*waiter) //nolint:forcetypeassert // a queue holds nothing else
		case len(g.fresh) > 0 && g.new < g.size-g.size/reserved:
			w = heap.Pop(&g.fresh).(*waiter) //nolint:forcetypeassert // a queue holds nothing else
			g.new++
		default:
			return
		}
		g.inside++
		close(w.turn)
	}
}

// queue is a heap.Interface: the certificate that expires first is at the top.
type queue []*waiter

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].notAfter.Before(q[j].notAfter) }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	w := x.(*waiter) //nolint:forcetypeassert // a queue holds nothing else
	w.place = len(*q)
	*q = append(*q, w)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := len(*q) - 1
	w := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	w.place = -1
	return w
}
