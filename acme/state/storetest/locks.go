package storetest

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"mxcert/acme/state"
)

// testLockExcludes: no other caller gets a held lock, in the same process or another, and the wait ends with the context.
func testLockExcludes(t *testing.T, open func() state.Store) {
	holder := open()
	unlock, err := holder.Lock(ended(t), "a/lock") // one try is made
	must(t, err)
	for name, s := range map[string]state.Store{"same": holder, "another": open()} {
		for kind, lock := range map[string]func(context.Context, string) (func(), error){"lock": s.Lock, "share": s.Share} {
			start := time.Now()
			_, err := lock(soon(t), "a/lock")
			if !errors.Is(err, state.ErrLocked) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s, %s: %v", name, kind, err)
			}
			if waited := time.Since(start); waited < 90*time.Millisecond || waited > 5*time.Second {
				t.Errorf("%s, %s: it waited %s", name, kind, waited)
			}
			if _, err = lock(ended(t), "a/lock"); !errors.Is(err, state.ErrLocked) || !errors.Is(err, context.Canceled) {
				t.Errorf("%s, %s: %v", name, kind, err)
			}
		}
	}
	replace(t, open(), "a/value", "a lock does not prevent writing")
	unlock()
	again, err := open().Lock(soon(t), "a/lock")
	must(t, err)
	unlock() // the second time: it does nothing
	if _, err := holder.Lock(ended(t), "a/lock"); !errors.Is(err, state.ErrLocked) {
		t.Errorf("another's lock was released: %v", err)
	}
	again()
}

// testLockIsHandedOn: many callers that wait get the lock one after the other, and no change under it is lost.
func testLockIsHandedOn(t *testing.T, open func() state.Store) {
	const users, rounds = 6, 5
	replace(t, open(), "counter", "0")
	var waiting sync.WaitGroup
	for range users {
		waiting.Go(func() {
			s := open()
			for range rounds {
				if err := increment(t, s); err != nil {
					t.Error(err)
				}
			}
		})
	}
	waiting.Wait()
	expect(t, open(), "counter", strconv.Itoa(users*rounds))
}

func increment(t *testing.T, s state.Store) error {
	unlock, err := s.Lock(t.Context(), "counter.lock")
	if err != nil {
		return err
	}
	defer unlock()
	text, err := s.Read("counter")
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(string(text))
	return errors.Join(err, s.Replace("counter", []byte(strconv.Itoa(n+1))))
}

// testShare: many share a lock; a caller that wants it alone waits for the last.
func testShare(t *testing.T, open func() state.Store) {
	s := open()
	first, err := s.Share(t.Context(), "shared/lock")
	must(t, err)
	second, err := open().Share(soon(t), "shared/lock")
	must(t, err)
	third, err := s.Share(ended(t), "shared/lock")
	must(t, err)
	first()
	first()
	third()
	if _, err := open().Lock(soon(t), "shared/lock"); !errors.Is(err, state.ErrLocked) {
		t.Errorf("beside one who shares: %v", err)
	}
	second()
	alone, err := s.Lock(soon(t), "shared/lock")
	must(t, err)
	if _, err := open().Share(soon(t), "shared/lock"); !errors.Is(err, state.ErrLocked) {
		t.Errorf("beside one who is alone: %v", err)
	}
	alone()
	last, err := open().Share(soon(t), "shared/lock")
	must(t, err)
	last()
}

// testLocksAreApart: locks with other names are other locks, and a folder that holds one can be removed from around it.
func testLocksAreApart(t *testing.T, open func() state.Store) {
	s := open()
	var unlock []func()
	for _, key := range []string{"lock", "a/lock", "a/b/lock", "b/lock", "a/lock2"} {
		release, err := s.Lock(soon(t), key)
		must(t, err)
		unlock = append(unlock, release)
	}
	for _, release := range unlock {
		release()
	}
	must(t, s.Remove("b"))
	release, err := s.Lock(soon(t), "b/lock")
	must(t, err)
	release()
}
