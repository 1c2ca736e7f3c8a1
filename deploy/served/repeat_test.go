package served

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestOneHandshakeThatHangs: only what lasts is a fault of the server; a single connection that was lost in a reload is not.
func TestOneHandshakeThatHangs(t *testing.T) {
	for _, tt := range []struct {
		what        string
		bad         int           // attempts that fail
		takes       time.Duration // each of those
		times       int
		ok          bool
		atMost      time.Duration
		least, most int // attempts
		err         error
	}{
		{"at once", 0, 0, 1, true, time.Second, 1, 1, nil},
		{"one hangs", 1, 15 * time.Second, 1, true, 16 * time.Second, 2, 2, nil},
		{"one hangs, many processes", 1, 15 * time.Second, 3, true, 16 * time.Second, 4, 4, nil},
		{"closed for a moment", 3, time.Millisecond, 1, true, time.Second, 4, 4, syscall.ECONNREFUSED},
		{"closed until Exim tries again", 34, time.Millisecond, 1, true, 31 * time.Second, 35, 35, syscall.ECONNREFUSED},
		{"closed", 1000, time.Millisecond, 1, false, 42 * time.Second, 30, 60, syscall.ECONNREFUSED},
		{"454", 1000, time.Millisecond, 1, false, 12 * time.Second, 5, 30, nil},
		{"all hang", 1000, 15 * time.Second, 1, false, 31 * time.Second, 2, 2, nil},
	} {
		t.Run(tt.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				attempts, began := 0, time.Now()
				got := repeat(t.Context(), time.Minute, tt.times, func() Result {
					if attempts++; attempts <= tt.bad {
						time.Sleep(tt.takes)
						return Result{Err: cmp.Or(tt.err, errors.New("the server closed the connection"))}
					}
					return Result{Matches: true}
				}, Matching)
				if took := time.Since(began); got.Matches != tt.ok || took > tt.atMost || attempts < tt.least || attempts > tt.most {
					t.Errorf("%+v after %v and %d attempts", got, took, attempts)
				}
			})
		})
	}
}

// TestAttemptThatIsCutOff: if the time ends in the middle of an attempt, the one before it says what the server shows.
func TestAttemptThatIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		attempts := 0
		got := repeat(ctx, time.Minute, 1, func() Result {
			if attempts++; attempts < 3 {
				return Result{Serial: "ab"}
			}
			<-ctx.Done()
			return Result{Err: ctx.Err()}
		}, Matching)
		if got.Err != nil || got.Serial != "ab" || attempts != 3 {
			t.Errorf("%+v after %d attempts", got, attempts)
		}
	})
}

// TestEachAtOnce: so many handshakes are under way, and no more.
func TestEachAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, highest := 0, 0
		start := time.Now()
		results := each(make([]Probe, 200), mostAtOnce, func(Probe) Result {
			count := func(n int) {
				mu.Lock()
				defer mu.Unlock()
				now += n
				highest = max(highest, now)
			}
			count(1)
			time.Sleep(time.Second)
			count(-1)
			return Result{Serial: "01"}
		})
		if took := time.Since(start); highest != mostAtOnce || took != 7*time.Second || len(results) != 200 || results[199].Serial != "01" {
			t.Errorf("%d at once, %v, %d results", highest, took, len(results))
		}
		if len(each(nil, 0, nil)) != 0 {
			t.Error("no probes, and results")
		}
	})
}
