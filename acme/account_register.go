package acme

import (
	"context"
	"errors"
	"fmt"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"

	"mxcert/acme/state"
)

// RegisterOptions say how [Client.Register] differs from what an order does by itself.
type RegisterOptions struct {
	Replace  bool              // set the account that is stored aside, and register a new one with a new key
	Progress Progress          // may be nil
	Notice   func(text string) // see [Request]; may be nil
}

// Register makes sure of the account at the CA: it is registered, or found again by its key, its contact is the one that
// is configured, and the CA says that it may be used. changed reports whether anything is different now, here or at the
// CA. Errors are *Error of the stage "account" or "directory", those of the store, or the context's.
func (c *Client) Register(ctx context.Context, options RegisterOptions) (changed bool, err error) {
	k := c.keeper(options.Progress, options.Notice)
	hold := func(ctx context.Context) (func(), error) { return k.store.ShareAccount(ctx, k.settings.Directory) }
	if options.Replace {
		hold = k.hold
	}
	release, err := hold(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	before, _, err := k.store.Account(k.settings.Directory)
	if err != nil && !errors.Is(err, state.ErrDamaged) {
		return false, err
	}
	if options.Replace {
		err = k.replace(ctx)
	} else {
		err = k.ensure(ctx)
	}
	after, _, readErr := k.store.Account(k.settings.Directory)
	changed = after.URL != before.URL || after.Email != before.Email || after.Key != before.Key && after.URL != "" // a key by itself is no account
	return changed, errors.Join(err, readErr)
}

// ensure is account, and a look at what the CA says about it. A change of the contact that fails is an error here.
func (k keeper) ensure(ctx context.Context) error {
	account, err := k.account(ctx)
	if err != nil {
		return err
	}
	if account.Email != k.settings.Email {
		if account, err = k.changeContact(ctx, account); err != nil {
			return err
		}
	}
	_, err = k.ask(ctx, account)
	if unknownAccount(err) {
		_, err = k.restore(ctx, account)
	}
	return err
}

// replace registers a new account. What was stored is kept beside it.
func (k keeper) replace(ctx context.Context) error {
	unlock, err := k.store.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := k.checkBinding(); err != nil {
		return err
	}
	old, ok, err := k.store.Account(k.settings.Directory)
	damaged := errors.Is(err, state.ErrDamaged)
	if err != nil && !damaged {
		return err
	}
	now := time.Now().UTC()
	account := state.Account{Directory: k.settings.Directory, Created: now, Former: old.Former}
	if ok || damaged {
		kept, err := k.store.RetireAccount(k.settings.Directory, now)
		if err != nil {
			return err
		}
		k.say("account", "the old account is kept in "+kept)
		if old.URL != "" {
			account.Former = append(account.Former, state.FormerAccount{URL: old.URL, Until: now, Why: "replaced by hand"})
		}
	}
	if account, err = k.newKey(account); err != nil {
		return err
	}
	if account, err = k.register(ctx, account); err != nil {
		return err
	}
	k.notice(fmt.Sprintf("the account at %s is %s now. %s", k.host(), quoteURL(account.URL), pinned(old.URL, account.URL)))
	return nil
}

// ask gets the account object from the CA (RFC 8555 section 7.1.2).
func (k keeper) ask(ctx context.Context, account state.Account) (legoacme.Account, error) {
	o, err := k.begin(ctx, account, accountRequests)
	if err != nil {
		return legoacme.Account{}, err
	}
	answer, err := call(o, func() (legoacme.Account, error) { return o.core.Accounts.Get(account.URL) })
	switch {
	case problemIs(err, "unauthorized"):
		return answer, unusable(k.host(), account.URL, "the CA says: "+saidBy(err), err)
	case err != nil:
		return answer, o.explain("account", err)
	case answer.Status == legoacme.StatusDeactivated || answer.Status == legoacme.StatusRevoked:
		return answer, unusable(k.host(), account.URL, "it is "+answer.Status, nil)
	}
	return answer, nil
}

// refusedAccount finds out whether the account is why the CA refused something, and says so then.
func (k keeper) refusedAccount(ctx context.Context, account state.Account, err error) error {
	if !problemIs(err, "unauthorized") {
		return err
	}
	_, asked := k.ask(ctx, account)
	if e, ok := errors.AsType[*Error](asked); ok && e.ErrKind == "account" {
		return e
	}
	return err
}
