package acme

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"mxcert/acme/ari"
	"mxcert/acme/bundle"
	"mxcert/acme/dnsprovider"
	"mxcert/acme/resolve"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
)

// ariClient is a client of a lab's CA and a certificate that it issued.
func ariClient(t *testing.T) (*lab.Lab, *Client, *x509.Certificate) {
	t.Helper()
	l := lab.New(t, lab.Options{CA: ca.Options{SkipValidation: true}})
	store, err := state.Open(disk.Open(l.Path("ari")))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(l.CA.HTTPSRoots())
	c := New(Settings{Directory: l.CA.DirectoryURL(), Roots: roots, UserAgent: "mxcert/test"}, store)
	t.Cleanup(c.Close)
	return l, c, issueFor(t, l, c, store)
}

func TestRenewalInfoIsDrawnOnceAndKept(t *testing.T) {
	l, c, leaf := ariClient(t)
	start, end := time.Now().Add(time.Hour).UTC().Truncate(time.Second), time.Now().Add(3*time.Hour).UTC().Truncate(time.Second)
	if err := l.CA.SetRenewalWindow(leaf.SerialNumber, start, end); err != nil {
		t.Fatal(err)
	}
	first, err := c.RenewalInfo(t.Context(), leaf, state.RenewalInfo{})
	if err != nil || first.At.Before(start) || !first.At.Before(end) {
		t.Fatalf("%+v (%v), want an instant from %v to %v", first, err, start, end)
	}
	if again, err := c.RenewalInfo(t.Context(), leaf, first); err != nil || again != first {
		t.Errorf("asked again at once: %+v (%v)", again, err)
	}
	first.NextCheck = time.Time{}
	if again, err := c.RenewalInfo(t.Context(), leaf, first); err != nil || again.At != first.At || !again.NextCheck.After(time.Now()) {
		t.Errorf("the same window gave another instant: %+v (%v)", again, err)
	}
	if err := l.CA.SetRenewalWindow(leaf.SerialNumber, start.Add(-5*time.Hour), start.Add(-4*time.Hour)); err != nil {
		t.Fatal(err)
	}
	moved, err := c.RenewalInfo(t.Context(), leaf, first)
	if err != nil || moved.At.After(time.Now()) {
		t.Errorf("a window in the past: %+v (%v)", moved, err)
	}
}

// What is no answer leaves what was known in force, and is not asked for again before long.
func TestBadRenewalInfo(t *testing.T) {
	l, c, leaf := ariClient(t)
	known := state.RenewalInfo{Start: time.Unix(1, 0), End: time.Unix(2, 0), At: time.Unix(1, 5)}
	for _, tt := range []struct {
		name   string
		status int
		header string
		body   string
		none   bool
	}{
		{"404", 404, "", "{}", true},
		{"500 with JSON", 500, "", `{"suggestedWindow":{"start":"2020-01-01T00:00:00Z","end":"2020-01-02T00:00:00Z"}}`, false},
		{"503", 503, "7", "", false},
		{"not JSON", 200, "", "<html>", false},
		{"null", 200, "", "null", false},
		{"empty", 200, "", "{}", false},
		{"inverted", 200, "", `{"suggestedWindow":{"start":"2026-12-02T00:00:00Z","end":"2026-12-01T00:00:00Z"}}`, false},
		{"no width", 200, "", `{"suggestedWindow":{"start":"2026-12-01T00:00:00Z","end":"2026-12-01T00:00:00Z"}}`, false},
		{"wider than the life", 200, "", `{"suggestedWindow":{"start":"2020-01-01T00:00:00Z","end":"2040-01-01T00:00:00Z"}}`, false},
		{"2 MiB", 200, "", `{"x":"` + strings.Repeat("x", 2<<20) + `"}`, false},
		{"redirect", 302, "", "", false},
	} {
		l.CA.SetWrap(func(inner http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if ca.EndpointOf(r.URL.Path) != ca.RenewalInfo {
					inner.ServeHTTP(w, r)
					return
				}
				if tt.status == 302 {
					w.Header().Set("Location", "https://127.0.0.1:1/")
				}
				w.WriteHeader(tt.status)
				fmt.Fprint(w, tt.body)
			})
		})
		got, err := c.RenewalInfo(t.Context(), leaf, known)
		if err == nil || errors.Is(err, ari.ErrNone) != tt.none {
			t.Errorf("%s: error %v", tt.name, err)
		}
		if got.At != known.At || got.Start != known.Start || time.Until(got.NextCheck) < 5*time.Hour {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

func TestExpiredCertificatesAreNotAskedFor(t *testing.T) {
	l, c, leaf := ariClient(t)
	before := l.CA.Count(ca.RenewalInfo)
	expired := *leaf
	expired.NotAfter = time.Now().Add(-time.Minute)
	if _, err := c.RenewalInfo(t.Context(), &expired, state.RenewalInfo{}); err != nil {
		t.Error(err)
	}
	if n := l.CA.Count(ca.RenewalInfo) - before; n != 0 {
		t.Errorf("%d requests", n)
	}
}

// issueFor gets one certificate from the lab's CA.
func issueFor(t *testing.T, l *lab.Lab, c *Client, store *state.Book) *x509.Certificate {
	t.Helper()
	resolver := resolve.New(l.NameServers())
	solver, err := dnsprovider.New("rfc2136", map[string]string{"DNSUPDATE_NAMESERVER": l.Primary.Address(), "DNSUPDATE_TSIG_KEY": lab.KeyName, "DNSUPDATE_TSIG_SECRET": l.Secret()}, resolver)
	if err != nil {
		t.Fatal(err)
	}
	lineage := store.Lineage("ari")
	unlock, err := lineage.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	issued, err := c.Issue(t.Context(), Request{Claim: Claim{Names: []string{"mx.example.org"}, KeyType: bundle.EC256}, Lineage: lineage,
		Accounts: Only("rfc2136", solver), Resolver: resolver, Require: resolve.All, Patience: 10 * time.Second, Progress: func(string, string) {}})
	if err != nil {
		t.Fatal(err)
	}
	return issued.Bundle.Leaf()
}
