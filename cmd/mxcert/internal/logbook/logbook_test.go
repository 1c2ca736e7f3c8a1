package logbook

import (
	"testing"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/hooks/journal"
)

// What a person does next decides which event a failure is.
func TestEvents(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		stage, kind string
		want        journal.Event
	}{
		{"order", "ca-error", journal.OrderFailed},
		{"order", "rate-limited", journal.Limited},
		{"challenge", "ca-error", journal.ProofFailed},
		{"deploy", "dane", journal.GateClosed},
		{"deploy", "drift", journal.LeftAlone},
		{"ocsp", "drift", journal.LeftAlone},
		{"reload", "unit", journal.DeployFailed},
		{"verify", "error", journal.NotServed},
		{"ocsp", "ocsp-revoked", journal.StapleFailed},
		{"deploy", "ocsp-unavailable", journal.StapleFailed}, // a new certificate waits: nothing was restored
		{"hook", "hook", journal.HookFailed},
		{"lock", "error", journal.PassFailed},
	} {
		if got := eventOf(&report.Error{Stage: tt.stage, Kind: tt.kind}); got != tt.want {
			t.Errorf("%s, %s: %s, want %s", tt.stage, tt.kind, got, tt.want)
		}
	}
}
