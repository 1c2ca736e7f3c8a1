package cli

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

func (h *host) secret(text string) {
	h.t.Helper()
	h.check(os.WriteFile(h.Path("credentials", "tsig"), []byte(text), 0o600))
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

// reloadWhenChanged is the reload by an operator that mends the server.
func reloadWhenChanged(h *host, before string) {
	for {
		now, err := os.ReadFile(h.Path("tls", "mx.crt"))
		if err == nil && string(now) != before {
			_ = h.SMTP.Reload() // what it cannot load, the handshakes show
			return
		}
	}
}

// orders counts the orders that the CA has taken.
func (h *host) orders() int {
	generations, err := filepath.Glob(h.Path("state", "lineages", "mx", "2*"))
	h.check(err)
	return len(generations)
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
