package acme

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"
)

const (
	maxBody        = 1 << 20
	maxProblem     = 64 << 10
	requestTimeout = 45 * time.Second
	directoryLife  = time.Hour

	// badNonce is what the CA's badNonce becomes on its way to lego, whose own retry waits 200 ms and longer. A refused
	// nonce comes with a new one: [call] repeats at once (RFC 8555 section 6.5).
	badNonce   = "urn:mxcert:badNonce"
	notProblem = "urn:mxcert:notAProblemDocument"
)

var (
	errBudget = errors.New("too many requests in one operation; the CA sends us in circles")
	// errNotACME is in errors about answers that came, but that no ACME server gives.
	errNotACME = errors.New("not ACME")
)

// transport is the http.RoundTripper of one operation. It adds what lego's core lacks: the operation's context, a
// deadline, a cap on bodies (read whole here, so that a connection is never leaked), error bodies that its parser
// survives, a request budget, and a refusal of hosts that the directory does not name.
type transport struct {
	ctx       context.Context //nolint:containedctx // lego's core takes none: this is where it enters
	inner     http.RoundTripper
	cache     *directoryCache
	directory string

	mu         sync.Mutex
	budget     int
	retryAfter map[string]time.Duration // by URL, of the last answer
	skew       time.Duration            // this host's clock minus the CA's Date
	alternates []string                 // URLs of other chains, of the last answer (RFC 8555 section 7.4.2)
	noNonce    error                    // why the last request for a nonce failed: the JOSE library keeps only its text
}

func newTransport(ctx context.Context, inner http.RoundTripper, cache *directoryCache, directory string, budget int) *transport {
	return &transport{ctx: ctx, inner: inner, cache: cache, directory: directory, budget: budget, retryAfter: map[string]time.Duration{}}
}

// directoryCache keeps the CA's directory for an hour (RFC 8555 section 7.1.1 allows caching).
type directoryCache struct {
	mu      sync.Mutex
	body    []byte
	fetched time.Time
	hosts   map[string]bool
	skew    time.Duration // this host's clock minus the CA's at its last answer
}

func (d *directoryCache) load() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.fetched) > directoryLife {
		return nil
	}
	return d.body
}

// store remembers the directory and the hosts that it names.
func (d *directoryCache) store(body []byte) {
	var entries map[string]any
	if json.Unmarshal(body, &entries) != nil {
		return
	}
	for _, needed := range []string{"newNonce", "newAccount", "newOrder"} {
		if _, ok := entries[needed].(string); !ok {
			return // not for an hour
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.body, d.fetched, d.hosts = body, time.Now(), map[string]bool{}
	for _, v := range entries {
		if text, ok := v.(string); ok {
			if u, err := url.Parse(text); err == nil {
				d.hosts[u.Host] = true
			}
		}
	}
}

func (d *directoryCache) names(host string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hosts[host]
}

func (d *directoryCache) noteSkew(skew time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.skew = skew
}

func (d *directoryCache) lastSkew() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.skew
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	isDirectory := request.Method == http.MethodGet && request.URL.String() == t.directory
	if isDirectory {
		if body := t.cache.load(); body != nil {
			return textResponse(request, http.StatusOK, "application/json", body), nil
		}
	} else if !t.cache.names(request.URL.Host) {
		return nil, refusal("the CA sent us to %.100q, a host that its directory does not name", request.URL.Host)
	}
	if err := t.spend(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(t.ctx, requestTimeout)
	defer cancel()
	response, err := t.inner.RoundTrip(request.WithContext(ctx))
	var body []byte
	if err == nil {
		body, err = readAll(response)
	}
	t.note(request, response, err)
	if err != nil {
		return nil, t.inTime(ctx, err)
	}
	if response.StatusCode >= http.StatusBadRequest {
		body = problemBody(response.StatusCode, body)
	}
	if isDirectory && response.StatusCode == http.StatusOK {
		t.cache.store(body)
	}
	response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return response, nil
}

// inTime says plainly that the CA was too slow.
func (t *transport) inTime(ctx context.Context, err error) error {
	if ctx.Err() != nil && t.ctx.Err() == nil {
		return fmt.Errorf("no complete answer within %s: %w", requestTimeout, context.DeadlineExceeded)
	}
	return err
}

func (t *transport) spend() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.budget--; t.budget < 0 {
		return errBudget
	}
	return t.ctx.Err()
}

// note remembers Retry-After, how far the clocks are apart, and why there is no nonce.
func (t *transport) note(request *http.Request, response *http.Response, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if request.Method == http.MethodHead { // lego asks for nonces so, and for nothing else
		t.noNonce = nil
		if err != nil {
			t.noNonce = &url.Error{Op: request.Method, URL: request.URL.String(), Err: err}
		} else if response.StatusCode >= http.StatusBadRequest {
			t.noNonce = &legoacme.ProblemDetails{Type: notProblem, Detail: "no nonce", HTTPStatus: response.StatusCode, URL: request.URL.String()}
		}
	}
	if err != nil {
		return
	}
	t.alternates = alternates(request.URL, response.Header)
	t.retryAfter[request.URL.String()] = parseRetryAfter(response.Header.Get("Retry-After"), time.Now())
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil && response.Header.Get("Age") == "" { // not out of a proxy's cache
		t.skew = time.Since(date)
		t.cache.noteSkew(t.skew)
	}
}

// nonceError is why the last request for a nonce failed, nil where it did not.
func (t *transport) nonceError() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.noNonce
}

// retryAfterOf is what the last answer from a URL asked for; 0 for nothing.
func (t *transport) retryAfterOf(url string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.retryAfter[url]
}

// clockSkew is this host's clock minus the CA's, from the last Date header.
func (t *transport) clockSkew() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.skew
}

// parseRetryAfter reads both forms (RFC 9110 section 10.2.3), capped at a day.
func parseRetryAfter(value string, now time.Time) time.Duration {
	const most = 24 * time.Hour
	if value = strings.TrimSpace(value); value == "" {
		return 0
	}
	wait := most
	if strings.Trim(value, "0123456789") == "" {
		if seconds, err := strconv.Atoi(value); err == nil { // otherwise it is longer than we can count
			wait = time.Duration(min(seconds, int(most/time.Second))) * time.Second
		}
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(now)
	} else {
		return 0
	}
	return max(0, min(wait, most))
}

// readAll reads a body up to the cap and closes it.
func readAll(response *http.Response) ([]byte, error) {
	defer response.Body.Close()
	limit := int64(maxBody)
	if response.StatusCode >= http.StatusBadRequest {
		limit = maxProblem
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("answer broke off: %w", err)
	case int64(len(body)) <= limit:
		return body, nil
	case response.StatusCode >= http.StatusBadRequest:
		return body[:limit], nil // no JSON any more: it becomes a problem of our own
	}
	return nil, refusal("the answer is larger than %d bytes", limit)
}

// problemBody makes a problem document (RFC 7807) that lego's parser survives of whatever came with an error status.
// Only what has the right name and type is taken over.
func problemBody(status int, body []byte) []byte {
	var raw map[string]json.RawMessage
	problem := legoacme.ProblemDetails{HTTPStatus: status}
	if err := json.Unmarshal(body, &raw); err != nil || raw == nil {
		problem.Type, problem.Detail = notProblem, fmt.Sprintf("%.200q", body)
	} else {
		take(raw["type"], &problem.Type)
		take(raw["detail"], &problem.Detail)
		take(raw["instance"], &problem.Instance)
		var subproblems []json.RawMessage
		take(raw["subproblems"], &subproblems)
		for _, text := range subproblems {
			var sub legoacme.SubProblem
			take(text, &sub)
			problem.SubProblems = append(problem.SubProblems, sub)
		}
	}
	if problem.Type == "urn:ietf:params:acme:error:badNonce" {
		problem.Type = badNonce
	}
	text, err := json.Marshal(problem)
	if err != nil {
		return []byte(`{"type":"` + notProblem + `"}`)
	}
	return text
}

// take decodes a value, or leaves the zero value where it is of another type.
func take[T any](raw json.RawMessage, into *T) {
	var value T
	if json.Unmarshal(raw, &value) == nil {
		*into = value
	}
}

func textResponse(request *http.Request, status int, contentType string, body []byte) *http.Response {
	return &http.Response{
		Status: http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {contentType}}, ContentLength: int64(len(body)),
		Body: io.NopCloser(bytes.NewReader(body)), Request: request,
	}
}

func refuseRedirect(request *http.Request, _ []*http.Request) error {
	return refusal("the CA redirects to %.100q; redirects are not followed", request.URL.Redacted())
}

func refusal(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errNotACME}, args...)...)
}

func tlsConfig(roots *x509.CertPool) *tls.Config {
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}
