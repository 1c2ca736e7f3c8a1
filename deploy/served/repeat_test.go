package served

import (
	"errors"
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
	}{
		{"at once", 0, 0, 1, true, time.Second, 1, 1},
		{"one hangs", 1, 15 * time.Second, 1, true, 16 * time.Second, 2, 2},
		{"one hangs, many processes", 1, 15 * time.Second, 3, true, 16 * time.Second, 4, 4},
		{"closed for a moment", 3, time.Millisecond, 1, true, time.Second, 4, 4},
		{"closed", 1000, time.Millisecond, 1, false, 12 * time.Second, 5, 30},
		{"all hang", 1000, 15 * time.Second, 1, false, 31 * time.Second, 2, 2},
	} {
		t.Run(tt.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				attempts, began := 0, time.Now()
				got := repeat(t.Context(), time.Minute, tt.times, func() Result {
					if attempts++; attempts <= tt.bad {
						time.Sleep(tt.takes)
						return Result{Err: errors.New("the server closed the connection")}
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
