package acme

import (
	"context"
	"crypto"
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
	"mxcert/acme/finding"
	"mxcert/acme/schedule"
	"mxcert/acme/session"
	"mxcert/acme/state"
)

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

// authorizeAnother drops an order with an authorization that is over, places another, once, and proves its names. cleaned is as in
// authorize. If the budget allows no other order, the error is why the first one failed.
func (f *flow) authorizeAnother(ctx context.Context, over error) (cleaned func(), err error) {
	f.Progress("order", "warning: "+finding.Line(over)+"; mxcert places another order")
	if err := f.Lineage.DropOrder(f.KeyType); err != nil {
		return func() {}, errors.Join(over, err)
	}
	f.resumed, f.proving = false, false
	if err := f.place(ctx); err != nil {
		if _, held := errors.AsType[*schedule.Held](err); held {
			err = over
		}
		return func() {}, err
	}
	return f.authorize(ctx)
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
