package daemon

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
)

// What is due later starts then, and nothing starts after the end.
func TestWorkload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all sync.WaitGroup
		var done []string
		w := newWorkload(&pass.Runner{}, nil)
		w.later("mx", time.Now().Add(2*time.Hour), func(bool) { w.begin(&all, func() { done = append(done, "late") }) })
		w.later("mx", time.Now().Add(time.Hour), func(bool) { w.begin(&all, func() { done = append(done, "soon") }) })
		time.Sleep(90 * time.Minute)
		all.Wait()
		if len(done) != 1 || done[0] != "soon" || len(w.timers) != 1 {
			t.Errorf("after an hour and a half: %v, %d to come", done, len(w.timers))
		}
		rouse := w.later("mx", time.Now().Add(time.Hour), func(roused bool) { done = append(done, fmt.Sprint("roused ", roused)) })
		rouse()
		rouse()
		if len(done) != 2 || done[1] != "roused true" || len(w.timers) != 1 {
			t.Errorf("roused twice: %v, %d to come", done, len(w.timers))
		}
		late := w.later("mx", time.Now().Add(time.Hour), func(bool) { done = append(done, "roused after the end") })
		w.end()
		late()
		w.begin(&all, func() { done = append(done, "started after the end") })
		w.later("mx", time.Now().Add(time.Minute), func(bool) { done = append(done, "due after the end") })
		time.Sleep(3 * time.Hour)
		all.Wait()
		w.done.Wait()
		if len(done) != 2 {
			t.Errorf("after the end: %v", done)
		}
	})
}

// A command's pass may have the next pass begin sooner, never later; also if that next pass has not gone to sleep yet.
func TestSooner(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorkload(&pass.Runner{}, nil)
		start := time.Now()
		var began []time.Duration
		note := func(bool) { began = append(began, time.Since(start)) }
		w.later("mx", start.Add(time.Hour), note)
		w.later("other", start.Add(time.Hour), note)
		w.sooner("mx", start.Add(5*time.Second))
		w.sooner("mx", start.Add(time.Minute))
		w.sooner("nobody", start)
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(began) != 1 || began[0] != 5*time.Second {
			t.Errorf("passes began after %v", began)
		}
		w.sooner("mx", start.Add(2*time.Minute)) // while its pass is running
		w.later("mx", start.Add(time.Hour), note)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if len(began) != 2 || began[1] != 2*time.Minute {
			t.Errorf("passes began after %v", began)
		}
		w.end()
	})
}

// The end of a workload waits for nothing, and its own work and that of all is waited for.
func TestWorkloadRunsOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var all sync.WaitGroup
		w := newWorkload(&pass.Runner{}, nil)
		w.begin(&all, func() { time.Sleep(time.Hour) })
		start := time.Now()
		if w.end(); time.Since(start) != 0 || w.waiting.Err() == nil {
			t.Errorf("the end took %s, %v", time.Since(start), w.waiting.Err())
		}
		w.done.Wait()
		if all.Wait(); time.Since(start) != time.Hour {
			t.Errorf("what was under way was waited for %s", time.Since(start))
		}
	})
}

// A watch of the files is that of the passes.
func TestWorkloadWatches(t *testing.T) {
	t.Parallel()
	h := desert(t)
	d, _ := h.atRest()
	w := d.current()
	if w.runner.Drift != w.drift || w.drift.watched["mx"] == nil {
		t.Errorf("%+v", w.drift)
	}
	if bare := newWorkload(&pass.Runner{}, nil); bare.runner.Drift != nil {
		t.Error("a watch that is nil is one all the same")
	}
}

// A look of a command is from the configuration in force, and orders nothing.
func TestWorkloadLooks(t *testing.T) {
	t.Parallel()
	h := desert(t)
	d, _ := h.atRest()
	w := d.current()
	r := w.look(t.Context(), w.runner.Host.Certificates)
	if len(r.Certificates) != 1 || r.Certificates[0].Name != "mx" || r.Certificates[0].Stage != report.Waiting || r.ExitCode() != report.CodeTemporary {
		t.Errorf("%+v", r)
	}
}
