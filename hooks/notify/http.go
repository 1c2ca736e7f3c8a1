package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// patience is how long one request may take, with its whole answer.
	patience = 20 * time.Second
	// mostAnswer is how much of an answer is read, in bytes. Only its status counts; the text is quoted in errors.
	mostAnswer = 16 << 10
	// longestWait limits what is believed of Retry-After.
	longestWait = 24 * time.Hour
)

// CheckURL checks an address of a webhook or of a dead man's switch: https, or plain http to this host. The error does not repeat it.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return errors.New("it has a blank or a line break")
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return errors.New("it is not a complete URL")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return errors.New("plain http would show it to the network; write https (http is for a server on this host only)")
	case u.Scheme != "http" && u.Scheme != "https":
		return errors.New("it begins with neither https:// nor http://")
	case u.Fragment != "":
		return errors.New("it has a part after #, which servers never see")
	}
	return nil
}

func isLoopback(host string) bool {
	address, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && address.IsLoopback()
}

// request is one request to a secret address.
type request struct {
	what    string // whom the error names, such as: the webhook
	address string // the URL
	kind    string // content type
	body    []byte
	header  map[string]string
	roots   *x509.CertPool // nil: the system's
	setting string         // that names a file with roots, below the channel; "" if there is none
}

// call makes one request. It follows no redirect, because the message and the URL would go along.
func (r request) call(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := CheckURL(r.address); err != nil {
		return &Error{message: fmt.Sprintf("%s has a URL that mxcert does not use: %v", r.what, err), kind: Setting, hint: "copy the URL again, on one line"}
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, r.address, bytes.NewReader(r.body))
	if err != nil {
		return &Error{message: r.what + " has a URL that cannot be used", kind: Setting, hint: "copy the URL again, on one line"}
	}
	q.Header.Set("Content-Type", r.kind)
	q.Header.Set("User-Agent", "mxcert")
	for name, value := range r.header {
		q.Header.Set(name, value)
	}
	secrets := secretsOf(r.address, q.URL)
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, TLSHandshakeTimeout: 10 * time.Second,
		TLSClientConfig: &tls.Config{RootCAs: r.roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
		ResponseHeaderTimeout: patience, MaxResponseHeaderBytes: 64 << 10, DisableKeepAlives: true,
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(q)
	if e := untrusted(err, r.what+" at "+q.URL.Host, r.setting, secrets...); e != nil {
		return e
	}
	if err != nil {
		return &Error{message: fmt.Sprintf("%s at %s does not answer: %s", r.what, q.URL.Host, reasonOf(err, secrets...)), kind: Unreachable, temporary: true, cause: contextOf(err),
			hint: "does this host reach " + q.URL.Host + ", and is the certificate there valid?"}
	}
	defer response.Body.Close()
	if response.StatusCode/100 == 2 {
		return nil
	}
	said, _ := io.ReadAll(io.LimitReader(response.Body, mostAnswer)) // the status has said what matters
	return r.refused(q.URL.Host, response, without(string(said), secrets...))
}

// refused explains a status that is not success.
func (r request) refused(host string, response *http.Response, said string) error {
	status := response.StatusCode
	e := &Error{message: fmt.Sprintf("%s at %s answers with HTTP status %d", r.what, host, status), kind: Refused}
	if said != "" {
		e.message += `: "` + said + `"`
	}
	switch {
	case status/100 == 3:
		e.message = fmt.Sprintf("%s at %s answers with HTTP status %d and sends mxcert on to another address, which mxcert does not follow", r.what, host, status)
		e.hint = "set the final URL; curl -sI URL shows it as Location"
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		e.temporary, e.after = true, retryAfter(response.Header.Get("Retry-After"))
		e.hint = "it takes messages again later"
	case status == http.StatusRequestTimeout || status >= 500:
		e.temporary, e.hint = true, "the server has a problem: look at its log, or at its status page"
	case status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusNotFound || status == http.StatusGone:
		e.kind, e.hint = Login, "make a new URL or token there, and store it as the secret that the setting names"
	default:
		e.hint = "does the body fit this server? See webhook.body in mxcert-notify(7)"
	}
	return e
}

// retryAfter reads the header of that name: seconds, or a date (RFC 9110 section 10.2.3).
func retryAfter(value string) time.Duration {
	value = strings.TrimSpace(value)
	if seconds, err := strconv.Atoi(value); err == nil && seconds >= 0 {
		return min(time.Duration(min(seconds, 1_000_000))*time.Second, longestWait)
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, min(time.Until(at), longestWait))
	}
	return 0
}

// secretsOf lists what of a URL may be repeated in answers and errors, as it is written and decoded, the longest first.
func secretsOf(text string, u *url.URL) []string {
	list := []string{text, u.String(), u.RequestURI(), u.RawQuery}
	if password, ok := u.User.Password(); ok {
		list = append(list, password)
	}
	for _, part := range strings.Split(u.EscapedPath(), "/") {
		if decoded, err := url.PathUnescape(part); err == nil && len(decoded) >= 8 { // shorter ones are words such as hooks
			list = append(list, part, decoded)
		}
	}
	var values []string
	for _, pair := range strings.Split(u.RawQuery, "&") {
		_, value, _ := strings.Cut(pair, "=")
		values = append(values, value)
	}
	for _, decoded := range u.Query() {
		values = append(values, decoded...)
	}
	for _, value := range values {
		if len(value) >= 4 {
			list = append(list, value, url.QueryEscape(value))
		}
	}
	slices.SortStableFunc(list, func(a, b string) int { return len(b) - len(a) })
	return list
}

// contextOf returns the sentinel of the context that an error is about; nil for any other error.
func contextOf(err error) error {
	for _, sentinel := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, sentinel) {
			return sentinel
		}
	}
	return nil
}
