// Package acme turns names into a checked certificate (RFC 8555) by the DNS-01 challenge.
//
// The order flow is mxcert's own, on lego's acme/api core (requests, JWS): newOrder, order and key stored, authorizations in
// parallel, TXT records journaled and made in one batch, propagation, challenges in parallel, the order polled, finalized,
// downloaded, checked. A killed process resumes the stored order. [Authorities] are several CAs in order of preference, with
// a budget and a circuit breaker for each.
//
// Each of the rooms below has one job: transport, the HTTP requests to one CA; session, a signed conversation with it; account,
// the account there; preflight, what would make an order fail; ari, when a CA wants a renewal.
//
// Not supported: challenges other than dns-01, and identifiers other than DNS names.
package acme

import (
	"context"
	"crypto/x509"

	"mxcert/acme/account"
	"mxcert/acme/ari"
	"mxcert/acme/authority"
	"mxcert/acme/schedule"
	"mxcert/acme/session"
	"mxcert/acme/state"
	"mxcert/acme/transport"
)

type (
	// Error is a failure on the way from names to a certificate. See [session.Error] for the six questions it answers.
	Error = session.Error
	// Directory is what a CA says about itself; see [transport.Directory].
	Directory = transport.Directory
)

// Progress is called at each step, with a few words.
type Progress func(stage, message string)

// Settings describe the CA and the account.
type Settings struct {
	Directory      string // URL of the CA's directory
	Account        account.Settings
	PreferredChain string         // common name of an issuer in the chain to take; "" takes the CA's default
	Roots          *x509.CertPool // trusted for the CA's own HTTPS; nil: the system's
	UserAgent      string         // product and version
	// Limits are the budget that the operator has set for a private CA; nil keeps the published limits of the CA, or those that
	// mxcert assumes.
	Limits *schedule.Limits
}

// Client orders certificates from one CA. It is safe for concurrent use.
type Client struct {
	settings Settings
	store    *state.Book
	pool     *transport.Pool
	paces    paces
}

// New makes a client. It asks and stores nothing before the first order.
func New(settings Settings, store *state.Book) *Client {
	pool := transport.New(transport.Settings{Directory: settings.Directory, Roots: settings.Roots, UserAgent: settings.UserAgent})
	return &Client{settings: settings, store: store, pool: pool}
}

// Close releases idle connections.
func (c *Client) Close() { c.pool.Close() }

// ca returns the name of the CA for people.
func (c *Client) ca() string { return authority.Name(c.settings.Directory) }

// Directory returns the CA's directory, from memory if it was fetched within the last hour. Errors are *Error of the stage
// directory, or the context's.
func (c *Client) Directory(ctx context.Context) (Directory, error) {
	return session.Directory(ctx, c.pool)
}

// Registrar looks after the account at this CA. say and notice may be nil; see [account.New].
func (c *Client) Registrar(say Progress, notice func(text string)) *account.Registrar {
	return account.New(c.settings.Account, c.pool, c.store, say, notice)
}

// RenewalInfo asks the CA when to renew a certificate; see [ari.Ask].
func (c *Client) RenewalInfo(ctx context.Context, leaf *x509.Certificate, known state.RenewalInfo) (state.RenewalInfo, error) {
	return ari.Ask(ctx, c.pool, leaf, known)
}
