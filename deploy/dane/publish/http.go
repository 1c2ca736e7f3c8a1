package publish

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"mxcert/acme/finding"
)

const (
	// mostBody is the largest answer that is read. A record set of 64 KiB, the most that DNS carries, is smaller in any of the formats.
	mostBody = 4 << 20
	// mostStream is the largest answer that is read piece by piece: a zone of some 400,000 records.
	mostStream = 64 << 20
	// patience is how long one request may take.
	patience = 30 * time.Second
	// longestWait is for how long a limit of requests is waited for at once; a longer one is left to the next pass.
	longestWait = 5 * time.Second
	// mostSaid limits quotations of what a service says, in bytes.
	mostSaid = 300
)

// api calls one HTTP API with JSON. It follows no redirect: the secret would go along.
type api struct {
	name   string // of the service
	base   *url.URL
	secret string
	header http.Header
	client *http.Client
	// words finds what the service says about an error in its answer, and whether it means a conflict.
	words func(body []byte) (said string, conflict bool)
}

// newAPI checks an account. The header carries the secret.
func newAPI(name, setting, usual string, account API, header, form string) (*api, error) {
	a := &api{name: name, secret: account.Secret, header: http.Header{}}
	if a.secret == "" || strings.ContainsFunc(a.secret, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, configError("dane.publisher."+setting, "the secret is empty, or has blanks or characters that are not ASCII", "copy it again, on one line")
	}
	a.header.Set(header, fmt.Sprintf(form, a.secret))
	a.header.Set("Accept", "application/json")
	a.header.Set("User-Agent", "mxcert")
	var err error
	if a.base, err = parseBase(cmp.Or(account.URL, usual)); err != nil {
		return nil, configError("dane.publisher."+setting+".url", err.Error(), "write it as in https://ns1.example.org:8081")
	}
	client := http.Client{Transport: newTransport()}
	if account.Client != nil {
		client = *account.Client
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client.Jar = nil
	a.client = &client
	return a, nil
}

// newTransport has the system's roots. A proxy of the environment is used for other hosts, through a tunnel, so that it does not see the secret.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:       http.ProxyFromEnvironment,
		DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: patience,
		MaxResponseHeaderBytes: 64 << 10, DisableKeepAlives: true, ForceAttemptHTTP2: true,
	}
}

// parseBase reads the beginning of an address: https, or plain http to this host.
func parseBase(text string) (*url.URL, error) {
	base, err := url.Parse(text)
	switch {
	case err != nil || base.Host == "" || base.Hostname() == "" || base.Opaque != "":
		return nil, errors.New("it is not a complete address")
	case base.User != nil || base.RawQuery != "" || base.Fragment != "":
		return nil, errors.New("it has more than scheme, host, port and path")
	case base.Scheme == "http" && !isLoopback(base.Hostname()):
		return nil, errors.New("plain http would show the secret to the network; it is permitted to a loopback address only, such as 127.0.0.1")
	case base.Scheme != "http" && base.Scheme != "https":
		return nil, fmt.Errorf("%.20q is neither https nor http", base.Scheme)
	}
	base.Path = strings.TrimRight(base.Path, "/")
	base.RawPath = ""
	return base, nil
}

// isLoopback takes addresses only: where a name leads to, DNS decides.
func isLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback()
}

// String names the service and its host.
func (a *api) String() string { return a.name + " at " + a.base.Scheme + "://" + a.base.Host }

// request is one call.
type request struct {
	method  string
	path    []string // elements, which are escaped; "" at the end is a final slash
	query   url.Values
	body    any // nil: none
	subject string
	// stream reads a long answer piece by piece; without it, call reads the whole one.
	stream func(io.Reader) error
}

// call makes a request and reads the answer into out, unless that is nil.
func (a *api) call(ctx context.Context, r request, out any) error {
	var body []byte
	if r.body != nil {
		var err error
		if body, err = json.Marshal(r.body); err != nil {
			return a.fail(r, "dns-config", false, "the request cannot be written: "+err.Error(), "this is a fault of mxcert: please report it")
		}
	}
	for try := 0; ; try++ {
		wait, err := a.once(ctx, r, body, out)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if wait <= 0 || wait > longestWait || try == 2 {
			return err
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// once makes one attempt. If the service wants fewer requests, it also returns when to come back.
func (a *api) once(ctx context.Context, r request, body []byte, out any) (wait time.Duration, err error) {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	target := *a.base
	target.RawPath = target.EscapedPath() + "/" + strings.Join(escaped(r.path), "/")
	target.Path += "/" + strings.Join(r.path, "/")
	target.RawQuery = r.query.Encode()
	q, err := http.NewRequestWithContext(limited, r.method, target.String(), bytes.NewReader(body))
	if err != nil {
		return 0, a.fail(r, "dns-config", false, "the request cannot be made: "+a.quote(err.Error()), "this is a fault of mxcert: please report it")
	}
	q.Header = a.header.Clone()
	if body != nil {
		q.Header.Set("Content-Type", "application/json")
	}
	response, err := a.client.Do(q)
	if err != nil {
		return 0, a.unreachable(r, err)
	}
	defer response.Body.Close()
	if r.stream != nil && response.StatusCode < 300 {
		body := &io.LimitedReader{R: response.Body, N: mostStream}
		if err := r.stream(body); body.N == 0 {
			return 0, a.fail(r, "dns-publish", false, fmt.Sprintf("its list of the zone is larger than %d MiB", mostStream>>20), "put the names _25._tcp.… into a zone of their own")
		} else if err != nil {
			return 0, a.fail(r, "dns-unreachable", true, "its answer cannot be understood: "+a.quote(err.Error()), "check the address of the API")
		}
		return 0, nil
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, mostBody+1))
	switch {
	case err != nil:
		return 0, a.unreachable(r, err)
	case len(text) > mostBody:
		return 0, a.fail(r, "dns-unreachable", false, fmt.Sprintf("its answer is larger than %d MiB", mostBody>>20), "check the address; a PowerDNS server must be 4.6 or newer, because older ones answer with the whole zone")
	case response.StatusCode >= 300:
		return retryAfter(response), a.refused(r, response, text)
	case response.StatusCode == http.StatusNoContent || out == nil:
		return 0, nil
	}
	if kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return 0, a.fail(r, "dns-unreachable", false, fmt.Sprintf("it answers with the content type %s instead of JSON: %s", finding.Quoted(response.Header.Get("Content-Type"), 60), a.quote(string(text))), "check the address of the API")
	}
	if err := json.Unmarshal(text, out); err != nil {
		return 0, a.fail(r, "dns-unreachable", false, "its answer cannot be understood: "+a.quote(err.Error()), "check the address of the API, and whether the service has changed its format")
	}
	return 0, nil
}

func escaped(path []string) []string {
	out := make([]string, len(path))
	for i, element := range path {
		out[i] = url.PathEscape(element)
	}
	return out
}

// retryAfter is when to repeat a request that was one too many; 0 for any other answer.
func retryAfter(response *http.Response) time.Duration {
	if response.StatusCode != http.StatusTooManyRequests {
		return 0
	}
	value := strings.TrimSpace(response.Header.Get("Retry-After"))
	if seconds, err := strconv.Atoi(value); err == nil && seconds >= 0 {
		return max(100*time.Millisecond, min(time.Duration(min(seconds, 86400))*time.Second, 24*time.Hour))
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(100*time.Millisecond, min(time.Until(at), 24*time.Hour))
	}
	return 0
}

// quote makes foreign text safe for messages. A service that repeats the secret does not get it there.
func (a *api) quote(text string) string {
	return finding.Quoted(strings.ReplaceAll(text, a.secret, "[secret]"), mostSaid)
}

func (a *api) fail(r request, kind string, temporary bool, reason, hint string) *Error {
	return &Error{service: a.String(), subject: r.subject, kind: kind, temporary: temporary, reason: reason, hint: hint}
}

// unreachable explains why there is no answer.
func (a *api) unreachable(r request, err error) error {
	reason := err.Error()
	if u, ok := errors.AsType[*url.Error](err); ok {
		reason = u.Err.Error()
	}
	if netErr, ok := errors.AsType[net.Error](err); errors.Is(err, context.DeadlineExceeded) || ok && netErr.Timeout() {
		reason = "timeout"
	}
	return a.fail(r, "dns-unreachable", true, "no answer ("+a.quote(reason)+")", "check that the service is running, that this host reaches "+a.base.Host+", and that its certificate is valid")
}

// refused explains an answer that is an error.
func (a *api) refused(r request, response *http.Response, body []byte) error {
	status := response.StatusCode
	said, conflict := a.words(body)
	if said = strings.TrimSpace(said); said == "" {
		said = string(body)
	}
	reason := fmt.Sprintf("HTTP status %d", status)
	if strings.TrimSpace(said) != "" {
		reason += ": " + a.quote(said)
	}
	switch {
	case status < 400:
		return a.fail(r, "dns-unreachable", false, fmt.Sprintf("it sends mxcert on to %s (HTTP status %d), which would carry the secret there", a.quote(response.Header.Get("Location")), status), "set the address of the API itself")
	case conflict || status == http.StatusConflict || status == http.StatusPreconditionFailed:
		return a.fail(r, "dns-conflict", true, reason, "look whether another program changes records at this name; mxcert tries again at the next pass")
	case status == http.StatusTooManyRequests:
		hint := "mxcert tries again at the next pass"
		if wait := retryAfter(response); wait > 0 {
			hint = fmt.Sprintf("the service takes the next request in %s; %s", wait.Round(time.Second), hint)
		}
		return a.fail(r, "dns-limit", true, reason, hint)
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return a.fail(r, "dns-auth", false, reason, a.rights())
	case status == http.StatusNotFound:
		return a.fail(r, "dns-zone", false, reason, "check that the service holds the zone, and that the secret is of the account that has it")
	case status >= 500 || status == http.StatusRequestTimeout:
		return a.fail(r, "dns-publish", true, reason, "the service has a problem: look at its log, or at its status page; mxcert tries again at the next pass")
	}
	return a.fail(r, "dns-publish", false, reason, "look at the records at this name in the service")
}

// rights says what a secret has to permit.
func (a *api) rights() string {
	switch a.name {
	case "PowerDNS":
		return "copy api-key from the configuration of the server, and look at its webserver-allow-from"
	case "deSEC":
		return "make a token that may write records of type TLSA in this domain, and permit this host's address in it"
	}
	return "make a token with the permissions Zone > DNS > Edit and Zone > Zone > Read for this zone"
}
