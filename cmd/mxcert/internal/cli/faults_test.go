package cli

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// check ends the test when preparing it failed.
func (h *host) check(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func TestNothingServes(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{Endpoints: []string{}})
	c := h.report(report.CodeOK, "renew").Certificates[0]
	if c.Stage != report.Deployed || len(c.Endpoints) != 0 {
		t.Errorf("%+v", c)
	}
	if out := h.run("status").stdout; !strings.Contains(out, "no endpoint configured") {
		t.Errorf("status does not say that nothing serves the certificate:\n%s", out)
	}
}

// With --json there is one document on stdout, whatever fails.
func TestFailuresAreJSONToo(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.edit("domains:", "domians:")
	for _, command := range []string{"renew", "status", "verify", "history"} {
		got := h.run(command, "--json")
		var r failureReport
		if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || got.code != report.CodeConfig || r.Error == nil || len(r.Problems) == 0 || r.Problems[0].Line == 0 {
			t.Errorf("%s: exit code %d (%v):\n%s", command, got.code, err, got.stdout)
		}
	}
}

// A CA that hangs costs no more than --timeout, and what was begun is kept.
func TestTimeout(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	h.CA.SetWrap(func(http.Handler) http.Handler {
		return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang })
	})
	began := time.Now()
	c := h.report(report.CodeTemporary, "renew", "--timeout", "1s").Certificates[0]
	if c.Error == nil || c.Error.Kind != "timeout" || c.Stage != report.Waiting || c.Error.Hint == "" {
		t.Errorf("%+v", c)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
}

// A rate limit keeps a person's own runs away too, for as long as the CA says, unless --now is given.
func TestRateLimitIsWaitedOut(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.CA.SetWrap(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ca.EndpointOf(r.URL.Path) != ca.NewOrder {
				next.ServeHTTP(w, r)
				return
			}
			w.Header().Set("Retry-After", "7200")
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many certificates"}`)
		})
	})
	if c := h.report(report.CodeTemporary, "renew").Certificates[0]; c.Error.Kind != "rate-limited" || c.Stage != report.Waiting || !strings.Contains(c.Error.Hint, "2h") {
		t.Errorf("%+v", c.Error)
	}
	requests := h.CA.Count()
	if c := h.report(report.CodeTemporary, "renew").Certificates[0]; c.Error.Kind != "backoff" || !strings.Contains(c.Error.Message, "too many certificates") || !strings.Contains(c.Error.Hint, "--now") {
		t.Errorf("%+v", c.Error)
	}
	if n := h.CA.Count(); n != requests {
		t.Errorf("%d requests in a backoff", n-requests)
	}
	h.CA.SetWrap(nil)
	h.report(report.CodeOK, "renew", "--now")
}
