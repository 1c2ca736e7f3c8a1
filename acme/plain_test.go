package acme

import (
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

	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
)

// TestPlainDirectory: a CA on loopback without TLS, as behind a proxy, works from directory to certificate.
func TestPlainDirectory(t *testing.T) {
	l := lab.New(t, lab.Options{CA: ca.Options{SkipValidation: true, Plain: true}})
	store, err := state.Open(l.Path("plain"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(l.CA.DirectoryURL(), "http://127.0.0.1:") {
		t.Fatal(l.CA.DirectoryURL())
	}
	c := New(Settings{Directory: l.CA.DirectoryURL(), UserAgent: "mxcert/test"}, store)
	defer c.Close()
	leaf := issueFor(t, l, c, store)
	if _, err := c.RenewalInfo(t.Context(), leaf, state.RenewalInfo{}); err != nil {
		t.Error(err)
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
	store, err := state.Open(t.TempDir() + "/state")
	if err != nil {
		t.Fatal(err)
	}
	c := New(Settings{Directory: s.URL + "/dir"}, store)
	defer c.Close()
	account, err := c.Registrar(func(string, string) {}, nil).Ready(t.Context())
	if err != nil || account.URL != s.URL+"/accounts/7" || len(signed) != 1 || signed[0] != s.URL+"/account" {
		t.Errorf("%q, signed %q, %v", account.URL, signed, err)
	}
}

// TestForeignAccount: the URL of an account is not taken from another host; once stored it would spoil every request.
func TestForeignAccount(t *testing.T) {
	authority, c := directoryClient(t, ca.Options{})
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
	say := func(string, string) {}
	_, err := c.Registrar(say, nil).Ready(t.Context())
	if e, ok := errors.AsType[*Error](err); !ok || e.Kind() != "ca-error" || !e.Temporary() || !strings.Contains(e.Error(), `"elsewhere.example", a host`) {
		t.Errorf("%v", err)
	}
	foreign = false
	if _, err := c.Registrar(say, nil).Ready(t.Context()); err != nil {
		t.Error(err)
	}
}
