package cli

import (
	"context"
	"sync"
	"time"
)

// shift is the work on one configuration, until another replaces it.
type shift struct {
	world   *world
	waiting context.Context //nolint:containedctx // ends when the shift does: finish what is under way, begin nothing
	cancel  context.CancelFunc
	done    sync.WaitGroup

	mu     sync.Mutex
	timers map[*time.Timer]bool // of what is to come
}

func newShift(w *world) *shift {
	s := &shift{world: w, timers: map[*time.Timer]bool{}}
	s.waiting, s.cancel = context.WithCancel(context.Background())
	return s
}

// begin does something on its own, which all waits for, too; nothing after the end.
func (s *shift) begin(all *sync.WaitGroup, work func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting.Err() == nil {
		all.Add(1)
		s.done.Go(func() {
			defer all.Done()
			work()
		})
	}
}

// later does something after a time, or when it is roused before, unless the shift has ended by then.
func (s *shift) later(wait time.Duration, work func(roused bool)) (rouse func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting.Err() != nil {
		return func() {}
	}
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		s.mu.Lock()
		delete(s.timers, timer)
		s.mu.Unlock()
		work(false)
	})
	s.timers[timer] = true
	return func() {
		s.mu.Lock()
		sleeps := s.timers[timer] && timer.Stop()
		if sleeps {
			delete(s.timers, timer)
		}
		s.mu.Unlock()
		if sleeps {
			work(true)
		}
	}
}

// end lets nothing begin any more; done.Wait waits for what is under way.
func (s *shift) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancel()
	for timer := range s.timers {
		timer.Stop()
	}
	clear(s.timers)
}
