package etcd

import (
	"context"
	"errors"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"mxcert/acme/state"
	"mxcert/acme/state/etcd/etcdtest"
)

// Thousands of calls that fail, by members that refuse connections, drop them, or say nothing, leave neither goroutines nor descriptors behind.
func TestFailedCallsLeaveNothing(t *testing.T) {
	cluster := etcdtest.Start(t, 1)
	line := cluster.Members[0].Line()
	settings := room(cluster)
	settings.Endpoints, settings.Patience = []string{line.URL()}, 50*time.Millisecond
	s := open(t, settings)
	good := func() {
		t.Helper()
		for range 200 {
			if _, err := s.List(""); err == nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Fatal("the store does not answer any more")
	}
	good()
	routines, files := runtime.NumGoroutine(), descriptors(t)
	calls := []func(context.Context) error{
		func(ctx context.Context) error { _, err := s.Get(ctx, "a"); return err },
		func(ctx context.Context) error { _, err := s.Many(ctx, []string{"a", "b"}); return err },
		func(ctx context.Context) error { _, _, err := s.Below(ctx, "a"); return err },
		func(ctx context.Context) error { _, err := s.Swap(ctx, "a", 0, []byte("x")); return err },
		func(ctx context.Context) error { _, err := s.Grant(ctx, time.Minute); return err },
		func(ctx context.Context) error { return s.Renew(ctx, 1) },
		func(ctx context.Context) error { return s.Lend(ctx, "a", []byte("x"), 1) },
		func(ctx context.Context) error { _, err := s.Identity(ctx); return err },
		func(ctx context.Context) error { return s.Watch(ctx, "a", 0, func([]state.Versioned) {}) },
		func(context.Context) error { return s.Replace("a", []byte("x")) },
		func(context.Context) error { return s.Remove("a") },
		func(ctx context.Context) error {
			holder := s.Holder()
			defer holder.Close()
			_, err := holder.Lock(ctx, "lock/a")
			return err
		},
	}
	for what, fault := range map[string]func(){"cut off": line.Cut, "silent": line.Hang} {
		fault()
		var working sync.WaitGroup
		for range 20 {
			working.Go(func() {
				for i := range 60 {
					ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
					if err := calls[i%len(calls)](ctx); err == nil || !errors.Is(err, state.ErrAway) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, state.ErrLocked) {
						t.Errorf("%s: call %d: %v", what, i%len(calls), err)
					}
					cancel()
				}
			})
		}
		working.Wait()
		line.Heal()
		good()
		nowRoutines, nowFiles := 0, 0
		for range 100 { // connections of the line and of the client end a little later
			if nowRoutines, nowFiles = runtime.NumGoroutine(), descriptors(t); nowRoutines <= routines+5 && nowFiles <= files+5 {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if nowRoutines > routines+5 || nowFiles > files+5 {
			t.Errorf("%s: %d goroutines and %d descriptors, before %d and %d", what, nowRoutines, nowFiles, routines, files)
		}
	}
}

// descriptors counts the open files of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
