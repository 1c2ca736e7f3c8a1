package acme

import (
	"crypto/x509"
	"errors"
	"net/http"
	"testing"
	"time"

	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/ca"
)

// directoryClient is a client of a lab's CA, without an account.
func directoryClient(t *testing.T, opts ca.Options) (*ca.CA, *Client) {
	t.Helper()
	authority, err := ca.Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = authority.Close() })
	store, err := state.Open(disk.Open(t.TempDir() + "/state"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.HTTPSRoots())
	c := New(Settings{Directory: authority.DirectoryURL(), Roots: roots, UserAgent: "mxcert/test"}, store)
	t.Cleanup(c.Close)
	return authority, c
}

func TestDirectory(t *testing.T) {
	authority, c := directoryClient(t, ca.Options{Profiles: map[string]time.Duration{"short": time.Hour}, EAB: map[string]string{"kid": "c2VjcmV0c2VjcmV0"}})
	authority.SetWrap(func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
			inner.ServeHTTP(w, r)
		})
	})
	for range 3 {
		d, err := c.Directory(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if d.URL != authority.DirectoryURL() || len(d.Profiles) != 2 || d.Profiles["short"] == "" || !d.EABRequired || d.RenewalInfo == "" ||
			d.Terms == "" || len(d.CAAIdentities) != 1 || d.CAAIdentities[0] != "pebble.letsencrypt.org" ||
			d.ClockSkew.Round(time.Minute) != time.Hour {
			t.Errorf("%+v", d)
		}
	}
	if n := authority.Count(ca.Directory); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestDirectoryFails(t *testing.T) {
	authority, c := directoryClient(t, ca.Options{})
	for _, tt := range []struct {
		status    int
		body      string
		kind      string
		temporary bool
	}{
		{503, "<html>", "ca-error", true},
		{429, "", "rate-limited", true},
		{403, `{"type":"urn:ietf:params:acme:error:unauthorized"}`, "ca-refused", false},
		{200, "<html>", "ca-error", true},
		{200, "null", "ca-error", true},
		{200, "{}", "ca-error", true},
		{200, `{"newNonce":"x","newAccount":"x"}`, "ca-error", true},
		{200, `{"newNonce":"x","newAccount":"x","newOrder":7}`, "ca-error", true},
		{302, "", "ca-error", true},
		{204, "", "ca-error", true},
	} {
		authority.SetWrap(func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "60")
				if tt.status == 302 {
					w.Header().Set("Location", "/elsewhere")
				}
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			})
		})
		_, err := c.Directory(t.Context())
		if e, ok := errors.AsType[*Error](err); !ok || e.Kind() != tt.kind || e.Stage() != "directory" || e.Temporary() != tt.temporary ||
			(tt.status >= 400 && e.Wait() != time.Minute) {
			t.Errorf("%d %s: %v", tt.status, tt.body, err)
		}
	}
	authority.SetWrap(nil)
	if _, err := c.Directory(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
