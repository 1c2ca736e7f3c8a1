package acme

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"

	"mxcert/acme/account"
	"mxcert/acme/bundle"
	"mxcert/acme/dnsprovider"
	"mxcert/acme/resolve"
	"mxcert/acme/session"
	"mxcert/acme/state"
)

const (
	// maxParallel limits the DNS questions of one order that are under way at once; the transport limits the requests.
	maxParallel = 8
	// cleanUpTime is how long it may take to remove TXT records after the order ended, even if it was cancelled.
	cleanUpTime = 20 * time.Second
	// orderLife is how long a stored order is resumed. An order that has produced no certificate after a day never will.
	orderLife = 24 * time.Hour
	// mostWord limits a word of the CA, in bytes.
	mostWord = 60
)

// Request is what to order, and the means to prove the names.
type Request struct {
	Claim
	Optional []string          // names that the caller can do without: if one fails, the error says which, see [NameErrors]
	Key      crypto.Signer     // the key to certify; a new one if nil
	Profile  string            // "" leaves the choice to the CA
	Replaces *x509.Certificate // of the same account, which the new one replaces (RFC 9773 section 5); may be nil
	Roots    *x509.CertPool    // to which the chain must lead; any root if nil
	Lineage  *state.Lineage    // stores the order in flight and the journal; the caller has locked it
	Accounts dnsprovider.Accounts
	Resolver *resolve.Resolver
	Require  resolve.Require
	Patience time.Duration // how long to wait for propagation
	Progress Progress      // may be nil
	// Notice receives what an operator has to know about the account, whether or not the order succeeds: that it was replaced,
	// or lost. If Notice is nil, Progress receives it.
	Notice func(text string)
}

// Issued is a certificate that passed every check.
type Issued struct {
	Bundle    *bundle.Bundle
	Directory string // URL of the CA's directory
	Order     string // URL of the order
	Warnings  []string
}

// flow is one order on its way.
type flow struct {
	*session.Session
	Request
	client *Client
	stored state.Order
	url    string
	order  legoacme.Order
	places map[string]finder // by domain
	// resumed says that an earlier run placed the order, and proving that this run has asked the CA to look at records.
	resumed, proving bool
	chain            string // warning about the chain that was chosen; "" for none
}

// ca returns the name of the CA for people.
func (f *flow) ca() string { return f.client.ca() }

// Issue orders a certificate, or finishes the order that an earlier run stored. When it returns, the TXT records that it
// created are gone, or remain in the journal for [CleanUp]. The caller stores the bundle and then calls
// [state.Lineage.DropOrder]. Errors are *Error, [*schedule.Held], those of the rooms below, or the context's.
func (c *Client) Issue(ctx context.Context, request Request) (issued *Issued, err error) {
	defer rescued(&err)
	if request.Progress == nil {
		request.Progress = func(string, string) {}
	}
	registrar := c.Registrar(request.Progress, request.Notice)
	release, err := c.store.ShareAccount(ctx, c.settings.Directory)
	if err != nil {
		return nil, err
	}
	defer release()
	holder, err := registrar.Ready(ctx)
	if err != nil {
		return nil, err
	}
	issued, err = c.issueAs(ctx, holder, request)
	if !account.Unknown(err) {
		return issued, registrar.Refused(ctx, holder, err)
	}
	if holder, err = registrar.Restore(ctx, holder); err != nil {
		return nil, err
	}
	return c.issueAs(ctx, holder, request)
}

func (c *Client) issueAs(ctx context.Context, holder state.Account, request Request) (*Issued, error) {
	s, err := session.Begin(ctx, c.pool, holder, 400+40*len(request.Names))
	if err != nil {
		return nil, err
	}
	defer s.LeaveNonces()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f := &flow{Session: s, Request: request, client: c}
	if err := f.place(ctx); err != nil {
		return nil, f.concluded(err)
	}
	cleaned, err := f.authorize(ctx)
	if errors.Is(err, errOver) {
		cleaned()
		cleaned, err = f.authorizeAnother(ctx, err)
	}
	defer cleaned()
	if err != nil {
		return nil, f.concluded(err)
	}
	chain, err := f.collect(ctx)
	if err != nil {
		return nil, f.concluded(err)
	}
	if err := c.keepPaces(); err != nil {
		f.Progress("order", "warning: "+err.Error())
	}
	return f.check(chain)
}

// concluded forgets a stored order that can no longer succeed; after a temporary failure it keeps the order for the next run.
func (f *flow) concluded(err error) error {
	e, ok := errors.AsType[*Error](err)
	if ok {
		e.URL = f.url
	}
	if ok && (!e.Passing || errors.Is(err, errOver)) {
		return errors.Join(err, f.Lineage.DropOrder(f.KeyType))
	}
	if ok && (f.order.Status == legoacme.StatusProcessing || f.order.Status == legoacme.StatusValid) {
		e.Kept, f.stored.Finalized = true, true
		return errors.Join(err, f.Lineage.SaveOrder(f.stored))
	}
	if !ok && f.url != "" {
		return &ofOrder{err: err, url: f.url}
	}
	return err
}

// ofOrder is the error of a room below, such as that of a name server, with the order that failed because of it.
type ofOrder struct {
	err error
	url string
}

func (e *ofOrder) Error() string { return e.err.Error() }
func (e *ofOrder) Unwrap() error { return e.err }

// Order returns the URL of the order.
func (e *ofOrder) Order() string { return e.url }

// check proves the delivered certificate before it is stored.
func (f *flow) check(chainPEM []byte) (*Issued, error) {
	key, err := bundle.ParseKey([]byte(f.stored.Key))
	if err != nil {
		return nil, err
	}
	b, err := bundle.New(chainPEM, key)
	var warnings []string
	if err == nil {
		warnings, err = b.Check(bundle.Want{Names: f.Names, KeyType: f.KeyType, Roots: f.Roots, At: time.Now()})
	}
	if err == nil {
		if f.chain != "" {
			warnings = append(warnings, f.chain)
		}
		return &Issued{Bundle: b, Directory: f.stored.Directory, Order: f.url, Warnings: warnings}, nil
	}
	e := &Error{At: "check", ErrKind: "bad-certificate", Charged: true, Cause: err, URL: f.url,
		Message:  fmt.Sprintf("the certificate that %s delivered is not usable and was thrown away: %v", f.ca(), err),
		NextStep: "mxcert has deployed nothing; the next attempt waits, so that a fault of the CA does not use up its limits"}
	if hinting, ok := errors.AsType[*bundle.Fault](err); ok {
		e.NextStep = hinting.Hint()
		if hinting.ID == "not-yet-valid" || hinting.ID == "expired" {
			e.ErrKind = "clock"
		}
	}
	if skew := f.ClockSkew(); skew.Abs() > 5*time.Minute {
		direction := "ahead of"
		if skew < 0 {
			direction = "behind"
		}
		e.NextStep = fmt.Sprintf("this host's clock is %s %s the CA's: correct it (timedatectl)", skew.Abs().Round(time.Minute), direction)
	}
	return nil, errors.Join(e, f.Lineage.DropOrder(f.KeyType))
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}
