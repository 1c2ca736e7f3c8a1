package ca_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"
	"github.com/miekg/dns"

	"mxcert/cmd/mxcert-lab/ca"
)

// TestProfiles orders so often that a profile drawn by chance would show.
func TestProfiles(t *testing.T) {
	c := start(t, ca.Options{SkipValidation: true, Validity: time.Hour, Profiles: map[string]time.Duration{"short": time.Minute, "long": 48 * time.Hour}})
	core := register(t, c)
	for range 10 {
		order, err := core.Orders.New([]string{"mx.example.org"})
		if err != nil {
			t.Fatal(err)
		}
		if order.Profile != ca.DefaultProfile {
			t.Fatalf("an order without a profile shows %q", order.Profile)
		}
	}
	for profile, want := range map[string]time.Duration{"": time.Hour, "short": time.Minute, "long": 48 * time.Hour, ca.DefaultProfile: time.Hour} {
		leaf := issue(t, core, &api.OrderOptions{Profile: profile}, "mx.example.org")[0]
		if got := leaf.NotAfter.Sub(leaf.NotBefore) + time.Second; got != want {
			t.Errorf("profile %q: valid for %s, want %s", profile, got, want)
		}
	}
	_, err := core.Orders.NewWithOptions([]string{"mx.example.org"}, &api.OrderOptions{Profile: "none"})
	if problem := new(acme.ProblemDetails); !errors.As(err, &problem) || !strings.HasSuffix(problem.Type, ":invalidProfile") {
		t.Errorf("an unknown profile: %v", err)
	}
	if got := core.GetDirectory().Meta.Profiles; len(got) != 3 {
		t.Errorf("profiles in the directory: %v", got)
	}
}

// TestAuthorizationReuse orders 200 times, in which Pebble's own 0 % would reuse one with a probability of 87 %.
func TestAuthorizationReuse(t *testing.T) {
	status := func(core *api.Core) string {
		order, err := core.Orders.New([]string{"mx.example.org"})
		if err != nil {
			t.Fatal(err)
		}
		authz, err := core.Authorizations.Get(order.Authorizations[0])
		if err != nil {
			t.Fatal(err)
		}
		if authz.Identifier.Value != "mx.example.org" {
			t.Fatalf("the authorization is for %q", authz.Identifier.Value)
		}
		return authz.Status
	}
	never := register(t, start(t, ca.Options{SkipValidation: true}))
	issue(t, never, nil, "mx.example.org")
	for range 200 {
		if got := status(never); got != acme.StatusPending {
			t.Fatalf("the authorization of a new order is %s", got)
		}
	}
	issue(t, never, nil, "mx.example.org") // the hidden ones are as they were
	always := register(t, start(t, ca.Options{SkipValidation: true, ReuseAuthz: 100}))
	issue(t, always, nil, "mx.example.org")
	for range 10 {
		if got := status(always); got != acme.StatusValid {
			t.Fatalf("with reuse the authorization of a new order is %s", got)
		}
	}
}

func TestExternalAccountBinding(t *testing.T) {
	hmac := base64.RawURLEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))
	c := start(t, ca.Options{EAB: map[string]string{"kid-1": hmac}})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	core, err := api.New(httpClient(t, c), "mxcert-lab-test", c.DirectoryURL(), "", key)
	if err != nil {
		t.Fatal(err)
	}
	if !core.GetDirectory().Meta.ExternalAccountRequired {
		t.Error("the directory does not say that a binding is required")
	}
	_, err = core.Accounts.New(acme.Account{TermsOfServiceAgreed: true})
	if problem := new(acme.ProblemDetails); !errors.As(err, &problem) || !strings.HasSuffix(problem.Type, ":externalAccountRequired") {
		t.Errorf("an account without a binding: %v", err)
	}
	if _, err := core.Accounts.NewEAB(acme.Account{TermsOfServiceAgreed: true}, "kid-2", hmac); err == nil {
		t.Error("an unknown key identifier is accepted")
	}
	if _, err := core.Accounts.NewEAB(acme.Account{TermsOfServiceAgreed: true}, "kid-1", hmac); err != nil {
		t.Errorf("an account with the binding: %v", err)
	}
}

func TestBlockedNames(t *testing.T) {
	core := register(t, start(t, ca.Options{Blocked: []string{"blocked.example.org"}}))
	for name, blocked := range map[string]bool{"mx.example.org": false, "blocked.example.org": true, "mx.blocked.example.org": true} {
		_, err := core.Orders.New([]string{name})
		problem := new(acme.ProblemDetails)
		if got := errors.As(err, &problem) && strings.HasSuffix(problem.Type, ":rejectedIdentifier"); got != blocked {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestValidationAsksTheResolver validates against a name server that knows one right and one wrong answer. The right one
// takes longer than Pebble's own DNS client would wait.
func TestValidationAsksTheResolver(t *testing.T) {
	var answers sync.Map // name → TXT value
	var slow sync.Once
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	resolver := &dns.Server{Listener: listener, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, request *dns.Msg) {
		slow.Do(func() { time.Sleep(3 * time.Second) })
		reply := new(dns.Msg).SetReply(request)
		if value, ok := answers.Load(request.Question[0].Name); ok {
			reply.Answer = append(reply.Answer, &dns.TXT{
				Hdr: dns.RR_Header{Name: request.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{value.(string)},
			})
		}
		_ = w.WriteMsg(reply)
	})}
	go func() { _ = resolver.ActivateAndServe() }()
	defer func() { _ = resolver.ShutdownContext(context.Background()) }()
	core := register(t, start(t, ca.Options{Resolver: listener.Addr().String()}))
	for _, right := range []bool{true, false} {
		order, err := core.Orders.New([]string{"mx.example.org"})
		if err != nil {
			t.Fatal(err)
		}
		authz, err := core.Authorizations.Get(order.Authorizations[0])
		if err != nil {
			t.Fatal(err)
		}
		challenge := dns01(t, authz)
		value := "wrong"
		if right {
			value = keyDigest(t, core, challenge.Token)
		}
		answers.Store("_acme-challenge.mx.example.org.", value)
		if _, err := core.Challenges.New(challenge.URL); err != nil {
			t.Fatal(err)
		}
		want := map[bool]string{true: acme.StatusReady, false: acme.StatusInvalid}[right]
		for deadline := time.Now().Add(time.Minute); order.Status != want; time.Sleep(5 * time.Millisecond) {
			location := order.Location
			if order, err = core.Orders.Get(location); err != nil {
				t.Fatal(err)
			}
			if order.Location = location; time.Now().After(deadline) {
				t.Fatalf("right value %v: the order is %s", right, order.Status)
			}
		}
	}
}

func TestRetryAfter(t *testing.T) {
	c := start(t, ca.Options{SkipValidation: true, OrderRetryAfter: 7 * time.Second})
	core := register(t, c)
	var header atomic.Value
	c.SetWrap(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r)
			if ca.EndpointOf(r.URL.Path) == ca.Finalize {
				header.Store(w.Header().Get("Retry-After"))
			}
		})
	})
	issue(t, core, nil, "mx.example.org")
	if got, _ := header.Load().(string); got == "" {
		t.Error("no Retry-After with a processing order")
	}
}

func TestChainsAndRoots(t *testing.T) {
	c := start(t, ca.Options{SkipValidation: true, ChainLength: 2, AlternateRoots: 1, RSA: true})
	core := register(t, c)
	chain := issue(t, core, nil, "mx.example.org")
	if len(chain) != 3 {
		t.Errorf("%d certificates in the chain, want 3", len(chain))
	}
	if chain[1].PublicKeyAlgorithm != x509.RSA {
		t.Errorf("the issuer's key is %s", chain[1].PublicKeyAlgorithm)
	}
	if roots := parse(t, c.Roots()); len(roots) != 2 {
		t.Errorf("%d roots, want 2", len(roots))
	}
}

func TestRequestsAreCounted(t *testing.T) {
	c := start(t, ca.Options{SkipValidation: true})
	core := register(t, c)
	c.ResetRequests()
	issue(t, core, nil, "mx.example.org", "host7.example.org")
	for endpoint, want := range map[ca.Endpoint]int{ca.NewOrder: 1, ca.Authz: 2, ca.Challenge: 2, ca.Finalize: 1, ca.Certificate: 1, ca.NewAccount: 0, ca.Other: 0} {
		if got := c.Count(endpoint); got != want {
			t.Errorf("%d requests of %s, want %d", got, endpoint, want)
		}
	}
	requests := c.Requests()
	if len(requests) != c.Count() {
		t.Errorf("%d requests are kept, %d counted", len(requests), c.Count())
	}
	for _, r := range requests {
		if r.Endpoint == ca.NewOrder && (r.Status != http.StatusCreated || r.Method != http.MethodPost || !strings.Contains(r.UserAgent, "mxcert-lab-test")) {
			t.Errorf("the new order is logged as %+v", r)
		}
	}
}

// TestWrap breaks and mends the CA while it runs.
func TestWrap(t *testing.T) {
	refuse := func(status int) func(http.Handler) http.Handler {
		return func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		}
	}
	c := start(t, ca.Options{Wrap: refuse(http.StatusTeapot)})
	client := httpClient(t, c)
	status := func() int {
		t.Helper()
		response, _ := get(t, client, c.DirectoryURL())
		return response.StatusCode
	}
	if got := status(); got != http.StatusTeapot {
		t.Errorf("wrapped at start: %d", got)
	}
	c.SetWrap(refuse(http.StatusServiceUnavailable))
	if got := status(); got != http.StatusServiceUnavailable {
		t.Errorf("wrapped anew: %d", got)
	}
	c.SetWrap(nil)
	if got := status(); got != http.StatusOK {
		t.Errorf("unwrapped: %d", got)
	}
	c.SetWrap(func(http.Handler) http.Handler {
		return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.DirectoryURL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if response, err := client.Do(request); err == nil {
		_ = response.Body.Close()
		t.Error("an aborted answer is no error")
	}
	if got := c.Count(ca.Directory); got < 4 { // the client may repeat what was aborted
		t.Errorf("%d requests are counted, want those that the wraps answered too", got)
	}
}

func TestEnvironmentIsPutBack(t *testing.T) {
	t.Setenv("PEBBLE_WFE_NONCEREJECT", "33")
	if err := os.Unsetenv("PEBBLE_VA_NOSLEEP"); err != nil {
		t.Fatal(err)
	}
	start(t, ca.Options{})
	if got := os.Getenv("PEBBLE_WFE_NONCEREJECT"); got != "33" {
		t.Errorf("PEBBLE_WFE_NONCEREJECT is %q afterwards", got)
	}
	if _, set := os.LookupEnv("PEBBLE_VA_NOSLEEP"); set {
		t.Error("PEBBLE_VA_NOSLEEP is set afterwards")
	}
}

// TestBadNonces sees nonces refused where that is wanted, in a CA that starts beside one that refuses none.
func TestBadNonces(t *testing.T) {
	var bad, good *ca.CA
	var starts sync.WaitGroup
	starts.Go(func() { bad, _ = ca.Start(ca.Options{SkipValidation: true, BadNonces: 50}) })
	starts.Go(func() { good, _ = ca.Start(ca.Options{SkipValidation: true}) })
	starts.Wait()
	if bad == nil || good == nil {
		t.Fatal("a CA did not start")
	}
	for c, wanted := range map[*ca.CA]bool{bad: true, good: false} {
		t.Cleanup(func() { _ = c.Close() })
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		client := httpClient(t, c)
		client.Transport = impatient{client.Transport}
		for range 20 {
			core, err := api.New(client, "mxcert-lab-test", c.DirectoryURL(), "", key)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = core.Accounts.New(acme.Account{TermsOfServiceAgreed: true}) // the log of the CA tells
		}
		refused := false
		for _, r := range c.Requests() {
			refused = refused || r.Status == http.StatusBadRequest
		}
		if refused != wanted {
			t.Errorf("nonces refused: %v, want %v", refused, wanted)
		}
	}
}

// impatient keeps lego from trying again, slower each time.
type impatient struct{ http.RoundTripper }

func (i impatient) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := i.RoundTripper.RoundTrip(r)
	if err == nil && response.StatusCode == http.StatusBadRequest {
		_ = response.Body.Close()
		return nil, errors.New("refused")
	}
	return response, err
}

func TestManagementInterface(t *testing.T) {
	c := start(t, ca.Options{Management: "127.0.0.1:0", SkipValidation: true})
	leaf := issue(t, register(t, c), nil, "mx.example.org")[0]
	response, body := get(t, httpClient(t, c), c.ManagementURL()+"/cert-status-by-serial/"+leaf.SerialNumber.Text(16))
	if response.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(`"Valid"`)) {
		t.Errorf("%s: %s", response.Status, body)
	}
	_, body = get(t, httpClient(t, c), c.ManagementURL()+"/roots/0")
	if !bytes.Equal(body, c.Roots()) {
		t.Error("the root of the management interface is another")
	}
}

func TestBadOptions(t *testing.T) {
	for want, opts := range map[string]ca.Options{
		"validity":  {Validity: time.Millisecond},
		`"default"`: {Profiles: map[string]time.Duration{"default": time.Hour}},
		"listen":    {Listen: "127.0.0.1:not-a-port"},
		"kid-1":     {EAB: map[string]string{"kid-1": "!"}},
	} {
		c, err := ca.Start(opts)
		if err == nil {
			_ = c.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
}

func dns01(t *testing.T, authz acme.Authorization) acme.Challenge {
	t.Helper()
	for _, challenge := range authz.Challenges {
		if challenge.Type == "dns-01" {
			return challenge
		}
	}
	t.Fatal("no dns-01 challenge")
	return acme.Challenge{}
}

func get(t *testing.T, client *http.Client, url string) (*http.Response, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, body
}

// window reads a renewal information answer.
func window(t *testing.T, body []byte) (start, end time.Time) {
	t.Helper()
	var answer struct {
		SuggestedWindow struct{ Start, End time.Time }
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return answer.SuggestedWindow.Start, answer.SuggestedWindow.End
}
