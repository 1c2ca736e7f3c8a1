package acme

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"

	"mxcert/acme/account"
	"mxcert/acme/ari"
	"mxcert/acme/bundle"
	"mxcert/acme/dnsprovider"
	"mxcert/acme/finding"
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
	Key      crypto.Signer     // the key to certify; a new one if nil
	Profile  string            // "" leaves the choice to the CA
	Replaces *x509.Certificate // of the same account, which the new one replaces (RFC 9773 section 5); may be nil
	Roots    *x509.CertPool    // to which the chain must lead; any root if nil
	Lineage  *state.Lineage    // stores the order in flight and the journal; the caller has locked it
	Provider string            // name of the DNS provider, for the journal
	Solver   dnsprovider.Solver
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
	// resumed says that an earlier run placed the order.
	resumed bool
	chain   string // warning about the chain that was chosen; "" for none
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
	if ok && !e.Passing {
		return errors.Join(err, f.Lineage.DropOrder(f.KeyType))
	}
	if ok && (f.order.Status == legoacme.StatusProcessing || f.order.Status == legoacme.StatusValid) {
		e.Kept, f.stored.Finalized = true, true
		return errors.Join(err, f.Lineage.SaveOrder(f.stored))
	}
	return err
}

// place resumes the stored order if it fits, otherwise stores a key and places a new order.
func (f *flow) place(ctx context.Context) error {
	resumed, err := f.resume()
	if err != nil || resumed {
		return err
	}
	key := f.Key
	if key == nil {
		if key, err = f.KeyType.Generate(); err != nil {
			return err
		}
	}
	keyPEM, err := bundle.MarshalKey(key)
	if err != nil {
		return err
	}
	f.stored = state.Order{
		Directory: f.client.settings.Directory, Account: f.Account.URL, Names: f.Names, KeyType: f.KeyType,
		Key: string(keyPEM), Fresh: f.Key == nil, Profile: f.Profile, Created: time.Now().UTC(),
	}
	saved, reserved, noNonce := f.prepare(ctx)
	switch {
	case saved != nil && reserved == nil:
		return errors.Join(saved, f.client.withdraw(f.Claim))
	case saved != nil || reserved != nil:
		return errors.Join(saved, reserved)
	}
	var order legoacme.ExtendedOrder
	if err = noNonce; err == nil {
		order, err = f.newOrder()
	}
	if err != nil {
		return errors.Join(f.Explain("order", err), f.client.withdraw(f.Claim))
	}
	if order.Location == "" {
		return &Error{At: "order", ErrKind: "ca-error", Message: f.ca() + " sent no URL for the order", Passing: true}
	}
	f.stored.URL, f.url, f.order = order.Location, order.Location, order.Order
	if err := f.Lineage.SaveOrder(f.stored); err != nil {
		return err
	}
	f.Progress("order", fmt.Sprintf("%d %s at %s", len(f.Names), plural(len(f.Names), "name"), f.ca()))
	return nil
}

// prepare does three things in parallel that come before an order and take about the same time: it stores the key, notes the
// order in the budget, and fetches nonces.
func (f *flow) prepare(ctx context.Context) (saved, reserved, noNonce error) {
	var wait sync.WaitGroup
	for err, do := range map[*error]func(int) error{
		&saved:    func(int) error { return f.Lineage.SaveOrder(f.stored) },
		&reserved: func(int) error { return f.client.reserve(ctx, f.Claim) },
		&noNonce:  func(int) error { return f.FetchNonces(ctx, f.Core.GetDirectory().NewNonceURL, len(f.Names)) },
	} {
		wait.Go(func() { *err = recovering(do, 0) })
	}
	wait.Wait()
	return saved, reserved, noNonce
}

// newOrder places the order. If the CA refuses it because of the certificate that it replaces, newOrder places it once more
// without that link. The link earns an exemption from rate limits, but it must never cost a renewal.
func (f *flow) newOrder() (legoacme.ExtendedOrder, error) {
	options := &api.OrderOptions{Profile: f.Profile}
	if f.Replaces != nil {
		options.ReplacesCertID = ari.CertID(f.Replaces)
	}
	place := func() (legoacme.ExtendedOrder, error) { return f.Core.Orders.NewWithOptions(f.Names, options) }
	order, err := session.Call(f.Session, place)
	problem, refused := errors.AsType[*legoacme.ProblemDetails](err)
	if refused && options.ReplacesCertID != "" && !account.Unknown(err) && (problem.HTTPStatus <= http.StatusInternalServerError && problem.HTTPStatus != http.StatusTooManyRequests) {
		f.Progress("order", "warning: the CA does not accept the new order as a replacement; ordering without")
		options.ReplacesCertID = ""
		order, err = session.Call(f.Session, place)
	}
	return order, err
}

// resume asks for the stored order. It forgets an order that does not fit the request, or that the CA has given up.
func (f *flow) resume() (bool, error) {
	stored, ok, err := f.Lineage.Order(f.KeyType)
	if err != nil || !ok {
		return false, err
	}
	if stored.URL == "" || !f.fits(stored) || time.Since(stored.Created) > orderLife {
		return false, f.Lineage.DropOrder(f.KeyType)
	}
	order, err := session.Call(f.Session, func() (legoacme.ExtendedOrder, error) { return f.Core.Orders.Get(stored.URL) })
	if err != nil {
		err = f.Explain("order", err)
		if e, ok := errors.AsType[*Error](err); ok && !e.Passing && !account.Unknown(err) {
			return false, f.Lineage.DropOrder(f.KeyType)
		}
		return false, err
	}
	if order.Status == legoacme.StatusInvalid || !sameNames(identifiers(order.Order), f.Names) {
		return false, f.Lineage.DropOrder(f.KeyType)
	}
	f.stored, f.url, f.order, f.resumed = stored, stored.URL, order.Order, true
	f.Progress("order", fmt.Sprintf("resumes the order of %s (%s)", stored.Created.Format(time.RFC3339), finding.Quote(order.Status, mostWord)))
	return true, nil
}

// fits compares a stored order with the request: the same CA, at a host that it still names, the same account, names and
// profile, and the wanted key.
func (f *flow) fits(stored state.Order) bool {
	if stored.Directory != f.client.settings.Directory || stored.Account != f.Account.URL || stored.Profile != f.Profile || !sameNames(stored.Names, f.Names) ||
		!f.NamesHost(stored.URL) {
		return false
	}
	key, err := bundle.ParseKey([]byte(stored.Key))
	if err != nil {
		return false
	}
	if f.Key == nil {
		return stored.Fresh
	}
	public, ok := f.Key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(key.Public())
}

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
	e := &Error{At: "check", ErrKind: "bad-certificate", Charged: true, Cause: err,
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

func identifiers(order legoacme.Order) []string {
	names := make([]string, 0, len(order.Identifiers))
	for _, id := range order.Identifiers {
		names = append(names, strings.ToLower(id.Value))
	}
	return names
}

func sameNames(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}
