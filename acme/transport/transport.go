// Package transport sends the requests of an ACME client to one CA and reads the answers (RFC 8555 section 6).
//
// It adds what lego's core lacks: a context and a deadline for each request, a limit on bodies, error bodies that lego's parser
// survives, nonces that are shared by parallel requests (section 6.5), the directory from memory, a budget of requests for each
// operation, and a refusal of redirects, of plain HTTP and of hosts that the directory does not name. It remembers what headers
// say: Retry-After, the CA's clock, links to other chains.
//
// It signs nothing, repeats nothing, and writes no messages for people: the room session does that.
package transport

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"time"
)

const (
	// atOnce limits the requests to one CA that are under way at the same time.
	atOnce = 8
	// requestTimeout is the time for one request and its whole answer.
	requestTimeout = 45 * time.Second
)

// Settings say where the CA is.
type Settings struct {
	Directory string         // URL of its directory
	Roots     *x509.CertPool // trusted for its HTTPS; the system's if nil
	UserAgent string         // product and version; "" is mxcert
	Patience  time.Duration  // for one request and its whole answer; 0 is 45 s
}

// Pool is what the operations at one CA share: connections, the directory, spare nonces, and places for the requests that
// are under way. It is safe for concurrent use.
type Pool struct {
	settings Settings
	inner    *http.Transport
	cache    directoryCache
	kept     nonceStore
	slots    chan struct{} // one for each request that is under way
}

// New makes the pool of one CA. It sends nothing.
func New(settings Settings) *Pool {
	settings.UserAgent = cmp.Or(settings.UserAgent, "mxcert")
	settings.Patience = cmp.Or(settings.Patience, requestTimeout)
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	inner := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext,
		TLSClientConfig:     &tls.Config{RootCAs: settings.Roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 30 * time.Second,
		IdleConnTimeout: min(30*time.Second, settings.Patience), MaxIdleConnsPerHost: atOnce, MaxResponseHeaderBytes: maxBody,
		// Pings find a dead connection, which would otherwise be used again and again.
		ForceAttemptHTTP2: true, HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
		OnProxyConnectResponse: proxyRefused,
	}
	return &Pool{settings: settings, inner: inner, slots: make(chan struct{}, atOnce)}
}

// Settings returns the settings, with the defaults filled in.
func (p *Pool) Settings() Settings { return p.settings }

// Close releases idle connections.
func (p *Pool) Close() { p.inner.CloseIdleConnections() }

// Begin starts an operation that ends with ctx and may cost that many requests.
func (p *Pool) Begin(ctx context.Context, requests int) *Operation {
	return &Operation{pool: p, ctx: ctx, granted: requests, budget: requests, retryAfter: map[string]hold{}}
}
