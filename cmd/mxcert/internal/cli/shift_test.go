package cli

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// What is due later begins then, and nothing begins after the end.
func TestShift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all sync.WaitGroup
		var done []string
		s := newShift(nil)
		s.later(2*time.Hour, func(bool) { s.begin(&all, func() { done = append(done, "late") }) })
		s.later(time.Hour, func(bool) { s.begin(&all, func() { done = append(done, "soon") }) })
		time.Sleep(90 * time.Minute)
		all.Wait()
		if len(done) != 1 || done[0] != "soon" || len(s.timers) != 1 {
			t.Errorf("after an hour and a half: %v, %d to come", done, len(s.timers))
		}
		rouse := s.later(time.Hour, func(roused bool) { done = append(done, fmt.Sprint("roused ", roused)) })
		rouse()
		rouse()
		if len(done) != 2 || done[1] != "roused true" || len(s.timers) != 1 {
			t.Errorf("roused twice: %v, %d to come", done, len(s.timers))
		}
		late := s.later(time.Hour, func(bool) { done = append(done, "roused after the end") })
		s.end()
		late()
		s.begin(&all, func() { done = append(done, "begun after the end") })
		s.later(time.Minute, func(bool) { done = append(done, "due after the end") })
		time.Sleep(3 * time.Hour)
		all.Wait()
		s.done.Wait()
		if len(done) != 2 {
			t.Errorf("after the end: %v", done)
		}
	})
}
