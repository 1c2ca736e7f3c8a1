package journal

import (
	"errors"
	"sync/atomic"
	"time"

	systemd "github.com/coreos/go-systemd/v22/journal"
)

// post sends one entry; native.send does. It may block for as long as journald does not read.
type post func(message string, priority systemd.Priority, fields map[string]string) error

// errBusy says that the journal did not take an entry in time.
var errBusy = errors.New("the journal does not read")

// outlet sends entries one after another, and never waits for long.
type outlet struct {
	post     post
	patience time.Duration
	turn     chan struct{} // full while an entry is on its way
	hangs    atomic.Bool   // the entry on its way has taken too long: others do not wait for it
	fails    atomic.Bool   // the last entry could not be sent
}

// send sends an entry. first says that the entry before was sent and this one was not.
func (o *outlet) send(e entry) (first bool, err error) {
	if err = o.try(e); err != nil {
		return !o.fails.Swap(true), err
	}
	o.fails.Store(false)
	return false, nil
}

func (o *outlet) try(e entry) error {
	timer := time.NewTimer(o.patience)
	defer timer.Stop()
	if !o.enter(timer) {
		return errBusy
	}
	sent := make(chan error, 1)
	go func() { // it outlives this call only if the journal hangs, and there is one at most
		err := o.post(e.message, e.priority, e.fields)
		o.hangs.Store(false)
		<-o.turn
		sent <- err
	}()
	select {
	case err := <-sent:
		return err
	case <-timer.C:
		o.hangs.Store(true)
		return errBusy
	}
}

// enter waits for the turn of an entry, but not behind one that hangs.
func (o *outlet) enter(timer *time.Timer) bool {
	select {
	case o.turn <- struct{}{}:
		return true
	default:
	}
	if o.hangs.Load() {
		return false
	}
	select {
	case o.turn <- struct{}{}:
		return true
	case <-timer.C:
		return false
	}
}
