package dnsprovider

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestTurns: one at a time for each key, in order, and others are not held up.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns()
		release, err := turns.take(t.Context(), "a", 0)
		if err != nil {
			t.Fatal(err)
		}
		other, err := turns.take(t.Context(), "b", 0)
		if err != nil {
			t.Fatal(err)
		}
		other()
		var mu sync.Mutex
		var order []int
		for i := range 5 {
			go func() {
				release, err := turns.take(t.Context(), "a", 0)
				if err != nil {
					t.Error(err)
					return
				}
				defer release()
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
			}()
			synctest.Wait() // it is in the queue
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := turns.take(impatient, "a", 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a turn that is taken: %v", err)
		}
		release()
		synctest.Wait()
		for i := range 5 {
			if len(order) != 5 || order[i] != i {
				t.Fatalf("order %v", order)
			}
		}
	})
}

// TestPause: a turn begins when the pause since the last one is over, and giving up then keeps nobody out.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns()
		take := func(ctx context.Context, pause time.Duration) (time.Duration, error) {
			start := time.Now()
			release, err := turns.take(ctx, "a", pause)
			if err == nil {
				release()
			}
			return time.Since(start), err
		}
		if waited, err := take(t.Context(), time.Minute); err != nil || waited != 0 {
			t.Errorf("the first: %s, %v", waited, err)
		}
		time.Sleep(20 * time.Second)
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if waited, err := take(impatient, time.Minute); !errors.Is(err, context.DeadlineExceeded) || waited != time.Second {
			t.Errorf("given up: %s, %v", waited, err)
		}
		if waited, err := take(t.Context(), time.Minute); err != nil || waited != 39*time.Second {
			t.Errorf("the second: %s, %v", waited, err)
		}
		if waited, err := take(t.Context(), 0); err != nil || waited != 0 {
			t.Errorf("without a pause: %s, %v", waited, err)
		}
	})
}
