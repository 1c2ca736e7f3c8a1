// Package account looks after the account at one CA: it registers it (RFC 8555 section 7.3), finds it again by its key (7.3.1),
// changes its contact (7.3.2) and its key (7.3.5), and reports its state at the CA.
//
// The package stores a key before the CA sees it, and each operation finishes an interrupted earlier one, so that a killed
// process does not lose an account. It never replaces a deactivated account unless a person asks for it.
//
// Not supported: deactivating an account (7.3.6), and changing the External Account Binding (7.3.4) of an existing one.
package account

import (
	"context"
	"errors"
	"fmt"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"

	"mxcert/acme/authority"
	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/acme/session"
	"mxcert/acme/state"
	"mxcert/acme/transport"
)

// requests limits how many requests an operation on the account may cost, including refused nonces.
const requests = 60

// Settings are what the configuration says about the account.
type Settings struct {
	Email    string // contact; "" for an account without one
	EABKeyID string // External Account Binding (RFC 8555 section 7.3.4), with EABKey
	EABKey   string // base64url
	// EABIfRequired uses the binding only if the CA demands one: the binding may be another CA's.
	EABIfRequired bool
}

// Registrar looks after the account at one CA.
type Registrar struct {
	settings  Settings
	pool      *transport.Pool
	directory string // URL
	store     *state.Book
	say       func(stage, message string)
	notice    func(text string)
}

// New makes a registrar for the CA of a pool. It calls say at each step, with a few words, and notice with what an operator
// has to know, such as the loss of the account; notice may be nil; New then uses say. It asks and stores nothing.
func New(settings Settings, pool *transport.Pool, store *state.Book, say func(stage, message string), notice func(text string)) *Registrar {
	if say == nil {
		say = func(string, string) {}
	}
	if notice == nil {
		notice = func(text string) { say("account", "warning: "+text) }
	}
	return &Registrar{settings: settings, pool: pool, directory: pool.Settings().Directory, store: store, say: say, notice: notice}
}

func (r *Registrar) host() string { return authority.Name(r.directory) }

// begin opens a session as an account.
func (r *Registrar) begin(ctx context.Context, account state.Account) (*session.Session, error) {
	return session.Begin(ctx, r.pool, account, requests)
}

// Ready returns the account to work with. It registers it at the first use, and finishes an interrupted registration or
// change of the key or of the contact. The key is stored before the CA sees it, so that after a kill the same account is
// found again by its key (RFC 8555 section 7.3.1). Errors are *session.Error, those of the store, or the context's.
func (r *Registrar) Ready(ctx context.Context) (state.Account, error) {
	if account, ok, err := r.store.Account(r.directory); err == nil && ok && r.isReady(account) {
		return account, nil
	}
	unlock, err := r.store.Lock(ctx)
	if err != nil {
		return state.Account{}, err
	}
	defer unlock()
	return r.prepare(ctx) // it reads the account again: another process may have been faster
}

func (r *Registrar) isReady(account state.Account) bool {
	return account.URL != "" && account.NextKey == "" && account.Email == r.settings.Email
}

// prepare is Ready under the lock.
func (r *Registrar) prepare(ctx context.Context) (state.Account, error) {
	account, salvaged, err := r.stored()
	if err != nil {
		return account, err
	}
	if salvaged {
		return r.recover(ctx, account)
	}
	if account.NextKey != "" {
		if account, _, err = r.settle(ctx, account); err != nil {
			return account, err
		}
	}
	if account.URL == "" {
		return r.register(ctx, account)
	}
	if account.Email != r.settings.Email {
		account = r.tellContact(ctx, account)
	}
	return account, nil
}

// stored reads the account. If there is no account, or only a damaged file, it returns one that is not registered yet: with
// a new key, or with the key that could be read from the file (salvaged). It notifies the operator of an account that was lost.
func (r *Registrar) stored() (account state.Account, salvaged bool, err error) {
	account, ok, err := r.store.Account(r.directory)
	damaged := errors.Is(err, state.ErrDamaged)
	if ok || err != nil && !damaged {
		return account, false, err
	}
	damage, found := err, r.store.SalvageAccount(r.directory)
	account = state.Account{Directory: r.directory, Key: found.Key, Created: time.Now().UTC()}
	former := state.FormerAccount{URL: found.URL, Until: account.Created}
	switch {
	case found.Key != "":
		return account, true, r.store.SaveAccount(account)
	case damaged:
		former.Why = "its file was damaged, and the key in it was lost"
		r.notice(fmt.Sprintf("%v, and the account's key is lost; mxcert registers a new account at %s, and keeps the damaged file beside it. "+
			"If there is a backup of %s, restore it. %s", damage, r.host(), r.store.Path(), pinned(found.URL, "")))
	case r.store.HasIssued(r.directory):
		former.Why = "its file was lost"
		r.notice(fmt.Sprintf("certificates of %s are stored, but the account that ordered them is not; mxcert registers a new account. "+
			"If there is a backup of %s, restore it. %s", r.host(), r.store.Path(), pinned("", "")))
	}
	if former.Why != "" {
		account.Former = append(account.Former, former)
	}
	account, err = r.newKey(account)
	return account, false, err
}

// recover finds the account of a key that was read from a damaged file.
func (r *Registrar) recover(ctx context.Context, account state.Account) (state.Account, error) {
	url, found, err := r.lookUp(ctx, account.Key)
	if err != nil {
		return account, err
	}
	if !found {
		r.notice(fmt.Sprintf("the account's file was damaged; its key could be read, but %s does not know it: mxcert registers it again. %s", r.host(), pinned("", "")))
		return r.register(ctx, account)
	}
	account.URL = url
	r.notice(fmt.Sprintf("the account's file was damaged; its key could be read, and %s found the account of that key: %s", r.host(), quoteURL(url)))
	if err := r.store.SaveAccount(account); err != nil {
		return account, err
	}
	return r.tellContact(ctx, account), nil
}

// newKey makes the key of an account that is not registered yet, and stores it.
func (r *Registrar) newKey(account state.Account) (state.Account, error) {
	text, err := newAccountKey()
	if err != nil {
		return account, err
	}
	account.Key = text
	return account, r.store.SaveAccount(account)
}

func newAccountKey() (string, error) {
	key, err := bundle.EC256.Generate()
	if err != nil {
		return "", fmt.Errorf("account key: %w", err)
	}
	text, err := bundle.MarshalKey(key)
	return string(text), err
}

// lookUp asks the CA for the account that has this key (RFC 8555 section 7.3.1). found is false if no account has it, and true
// with an error if the account was deactivated.
func (r *Registrar) lookUp(ctx context.Context, key string) (url string, found bool, err error) {
	s, err := r.begin(ctx, state.Account{Directory: r.directory, Key: key})
	if err != nil {
		return "", false, err
	}
	answer, err := session.Call(s, func() (legoacme.ExtendedAccount, error) {
		return s.Core.Accounts.New(legoacme.Account{OnlyReturnExisting: true})
	})
	switch {
	case Unknown(err):
		return "", false, nil
	case session.ProblemIs(err, "unauthorized"): // only an account that exists can have lost its rights
		return "", true, unusable(r.host(), "with this key", "the CA says: "+session.Said(err), err)
	case err != nil:
		return "", false, s.Explain("account", err)
	}
	url, err = accepted(s, answer)
	return url, err == nil || ended(err), err
}

// Restore finds out what happened to an account that the CA does not know by its URL, and returns the account to use from now
// on. It registers an account, with the same key, only if the CA knows the old one neither by URL nor by key.
func (r *Registrar) Restore(ctx context.Context, lost state.Account) (state.Account, error) {
	unlock, err := r.store.Lock(ctx)
	if err != nil {
		return lost, err
	}
	defer unlock()
	account, ok, err := r.store.Account(r.directory)
	if err != nil || !ok || account.URL != lost.URL || account.Key != lost.Key { // another process was faster
		return account, err
	}
	url, found, err := r.lookUp(ctx, account.Key)
	switch {
	case err != nil:
		return account, err
	case found && url == lost.URL:
		return account, &session.Error{At: "account", ErrKind: "ca-error", Passing: true,
			Message:  fmt.Sprintf("%s contradicts itself: it does not know the account %s, but names it as the account of its key", r.host(), quoteURL(url)),
			NextStep: "the CA has a problem of its own; mxcert tries again later and does not touch the certificate in service"}
	}
	former := state.FormerAccount{URL: lost.URL, Until: time.Now().UTC(), Why: "the CA no longer knew it"}
	if found {
		former.Why = "the CA moved it"
	}
	account.Former = append(account.Former, former)
	if !found {
		if account, err = r.register(ctx, account); err != nil {
			return account, err
		}
		r.notice(fmt.Sprintf("%s no longer knows account %s; the same key was registered again as %s. %s", r.host(), quoteURL(lost.URL), quoteURL(account.URL), pinned(lost.URL, account.URL)))
		return account, nil
	}
	account.URL = url
	r.notice(fmt.Sprintf("%s no longer knows account %s; the same account is now %s. %s", r.host(), quoteURL(lost.URL), quoteURL(url), pinned(lost.URL, url)))
	return account, r.store.SaveAccount(account)
}

// Refused finds out whether the account is the reason why the CA refused something with err. It then returns that as the
// error, else err.
func (r *Registrar) Refused(ctx context.Context, account state.Account, err error) error {
	if !session.ProblemIs(err, "unauthorized") {
		return err
	}
	if _, asked := r.ask(ctx, account); ended(asked) {
		return asked
	}
	return err
}

// Unknown reports whether an error says that the CA does not know the account.
func Unknown(err error) bool { return session.ProblemIs(err, "accountDoesNotExist") }

// unusable returns the error for an account that the CA no longer serves, because it was deactivated (RFC 8555 section 7.3.6).
// Only a person can decide to register another one.
func unusable(host, url, why string, cause error) *session.Error {
	return &session.Error{At: "account", ErrKind: "account", Cause: cause,
		Message:  fmt.Sprintf("the account %s can no longer be used at %s: %s", quoteURL(url), host, why),
		NextStep: "find out who deactivated it and why; `mxcert account register --replace` registers a new one with a new key, whose URL CAA records with accounturi must then name"}
}

// ended reports whether an error comes from unusable.
func ended(err error) bool {
	e, ok := errors.AsType[*session.Error](err)
	return ok && e.ErrKind == "account"
}

// pinned says what to look at if the URL of an account changes (RFC 8657 section 3).
func pinned(old, now string) string {
	text := "CAA records that name the account (accounturi, RFC 8657) keep the CA from issuing until they name the new one: look at them (dig NAME CAA, also of the parents)"
	if old != "" && now != "" {
		text += fmt.Sprintf(", and replace %s by %s", quoteURL(old), quoteURL(now))
	}
	return text
}

// quoteURL makes a URL from a peer or a file fit for messages.
func quoteURL(url string) string {
	const most = 200
	return finding.Quote(url, most)
}
