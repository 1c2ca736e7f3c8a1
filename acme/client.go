// Package acme turns names into a checked certificate (RFC 8555) by the DNS-01 challenge.
//
// The order flow is mxcert's own, on lego's acme/api core (requests, JWS, nonces): newOrder, order and key stored,
// authorizations in parallel, TXT journaled and made in one batch, propagation, challenges in parallel, the order
// polled, finalized, downloaded, checked. A killed process resumes the stored order. lego's core knows no contexts,
// no size limits and no fault-tolerant error parser, so every operation has a transport of its own that adds them.
//
// Not supported: other challenges than dns-01, identifiers other than DNS names, External Account Binding changes of an
// existing account.
package acme

import (
	"cmp"
	"context"
	"crypto/x509"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/go-acme/lego/v4/acme/api"
	legolog "github.com/go-acme/lego/v4/log"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// Settings describe the CA and the account.
type Settings struct {
	Directory string // URL of the CA's directory
	Email     string // contact, may be empty
	EABKeyID  string // External Account Binding (RFC 8555 section 7.3.4), with EABKey
	EABKey    string // base64url
	// EABIfRequired keeps the binding for a CA that demands one: it may be of another CA.
	EABIfRequired  bool
	PreferredChain string         // common name of an issuer in the chain to take; "" takes the CA's default
	Roots          *x509.CertPool // trusted for the CA's own HTTPS; nil: the system's
	UserAgent      string         // product and version
}

// Client orders certificates from one CA. It is safe for concurrent use.
type Client struct {
	settings Settings
	store    *state.Book
	inner    *http.Transport
	patience time.Duration // for one request and its answer

	directory directoryCache
	nonces    nonceStore
	paces     paces
	slots     chan struct{} // one for each request that is under way
}

// New makes a client. Nothing is asked or stored before the first order.
func New(settings Settings, store *state.Book) *Client {
	muteLego()
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	inner := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext,
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 30 * time.Second,
		IdleConnTimeout: 30 * time.Second, MaxIdleConnsPerHost: maxParallel, MaxResponseHeaderBytes: maxBody,
		ForceAttemptHTTP2: true, HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second}, // else a dead connection is used on and on
		OnProxyConnectResponse: proxyRefused,
	}
	inner.TLSClientConfig = tlsConfig(settings.Roots)
	settings.UserAgent = cmp.Or(settings.UserAgent, "mxcert")
	return &Client{settings: settings, store: store, inner: inner, patience: requestTimeout, slots: make(chan struct{}, maxParallel)}
}

// Close releases idle connections.
func (c *Client) Close() { c.inner.CloseIdleConnections() }

var muteOnce sync.Once //nolint:gochecknoglobals // what it guards is a global of lego's

// muteLego silences lego's package-global log: it prints raw texts of peers.
func muteLego() {
	muteOnce.Do(func() { legolog.Logger = stdlog.New(io.Discard, "", 0) })
}

// operation is one conversation with the CA: a context, a transport and a core of its own, the account's key.
type operation struct {
	client    *Client
	transport *transport
	core      *api.Core
	account   state.Account
}

// begin opens an operation with the stored account, without asking the CA for it. requests bounds what the operation
// may cost.
func (c *Client) begin(ctx context.Context, account state.Account, requests int) (*operation, error) {
	key, err := bundle.ParseKey([]byte(account.Key))
	if err != nil {
		return nil, &Error{Stage: "account", ErrKind: "account", Message: "the stored account key cannot be used: " + err.Error(),
			NextStep: "restore the accounts directory below the state directory from a backup, or move it away to register anew"}
	}
	t := c.newTransport(ctx, requests)
	t.nonces.inherited = c.nonces.take(maxParallel)
	o := &operation{client: c, transport: t, account: account}
	httpClient := t.httpClient()
	o.core, err = call(o, func() (*api.Core, error) {
		return api.New(httpClient, c.settings.UserAgent, overTLS(c.settings.Directory), account.URL, key)
	})
	if err != nil {
		return nil, o.explain("directory", err)
	}
	httpClient.Transport = t // without lego's wrapper, which refuses plain HTTP also on loopback
	return o, nil
}
