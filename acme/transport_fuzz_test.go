package acme

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	legoacme "github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
)

// canned answers every request after the directory and nonces with one status and body.
type canned struct {
	status int
	header http.Header
	body   []byte
}

// RoundTrip implements http.RoundTripper.
func (c *canned) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body := c.status, c.body
	switch {
	case r.Method == http.MethodHead:
		status, body = http.StatusOK, nil
	case r.URL.Path == "/dir":
		status, body = http.StatusOK, []byte(`{"newNonce":"https://ca/n","newAccount":"https://ca/a","newOrder":"https://ca/o","renewalInfo":"https://ca/r"}`)
	}
	header := http.Header{"Replay-Nonce": {"bm9uY2U"}}
	for name, values := range c.header {
		header[name] = values
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(bytes.NewReader(body)), Request: r, ProtoMajor: 1}, nil
}

// fuzzed is an order on its way at a CA that says one thing only, which says may change.
func fuzzed(t testing.TB, says *canned) *flow {
	t.Helper()
	store, err := state.Open(disk.Open(t.TempDir() + "/state"))
	if err != nil {
		t.Fatal(err)
	}
	c := New(Settings{Directory: "https://ca/dir", UserAgent: "mxcert/fuzz"}, store)
	tr := c.newTransport(t.Context(), 100)
	tr.inner = says
	key, err := bundle.EC256.Generate()
	if err != nil {
		t.Fatal(err)
	}
	core, err := api.New(tr.httpClient(), c.settings.UserAgent, c.settings.Directory, "https://ca/account/1", key)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err := bundle.MarshalKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &flow{
		operation: &operation{client: c, transport: tr, core: core}, url: "https://ca/order/1",
		Request: Request{Names: []string{"mx.example.org", "*.example.org"}, KeyType: bundle.EC256, Lineage: store.Lineage("mx"), Progress: func(string, string) {}},
		stored:  state.Order{Directory: c.settings.Directory, Key: string(keyPEM)},
	}
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
	if e.Stage == "" || e.Kind() == "" || e.Hint() == "" || len(e.Error()) > 1500 || !utf8.ValidString(e.Error()) ||
		strings.ContainsFunc(e.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) || e.Kind() == "internal" {
		t.Errorf("stage %q, kind %q, hint %q: %+q", e.Stage, e.Kind(), e.Hint(), e.Error())
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
	fl := fuzzed(f, says)
	f.Fuzz(func(t *testing.T, status int, location string, body []byte) {
		says.status, says.header, says.body = 200+(status&0x7fffffff)%400, http.Header{"Location": {location}}, body
		fl.transport.budget = 100
		_, err := fl.newOrder()
		sound(t, fl.explain("order", err))
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
	fl := fuzzed(f, says)
	f.Fuzz(func(t *testing.T, body []byte) {
		says.body, fl.transport.budget = body, 100
		fl.order = legoacme.Order{Status: legoacme.StatusPending, Authorizations: []string{"https://ca/z/1"}}
		todo, err := fl.unproven(t.Context())
		if sound(t, err); err != nil {
			return
		}
		for _, p := range todo {
			if !slices.Contains([]string{"mx.example.org", "example.org"}, p.domain) || strings.Trim(p.challenge.Token, tokenAlphabet) != "" || p.record.Value == "" {
				t.Errorf("%+v", p)
			}
		}
		sound(t, fl.whyInvalid())
	})
}

// FuzzRetryAfter: between nothing and a day.
func FuzzRetryAfter(f *testing.F) {
	for _, value := range []string{"", "0", "120", "-1", "99999999999999999999", "Sun, 01 Nov 2026 12:01:00 GMT", "Sunday, 01-Nov-26 12:01:00 GMT", "Sun Nov  1 12:01:00 2026", " 7 ", "1e9"} {
		f.Add(value, int64(1793534400))
	}
	f.Fuzz(func(t *testing.T, value string, now int64) {
		if wait := parseRetryAfter(value, time.Unix(now, 0)); wait < 0 || wait > 24*time.Hour {
			t.Errorf("%q at %d: %s", value, now, wait)
		}
	})
}

// FuzzChain: links to other chains are few, and issuers of what comes are short names.
func FuzzChain(f *testing.F) {
	f.Add(`<https://ca/1>;rel="alternate", </2>; rel="alternate"; title="<x>"`, []byte("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"))
	f.Add(strings.Repeat(`<x>;rel="alternate"`, 100), []byte{})
	f.Add(`<>;rel="alternate",<:>;rel="alternate",<%zz>;rel="alternate"`, []byte("null"))
	base := &url.URL{Scheme: "https", Host: "ca", Path: "/cert/1"}
	f.Fuzz(func(t *testing.T, link string, chain []byte) {
		links := alternates(base, http.Header{"Link": {link}})
		if len(links) > maxAlternates {
			t.Errorf("%d links", len(links))
		}
		for _, link := range links {
			if u, err := url.Parse(link); err != nil || !u.IsAbs() {
				t.Errorf("%q: %v", link, err)
			}
		}
		if name := topIssuer(chain); len(name) > 250 || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%+q", name)
		}
	})
}
