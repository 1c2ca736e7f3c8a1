package account

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"

	"mxcert/acme/authority"
	"mxcert/acme/finding"
	"mxcert/acme/session"
	"mxcert/acme/state"
	"mxcert/acme/transport"
)

// Register makes sure that there is an account and that the CA says it may be used, with the contact that is configured. It
// finds an account again that the CA knows by its key. If replace is true, it sets the stored account aside and registers a new
// one with a new key. changed reports whether anything has changed, here or at the CA. Errors are *session.Error of the stage
// account or directory, those of the store, or the context's.
func (r *Registrar) Register(ctx context.Context, replace bool) (changed bool, err error) {
	hold := func(ctx context.Context) (func(), error) { return r.store.ShareAccount(ctx, r.directory) }
	if replace {
		hold = r.hold
	}
	release, err := hold(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	before, _, err := r.store.Account(r.directory)
	if err != nil && !errors.Is(err, state.ErrDamaged) {
		return false, err
	}
	if replace {
		err = r.replace(ctx)
	} else {
		err = r.ensure(ctx)
	}
	after, _, readErr := r.store.Account(r.directory)
	changed = after.URL != before.URL || after.Email != before.Email || after.Key != before.Key && after.URL != "" // a key alone is not an account
	return changed, errors.Join(err, readErr)
}

// ensure does what Ready does, and asks the CA about the account. Here it is an error if the contact cannot be changed.
func (r *Registrar) ensure(ctx context.Context) error {
	account, err := r.Ready(ctx)
	if err != nil {
		return err
	}
	if account.Email != r.settings.Email {
		if account, err = r.changeContact(ctx, account); err != nil {
			return err
		}
	}
	_, err = r.ask(ctx, account)
	if Unknown(err) {
		_, err = r.Restore(ctx, account)
	}
	return err
}

// replace registers a new account. The stored one is kept beside it.
func (r *Registrar) replace(ctx context.Context) error {
	unlock, err := r.store.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := r.checkBinding(); err != nil {
		return err
	}
	old, ok, err := r.store.Account(r.directory)
	damaged := errors.Is(err, state.ErrDamaged)
	if err != nil && !damaged {
		return err
	}
	now := time.Now().UTC()
	account := state.Account{Directory: r.directory, Created: now, Former: old.Former}
	if ok || damaged {
		kept, err := r.store.RetireAccount(r.directory, now)
		if err != nil {
			return err
		}
		r.say("account", "the old account is kept in "+kept)
		if old.URL != "" {
			account.Former = append(account.Former, state.FormerAccount{URL: old.URL, Until: now, Why: state.ByHand})
		}
	}
	if account, err = r.newKey(account); err != nil {
		return err
	}
	if account, err = r.register(ctx, account); err != nil {
		return err
	}
	r.notice(fmt.Sprintf("the account at %s is %s now. %s", r.host(), quoteURL(account.URL), pinned(old.URL, account.URL)))
	return nil
}

// register asks the CA for an account with this key: a new one, or the one that the key already has.
func (r *Registrar) register(ctx context.Context, account state.Account) (state.Account, error) {
	account.URL = ""
	if err := r.checkBinding(); err != nil {
		return account, err
	}
	s, err := r.begin(ctx, account)
	if err != nil {
		return account, err
	}
	defer s.LeaveNonces()
	request := legoacme.Account{TermsOfServiceAgreed: true, Contact: contactOf(r.settings.Email)}
	answer, err := session.Call(s, func() (legoacme.ExtendedAccount, error) {
		if r.settings.EABKeyID != "" && (!r.settings.EABIfRequired || s.Core.GetDirectory().Meta.ExternalAccountRequired) {
			return s.Core.Accounts.NewEAB(request, r.settings.EABKeyID, r.settings.EABKey)
		}
		return s.Core.Accounts.New(request)
	})
	if err != nil {
		return account, s.Explain("account", err)
	}
	if account.URL, err = accepted(s, answer); err != nil {
		return account, err
	}
	account.Email, account.Terms = r.settings.Email, finding.Quote(s.Core.GetDirectory().Meta.TermsOfService, finding.MostQuoted)
	if err := r.store.SaveAccount(account); err != nil {
		return account, err
	}
	r.say("account", "registered at "+r.host())
	if found := answer.Contact; len(found) > 0 && !slices.Equal(found, request.Contact) { // the account existed, with another contact
		account = r.tellContact(ctx, account)
	}
	return account, nil
}

// accepted checks the answer to a request for an account, and returns the account's URL.
func accepted(s *session.Session, answer legoacme.ExtendedAccount) (string, error) {
	host := authority.Name(s.Settings().Directory)
	switch {
	case answer.Location == "":
		return "", &session.Error{At: "account", ErrKind: "ca-error", Passing: true, Message: host + " sent no URL for the account"}
	case !s.NamesHost(answer.Location): // if it were stored, every later request would fail
		return "", s.Explain("account", transport.NotACME("the account is at %.100q, a host that the directory does not name", authority.Name(answer.Location)))
	case answer.Status == legoacme.StatusDeactivated || answer.Status == legoacme.StatusRevoked:
		return "", unusable(host, answer.Location, fmt.Sprintf("it is %s", answer.Status), nil)
	}
	return answer.Location, nil
}

// ask gets the account object from the CA (RFC 8555 section 7.1.2).
func (r *Registrar) ask(ctx context.Context, account state.Account) (legoacme.Account, error) {
	s, err := r.begin(ctx, account)
	if err != nil {
		return legoacme.Account{}, err
	}
	answer, err := session.Call(s, func() (legoacme.Account, error) { return s.Core.Accounts.Get(account.URL) })
	switch {
	case session.ProblemIs(err, "unauthorized"):
		return answer, unusable(r.host(), account.URL, "the CA says: "+session.Said(err), err)
	case err != nil:
		return answer, s.Explain("account", err)
	case answer.Status == legoacme.StatusDeactivated || answer.Status == legoacme.StatusRevoked:
		return answer, unusable(r.host(), account.URL, "it is "+answer.Status, nil)
	}
	return answer, nil
}

// checkBinding finds a broken key of the External Account Binding before mxcert asks the CA. The key is base64url (RFC 8555
// section 7.3.4); some CAs show it with padding.
func (r *Registrar) checkBinding() error {
	if r.settings.EABKeyID == "" {
		return nil
	}
	if _, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(r.settings.EABKey, "=")); err != nil || r.settings.EABKey == "" {
		return &session.Error{At: "account", ErrKind: "account", Message: "the key of the External Account Binding (acme.eab.hmac_key) is not base64url",
			NextStep: "copy kid and hmac_key again from the CA's page"}
	}
	return nil
}
