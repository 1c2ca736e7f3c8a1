package account_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"mxcert/acme/account"
	"mxcert/acme/session"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/acme/transport"
	"mxcert/cmd/mxcert-lab/ca"
)

// start runs a CA, and makes a registrar of an account there.
func start(t *testing.T, settings account.Settings) (*ca.CA, *account.Registrar, *state.Book) {
	t.Helper()
	authority, err := ca.Start(ca.Options{})
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
	pool := transport.New(transport.Settings{Directory: authority.DirectoryURL(), Roots: roots})
	t.Cleanup(pool.Close)
	return authority, account.New(settings, pool, store, nil, nil), store
}

// TestLife: an account from nothing to its second key, as Info sees it on the way.
func TestLife(t *testing.T) {
	t.Parallel()
	authority, registrar, store := start(t, account.Settings{Email: "postmaster@example.org"})
	if info := registrar.Info(t.Context()); info.Status != account.StatusNone || info.Asked || authority.Count() != 0 {
		t.Errorf("before: %+v, %d requests", info, authority.Count())
	}
	if changed, err := registrar.Register(t.Context(), false); err != nil || !changed {
		t.Fatalf("registered: %v, %v", changed, err)
	}
	first := registrar.Info(t.Context())
	if first.Status != "valid" || !first.Asked || first.Err != nil || first.Pending || first.KeyType != "ec256" || len(first.Contact) != 1 || first.Terms != first.CATerms {
		t.Errorf("registered: %+v", first)
	}
	if changed, err := registrar.Register(t.Context(), false); err != nil || changed {
		t.Errorf("once more: %v, %v", changed, err)
	}
	if err := registrar.Rollover(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := registrar.Info(t.Context())
	if second.Status != "valid" || second.URL != first.URL || second.Thumbprint == first.Thumbprint || len(second.Thumbprint) != 43 {
		t.Errorf("with another key: %+v, before %+v", second, first)
	}
	stored, ok, err := store.Account(authority.DirectoryURL())
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if info := account.Stored(stored); info.Thumbprint != second.Thumbprint || info.Asked || info.Status != "" {
		t.Errorf("stored: %+v", info)
	}
	stored.URL = ""
	if info := account.Stored(stored); info.Status != account.StatusUnregistered {
		t.Errorf("without a URL: %+v", info)
	}
}

// A key of a binding that is not base64url is found before the CA is asked.
func TestBrokenBinding(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", "§", "a+b/"} {
		authority, registrar, _ := start(t, account.Settings{EABKeyID: "kid", EABKey: key})
		_, err := registrar.Ready(t.Context())
		if e, ok := errors.AsType[*session.Error](err); !ok || e.Kind() != "account" || e.Hint() == "" || authority.Count(ca.NewAccount) != 0 {
			t.Errorf("%q: %v, %d requests", key, err, authority.Count(ca.NewAccount))
		}
	}
}

// TestPlainURLsAreSignedAsNamed: a directory in the clear that names plain URLs, as Boulder's does, gets them signed so.
func TestPlainURLsAreSignedAsNamed(t *testing.T) {
	var mu sync.Mutex
	var signed []string
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Replay-Nonce", base64.RawURLEncoding.EncodeToString([]byte("nonce")))
		switch r.URL.Path {
		case "/dir":
			fmt.Fprintf(w, `{"newNonce":"%[1]s/nonce","newAccount":"%[1]s/account","newOrder":"%[1]s/order"}`, s.URL)
		case "/account":
			var jws struct{ Protected string }
			body, _ := io.ReadAll(r.Body)
			_ = json.Unmarshal(body, &jws)
			raw, _ := base64.RawURLEncoding.DecodeString(jws.Protected)
			var protected struct{ URL string }
			_ = json.Unmarshal(raw, &protected)
			mu.Lock()
			signed = append(signed, protected.URL)
			mu.Unlock()
			w.Header().Set("Location", "/accounts/7") // relative
			w.WriteHeader(http.StatusCreated)
			fmt.Fprint(w, `{"status":"valid"}`)
		}
	}))
	defer s.Close()
	store, err := state.Open(disk.Open(t.TempDir() + "/state"))
	if err != nil {
		t.Fatal(err)
	}
	pool := transport.New(transport.Settings{Directory: s.URL + "/dir"})
	defer pool.Close()
	ready, err := account.New(account.Settings{}, pool, store, nil, nil).Ready(t.Context())
	if err != nil || ready.URL != s.URL+"/accounts/7" || len(signed) != 1 || signed[0] != s.URL+"/account" {
		t.Errorf("%q, signed %q, %v", ready.URL, signed, err)
	}
}

// TestForeignAccount: the URL of an account is not taken from another host; once stored it would spoil every request.
func TestForeignAccount(t *testing.T) {
	authority, registrar, _ := start(t, account.Settings{})
	foreign := true
	authority.SetWrap(func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			good := httptest.NewRecorder()
			inner.ServeHTTP(good, r)
			for name, values := range good.Header() {
				w.Header()[name] = values
			}
			if foreign && ca.EndpointOf(r.URL.Path) == ca.NewAccount {
				w.Header().Set("Location", "https://elsewhere.example/account/1")
			}
			w.WriteHeader(good.Code)
			_, _ = w.Write(good.Body.Bytes())
		})
	})
	_, err := registrar.Ready(t.Context())
	if e, ok := errors.AsType[*session.Error](err); !ok || e.Kind() != "ca-error" || !e.Temporary() || !strings.Contains(e.Error(), `"elsewhere.example", a host`) {
		t.Errorf("%v", err)
	}
	foreign = false
	if _, err := registrar.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}
