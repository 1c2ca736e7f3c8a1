package transport

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
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

var (
	// ErrBudget says that an operation has used up its requests.
	ErrBudget = errors.New("too many requests in one operation; the CA probably sends mxcert in circles")
	// ErrNotACME is wrapped in errors about answers that an ACME server does not send.
	ErrNotACME = errors.New("not ACME")
)

// Operation is the http.RoundTripper of one conversation with the CA. It is safe for concurrent use.
type Operation struct {
	pool   *Pool
	ctx    context.Context //nolint:containedctx // lego's core takes no context: this is where it enters
	nonces nonces

	mu         sync.Mutex
	granted    int // requests, of which budget are left
	budget     int
	retryAfter map[string]hold // by URL, from the last answer
	skew       time.Duration   // this host's clock minus the CA's Date
	alternates []string        // URLs of other chains, from the last answer (RFC 8555 section 7.4.2)
	took       time.Duration   // by one answer, about
	noNonce    error           // why the last request for a nonce failed: the JOSE library keeps only its text
}

// hold is a Retry-After and the time at which it came.
type hold struct {
	wait time.Duration
	from time.Time
}

// Context returns the operation's context.
func (o *Operation) Context() context.Context { return o.ctx }

// Settings returns the settings of the pool.
func (o *Operation) Settings() Settings { return o.pool.settings }

// Client returns a client that sends by this operation and follows no redirects.
func (o *Operation) Client() *http.Client {
	return &http.Client{Transport: o, CheckRedirect: refuseRedirect}
}

// RoundTrip implements http.RoundTripper. It keeps the nonces, so that lego's own store stays empty and asks here for each.
func (o *Operation) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Method == http.MethodHead { // lego uses it only to ask for a nonce
		if nonce := o.nonces.pop(); nonce != "" {
			response := textResponse(request, http.StatusOK, "", nil)
			response.Header.Set("Replay-Nonce", nonce)
			return response, nil
		}
	}
	return o.send(request)
}

// send sends a request to the CA, unless it is for a directory in memory.
func (o *Operation) send(request *http.Request) (*http.Response, error) {
	target, err := o.target(request.URL)
	if err != nil {
		return nil, err
	}
	isDirectory := request.Method == http.MethodGet && target.String() == o.pool.settings.Directory
	if isDirectory {
		if body := o.pool.cache.load(); body != nil {
			return textResponse(request, http.StatusOK, "application/json", body), nil
		}
	} else if !o.pool.cache.names(target.Host) {
		return nil, NotACME("the CA refers to %.100q, a host that its directory does not name", target.Host)
	}
	if err := o.spend(); err != nil {
		return nil, err
	}
	response, body, err := o.exchange(request, target)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= http.StatusBadRequest {
		body = problemBody(response.StatusCode, body)
	}
	if isDirectory && response.StatusCode == http.StatusOK {
		o.pool.cache.store(body)
	}
	if request.Method == http.MethodPost {
		o.nonces.push(response.Header.Get("Replay-Nonce"), response.StatusCode == http.StatusBadRequest && bytes.Contains(body, []byte(BadNonce)))
		response.Header.Del("Replay-Nonce")
	}
	absolute(response, request.URL)
	response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return response, nil
}

// exchange sends one request, at its turn and within its time, and reads the whole answer, so that a connection is never
// leaked.
func (o *Operation) exchange(request *http.Request, target *url.URL) (response *http.Response, body []byte, err error) {
	release, err := o.slot()
	if err != nil {
		return nil, nil, err
	}
	defer release()
	ctx, cancel := context.WithTimeout(o.ctx, o.pool.settings.Patience)
	defer cancel()
	outgoing := request.WithContext(ctx)
	outgoing.URL = target
	start := time.Now()
	response, err = o.pool.inner.RoundTrip(outgoing)
	if err == nil {
		body, err = readAll(response)
	}
	if err != nil && ctx.Err() != nil && o.ctx.Err() == nil {
		err = fmt.Errorf("no complete answer within %s: %w", o.pool.settings.Patience, context.DeadlineExceeded)
	}
	o.note(request, response, time.Since(start), err)
	return response, body, err
}

// Get fetches a JSON document into v. lego's own call regards an error page as an answer. An error answer is a
// *legoacme.ProblemDetails.
func (o *Operation) Get(url string, v any) (status int, err error) {
	defer Rescue(&err)
	request, err := http.NewRequestWithContext(o.ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("User-Agent", o.pool.settings.UserAgent)
	response, err := o.Client().Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body) // send has capped it
	switch {
	case err != nil:
	case response.StatusCode >= http.StatusBadRequest:
		problem := &legoacme.ProblemDetails{}
		if err = json.Unmarshal(body, problem); err == nil { // problemBody has made it one
			problem.Method, problem.URL, problem.HTTPStatus = http.MethodGet, url, response.StatusCode
			err = problem
		}
	case response.StatusCode != http.StatusOK:
		err = NotACME("%s answered %d", request.URL.Host, response.StatusCode)
	default:
		err = json.Unmarshal(body, v)
	}
	return response.StatusCode, err
}

// target returns where a request goes: HTTPS (RFC 8555 section 6.1), or plain HTTP on loopback if the directory itself is
// there. lego refuses plain HTTP and signs the URLs that it asks for, and some CAs behind a proxy write https into a directory
// that they serve in the clear: at the directory's own address, which speaks only one of the two, both work.
func (o *Operation) target(to *url.URL) (*url.URL, error) {
	directory, err := url.Parse(o.pool.settings.Directory)
	if err != nil {
		return nil, err
	}
	target := *to
	plain := directory.Scheme == "http" && loopback(directory.Hostname())
	if plain && target.Host == directory.Host {
		target.Scheme = "http"
	}
	if target.Scheme != "https" && !(plain && target.Scheme == "http" && loopback(target.Hostname())) {
		return nil, NotACME("HTTPS is required, but this is %.100q", target.Redacted())
	}
	return &target, nil
}

// OverTLS returns the directory's URL as lego accepts it: https, also for a CA on loopback that is reached in the clear.
func (s Settings) OverTLS() string {
	if u, err := url.Parse(s.Directory); err == nil && u.Scheme == "http" && loopback(u.Hostname()) {
		u.Scheme = "https"
		return u.String()
	}
	return s.Directory
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

func (o *Operation) spend() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.budget--; o.budget < 0 {
		return ErrBudget
	}
	return o.ctx.Err()
}

// slot waits until the request may be sent, because other operations at this CA send requests, too.
func (o *Operation) slot() (release func(), err error) {
	select {
	case o.pool.slots <- struct{}{}:
		return func() { <-o.pool.slots }, nil
	case <-o.ctx.Done():
		return nil, o.ctx.Err()
	}
}

// note remembers Retry-After, how long answers take, how much the clocks differ, and why there is no nonce.
func (o *Operation) note(request *http.Request, response *http.Response, took time.Duration, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if request.Method == http.MethodHead { // lego uses it only to ask for a nonce
		o.noNonce = nil
		if err != nil {
			o.noNonce = &url.Error{Op: request.Method, URL: request.URL.String(), Err: err}
		} else if response.StatusCode >= http.StatusBadRequest {
			o.noNonce = &legoacme.ProblemDetails{Type: NotProblem, Detail: "no nonce", HTTPStatus: response.StatusCode, URL: request.URL.String()}
		}
	}
	if err != nil {
		return
	}
	if request.Method == http.MethodPost { // requests before it also make the connection
		o.took = cmp.Or(o.took, took)
		o.took += (took - o.took) / 4
	}
	o.alternates = alternates(request.URL, response.Header)
	now := time.Now()
	o.retryAfter[request.URL.String()] = hold{RetryAfter(response.Header.Get("Retry-After"), now), now}
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil && response.Header.Get("Age") == "" { // not from a proxy's cache
		o.skew = now.Sub(date)
		o.pool.cache.noteSkew(o.skew)
	}
}

// NamesHost reports whether the CA's directory names the host and port of a URL.
func (o *Operation) NamesHost(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Host != "" && o.pool.cache.names(u.Host)
}

// NonceError returns why the last request for a nonce failed; nil if it did not fail.
func (o *Operation) NonceError() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.noNonce
}

// RetryAfter returns the wait that the last answer from a URL asked for; 0 if it asked for none.
func (o *Operation) RetryAfter(url string) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.retryAfter[url].wait
}

// Remaining returns how long to wait from now on, as the last answers from these URLs asked.
func (o *Operation) Remaining(urls ...string) (wait time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, url := range urls {
		if h, ok := o.retryAfter[url]; ok {
			wait = max(wait, h.wait-time.Since(h.from))
		}
	}
	return wait
}

// sent returns how many requests were sent until now.
func (o *Operation) sent() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.granted - o.budget
}

// Took returns how long the CA's last answers took, about.
func (o *Operation) Took() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.took
}

// ClockSkew returns this host's clock minus the CA's, from the last Date header.
func (o *Operation) ClockSkew() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.skew
}

// OtherChains returns the links to other chains in the last answer, at most eight.
func (o *Operation) OtherChains() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.alternates
}

func refuseRedirect(request *http.Request, _ []*http.Request) error {
	return NotACME("the CA redirects to %.100q; mxcert does not follow redirects", request.URL.Redacted())
}

// NotACME returns an error that wraps ErrNotACME and says what came.
func NotACME(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrNotACME}, args...)...)
}

// proxyRefused returns the error for a proxy that refused: its answer to CONNECT would otherwise look like the CA's.
func proxyRefused(_ context.Context, proxy *url.URL, _ *http.Request, answer *http.Response) error {
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the proxy %s answered %d to CONNECT", proxy.Host, answer.StatusCode)
	}
	return nil
}
