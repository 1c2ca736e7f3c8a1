package schedule

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestHeld(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		held Held
		hint string
	}{
		{Held{}, ""},
		{Held{NextStep: "wait"}, "wait"},
		{Held{Skippable: true}, "`mxcert renew --now` tries at once"},
		{Held{NextStep: "wait", Skippable: true}, "wait; `mxcert renew --now` tries at once"},
	} {
		if got := tt.held.Hint(); got != tt.hint {
			t.Errorf("%+v hints %q, want %q", tt.held, got, tt.hint)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		h := &Held{Until: time.Now().Add(time.Minute), Why: "ca.example failed"}
		if h.Error() != "waits until 2000-01-01T00:01:00Z: ca.example failed" || h.Kind() != "backoff" || !h.Temporary() || h.Wait() != time.Minute {
			t.Errorf("%v, kind %s, temporary %v, wait %s", h, h.Kind(), h.Temporary(), h.Wait())
		}
	})
}
