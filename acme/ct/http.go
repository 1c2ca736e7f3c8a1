package ct

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/transport"
)

const (
	// patience is the time for one request and its whole answer; crt.sh often thinks for half a minute.
	patience = 90 * time.Second
	// maxAnswer limits an answer, in bytes.
	maxAnswer = 32 << 20
	// maxRefusal limits what is read of an answer that is an error, in bytes.
	maxRefusal = 4 << 10
)

// Error says why a source gave no answer.
type Error struct {
	Source  string
	Text    string    // completes "Cert Spotter …"
	RetryAt time.Time // the source asks not to be asked again before; zero if it does not say
	Refused bool      // the source refuses this question; others may be fine
	Token   bool      // the source refuses the token
}

func (e *Error) Error() string { return e.Source + " " + e.Text }

// client asks one service.
type client struct {
	source string
	http   *http.Client
	agent  string
	token  func() (string, error) // nil: no token
}

// newClient returns a client that follows no redirect: none is documented, and the token is for this service alone.
func newClient(source, agent string, token func() (string, error)) client {
	dialer := &net.Dialer{Timeout: 15 * time.Second}
	return client{source: source, agent: agent, token: token, http: &http.Client{
		Timeout:       patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSHandshakeTimeout: 15 * time.Second,
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, MaxResponseHeaderBytes: 64 << 10, DisableKeepAlives: true, ForceAttemptHTTP2: true},
	}}
}

// get makes one request and hands the body of a good answer to read. notYet is what Retry-After says.
func (c client) get(ctx context.Context, address string, read func(io.Reader) error) (notYet time.Time, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return time.Time{}, c.failed("cannot be asked: its address is bad")
	}
	request.Header.Set("User-Agent", c.agent)
	request.Header.Set("Accept", "application/json")
	if c.token != nil {
		token, err := c.token()
		if err != nil {
			return time.Time{}, c.failed("is not asked: %s", finding.Line(err))
		}
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return time.Time{}, c.failed("cannot be reached: %s", reason(err))
	}
	defer response.Body.Close()
	if wait := transport.RetryAfter(response.Header.Get("Retry-After"), time.Now()); wait > 0 {
		notYet = time.Now().Add(wait)
	}
	if response.StatusCode != http.StatusOK {
		return time.Time{}, c.refusal(response, notYet)
	}
	limited := &capped{r: response.Body, left: maxAnswer}
	if err := read(limited); err != nil {
		switch {
		case limited.full:
			return time.Time{}, c.failed("gave more than %d MB", maxAnswer>>20)
		case limited.err != nil:
			return time.Time{}, c.failed("broke off its answer: %s", reason(limited.err))
		}
		return time.Time{}, c.failed("gave an answer that is not the documented JSON: %s", finding.Quote(err.Error(), mostText))
	}
	return notYet, nil
}

// refusal reads an answer that is an error.
func (c client) refusal(response *http.Response, notYet time.Time) error {
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxRefusal))
	e := c.failed("answered %d", response.StatusCode)
	if said := finding.Quote(string(body), mostText); said != "" && !strings.Contains(said, "<") {
		e.Text += " " + finding.Quoted(said, mostText)
	}
	e.RetryAt = notYet
	switch response.StatusCode {
	case http.StatusTooManyRequests:
		e.Text = "allows no more requests now"
	case http.StatusUnauthorized, http.StatusForbidden:
		e.Token = c.token != nil
	case http.StatusBadRequest, http.StatusNotFound, http.StatusUnprocessableEntity:
		e.Refused = true
	}
	return e
}

func (c client) failed(format string, values ...any) *Error {
	return &Error{Source: c.source, Text: fmt.Sprintf(format, values...)}
}

// reason says why a request failed, without its URL.
func reason(err error) string {
	if inner, ok := errors.AsType[*url.Error](err); ok {
		if inner.Timeout() {
			return "no answer within " + finding.Duration(patience)
		}
		err = inner.Err
	}
	return finding.Quote(err.Error(), mostText)
}

// capped is a reader that ends with an error after so many bytes.
type capped struct {
	r    io.Reader
	left int64
	full bool
	err  error // of the connection
}

func (c *capped) Read(b []byte) (int, error) {
	if c.left <= 0 {
		c.full = true
		return 0, errors.New("too much")
	}
	n, err := c.r.Read(b[:min(int64(len(b)), c.left)])
	c.left -= int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}
