package daemon

import (
	"context"
	"slices"
	"time"
)

// task is work beside the passes, such as a look at the logs of certificate transparency. It belongs to one configuration.
type task struct {
	name string
	// work does it once. It ends soon after ctx has ended, which happens when a newer configuration is in force. It returns when it has to be
	// done again; zero: never.
	work func(ctx context.Context, w *workload) (next time.Time)
}

// tasks lists the work beside the passes that a configuration asks for.
func (d *Daemon) tasks(w *workload) []task {
	return slices.Concat(d.reportTasks(w), d.transparencyTask(w))
}

// startTasks begins this work. No pass waits for it.
func (d *Daemon) startTasks(w *workload) {
	for _, t := range d.tasks(w) {
		d.do(w, t)
	}
}

// do does a task now, and plans the next time. In between there is only a timer.
func (d *Daemon) do(w *workload, t task) {
	w.begin(&d.tending, func() {
		next := t.work(w.waiting, w)
		d.restLater()
		if !next.IsZero() {
			d.log.Debug("task sleeps", "task", t.name, "until", next.UTC().Format(time.RFC3339))
			w.at(next, func() { d.do(w, t) })
		}
	})
}
