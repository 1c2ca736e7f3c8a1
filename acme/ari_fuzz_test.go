package acme

import (
	"crypto/x509"
	"encoding/json"
	"testing"
	"time"

	"mxcert/acme/schedule"
)

// FuzzRenewalInfo: a window that is accepted gives an instant in it.
func FuzzRenewalInfo(f *testing.F) {
	for _, body := range []string{
		`{"suggestedWindow":{"start":"2026-12-01T00:00:00Z","end":"2026-12-03T00:00:00.5Z"},"explanationURL":"https://ca.example/why"}`,
		`{"suggestedWindow":{"start":"0001-01-01T00:00:00Z","end":"9999-12-31T23:59:59Z"}}`,
		`{"suggestedWindow":{"start":"2026-12-01T00:00:00.9Z","end":"2026-12-01T00:00:00.95Z"}}`,
		`{"suggestedWindow":null}`, `{"suggestedWindow":{"start":7}}`, "null", "[]", "",
	} {
		f.Add([]byte(body))
	}
	leaf := &x509.Certificate{NotBefore: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2027, 1, 30, 0, 0, 0, 0, time.UTC)}
	f.Fuzz(func(t *testing.T, body []byte) {
		var answer renewalAnswer
		if json.Unmarshal(body, &answer) != nil || checkWindow(answer.Window.Start, answer.Window.End, leaf) != nil {
			return
		}
		if at := schedule.Draw(answer.Window.Start, answer.Window.End); at.Before(answer.Window.Start.Add(-time.Second)) || !at.Before(answer.Window.End) {
			t.Errorf("%s is not from %s to %s", at, answer.Window.Start, answer.Window.End)
		}
	})
}
