package daemon

import (
	"testing"
	"time"

	"mxcert/cmd/mxcert/internal/report"
)

// A wait for TLSA records wakes the daemon. After a failed deployment it does not, because each attempt may delay mail, unless the gate is what
// has refused it.
func TestWakesForTLSARecords(t *testing.T) {
	t.Parallel()
	now := time.Now()
	soon, later := now.Add(5*time.Second), now.Add(30*time.Minute)
	for _, tt := range []struct {
		what string
		r    report.Certificate
		want time.Time
	}{
		{"nothing to wait for", report.Certificate{}, now.Add(lookAround)},
		{"a hold ends", report.Certificate{NextTLSA: soon}, soon},
		{"a hold ends, and an order has failed", report.Certificate{NextTLSA: soon, NextTry: &later}, soon},
		{"a hold ends, and a deployment has failed", report.Certificate{NextTLSA: soon, NextTry: &later, OutOfService: true, Error: &report.Error{Kind: "not-served"}}, later},
		{"the gate waits for it", report.Certificate{NextTLSA: soon, NextTry: &later, OutOfService: true, Error: &report.Error{Kind: "dane"}}, soon},
	} {
		if got := nextPass(tt.r, now); !got.Equal(tt.want) {
			t.Errorf("%s: in %s, want %s", tt.what, got.Sub(now), tt.want.Sub(now))
		}
	}
}
