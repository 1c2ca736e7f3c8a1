package transport

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"
)

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, " 120 ": 2 * time.Minute, "86400": 24 * time.Hour, "86401": 24 * time.Hour,
		"99999999999999999999999": 24 * time.Hour, "-5": 0, "1.5": 0, "7s": 0, "1e9": 0, "soon": 0, "0x10": 0,
		"Sun, 01 Nov 2026 12:01:00 GMT": time.Minute, "Sun, 01 Nov 2026 11:00:00 GMT": 0, "Sun, 01 Nov 2099 12:01:00 GMT": 24 * time.Hour,
		"Sunday, 01-Nov-26 12:01:00 GMT": time.Minute,
	} {
		if got := RetryAfter(value, now); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}

// problems are bodies that came or may come with an error status.
var problems = []string{
	"", "null", "7", `"text"`, "[]", "{}", "<html>502</html>", `{"type":`, "\x00\xff", `{"type":"urn:ietf:params:acme:error:malformed","detail":"no"}`,
	`{"type":7,"detail":[],"status":"four","instance":{}}`, `{"TYPE":5,"Detail":{},"STATUS":"x"}`, `{"subproblems":5}`, `{"subproblems":null}`,
	`{"subproblems":[1,"x",null,{"type":3,"detail":"kept?","identifier":7},{"type":"t","detail":"d","identifier":{"type":"dns","value":"mx.example.org"}}]}`,
	`{"type":"urn:ietf:params:acme:error:badNonce"}`, `{"type":"urn:ietf:params:acme:error:rateLimited","url":"x","method":9}`,
}

// checkProblem is what lego's parser needs to survive, and we to understand.
func checkProblem(t *testing.T, status int, body []byte) *legoacme.ProblemDetails {
	t.Helper()
	var parsed *legoacme.ProblemDetails
	if err := json.Unmarshal(problemBody(status, body), &parsed); err != nil || parsed == nil || parsed.HTTPStatus != status {
		t.Fatalf("%d %q became %+v, %v", status, body, parsed, err)
	}
	if parsed.Type == legoacme.BadNonceErr {
		t.Errorf("%q: lego would wait with a bad nonce", body)
	}
	_ = parsed.Error()
	return parsed
}

func TestProblemBody(t *testing.T) {
	for _, body := range problems {
		checkProblem(t, 400, []byte(body))
	}
	for body, want := range map[string]legoacme.ProblemDetails{
		`{"type":"urn:ietf:params:acme:error:malformed","detail":"no","instance":"https://x/"}`: {Type: "urn:ietf:params:acme:error:malformed", Detail: "no", Instance: "https://x/"},
		`{"type":7,"detail":"kept"}`:                     {Detail: "kept"},
		`{"type":"urn:ietf:params:acme:error:badNonce"}`: {Type: BadNonce},
		"not found": {Type: NotProblem, Detail: `"not found"`},
		"null":      {Type: NotProblem, Detail: `"null"`},
	} {
		got := checkProblem(t, 404, []byte(body))
		if got.Type != want.Type || got.Detail != want.Detail || got.Instance != want.Instance {
			t.Errorf("%s became %+v", body, got)
		}
	}
	got := checkProblem(t, 403, []byte(problems[14]))
	if last := got.SubProblems[len(got.SubProblems)-1]; last.Identifier.Value != "mx.example.org" || last.Detail != "d" {
		t.Errorf("subproblems: %+v", got.SubProblems)
	}
}

func FuzzProblemBody(f *testing.F) {
	for i, body := range problems {
		f.Add(400+i, []byte(body))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		status = 400 + (status&0x7fffffff)%200
		checkProblem(t, status, body)
	})
}

// server is an HTTPS server and an operation at it, whose directory is known.
func server(t *testing.T, handler http.HandlerFunc, budget int) (*httptest.Server, *http.Client, *Operation) {
	t.Helper()
	s := httptest.NewTLSServer(handler)
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	pool := New(Settings{Directory: s.URL + "/directory", Roots: roots})
	t.Cleanup(pool.Close)
	pool.cache.store([]byte(fmt.Sprintf(`{"newNonce":"%[1]s/n","newAccount":"%[1]s/a","newOrder":"%[1]s/o"}`, s.URL)))
	o := pool.Begin(t.Context(), budget)
	return s, o.Client(), o
}

// get returns the status and the body of a GET.
func get(client *http.Client, url string) (int, string, error) {
	response, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

func TestTransportCapsBodies(t *testing.T) {
	s, client, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		var status, size int
		if _, err := fmt.Sscanf(r.URL.Path, "/%d/%d", &status, &size); err != nil {
			t.Error(err)
		}
		w.WriteHeader(status)
		for chunk := strings.Repeat("x", 32<<10); size > 0; size -= len(chunk) {
			if _, err := io.WriteString(w, chunk[:min(size, len(chunk))]); err != nil {
				return
			}
		}
	}, 100)
	if status, body, err := get(client, s.URL+"/200/1048576"); err != nil || status != 200 || len(body) != maxBody {
		t.Errorf("the largest: %d, %d bytes, %v", status, len(body), err)
	}
	if _, _, err := get(client, s.URL+"/200/1048577"); !errors.Is(err, ErrNotACME) || !strings.Contains(err.Error(), "larger than 1048576 bytes") {
		t.Errorf("one more: %v", err)
	}
	if _, _, err := get(client, s.URL+"/200/50000000"); !errors.Is(err, ErrNotACME) {
		t.Errorf("50 MB: %v", err)
	}
	status, body, err := get(client, s.URL+"/503/50000000")
	if err != nil || status != 503 || len(body) > 1000 || !strings.Contains(body, NotProblem) {
		t.Errorf("50 MB with an error: %d, %d bytes, %v", status, len(body), err)
	}
}

func TestTransportBudget(t *testing.T) {
	var served atomic.Int32
	s, client, _ := server(t, func(http.ResponseWriter, *http.Request) { served.Add(1) }, 5)
	for i := range 10 {
		_, _, err := get(client, s.URL)
		if (i < 5) != (err == nil) || (err != nil && !errors.Is(err, ErrBudget)) {
			t.Errorf("request %d: %v", i+1, err)
		}
	}
	if served.Load() != 5 {
		t.Errorf("%d requests were made", served.Load())
	}
}

func TestTransportStaysWithTheCA(t *testing.T) {
	other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it went there") }))
	defer other.Close()
	s, client, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+"/secret", http.StatusFound)
	}, 100)
	if _, _, err := get(client, other.URL+"/order/1"); !errors.Is(err, ErrNotACME) || !strings.Contains(err.Error(), "does not name") {
		t.Errorf("another host: %v", err)
	}
	if _, _, err := get(client, s.URL); !errors.Is(err, ErrNotACME) || !strings.Contains(err.Error(), "redirects") {
		t.Errorf("a redirect: %v", err)
	}
}

func TestDirectoryIsCached(t *testing.T) {
	var served atomic.Int32
	body := `{"newNonce":"https://x/","newAccount":"https://x/","newOrder":"https://x/"}`
	var s *httptest.Server
	s, client, tr := server(t, func(w http.ResponseWriter, _ *http.Request) { served.Add(1); _, _ = io.WriteString(w, body) }, 100)
	for _, bad := range []string{"null", "{}", `{"newOrder":"https://x/"}`, `{"newNonce":1,"newAccount":2,"newOrder":3}`, "<html>"} {
		tr.pool.cache.body = nil
		good := body
		body = bad
		before := served.Load()
		for range 2 {
			if _, got, err := get(client, s.URL+"/directory"); err != nil || got != bad {
				t.Errorf("%s: %q, %v", bad, got, err)
			}
		}
		if n := served.Load() - before; n != 2 {
			t.Errorf("%s was kept", bad)
		}
		body = good
	}
	before := served.Load()
	for range 3 {
		if _, got, err := get(client, s.URL+"/directory"); err != nil || got != body {
			t.Errorf("%q, %v", got, err)
		}
	}
	if n := served.Load() - before; n != 1 {
		t.Errorf("%d requests for one directory", n)
	}
}

// TestSlowAnswersEndWithTheContext: a server that sends a byte now and then holds nobody up.
func TestSlowAnswersEndWithTheContext(t *testing.T) {
	s, _, tr := server(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, " "); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			time.Sleep(20 * time.Millisecond)
		}
	}, 100)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	tr.ctx = ctx
	start := time.Now()
	_, _, err := get(&http.Client{Transport: tr}, s.URL)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > requestTimeout/2 {
		t.Errorf("%v after %s", err, time.Since(start))
	}
}

func TestRetryAfterIsRemembered(t *testing.T) {
	s, client, tr := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", strings.TrimPrefix(r.URL.Path, "/"))
		w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
	}, 100)
	for _, path := range []string{"/5", "/7"} {
		if _, _, err := get(client, s.URL+path); err != nil {
			t.Fatal(err)
		}
	}
	if a, b, c := tr.RetryAfter(s.URL+"/5"), tr.RetryAfter(s.URL+"/7"), tr.RetryAfter(s.URL); a != 5*time.Second || b != 7*time.Second || c != 0 {
		t.Errorf("%s, %s, %s", a, b, c)
	}
	if skew := tr.ClockSkew().Round(time.Minute); skew != time.Hour {
		t.Errorf("the clocks differ by %s", skew)
	}
}

func TestTarget(t *testing.T) {
	for _, tt := range []struct{ directory, to, want string }{
		{"https://ca.example/dir", "https://ca.example/order", "https://ca.example/order"},
		{"https://ca.example/dir", "http://ca.example/order", ""},
		{"https://127.0.0.1:1/dir", "http://127.0.0.1:1/order", ""},
		{"http://ca.example/dir", "http://ca.example/dir", ""},
		{"http://ca.example/dir", "https://ca.example/dir", "https://ca.example/dir"},
		{"http://127.0.0.1:1/dir", "https://127.0.0.1:1/dir", "http://127.0.0.1:1/dir"},
		{"http://127.0.0.1:1/dir", "http://127.0.0.1:1/order?a=b", "http://127.0.0.1:1/order?a=b"},
		{"http://127.0.0.1:1/dir", "http://127.0.0.1:2/order", "http://127.0.0.1:2/order"},
		{"http://127.0.0.1:1/dir", "https://127.0.0.1:2/order", "https://127.0.0.1:2/order"},
		{"http://127.0.0.1:1/dir", "http://ca.example/order", ""},
		{"http://[::1]:1/dir", "https://[::1]:1/order", "http://[::1]:1/order"},
		{"http://localhost:1/dir", "http://localhost:1/order", "http://localhost:1/order"},
		{"http://127.0.0.1.evil.example/dir", "http://127.0.0.1.evil.example/dir", ""},
		{"http://127.0.0.1:1/dir", "ftp://127.0.0.1:2/order", ""},
	} {
		to, err := url.Parse(tt.to)
		if err != nil {
			t.Fatal(err)
		}
		target, err := New(Settings{Directory: tt.directory}).Begin(t.Context(), 1).target(to)
		if tt.want == "" {
			if !errors.Is(err, ErrNotACME) || !strings.Contains(err.Error(), "HTTPS is required") {
				t.Errorf("%s of %s: %v, %v", tt.to, tt.directory, target, err)
			}
		} else if err != nil || target.String() != tt.want {
			t.Errorf("%s of %s: %v, %v; want %s", tt.to, tt.directory, target, err, tt.want)
		}
	}
}

// FuzzRetryAfter: between nothing and a day.
func FuzzRetryAfter(f *testing.F) {
	for _, value := range []string{"", "0", "120", "-1", "99999999999999999999", "Sun, 01 Nov 2026 12:01:00 GMT", "Sunday, 01-Nov-26 12:01:00 GMT", "Sun Nov  1 12:01:00 2026", " 7 ", "1e9"} {
		f.Add(value, int64(1793534400))
	}
	f.Fuzz(func(t *testing.T, value string, now int64) {
		if wait := RetryAfter(value, time.Unix(now, 0)); wait < 0 || wait > 24*time.Hour {
			t.Errorf("%q at %d: %s", value, now, wait)
		}
	})
}

// FuzzAlternates: links to other chains are few, and complete.
func FuzzAlternates(f *testing.F) {
	f.Add(`<https://ca/1>;rel="alternate", </2>; rel="alternate"; title="<x>"`)
	f.Add(strings.Repeat(`<x>;rel="alternate"`, 100))
	f.Add(`<>;rel="alternate",<:>;rel="alternate",<%zz>;rel="alternate"`)
	base := &url.URL{Scheme: "https", Host: "ca", Path: "/cert/1"}
	f.Fuzz(func(t *testing.T, link string) {
		links := alternates(base, http.Header{"Link": {link}})
		if len(links) > maxAlternates {
			t.Errorf("%d links", len(links))
		}
		for _, link := range links {
			if u, err := url.Parse(link); err != nil || !u.IsAbs() {
				t.Errorf("%q: %v", link, err)
			}
		}
	})
}
