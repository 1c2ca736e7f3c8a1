// Package ca runs Pebble, the small ACME server (RFC 8555) of Let's Encrypt, inside this process.
//
// It serves HTTPS with a certificate of its own making, validates by DNS-01 at one resolver, and issues from roots that
// live as long as the CA. The package removes what makes tests against Pebble hard: it does not sleep before a validation, an
// order without a profile always gets the default one, and valid authorizations are reused only on request. It counts every
// request, and tests can put a handler of their own in front of it to make it misbehave.
//
// Not supported: CAA checks, rate limits, storage over restarts, more than one resolver; the resolver is asked over TCP.
package ca

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"reflect"
	"time"

	pebbleca "github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

// DefaultProfile is the profile of orders that do not name one.
const DefaultProfile = "default"

const defaultValidity = 90 * 24 * time.Hour

// Options are the properties of a CA. The zero value is a CA that issues for 90 days over one intermediate.
type Options struct {
	Listen     string   // address:port; default a free port of 127.0.0.1
	Management string   // address:port of Pebble's management interface; default none
	Hosts      []string // further names in the certificate of the CA's HTTPS
	HTTP1      bool     // no HTTP/2, so that handlers can hijack connections
	Plain      bool     // no TLS at all; the directory's URLs are https all the same, as behind a proxy
	Resolver   string   // address:port of the DNS server that validation asks, over TCP; default the system's

	Validity       time.Duration            // of the default profile, in whole seconds; default 90 days
	Profiles       map[string]time.Duration // further profiles and their validity
	ChainLength    int                      // intermediates between root and leaf; default 1
	AlternateRoots int                      // further roots, offered as Link: rel="alternate" (RFC 8555 section 7.4.2)
	OCSP           string                   // URL of an OCSP responder, which certificates then name; default none
	RSA            bool                     // issue with RSA keys instead of ECDSA ones

	EAB             map[string]string // kid → base64url HMAC key; when set, accounts need an external binding
	Blocked         []string          // names (and all below) that are refused as rejectedIdentifier
	AuthzRetryAfter time.Duration     // Retry-After of an authorization that is being validated, in whole seconds; default none
	OrderRetryAfter time.Duration     // the same of an order that is processing
	BadNonces       int               // percentage of good nonces that are refused as badNonce
	ReuseAuthz      int               // percentage of the times that a valid authorization is used again; 0 is never
	SkipValidation  bool              // every challenge succeeds without a look at the DNS

	Wrap func(http.Handler) http.Handler // see (*CA).SetWrap
	Log  io.Writer                       // Pebble's log; default nowhere
}

// CA is a running certificate authority.
type CA struct {
	store      *db.MemoryStore
	issuer     *pebbleca.CAImpl
	front      *front
	requests   *requestLog
	wrap       *switchable
	httpsRoot  []byte
	url        string
	management string
	roots      int
	servers    []*http.Server
}

// Start starts a CA; it answers when Start returns.
func Start(opts Options) (*CA, error) {
	if err := opts.complete(); err != nil {
		return nil, fmt.Errorf("start the CA: %w", err)
	}
	certificate, root, err := httpsCertificate(append(opts.Hosts, opts.Listen, opts.Management)...)
	if err != nil {
		return nil, fmt.Errorf("start the CA: %w", err)
	}
	c := &CA{store: db.NewMemoryStore(), httpsRoot: root, roots: 1 + opts.AlternateRoots}
	pebble, err := c.build(opts)
	if err != nil {
		return nil, fmt.Errorf("start the CA: %w", err)
	}
	c.front = newFront(pebble.Handler(), c.store, opts.ReuseAuthz == 0)
	c.wrap = newSwitchable(c.front, opts.Wrap)
	c.requests = &requestLog{next: c.wrap}
	address, err := c.serve(opts, opts.Listen, certificate, c.requests)
	if err != nil {
		return nil, fmt.Errorf("start the CA: %w", err)
	}
	c.url = "https://" + address + wfe.DirectoryPath
	if opts.Plain {
		c.url = "http://" + address + wfe.DirectoryPath
	}
	if opts.Management != "" {
		address, err := c.serve(opts, opts.Management, certificate, pebble.ManagementHandler())
		if err != nil {
			return nil, errors.Join(fmt.Errorf("start the CA's management interface: %w", err), c.Close())
		}
		c.management = "https://" + address
	}
	return c, nil
}

func (o *Options) complete() error {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Validity == 0 {
		o.Validity = defaultValidity
	}
	if o.ChainLength == 0 {
		o.ChainLength = 1
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.Validity < 2*time.Second {
		return fmt.Errorf("validity %s: at least 2 seconds are needed", o.Validity)
	}
	if _, again := o.Profiles[DefaultProfile]; again {
		return fmt.Errorf("profile %q is set by the validity option", DefaultProfile)
	}
	return nil
}

// build makes Pebble's parts. Pebble generates its roots here.
func (c *CA) build(opts Options) (*wfe.WebFrontEndImpl, error) {
	for kid, key := range opts.EAB {
		if err := c.store.AddExternalAccountKeyByID(kid, key); err != nil {
			return nil, fmt.Errorf("external account key %q: %v", kid, err)
		}
	}
	for _, name := range opts.Blocked {
		if err := c.store.AddBlockedDomain(name); err != nil {
			return nil, fmt.Errorf("blocked name %q: %v", name, err)
		}
	}
	keyType := "ecdsa"
	if opts.RSA {
		keyType = "rsa"
	}
	logger := log.New(opts.Log, "pebble ", log.LstdFlags)
	c.issuer = pebbleca.New(logger, c.store, opts.OCSP, keyType, opts.AlternateRoots, opts.ChainLength, opts.profiles())
	var pebble wfe.WebFrontEndImpl
	patient := false
	err := withEnvironment(opts.environment(), func() {
		validator := va.New(logger, 0, 0, false, opts.Resolver, c.store)
		patient = waitForDNS(validator)
		pebble = wfe.New(logger, c.store, validator, c.issuer, []string{"pebble.letsencrypt.org"}, false,
			len(opts.EAB) > 0, seconds(opts.AuthzRetryAfter), seconds(opts.OrderRetryAfter))
	})
	if err == nil && !patient {
		err = errors.New("this version of Pebble differs inside")
	}
	return &pebble, err
}

// waitForDNS makes the validation wait for an answer as long as Pebble waits for a validation. Pebble's DNS client, which
// cannot be reached in another way, gives up after two seconds: a busy machine may take longer.
func waitForDNS(validator *va.VAImpl) bool {
	field := reflect.ValueOf(validator).Elem().FieldByName("dnsClient")
	if !field.IsValid() || field.Type() != reflect.TypeFor[*dns.Client]() {
		return false
	}
	if !field.IsNil() { // nil: the system's resolver is asked
		(*dns.Client)(field.UnsafePointer()).Timeout = 15 * time.Second
	}
	return true
}

func (o *Options) profiles() map[string]pebbleca.Profile {
	profiles := map[string]pebbleca.Profile{
		DefaultProfile: {Description: "what an order without a profile gets", ValidityPeriod: uint64(seconds(o.Validity))},
	}
	for name, validity := range o.Profiles {
		profiles[name] = pebbleca.Profile{Description: "valid for " + validity.String(), ValidityPeriod: uint64(seconds(validity))}
	}
	return profiles
}

func seconds(d time.Duration) int { return int(d / time.Second) }

func (c *CA) serve(opts Options, address string, certificate tls.Certificate, handler http.Handler) (string, error) {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if err != nil {
		return "", err
	}
	server := &http.Server{
		Handler:           handler,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		ErrorLog:          log.New(io.Discard, "", 0), // clients that distrust our root are what some tests are about
		ReadHeaderTimeout: time.Minute,
	}
	c.servers = append(c.servers, server)
	if opts.HTTP1 {
		server.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
	}
	go func() { // ends with ErrServerClosed at Close
		if opts.Plain {
			_ = server.Serve(listener)
		} else {
			_ = server.ServeTLS(listener, "", "")
		}
	}()
	return listener.Addr().String(), nil
}

// DirectoryURL is the ACME directory (RFC 8555 section 7.1.1), for acme.directory.
func (c *CA) DirectoryURL() string { return c.url }

// ManagementURL is the base of Pebble's management interface, or "".
func (c *CA) ManagementURL() string { return c.management }

// HTTPSRoots is the PEM root of the CA's own HTTPS certificate, for acme.ca_file.
func (c *CA) HTTPSRoots() []byte { return c.httpsRoot }

// Roots is the PEM of the roots that issued chains lead to, the alternate ones included, for acme.roots_file.
func (c *CA) Roots() []byte {
	var roots []byte
	for i := range c.roots {
		roots = append(roots, c.issuer.GetRootCert(i).PEM()...)
	}
	return roots
}

// SetWrap puts a handler in front of the ACME endpoints from the next request on, so that a test can delay, break or
// replace answers; nil takes it away. Requests are logged before they reach it.
func (c *CA) SetWrap(wrap func(http.Handler) http.Handler) { c.wrap.set(wrap) }

// Close ends the listeners and every open connection.
func (c *CA) Close() error {
	var all []error
	for _, server := range c.servers {
		all = append(all, server.Close())
	}
	return errors.Join(all...)
}
