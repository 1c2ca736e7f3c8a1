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
	memory  pass.Memory     // looks for `mxcert status`
	waiting context.Context //nolint:containedctx // ends with the workload: finish what runs, start nothing
	cancel  context.CancelFunc
	done    sync.WaitGroup

	mu     sync.Mutex
	timers map[*time.Timer]bool // of passes to come
}

func newWorkload(runner *pass.Runner, drift *driftWatch) *workload {
	w := &workload{runner: runner, drift: drift, timers: map[*time.Timer]bool{}}
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

// later runs work after a wait, or sooner if rouse is called. It does nothing if the workload has ended by then.
func (w *workload) later(wait time.Duration, work func(roused bool)) (rouse func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting.Err() != nil {
		return func() {}
	}
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		w.mu.Lock()
		delete(w.timers, timer)
		w.mu.Unlock()
		work(false)
	})
	w.timers[timer] = true
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
