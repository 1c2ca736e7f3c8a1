package alarm

import (
	"context"
	"time"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/tell"
)

// openTime limits how long Open waits. Usually the book is stored within milliseconds.
const openTime = 3 * time.Second

// Open returns what [Stored] does, about all certificates, as soon as this process has stored what follows from w. If another process sends the
// notifications, or this one is slow, it returns after a few seconds what is stored then.
func (t *Teller) Open(ctx context.Context, w tell.World) ([]report.Alarm, []report.Undelivered, error) {
	if t.On(w.Host) {
		ctx, cancel := context.WithTimeout(ctx, openTime)
		defer cancel()
		t.await(ctx, w.Change)
	}
	return Stored(w.Store, nil)
}

// await returns when a change of the World is noted, or ctx ends.
func (t *Teller) await(ctx context.Context, change int) {
	for {
		t.seen.Lock()
		noted, more := t.noted, t.more
		t.seen.Unlock()
		if noted >= change {
			return
		}
		select {
		case <-more:
		case <-ctx.Done():
			return
		}
	}
}

// note says that the book knows a change of the World.
func (t *Teller) note(change int) {
	t.seen.Lock()
	defer t.seen.Unlock()
	if change <= t.noted {
		return
	}
	t.noted = change
	close(t.more)
	t.more = make(chan struct{})
}
