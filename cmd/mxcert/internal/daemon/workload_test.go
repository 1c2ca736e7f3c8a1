package daemon

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mxcert/cmd/mxcert/internal/pass"
)

// What is due later starts then, and nothing starts after the end.
func TestWorkload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all sync.WaitGroup
		var done []string
		w := newWorkload(&pass.Runner{}, nil)
		w.later(2*time.Hour, func(bool) { w.begin(&all, func() { done = append(done, "late") }) })
		w.later(time.Hour, func(bool) { w.begin(&all, func() { done = append(done, "soon") }) })
		time.Sleep(90 * time.Minute)
		all.Wait()
		if len(done) != 1 || done[0] != "soon" || len(w.timers) != 1 {
			t.Errorf("after an hour and a half: %v, %d to come", done, len(w.timers))
		}
		rouse := w.later(time.Hour, func(roused bool) { done = append(done, fmt.Sprint("roused ", roused)) })
		rouse()
		rouse()
		if len(done) != 2 || done[1] != "roused true" || len(w.timers) != 1 {
			t.Errorf("roused twice: %v, %d to come", done, len(w.timers))
		}
		late := w.later(time.Hour, func(bool) { done = append(done, "roused after the end") })
		w.end()
		late()
		w.begin(&all, func() { done = append(done, "started after the end") })
		w.later(time.Minute, func(bool) { done = append(done, "due after the end") })
		time.Sleep(3 * time.Hour)
		all.Wait()
		w.done.Wait()
		if len(done) != 2 {
			t.Errorf("after the end: %v", done)
		}
	})
}
