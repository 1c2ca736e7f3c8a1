package pass

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mxcert/cmd/mxcert/internal/wanted"
)

// jobs counts reloads and lets each take a second.
type jobs struct {
	mu    sync.Mutex
	began []time.Time
	err   error
}

// join has a pass join a reload.
func join(ctx context.Context, r *reloads, who any, urgent bool) error {
	_, err := r.reload(ctx, who, exim, urgent)
	return err
}

func (j *jobs) reload(_ context.Context, _ string) error {
	j.mu.Lock()
	j.began = append(j.began, time.Now())
	j.mu.Unlock()
	time.Sleep(time.Second)
	return j.err
}

const exim = "exim4.service"

// TestOneReload: three certificates that are ready at different times share one reload, which starts after the last.
func TestOneReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &jobs{err: errors.New("no")}
		r := &reloads{job: j.reload}
		var passes sync.WaitGroup
		start := time.Now()
		leaves := make([]func(), 3)
		for i := range leaves { // all before the first pass, which is ready at once
			leaves[i] = r.expect(i, []string{exim})
		}
		for i := range leaves {
			passes.Go(func() {
				defer leaves[i]()
				time.Sleep(time.Duration(i) * time.Second)
				if err := join(t.Context(), r, i, false); !errors.Is(err, j.err) {
					t.Error(err)
				}
			})
		}
		leave := r.expect("has nothing to do", []string{exim, "other.service"})
		time.Sleep(time.Second / 2)
		leave()
		passes.Wait()
		if len(j.began) != 1 || j.began[0].Sub(start) != 2*time.Second || time.Since(start) != 3*time.Second {
			t.Errorf("reloads began at %v, all was done after %v", j.began, time.Since(start))
		}
	})
}

// TestReloadStartsAfterTheFiles: a pass that comes during a reload waits for another one, which those that come meanwhile share.
func TestReloadStartsAfterTheFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &jobs{}
		r := &reloads{job: j.reload}
		var passes sync.WaitGroup
		start := time.Now()
		for i, at := range []time.Duration{0, 300 * time.Millisecond, 600 * time.Millisecond} {
			passes.Go(func() {
				time.Sleep(at)
				if err := join(t.Context(), r, i, false); err != nil {
					t.Error(err)
				}
				if i > 0 && time.Since(start) != 2*time.Second {
					t.Errorf("%d is done after %v", i, time.Since(start))
				}
			})
		}
		passes.Wait()
		if len(j.began) != 2 || !j.began[0].Equal(start) {
			t.Errorf("reloads began at %v", j.began)
		}
	})
}

// TestReloadDoesNotWaitForEver: a slow pass does not hold others up for long, and a stopped one does not wait.
func TestReloadDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &jobs{}
		r := &reloads{job: j.reload}
		defer r.expect("slow", []string{exim})()
		start := time.Now()
		if err := join(t.Context(), r, 1, false); err != nil || j.began[0].Sub(start) != reloadWindow {
			t.Errorf("%v, reloads began at %v", err, j.began)
		}
		if err := join(t.Context(), r, 1, true); err != nil || j.began[1].Sub(start) != reloadWindow+time.Second {
			t.Errorf("urgent: %v, reloads began at %v", err, j.began)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := join(ctx, r, 2, false); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		synctest.Wait()
		time.Sleep(time.Minute)
	})
}

// TestUnitsDoNotWaitForEachOther, nor does a second certificate for one that has had its reload.
func TestUnitsDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &jobs{}
		r := &reloads{job: j.reload}
		defer r.expect(1, []string{exim, "dovecot.service"})()
		start := time.Now()
		if err := errors.Join(join(t.Context(), r, 1, false), join(t.Context(), r, 2, false), join(t.Context(), r, 1, false)); err != nil || time.Since(start) != 3*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

// TestPostfixRests: after a reload, the processes of before it must not get mxcert's look. A server that reads its files anew needs no rest.
func TestPostfixRests(t *testing.T) {
	for kind, rest := range map[string]time.Duration{"postfix": postfixRest, "exim": 0} {
		synctest.Test(t, func(t *testing.T) {
			p := &pass{Runner: &Runner{}, say: func(string, string) {}, want: wanted.Certificate{Places: []wanted.Place{{Kind: kind, Unit: "mail.service"}}}}
			p.reloads.job = (&jobs{}).reload
			start := time.Now()
			if err := p.reload(t.Context(), "mail.service", false); err != nil || time.Since(start) != time.Second+rest {
				t.Errorf("%s: %v after %v", kind, err, time.Since(start))
			}
		})
	}
}
