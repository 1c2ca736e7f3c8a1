package acme

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	legoacme "github.com/go-acme/lego/v4/acme"

	"mxcert/acme/bundle"
	"mxcert/acme/session"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/acme/transport"
)

// canned is a CA that answers every request but those for the directory and for nonces with one status and body.
type canned struct {
	status int
	header http.Header
	body   []byte
}

// ServeHTTP implements http.Handler.
func (c *canned) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Replay-Nonce", "bm9uY2U")
	switch {
	case r.Method == http.MethodHead:
	case r.URL.Path == "/dir":
		fmt.Fprintf(w, `{"newNonce":"https://%[1]s/n","newAccount":"https://%[1]s/a","newOrder":"https://%[1]s/o","renewalInfo":"https://%[1]s/r"}`, r.Host)
	default:
		for name, values := range c.header {
			w.Header()[name] = values
		}
		w.WriteHeader(c.status)
		_, _ = w.Write(c.body)
	}
}

// fuzzed returns an order on its way, anew at each call, at a CA that says one thing only, which says may change, and the
// CA's URL.
func fuzzed(f *testing.F, says *canned) (fresh func(*testing.T) *flow, base string) {
	f.Helper()
	server := httptest.NewTLSServer(says)
	f.Cleanup(server.Close)
	store, err := state.Open(disk.Open(f.TempDir() + "/state"))
	if err != nil {
		f.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	c := New(Settings{Directory: server.URL + "/dir", UserAgent: "mxcert/fuzz", Roots: roots}, store)
	f.Cleanup(c.Close)
	key, err := bundle.EC256.Generate()
	if err != nil {
		f.Fatal(err)
	}
	keyPEM, err := bundle.MarshalKey(key)
	if err != nil {
		f.Fatal(err)
	}
	return func(t *testing.T) *flow {
		t.Helper()
		s, err := session.Begin(t.Context(), c.pool, state.Account{Key: string(keyPEM), URL: server.URL + "/account/1"}, 100)
		if err != nil {
			t.Fatal(err)
		}
		return &flow{
			Session: s, client: c, url: server.URL + "/order/1",
			Request: Request{Claim: Claim{Names: []string{"mx.example.org", "*.example.org"}, KeyType: bundle.EC256}, Lineage: store.Lineage("mx"), Progress: func(string, string) {}},
			stored:  state.Order{Directory: c.settings.Directory, Key: string(keyPEM)},
		}
	}, server.URL
}

// sound checks that an error of the flow is for people.
func sound(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("%T: %v", err, err)
	}
	if e.Stage() == "" || e.Kind() == "" || e.Hint() == "" || len(e.Error()) > 1500 || !utf8.ValidString(e.Error()) ||
		strings.ContainsFunc(e.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) || e.Kind() == "internal" {
		t.Errorf("stage %q, kind %q, hint %q: %+q", e.Stage(), e.Kind(), e.Hint(), e.Error())
	}
}

// FuzzOrder: whatever a CA says of an order, it is an order or an error for people.
func FuzzOrder(f *testing.F) {
	for status, body := range map[int]string{
		200: `{"status":"pending","identifiers":[{"type":"dns","value":"mx.example.org"},{"type":"dns","value":"*.example.org"}],"authorizations":["https://ca/z/1","https://ca/z/1","https://ca/z/2"],"finalize":"https://ca/f"}`,
		201: `{"status":"invalid","error":{"type":"urn:ietf:params:acme:error:caa","detail":"no\u001b[31m","subproblems":[{"identifier":{"value":"x"}},null]},"authorizations":["https://elsewhere/1"]}`,
		202: `{"status":"valid","certificate":"http://ca/c"}`, 203: "null", 204: "", 302: "[]", 400: `{"type":"urn:ietf:params:acme:error:badNonce"}`, 500: `{"status":"`,
	} {
		f.Add(status, "https://ca/order/1", []byte(body))
	}
	says := &canned{}
	fresh, _ := fuzzed(f, says)
	f.Fuzz(func(t *testing.T, status int, location string, body []byte) {
		says.status, says.header, says.body = 200+(status&0x7fffffff)%400, http.Header{"Location": {location}}, body
		fl := fresh(t)
		_, err := fl.newOrder()
		sound(t, fl.Explain("order", err))
		if err := fl.refresh(); err != nil {
			sound(t, err)
			return
		}
		if fl.order.Status == legoacme.StatusInvalid {
			sound(t, fl.whyInvalid())
		}
		_, err = fl.unproven(t.Context())
		sound(t, err)
	})
}

// FuzzAuthorization: a challenge that is accepted is of a name that was asked for, and its token is harmless.
func FuzzAuthorization(f *testing.F) {
	for _, body := range []string{
		`{"status":"pending","identifier":{"type":"dns","value":"mx.example.org"},"challenges":[{"type":"http-01"},{"type":"dns-01","status":"pending","url":"https://ca/c","token":"dG9rZW4"}]}`,
		`{"status":"pending","identifier":{"type":"dns","value":"example.org"},"wildcard":true,"challenges":[{"type":"dns-01","token":"../../etc"}]}`,
		`{"status":"valid","identifier":{"value":"MX.example.org"}}`, `{"status":"invalid","identifier":{"value":"mx.example.org"},"challenges":[{"error":{"detail":"\u202e"}},{}]}`,
		`{"status":"pending","identifier":{"value":"other.example.org\u0000"}}`, "null", "[]", "{}", "",
	} {
		f.Add([]byte(body))
	}
	says := &canned{status: http.StatusOK}
	fresh, base := fuzzed(f, says)
	f.Fuzz(func(t *testing.T, body []byte) {
		says.body = body
		fl := fresh(t)
		fl.order = legoacme.Order{Status: legoacme.StatusPending, Authorizations: []string{base + "/z/1"}}
		todo, err := fl.unproven(t.Context())
		if sound(t, err); err != nil {
			return
		}
		for _, p := range todo {
			if !slices.Contains([]string{"mx.example.org", "example.org"}, p.domain) || !transport.IsBase64URL(p.challenge.Token) || p.record.Value == "" {
				t.Errorf("%+v", p)
			}
		}
		sound(t, fl.whyInvalid())
	})
}

// FuzzChain: the issuers of whatever comes are short names.
func FuzzChain(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, chain []byte) {
		if name := topIssuer(chain); len(name) > 250 || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%+q", name)
		}
	})
}
