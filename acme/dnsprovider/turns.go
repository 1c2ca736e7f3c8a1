package dnsprovider

import (
	"context"
	"sync"
	"time"
)

// turns admits one caller at a time for each key, in the order in which they came.
//
// Two keys are in use. A provider and a zone: many providers read a zone, change it and write it back, and two that do
// this at once lose one of the changes. And the provider alone if it is sequential: it holds one record, which must not be
// replaced between Present and CleanUp.
type turns struct {
	mu     sync.Mutex
	queues map[string]*queue
}

type queue struct {
	turn  chan struct{} // full while a caller has the turn; waiting senders are served in order
	ended time.Time     // when the turn was given back last; belongs to the caller that has the turn
}

func newTurns() *turns { return &turns{queues: map[string]*queue{}} }

// legoTurns is one set for the process, because it protects things outside the process.
var legoTurns = newTurns() //nolint:gochecknoglobals // see above

// take waits for the turn, and until pause has passed since it was given back last. release may be called from anywhere,
// once. The error is the context's.
func (t *turns) take(ctx context.Context, key string, pause time.Duration) (release func(), err error) {
	t.mu.Lock()
	q := t.queues[key]
	if q == nil {
		q = &queue{turn: make(chan struct{}, 1)}
		t.queues[key] = q
	}
	t.mu.Unlock()
	select {
	case q.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if rest := time.Until(q.ended.Add(pause)); pause > 0 && rest > 0 {
		select {
		case <-time.After(rest):
		case <-ctx.Done():
			<-q.turn
			return nil, ctx.Err()
		}
	}
	return func() {
		q.ended = time.Now()
		<-q.turn
	}, nil
}
