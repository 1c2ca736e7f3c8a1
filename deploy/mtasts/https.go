package mtasts

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"mxcert/acme/finding"
)

const (
	connectTime = 15 * time.Second // for a connection, and for the TLS handshake
	largest     = 64 << 10         // RFC 8461 section 3.3
	mostHeaders = 16 << 10
)

// ask gets the policy from one address.
func (c Client) ask(ctx context.Context, domain string, address netip.Addr) attempt {
	a := attempt{address: address}
	text, err := c.get(ctx, &a, host(domain))
	if err != nil {
		f := explain(err, host(domain), address)
		a.fault, a.noRoute = f, noRoute(err)
		return a
	}
	policy, notes, problem := parse(text)
	if problem != "" {
		a.fault = &fault{kind: PolicyInvalid, id: PolicyInvalid, reason: fmt.Sprintf("the policy of %s is not valid: %s; senders ignore it, and %s", domain, problem, olderPolicy),
			hint: fmt.Sprintf("correct https://%s%s as RFC 8461 section 3.2 shows it", host(domain), path)}
		return a
	}
	a.policy, a.notes = policy, notes
	return a
}

// get makes one request (RFC 8461 section 3.3): no redirects, no cache, no proxy, a limit for everything.
func (c Client) get(ctx context.Context, a *attempt, host string) (string, error) {
	transport := &http.Transport{
		DialTLSContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return c.connect(ctx, network, a, host)
		},
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: mostHeaders,
	}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+path, nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("User-Agent", "mxcert")
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if err := usable(response); err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, largest+1))
	if err == nil && len(text) > largest {
		err = &fault{kind: FetchError, id: FetchError, reason: "the answer is larger than 64 KiB", hint: "serve a policy of a few lines"}
	}
	return string(text), err
}

// connect makes the TLS connection to the address, and notes the certificate of the policy host.
func (c Client) connect(ctx context.Context, network string, a *attempt, host string) (net.Conn, error) {
	dial := c.Dialer
	if dial == nil {
		dial = (&net.Dialer{Timeout: connectTime}).DialContext
	}
	conn, err := dial(ctx, network, net.JoinHostPort(a.address.String(), "443"))
	if err != nil {
		return nil, err
	}
	secured := tls.Client(conn, c.tlsConfig(host))
	bounded, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	if err := secured.HandshakeContext(bounded); err != nil {
		_ = conn.Close()
		return nil, &handshakeError{err}
	}
	a.leaf = secured.ConnectionState().PeerCertificates[0]
	return secured, nil
}

// usable checks the head of an answer.
func usable(response *http.Response) error {
	switch status := response.StatusCode; {
	case status >= 300 && status < 400:
		return &fault{kind: FetchError, id: "sts-policy-redirect", hint: "serve the policy itself at this address: senders must not follow a redirect (RFC 8461 section 3.3)",
			reason: fmt.Sprintf("the answer is %d, a redirect to %s", status, finding.Quoted(response.Header.Get("Location"), 120))}
	case status != http.StatusOK:
		return &fault{kind: FetchError, id: FetchError, reason: "the answer is " + finding.Quoted(response.Status, 60), hint: "make the web server answer 200 with the policy"}
	}
	media, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) || media != "text/plain" {
		return &fault{kind: PolicyInvalid, id: "sts-policy-media-type", hint: "make the web server send Content-Type: text/plain (RFC 8461 section 3.2)",
			reason: fmt.Sprintf("the media type is %s, and senders accept text/plain only", finding.Quoted(response.Header.Get("Content-Type"), 60))}
	}
	return nil
}

// Error makes a fault travel through functions that return errors.
func (f *fault) Error() string { return f.reason }

// handshakeError is a TLS handshake that failed.
type handshakeError struct{ error }

func (e *handshakeError) Unwrap() error { return e.error }

// explain says in words why an address gave no policy.
func explain(err error, host string, address netip.Addr) *fault {
	url := "https://" + host + path
	whole := func(f fault) *fault {
		f.reason = fmt.Sprintf("%s at %s: %s; so senders have no policy, and %s", url, address, f.reason, olderPolicy)
		return &f
	}
	if f, ok := errors.AsType[*fault](err); ok {
		return whole(*f)
	}
	openssl := fmt.Sprintf("openssl s_client -connect %s -servername %s -verify_return_error -verify_hostname %s", net.JoinHostPort(address.String(), "443"), host, host)
	reason := finding.Quote(plain(err), finding.MostQuoted)
	invalid, isInvalid := errors.AsType[*tls.CertificateVerificationError](err)
	handshake, inHandshake := errors.AsType[*handshakeError](err)
	switch {
	case isInvalid:
		return whole(fault{kind: WebPKIInvalid, id: WebPKIInvalid, reason: "the certificate of the web server is not accepted: " + finding.Quote(invalid.Err.Error(), finding.MostQuoted),
			hint: fmt.Sprintf("give the web server a certificate for %s with its intermediates; this shows it: %s", host, openssl)})
	case noRoute(err):
		return whole(fault{kind: FetchError, id: FetchError, reason: "this host has no route there: " + reason, notJudged: true,
			hint: "look from a host that has " + family(address) + ": curl " + url})
	case inHandshake && !network(handshake):
		return whole(fault{kind: FetchError, id: FetchError, reason: "the TLS handshake fails: " + reason + " (mxcert does not speak all that OpenSSL speaks)", notJudged: true, hint: "try it with OpenSSL: " + openssl})
	}
	return whole(fault{kind: FetchError, id: FetchError, reason: reason, hint: fmt.Sprintf("make the web server answer there: curl --resolve %s:443:%s %s", host, address, url)})
}

// network reports whether a handshake failed because of the connection or because the server does not speak TLS, and not because of TLS.
func network(err error) bool {
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op != "remote error" && op.Op != "local error" {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// noRoute reports whether this host has no address of the family, or no route.
func noRoute(err error) bool {
	return errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)
}

// plain returns a network error without the addresses that the message has already.
func plain(err error) string {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Err != nil {
		return op.Err.Error()
	}
	if handshake, ok := errors.AsType[*handshakeError](err); ok {
		return handshake.Error()
	}
	text := err.Error()
	if _, rest, ok := strings.Cut(text, path+"\": "); ok { // net/http names the request
		return rest
	}
	return text
}
