package daemon

import (
	"context"
	"sync"
	"time"

	"mxcert/cmd/mxcert/internal/pass"
)

// workload is the work on one configuration, until another replaces it.
type workload struct {
	runner  *pass.Runner
	drift   *driftWatch
	member  *membership     // of the host in its fleet; nil if it is in none
	memory  pass.Memory     // looks for `mxcert status`
	waiting context.Context //nolint:containedctx // ends with the workload: finish what runs, start nothing
	cancel  context.CancelFunc
	done    sync.WaitGroup
	looked  bool // each certificate had a pass, and the log says so; the daemon's lock guards it

	mu       sync.Mutex
	timers   map[*time.Timer]bool       // of passes to come
	sleepers map[string]func(time.Time) // by certificate: its next pass begins at this time, if that is sooner
	early    map[string]time.Time       // the same for certificates whose pass is running
}

func newWorkload(runner *pass.Runner, drift *driftWatch) *workload {
	w := &workload{runner: runner, drift: drift, timers: map[*time.Timer]bool{}, sleepers: map[string]func(time.Time){}, early: map[string]time.Time{}}
	w.waiting, w.cancel = context.WithCancel(context.Background())
	if drift != nil {
		runner.Drift = drift
	}
	return w
}

// close closes connections and stops the watch.
func (w *workload) close() {
	w.runner.Close()
	w.drift.close()
}

// begin runs work in a goroutine of its own; the group all waits for it, too. It does nothing if the workload has ended.
func (w *workload) begin(all *sync.WaitGroup, work func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting.Err() == nil {
		all.Add(1)
		w.done.Go(func() {
			defer all.Done()
			work()
		})
	}
}

// later starts the next pass of a certificate at a time, or sooner if rouse is called. It does nothing if the workload has ended by then.
func (w *workload) later(name string, at time.Time, work func(roused bool)) (rouse func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting.Err() != nil {
		return func() {}
	}
	if early, is := w.early[name]; is && early.Before(at) {
		at = early
	}
	delete(w.early, name)
	var timer *time.Timer
	timer = time.AfterFunc(time.Until(at), func() {
		w.mu.Lock()
		delete(w.timers, timer)
		w.mu.Unlock()
		work(false)
	})
	w.timers[timer] = true
	w.sleepers[name] = func(sooner time.Time) {
		switch {
		case !w.timers[timer]: // its pass is running
			if early, is := w.early[name]; !is || sooner.Before(early) {
				w.early[name] = sooner
			}
		case sooner.Before(at) && timer.Stop():
			at = sooner
			timer.Reset(time.Until(at))
		}
	}
	return func() {
		w.mu.Lock()
		sleeps := w.timers[timer] && timer.Stop()
		if sleeps {
			delete(w.timers, timer)
		}
		w.mu.Unlock()
		if sleeps {
			work(true)
		}
	}
}

// at does something at a time, unless the workload has ended by then.
func (w *workload) at(when time.Time, do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting.Err() != nil {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(time.Until(when), func() {
		w.mu.Lock()
		delete(w.timers, timer)
		w.mu.Unlock()
		do()
	})
	w.timers[timer] = true
}

// sooner has the next pass of a certificate begin at a time, unless it begins before. A pass that a command asked for may have begun what goes
// on in seconds, such as a change of keys with TLSA records, while the certificate's own pass sleeps for an hour.
func (w *workload) sooner(name string, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if sleeper := w.sleepers[name]; sleeper != nil {
		sleeper(at)
	} else if early, is := w.early[name]; !is || at.Before(early) {
		w.early[name] = at // its first pass is running
	}
}

// end stops new work from starting. done.Wait waits for the work that is running.
func (w *workload) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cancel()
	for timer := range w.timers {
		timer.Stop()
	}
	clear(w.timers)
}
