package acme

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"mxcert/acme/state"
	"mxcert/acme/state/disk"
)

// The clock of the CA is the Date of its answer, whatever the answer is. One that a proxy has kept says nothing.
func TestClock(t *testing.T) {
	t.Parallel()
	at := time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC)
	for _, tt := range []struct {
		what   string
		answer func(http.Header)
		status int
		ok     bool
	}{
		{"an answer", func(h http.Header) { h.Set("Date", at.Format(http.TimeFormat)) }, http.StatusOK, true},
		{"a refusal", func(h http.Header) { h.Set("Date", at.Format(http.TimeFormat)) }, http.StatusMethodNotAllowed, true},
		{"no date", func(h http.Header) { h["Date"] = nil }, http.StatusOK, false},
		{"an old answer", func(h http.Header) { h.Set("Date", at.Format(http.TimeFormat)); h.Set("Age", "100") }, http.StatusOK, false},
	} {
		requests := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			requests++
			tt.answer(w.Header())
			w.WriteHeader(tt.status)
		}))
		store, err := state.Open(disk.Open(t.TempDir()))
		if err != nil {
			t.Fatal(err)
		}
		client := New(Settings{Directory: server.URL + "/dir"}, store)
		got, err := client.Clock(t.Context())
		if tt.ok != (err == nil && got.Equal(at)) || requests != 1 {
			t.Errorf("%s: %v, %v, %d requests", tt.what, got, err, requests)
		}
		client.Close()
		server.Close()
		if _, err := client.Clock(t.Context()); err == nil {
			t.Errorf("%s: a CA that is away has said the time", tt.what)
		}
	}
}
