package account

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
	"mxcert/acme/finding"
	"mxcert/acme/session"
	"mxcert/acme/state"
)

// Rollover changes the account's key at the CA (RFC 8555 section 7.3.5) and stores it. It first waits until no order is
// under way, because orders answer challenges with the key. It stores the new key before the CA sees it, and afterwards asks
// the CA which of the two it knows: if an answer is lost or the process is killed, the next Rollover or order finishes the
// change. A change that an earlier run started counts as this one if the CA has carried it out.
//
// Errors are *session.Error of the stage account, those of the store, or the context's.
func (r *Registrar) Rollover(ctx context.Context) error {
	release, err := r.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	unlock, err := r.store.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	account, ok, err := r.store.Account(r.directory)
	if err == nil && (!ok || account.URL == "") {
		err = &session.Error{At: "account", ErrKind: "account", Message: "there is no account at " + r.host() + " whose key could be changed",
			NextStep: "mxcert account register"}
	}
	if err != nil {
		return err
	}
	if account.NextKey != "" {
		r.say("account", "finishes an earlier change of the key")
		var known knownKey
		if account, known, err = r.settle(ctx, account); err != nil || known == nextKey {
			return err
		}
	}
	if account.NextKey, err = newAccountKey(); err != nil {
		return err
	}
	if err := r.store.SaveAccount(account); err != nil { // before the CA sees it
		return err
	}
	r.say("account", "the new key is stored")
	refused := r.changeKey(ctx, account)
	_, known, err := r.settle(ctx, account)
	switch {
	case ended(err):
		return err
	case err != nil:
		return r.unsettled(ctx, errors.Join(refused, err))
	case known == nextKey:
		return nil
	case known == noKey:
		return &session.Error{At: "account", ErrKind: "account", Message: fmt.Sprintf("%s no longer knows the account %s, by either key", r.host(), quoteURL(account.URL)),
			NextStep: "mxcert account register finds out what happened to it"}
	case refused != nil:
		return refused
	}
	return &session.Error{At: "account", ErrKind: "ca-error", Message: r.host() + " claimed to have changed the account's key, but still knows the old one, which stays in use"}
}

// unsettled reports that it is not yet known which key the CA has on file.
func (r *Registrar) unsettled(ctx context.Context, cause error) error {
	if ctx.Err() != nil {
		return ctx.Err() // both keys are kept
	}
	return &session.Error{At: "account", ErrKind: "ca-error", Passing: true, Cause: cause,
		Message:  fmt.Sprintf("it is not known whether %s has changed the account's key: %s", r.host(), finding.Line(cause)),
		NextStep: "both keys are kept; the next order, or mxcert account rollover, finds out which one is valid"}
}

// hold waits for the orders under way, and says so if that takes a while.
func (r *Registrar) hold(ctx context.Context) (release func(), err error) {
	quick, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	release, err = r.store.HoldAccount(quick, r.directory)
	if err == nil || !errors.Is(err, state.ErrLocked) || ctx.Err() != nil {
		return release, err
	}
	r.say("account", "waits for the orders under way at "+r.host())
	return r.store.HoldAccount(ctx, r.directory)
}

// changeKey asks the CA to replace the key with the next one.
func (r *Registrar) changeKey(ctx context.Context, account state.Account) error {
	s, err := r.begin(ctx, account)
	if err != nil {
		return err
	}
	target := s.Core.GetDirectory().KeyChangeURL
	if target == "" {
		return &session.Error{At: "account", ErrKind: "ca-refused", Message: r.host() + " cannot change the key of an account", NextStep: "ask the CA; the account keeps its key"}
	}
	body, err := keyChange(account, target)
	if err != nil {
		return err
	}
	p := &poster{Session: s}
	location, err := session.Call(s, func() (string, error) { return p.post(target, body) })
	if problem, ok := errors.AsType[*legoacme.ProblemDetails](err); ok && problem.HTTPStatus == http.StatusConflict {
		return &session.Error{At: "account", ErrKind: "conflict", Cause: err,
			Message:  fmt.Sprintf("%s refuses the new key, because another account already has it: %s", r.host(), quoteURL(location)),
			NextStep: "the account keeps its key; try again, with another new key"}
	}
	return s.Explain("account", err)
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

// knownKey says which key the CA knows for an account whose key was to be changed.
type knownKey int

const (
	noKey knownKey = iota
	oldKey
	nextKey
)

// settle asks the CA which of two keys the account has, and keeps that one. If the CA knows neither, it keeps the old one:
// the next use of the account finds out, and says so. If the CA cannot be asked, both stay. The caller holds the lock.
func (r *Registrar) settle(ctx context.Context, account state.Account) (settled state.Account, known knownKey, err error) {
	url, found, err := r.lookUp(ctx, account.NextKey)
	if err != nil && !ended(err) {
		return account, noKey, err
	}
	settled = account
	if settled.NextKey = ""; found && (err != nil || url == account.URL) {
		settled.Key = account.NextKey
		r.say("account", "the CA has the new key")
		return settled, nextKey, errors.Join(err, r.store.SaveAccount(settled))
	}
	_, found, err = r.lookUp(ctx, account.Key)
	if err != nil && !ended(err) {
		return account, noKey, err
	}
	if found {
		known = oldKey
		r.say("account", "the account keeps its key")
	}
	return settled, known, errors.Join(err, r.store.SaveAccount(settled))
}
