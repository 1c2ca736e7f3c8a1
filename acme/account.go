package acme

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

const accountRequests = 60

// account gives the registered account, registering it at the first use. The key is stored before the CA sees it, so
// that a killed process finds the same account again by its key (RFC 8555 section 7.3.1).
func (c *Client) account(ctx context.Context, say Progress) (state.Account, error) {
	if account, ok, err := c.store.Account(c.settings.Directory); (err != nil && !errors.Is(err, state.ErrDamaged)) || (ok && account.URL != "") {
		return account, err
	}
	unlock, err := c.store.Lock(ctx)
	if err != nil {
		return state.Account{}, err
	}
	defer unlock()
	account, ok, err := c.store.Account(c.settings.Directory) // another process may have been faster
	if errors.Is(err, state.ErrDamaged) {
		// It is set aside when the new one is stored. CAA records that pin the old account (RFC 8657) have to be changed.
		say("account", fmt.Sprintf("warning: %v; it is kept beside the new account that is registered now", err))
		err = nil
	}
	if err != nil || (ok && account.URL != "") {
		return account, err
	}
	if !ok {
		if account, err = c.newAccountKey(); err != nil {
			return account, err
		}
	}
	return c.register(ctx, account, say)
}

func (c *Client) newAccountKey() (state.Account, error) {
	key, err := bundle.EC256.Generate()
	if err != nil {
		return state.Account{}, fmt.Errorf("account key: %w", err)
	}
	text, err := bundle.MarshalKey(key)
	if err != nil {
		return state.Account{}, err
	}
	account := state.Account{Directory: c.settings.Directory, Email: c.settings.Email, Key: string(text), Created: time.Now().UTC()}
	return account, c.store.SaveAccount(account)
}

// register asks the CA for an account with this key: a new one, or the one that it already has.
func (c *Client) register(ctx context.Context, account state.Account, say Progress) (state.Account, error) {
	account.URL = ""
	o, err := c.begin(ctx, account, accountRequests)
	if err != nil {
		return account, err
	}
	request := legoacme.Account{TermsOfServiceAgreed: true}
	if c.settings.Email != "" {
		request.Contact = []string{"mailto:" + c.settings.Email}
	}
	if err := c.checkBinding(); err != nil {
		return account, err
	}
	answer, err := call(o, func() (legoacme.ExtendedAccount, error) {
		if c.settings.EABKeyID != "" && (!c.settings.EABIfRequired || o.core.GetDirectory().Meta.ExternalAccountRequired) {
			return o.core.Accounts.NewEAB(request, c.settings.EABKeyID, c.settings.EABKey)
		}
		return o.core.Accounts.New(request)
	})
	if err != nil {
		return account, o.explain("account", err)
	}
	if answer.Location == "" {
		return account, &Error{Stage: "account", ErrKind: "ca-error", temporary: true, Message: hostOf(c.settings.Directory) + " gave no URL for the account"}
	}
	if !o.transport.cache.names(hostOf(answer.Location)) { // stored, it would spoil every later request
		return account, o.explain("account", refusal("the account is at %.100q, a host that the directory does not name", hostOf(answer.Location)))
	}
	if answer.Status == legoacme.StatusDeactivated || answer.Status == legoacme.StatusRevoked {
		return account, &Error{Stage: "account", ErrKind: "account", NextStep: "move the account's directory below the state directory away to register a new one",
			Message: fmt.Sprintf("%s gave no usable account (status %.20q)", hostOf(c.settings.Directory), answer.Status)}
	}
	account.URL, account.Email = answer.Location, c.settings.Email
	if err := c.store.SaveAccount(account); err != nil {
		return account, err
	}
	say("account", "registered at "+hostOf(c.settings.Directory))
	return account, nil
}

// checkBinding finds a broken key of the External Account Binding before the CA is asked (RFC 8555 section 7.3.4: it is
// base64url; some CAs show it with padding).
func (c *Client) checkBinding() error {
	if c.settings.EABKeyID == "" {
		return nil
	}
	if _, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(c.settings.EABKey, "=")); err != nil || c.settings.EABKey == "" {
		return &Error{Stage: "account", ErrKind: "account", Message: "the key of the External Account Binding (acme.eab.hmac_key) is not base64url",
			NextStep: "copy kid and hmac_key once more from the CA's page"}
	}
	return nil
}

// unknownAccount reports whether the CA says that it does not know the account.
func unknownAccount(err error) bool {
	problem, ok := errors.AsType[*legoacme.ProblemDetails](err)
	return ok && problem.Type == "urn:ietf:params:acme:error:accountDoesNotExist"
}
