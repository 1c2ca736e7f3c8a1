package acme

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"
	"github.com/go-jose/go-jose/v4"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// Rollover gives the account at the CA a new key (RFC 8555 section 7.3.5) and stores it. It waits until no order is under
// way: challenges are answered with the key. The new key is stored before the CA sees it, and afterwards the CA is asked
// which of the two it knows, so that a lost answer or a killed process loses no account: the next Rollover or order ends
// what was begun. A rollover that an earlier run began counts as this one where the CA has made it.
//
// Errors are *Error of the stage "account", those of the store, or the context's. notice may be nil, see [Request].
func (c *Client) Rollover(ctx context.Context, say Progress, notice func(string)) (err error) {
	k := c.keeper(say, notice)
	release, err := k.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	unlock, err := k.store.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	account, ok, err := k.store.Account(k.settings.Directory)
	if err == nil && (!ok || account.URL == "") {
		err = &Error{Stage: "account", ErrKind: "account", Message: "there is no account at " + k.host() + " whose key could be changed",
			NextStep: "mxcert account register"}
	}
	if err != nil {
		return err
	}
	if account.NextKey != "" {
		k.say("account", "ends the change of the key that was begun before")
		var known knownKey
		if account, known, err = k.settle(ctx, account); err != nil || known == nextKey {
			return err
		}
	}
	if account.NextKey, err = newAccountKey(); err != nil {
		return err
	}
	if err := k.store.SaveAccount(account); err != nil { // before the CA sees it
		return err
	}
	k.say("account", "the new key is stored")
	refused := k.changeKey(ctx, account)
	_, known, err := k.settle(ctx, account)
	switch {
	case ended(err):
		return err
	case err != nil:
		return k.unsettled(ctx, errors.Join(refused, err))
	case known == nextKey:
		return nil
	case known == noKey:
		return &Error{Stage: "account", ErrKind: "account", Message: fmt.Sprintf("%s does not know the account %s any more, by neither key", k.host(), quoteURL(account.URL)),
			NextStep: "mxcert account register finds out what became of it"}
	case refused != nil:
		return refused
	}
	return &Error{Stage: "account", ErrKind: "ca-error", Message: k.host() + " said that it had changed the account's key, and has not; the old key stays in use"}
}

// unsettled is that nobody knows yet which key the account has.
func (k keeper) unsettled(ctx context.Context, cause error) error {
	if ctx.Err() != nil {
		return ctx.Err() // what was begun is kept
	}
	return &Error{Stage: "account", ErrKind: "ca-error", temporary: true, cause: cause,
		Message:  fmt.Sprintf("it is not known whether %s has changed the account's key: %s", k.host(), oneLine(cause.Error())),
		NextStep: "both keys are kept; the next order, or mxcert account rollover, finds out and goes on"}
}

// hold waits for the orders under way, and says so when it takes a while.
func (k keeper) hold(ctx context.Context) (release func(), err error) {
	quick, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	release, err = k.store.HoldAccount(quick, k.settings.Directory)
	if err == nil || !errors.Is(err, state.ErrLocked) || ctx.Err() != nil {
		return release, err
	}
	k.say("account", "waits for the orders under way at "+k.host())
	return k.store.HoldAccount(ctx, k.settings.Directory)
}

// changeKey asks for the change of the key to the next one.
func (k keeper) changeKey(ctx context.Context, account state.Account) error {
	o, err := k.begin(ctx, account, accountRequests)
	if err != nil {
		return err
	}
	target := o.core.GetDirectory().KeyChangeURL
	if target == "" {
		return &Error{Stage: "account", ErrKind: "ca-refused", Message: k.host() + " cannot change the key of an account", NextStep: "ask the CA; the account keeps its key"}
	}
	body, err := keyChange(account, target)
	if err != nil {
		return err
	}
	p := &poster{operation: o}
	location, err := call(o, func() (string, error) { return p.post(target, body) })
	if problem, ok := errors.AsType[*legoacme.ProblemDetails](err); ok && problem.HTTPStatus == http.StatusConflict {
		return &Error{Stage: "account", ErrKind: "conflict", cause: err,
			Message:  fmt.Sprintf("%s does not take the new key, because another account has it already: %s", k.host(), quoteURL(location)),
			NextStep: "the account keeps its key; try again, which makes another key"}
	}
	return o.explain("account", err)
}

// keyChange is the inner JWS of a change of the key: the new key signs the account's URL and the old key.
func keyChange(account state.Account, target string) ([]byte, error) {
	from, err := bundle.ParseKey([]byte(account.Key))
	if err != nil {
		return nil, err
	}
	to, err := bundle.ParseKey([]byte(account.NextKey))
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(map[string]any{"account": account.URL, "oldKey": jose.JSONWebKey{Key: from.Public()}})
	if err != nil {
		return nil, err
	}
	signed, err := sign(to, body, jose.SignerOptions{EmbedJWK: true, ExtraHeaders: map[jose.HeaderKey]any{"url": target}})
	return []byte(signed), err
}

// knownKey is the key that the CA knows for an account whose key was to change.
type knownKey int

const (
	noKey knownKey = iota
	oldKey
	nextKey
)

// settle asks the CA which of two keys is the account's, and keeps that one; the old one where it knows neither, which
// is found, and said, when the account is used. While the CA cannot be asked both stay. The lock is held.
func (k keeper) settle(ctx context.Context, account state.Account) (settled state.Account, known knownKey, err error) {
	url, found, err := k.lookUp(ctx, account.NextKey)
	if err != nil && !ended(err) {
		return account, noKey, err
	}
	settled = account
	if settled.NextKey = ""; found && (err != nil || url == account.URL) {
		settled.Key = account.NextKey
		k.say("account", "the CA has the new key")
		return settled, nextKey, errors.Join(err, k.store.SaveAccount(settled))
	}
	_, found, err = k.lookUp(ctx, account.Key)
	if err != nil && !ended(err) {
		return account, noKey, err
	}
	if found {
		known = oldKey
		k.say("account", "the account keeps its key")
	}
	return settled, known, errors.Join(err, k.store.SaveAccount(settled))
}
