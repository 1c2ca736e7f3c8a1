package acme

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mxcert/acme/schedule"
)

// The failures of several CAs are one error, which answers as the first CA that was asked.
func TestMerge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hold := func(d time.Duration) error { return &schedule.Held{Until: time.Now().Add(d), Why: "left alone"} }
		down := &Error{At: "directory", ErrKind: "ca-unreachable", Message: "a is down", NextStep: "curl", Passing: true}
		refused := &Error{At: "order", ErrKind: "ca-refused", Message: "b refuses", NextStep: "ask b", Charged: true, RetryAfter: time.Minute}
		provider := errors.New("the provider refuses")
		for what, tt := range map[string]struct {
			failed          []error
			says            string
			stage, kind     string // "" if it is not an *Error
			temporary, held bool
			wait            time.Duration
			ofProviders     bool
		}{
			"one":                {failed: []error{refused}, says: "b refuses", stage: "order", kind: "ca-refused", wait: time.Minute},
			"two, one may pass":  {failed: []error{refused, down}, says: "b refuses; a is down", stage: "order", kind: "ca-refused", temporary: true},
			"one held":           {failed: []error{hold(time.Second), refused}, says: "b refuses; waits until", stage: "order", kind: "ca-refused", temporary: true, held: true, wait: time.Second},
			"all held":           {failed: []error{hold(time.Hour), hold(time.Minute)}, says: "waits until 2000-01-01T00:01:00Z", held: true},
			"not a CA's failure": {failed: []error{hold(time.Second), provider}, says: "the provider refuses; waits until", ofProviders: true},
			"joined":             {failed: []error{down, errors.Join(refused, errors.New("disk full"))}, says: "a is down; b refuses; disk full", stage: "directory", kind: "ca-unreachable", temporary: true},
		} {
			err := merge(tt.failed)
			if !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: says %q", what, err)
			}
			if isHeld(err) != tt.held || errors.Is(err, provider) != tt.ofProviders {
				t.Errorf("%s: held %v", what, isHeld(err))
			}
			e, ok := errors.AsType[*Error](err)
			if ok != (tt.kind != "") || ok && (e.Stage() != tt.stage || e.Kind() != tt.kind || e.Temporary() != tt.temporary || e.Wait() != tt.wait || e.Hint() == "") {
				t.Errorf("%s: %#v", what, err)
			}
		}
		if refused.Message != "b refuses" || down.Cause != nil {
			t.Error("the failures were changed")
		}
	})
}
