package acme

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"
)

// requestTimeout is the time for one request and its whole answer.
const requestTimeout = 45 * time.Second

var (
	errBudget = errors.New("too many requests in one operation; the CA sends us in circles")
	// errNotACME is in errors about answers that came, but that no ACME server gives.
	errNotACME = errors.New("not ACME")
)

// transport is the http.RoundTripper of one operation. It adds what lego's core lacks: the operation's context, a
// deadline, a cap on bodies (read whole here, so that a connection is never leaked), error bodies that its parser
// survives, a request budget, and a refusal of plain HTTP and of hosts that the directory does not name.
type transport struct {
	ctx       context.Context //nolint:containedctx // lego's core takes none: this is where it enters
	inner     http.RoundTripper
	cache     *directoryCache
	directory string
	patience  time.Duration // for one request and its answer
	slots     chan struct{} // of the requests to this CA that are under way
	nonces    nonces

	mu         sync.Mutex
	granted    int // requests, of which budget are left
	budget     int
	retryAfter map[string]hold // by URL, of the last answer
	skew       time.Duration   // this host's clock minus the CA's Date
	alternates []string        // URLs of other chains, of the last answer (RFC 8555 section 7.4.2)
	took       time.Duration   // by one answer, about
	noNonce    error           // why the last request for a nonce failed: the JOSE library keeps only its text
}

// hold is a Retry-After and when it came.
type hold struct {
	wait time.Duration
	from time.Time
}

// newTransport is the transport of one operation of at most so many requests.
func (c *Client) newTransport(ctx context.Context, budget int) *transport {
	return &transport{ctx: ctx, inner: c.inner, cache: &c.directory, directory: c.settings.Directory, patience: c.patience, slots: c.slots,
		granted: budget, budget: budget, retryAfter: map[string]hold{}}
}

func (t *transport) httpClient() *http.Client {
	return &http.Client{Transport: t, CheckRedirect: refuseRedirect}
}

// RoundTrip implements http.RoundTripper. It keeps the nonces, so that lego's own store stays empty and asks here for each.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Method == http.MethodHead { // lego asks for nonces so, and for nothing else
		if nonce := t.nonces.pop(); nonce != "" {
			response := textResponse(request, http.StatusOK, "", nil)
			response.Header.Set("Replay-Nonce", nonce)
			return response, nil
		}
	}
	return t.send(request)
}

// send asks the CA.
func (t *transport) send(request *http.Request) (*http.Response, error) {
	target, err := t.target(request.URL)
	if err != nil {
		return nil, err
	}
	isDirectory := request.Method == http.MethodGet && target.String() == t.directory
	if isDirectory {
		if body := t.cache.load(); body != nil {
			return textResponse(request, http.StatusOK, "application/json", body), nil
		}
	} else if !t.cache.names(target.Host) {
		return nil, refusal("the CA sent us to %.100q, a host that its directory does not name", target.Host)
	}
	if err := t.spend(); err != nil {
		return nil, err
	}
	release, err := t.slot()
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, cancel := context.WithTimeout(t.ctx, t.patience)
	defer cancel()
	outgoing := request.WithContext(ctx)
	outgoing.URL = target
	start := time.Now()
	response, err := t.inner.RoundTrip(outgoing)
	var body []byte
	if err == nil {
		body, err = readAll(response)
	}
	if err != nil {
		err = t.inTime(ctx, err)
	}
	if t.note(request, response, time.Since(start), err); err != nil {
		return nil, err
	}
	if response.StatusCode >= http.StatusBadRequest {
		body = problemBody(response.StatusCode, body)
	}
	if isDirectory && response.StatusCode == http.StatusOK {
		t.cache.store(body)
	}
	if request.Method == http.MethodPost {
		t.nonces.push(response.Header.Get("Replay-Nonce"), response.StatusCode == http.StatusBadRequest && bytes.Contains(body, []byte(badNonce)))
		response.Header.Del("Replay-Nonce")
	}
	absolute(response, request.URL)
	response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return response, nil
}

// target is where a request goes: HTTPS (RFC 8555 section 6.1), or plain HTTP on loopback when the directory is there
// itself. lego refuses plain HTTP and signs the URLs that it asks for, and some CAs behind a proxy write https into a
// directory that they serve in the clear: at the directory's own address, which speaks but one of the two, both work.
func (t *transport) target(to *url.URL) (*url.URL, error) {
	directory, err := url.Parse(t.directory)
	if err != nil {
		return nil, err
	}
	target := *to
	plain := directory.Scheme == "http" && loopback(directory.Hostname())
	if plain && target.Host == directory.Host {
		target.Scheme = "http"
	}
	if target.Scheme != "https" && !(plain && target.Scheme == "http" && loopback(target.Hostname())) {
		return nil, refusal("HTTPS is required, but this is %.100q", target.Redacted())
	}
	return &target, nil
}

// overTLS is the directory's URL as lego accepts it; see target.
func overTLS(directory string) string {
	if u, err := url.Parse(directory); err == nil && u.Scheme == "http" && loopback(u.Hostname()) {
		u.Scheme = "https"
		return u.String()
	}
	return directory
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// absolute completes a Location: it may be relative (RFC 9110 section 10.2.2), and lego takes it as it is.
func absolute(response *http.Response, base *url.URL) {
	location, err := url.Parse(response.Header.Get("Location"))
	if err == nil && location.String() != "" && !location.IsAbs() {
		response.Header.Set("Location", base.ResolveReference(location).String())
	}
}

// inTime says plainly that the CA was too slow.
func (t *transport) inTime(ctx context.Context, err error) error {
	if ctx.Err() != nil && t.ctx.Err() == nil {
		return fmt.Errorf("no complete answer within %s: %w", t.patience, context.DeadlineExceeded)
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

// slot waits until the request may be sent beside those of other operations at this CA.
func (t *transport) slot() (release func(), err error) {
	select {
	case t.slots <- struct{}{}:
		return func() { <-t.slots }, nil
	case <-t.ctx.Done():
		return nil, t.ctx.Err()
	}
}

// note remembers Retry-After, how long answers take, how far the clocks are apart, and why there is no nonce.
func (t *transport) note(request *http.Request, response *http.Response, took time.Duration, err error) {
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
	if request.Method == http.MethodPost { // those before make the connection, too
		t.took = cmp.Or(t.took, took)
		t.took += (took - t.took) / 4
	}
	t.alternates = alternates(request.URL, response.Header)
	now := time.Now()
	t.retryAfter[request.URL.String()] = hold{parseRetryAfter(response.Header.Get("Retry-After"), now), now}
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil && response.Header.Get("Age") == "" { // not out of a proxy's cache
		t.skew = now.Sub(date)
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
	return t.retryAfter[url].wait
}

// remaining is how long to wait from now on, by what the last answers from these URLs asked for.
func (t *transport) remaining(urls ...string) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, url := range urls {
		if h, ok := t.retryAfter[url]; ok {
			wait = max(wait, h.wait-time.Since(h.from))
		}
	}
	return wait
}

// sent is how many requests were sent until now.
func (t *transport) sent() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.granted - t.budget
}

// roundTrip is how long the CA's last answers took.
func (t *transport) roundTrip() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.took
}

// clockSkew is this host's clock minus the CA's, from the last Date header.
func (t *transport) clockSkew() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.skew
}

func refuseRedirect(request *http.Request, _ []*http.Request) error {
	return refusal("the CA redirects to %.100q; redirects are not followed", request.URL.Redacted())
}

func refusal(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errNotACME}, args...)...)
}

// proxyRefused says that it was a proxy that refused: its answer to CONNECT would otherwise look like the CA's.
func proxyRefused(_ context.Context, proxy *url.URL, _ *http.Request, answer *http.Response) error {
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the proxy %s answered %d to CONNECT", proxy.Host, answer.StatusCode)
	}
	return nil
}

func tlsConfig(roots *x509.CertPool) *tls.Config {
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}
