package cli

import (
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

func (h *host) window(serial string, start, end time.Duration) {
	h.t.Helper()
	n, ok := new(big.Int).SetString(serial, 16)
	if !ok {
		h.t.Fatalf("serial %q", serial)
	}
	h.check(h.CA.SetRenewalWindow(n, time.Now().Add(start), time.Now().Add(end)))
}

// A CA that is about to revoke asks for an early renewal: the next pass follows, once.
func TestRenewalWindowOfTheCA(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	first := h.report(report.CodeOK, "renew").Certificates[0].Keys[0].Serial
	h.window(first, -2*time.Hour, -time.Hour)
	renewed := h.report(report.CodeOK, "renew")
	second := renewed.Certificates[0].Keys[0].Serial
	if !renewed.Changed || second == first {
		t.Fatalf("not renewed: %+v", renewed)
	}
	// A new certificate has a window of its own; then comes the one that the CA has moved to next month.
	h.window(second, 30*24*time.Hour, 31*24*time.Hour)
	later := h.report(report.CodeOK, "renew")
	next := later.Certificates[0].NextRenewal
	if later.Changed || next.Before(time.Now().Add(30*24*time.Hour-time.Minute)) || next.After(time.Now().Add(31*24*time.Hour)) {
		t.Errorf("next renewal %v", next)
	}
	if h.report(report.CodeOK, "renew").Certificates[0].NextRenewal.Equal(*next) == false {
		t.Error("another instant was drawn from the same window")
	}
}

// A CA that does not like the link to the old certificate still gets the order.
func TestRefusedReplacement(t *testing.T) {
	t.Parallel()
	for _, status := range []int{400, 403, 404, 409, 500} {
		h := newHost(t, lab.Options{}, lab.ConfigOptions{})
		h.report(report.CodeOK, "renew")
		refused := 0
		h.CA.SetWrap(func(inner http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if ca.EndpointOf(r.URL.Path) != ca.NewOrder || refused > 0 {
					inner.ServeHTTP(w, r)
					return
				}
				refused++
				w.Header().Set("Content-Type", "application/problem+json")
				w.WriteHeader(status)
				_, _ = w.Write([]byte(`{"type":"urn:ietf:params:acme:error:malformed","detail":"replaces: no such certificate"}`))
			})
		})
		got := h.run("renew", "--now")
		if got.code != report.CodeOK || refused != 1 || !strings.Contains(got.stderr, "ordering without") {
			t.Errorf("%d: exit code %d, refused %d\n%s", status, got.code, refused, got.stderr)
		}
	}
}
