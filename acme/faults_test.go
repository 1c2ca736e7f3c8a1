package acme_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"mxcert/acme"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
)

// fault is a way in which an endpoint misbehaves, and what is to come of it.
type fault struct {
	name      string
	handle    func(w http.ResponseWriter, good *httptest.ResponseRecorder)
	kind      string
	permanent bool
	wait      time.Duration
}

func answer(status int, body string, header ...string) func(http.ResponseWriter, *httptest.ResponseRecorder) {
	return func(w http.ResponseWriter, good *httptest.ResponseRecorder) {
		w.Header()["Replay-Nonce"] = good.Header()["Replay-Nonce"]
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func faults() []fault {
	problem := func(kind string) string {
		return fmt.Sprintf(`{"type":"urn:ietf:params:acme:error:%s","detail":"says the test"}`, kind)
	}
	later := []string{"Retry-After", "3600"}
	return []fault{
		{name: "500", handle: answer(500, problem("serverInternal")), kind: "ca-error"},
		{name: "500 null", handle: answer(500, "null"), kind: "ca-error"},
		{name: "503 later", handle: answer(503, "<html>maintenance</html>", later...), kind: "ca-error", wait: time.Hour},
		{name: "429 later", handle: answer(429, problem("rateLimited"), later...), kind: "rate-limited", wait: time.Hour},
		{name: "429 without a type", handle: answer(429, "slow down", later...), kind: "rate-limited", wait: time.Hour},
		{name: "404 of a proxy", handle: answer(404, "404 page not found"), kind: "ca-error"},
		{name: "403", handle: answer(403, problem("unauthorized")), kind: "ca-refused", permanent: true},
		{name: "400 with a broken problem", handle: answer(400, `{"type":7,"subproblems":[3,{"identifier":4}]}`), kind: "ca-refused", permanent: true},
		{name: "null", handle: answer(200, "null"), kind: "ca-error"},
		{name: "a list", handle: answer(200, "[]"), kind: "ca-error"},
		{name: "truncated", handle: func(w http.ResponseWriter, good *httptest.ResponseRecorder) {
			answer(good.Code, good.Body.String()[:good.Body.Len()/2])(w, good)
		}, kind: "ca-error"},
		{name: "2 MiB", handle: func(w http.ResponseWriter, good *httptest.ResponseRecorder) {
			answer(200, strings.Repeat(" ", 2<<20)+good.Body.String())(w, good)
		}, kind: "ca-error"},
		{name: "redirect", handle: answer(302, "", "Location", "https://127.0.0.1:1/elsewhere"), kind: "ca-error"},
		{name: "broken off", handle: func(http.ResponseWriter, *httptest.ResponseRecorder) { panic(http.ErrAbortHandler) }, kind: "ca-unreachable"},
	}
}

// endpoints are all that an order needs.
func endpoints() []ca.Endpoint {
	return []ca.Endpoint{ca.Directory, ca.NewNonce, ca.NewAccount, ca.NewOrder, ca.Authz, ca.Challenge, ca.Order, ca.Finalize, ca.Certificate}
}

// exceptions are the cells in which something else comes out; works means that the order succeeds all the same.
func exceptions(e ca.Endpoint, f *fault) (works bool) {
	body := f.name == "null" || f.name == "a list" || f.name == "truncated" || f.name == "2 MiB"
	switch {
	case e == ca.NewNonce && body: // the nonce is in the header
		return true
	case e == ca.Challenge && f.name == "null": // the CA has got the request, and what it says does not matter
		return true
	case e == ca.Certificate && body && f.name != "2 MiB": // it is no JSON, but a chain that is none
		f.kind, f.permanent = "bad-certificate", true
	case e == ca.Certificate && f.permanent: // the order is valid, and its certificate is asked for again
		f.permanent = false
	case e == ca.NewNonce && f.permanent: // a HEAD has no body: there is no problem document
		f.kind, f.permanent = "ca-error", false
	}
	return false
}

// TestFaultsAtEachEndpoint: whatever comes back, it is an error with a kind, that says whether to try again, and never
// a crash. All cells run at once on one CA, which knows them by their user agent.
func TestFaultsAtEachEndpoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	cells := map[string]cell{}
	for _, e := range endpoints() {
		for _, f := range faults() {
			works := exceptions(e, &f)
			cells[fmt.Sprintf("%s/%s", e, f.name)] = cell{endpoint: e, fault: f, works: works}
		}
	}
	w.CA.SetWrap(func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			agent, _, _ := strings.Cut(strings.TrimPrefix(r.UserAgent(), "cell "), " xenolf")
			c, ok := cells[agent]
			if !ok || ca.EndpointOf(r.URL.Path) != c.endpoint {
				inner.ServeHTTP(rw, r)
				return
			}
			good := httptest.NewRecorder()
			inner.ServeHTTP(good, r)
			c.fault.handle(rw, good)
		})
	})
	limit := make(chan struct{}, 16)
	var wg sync.WaitGroup
	n := 0
	for name, c := range cells {
		n++
		s := w.setup
		s.State, s.Names, s.Settings.UserAgent = fmt.Sprintf("%s-%d", s.State, n), []string{fmt.Sprintf("cell%d.example.org", n)}, "cell "+name
		wg.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			c.check(t, name, s)
		})
	}
	wg.Wait()
	if left := w.World.Challenges(); len(left) != 0 {
		t.Errorf("TXT records are left: %v", left)
	}
}

type cell struct {
	endpoint ca.Endpoint
	fault    fault
	works    bool
}

func (c cell) check(t *testing.T, name string, s setup) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := s.issue(ctx, nil)
	if c.works {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return
	}
	e, ok := errors.AsType[*acme.Error](err)
	if !ok {
		t.Errorf("%s: got %v", name, err)
		return
	}
	if e.Kind() != c.fault.kind || e.Temporary() == c.fault.permanent || e.Wait() != c.fault.wait {
		t.Errorf("%s: %v\nkind %s, temporary %v, wait %s", name, e, e.Kind(), e.Temporary(), e.Wait())
	}
	if e.Stage == "" || e.Hint() == "" || len(e.Error()) > 1000 || strings.ContainsAny(e.Error(), "\n\r\x1b") || strings.Contains(e.Error(), "%!") {
		t.Errorf("%s: stage %q, hint %q, message %q", name, e.Stage, e.Hint(), e.Error())
	}
}

// TestForeignHosts: an answer that points elsewhere takes our signed requests nowhere.
func TestForeignHosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	other := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s %s went to another host", r.Method, r.URL) }))
	defer other.Close()
	host := strings.TrimSuffix(w.setup.Directory, "/dir")
	for e, path := range map[ca.Endpoint]string{ca.NewOrder: "/authZ/", ca.Authz: "/chalZ/", ca.Order: "/finalize-order/", ca.Finalize: "/certZ/"} {
		w.CA.SetWrap(func(inner http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if at := ca.EndpointOf(r.URL.Path); at != e && (e != ca.Finalize || at != ca.Order) {
					inner.ServeHTTP(rw, r)
					return
				}
				good := httptest.NewRecorder()
				inner.ServeHTTP(good, r)
				for name, values := range good.Header() {
					if name != "Content-Length" {
						rw.Header()[name] = values
					}
				}
				rw.WriteHeader(good.Code)
				_, _ = rw.Write([]byte(strings.ReplaceAll(good.Body.String(), host+path, other.URL+path)))
			})
		})
		s := w.setup
		s.State += string(e)
		_, err := s.issue(t.Context(), nil)
		if err, ok := errors.AsType[*acme.Error](err); !ok || err.Kind() != "ca-error" || !err.Temporary() || !strings.Contains(err.Error(), "a host that its directory does not name") {
			t.Errorf("%s: %v", e, err)
		}
	}
	if left := w.World.Challenges(); len(left) != 0 {
		t.Errorf("TXT records are left: %v", left)
	}
}

// TestOddAuthorizations: a CA that asks for more, or for something else, is not followed.
func TestOddAuthorizations(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what     string
		endpoint ca.Endpoint
		old, new string
		says     string
		kind     string
	}{
		{"more authorizations than names", ca.NewOrder, `"authorizations": [`, `"authorizations": ["https://x/1","https://x/2",`, "wants 3 authorizations for 1 names", "ca-error"},
		{"another name", ca.Authz, `"value": "mx.example.org"`, `"value": "evil.example.org"`, "wants proof for evil.example.org, which was not asked for", "ca-error"},
		{"no dns-01", ca.Authz, `"dns-01"`, `"dns-account-01"`, "offers no dns-01 challenge for mx.example.org", "ca-refused"},
		{"an authorization that is over", ca.Authz, `"status": "pending"`, `"status": "deactivated"`, "does not accept the proof for mx.example.org (authorization deactivated)", "challenge"},
		{"a status that does not exist", ca.Order, `"status": "`, `"status": "un`, "which is no status of RFC 8555", "ca-error"},
	} {
		w := newWorld(t, lab.Options{})
		w.Names = []string{"mx.example.org"}
		w.CA.SetWrap(func(inner http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if ca.EndpointOf(r.URL.Path) != tt.endpoint {
					inner.ServeHTTP(rw, r)
					return
				}
				good := httptest.NewRecorder()
				inner.ServeHTTP(good, r)
				for name, values := range good.Header() {
					if name != "Content-Length" {
						rw.Header()[name] = values
					}
				}
				rw.WriteHeader(good.Code)
				body := good.Body.String()
				if !strings.Contains(body, tt.old) {
					t.Errorf("%s: no %q in %s", tt.what, tt.old, body)
				}
				_, _ = rw.Write([]byte(strings.ReplaceAll(body, tt.old, tt.new)))
			})
		})
		_, err := w.issue(t.Context(), nil)
		if e, ok := errors.AsType[*acme.Error](err); !ok || e.Kind() != tt.kind || !strings.Contains(e.Error(), tt.says) {
			t.Errorf("%s: %v", tt.what, err)
		}
		w.clean(t, tt.what)
	}
}
