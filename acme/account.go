package acme

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
	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// accountRequests bounds what an operation on the account may cost, refused nonces included.
const accountRequests = 60

// keeper works on the account of one CA. What an operator has to know is told to notice, the rest to say.
type keeper struct {
	*Client
	say    Progress
	notice func(text string)
}

func (c *Client) keeper(say Progress, notice func(string)) keeper {
	if say == nil {
		say = func(string, string) {}
	}
	if notice == nil {
		notice = func(text string) { say("account", "warning: "+text) }
	}
	return keeper{Client: c, say: say, notice: notice}
}

func (k keeper) host() string { return authority.Name(k.settings.Directory) }

// account gives the account to work with, registering it at the first use. What is half done is brought to its end: a
// registration, a change of the key, a change of the contact. The key is stored before the CA sees it, so that a killed
// process finds the same account again by its key (RFC 8555 section 7.3.1).
func (k keeper) account(ctx context.Context) (state.Account, error) {
	if account, ok, err := k.store.Account(k.settings.Directory); err == nil && ok && k.isReady(account) {
		return account, nil
	}
	unlock, err := k.store.Lock(ctx)
	if err != nil {
		return state.Account{}, err
	}
	defer unlock()
	return k.prepare(ctx) // another process may have been faster
}

func (k keeper) isReady(account state.Account) bool {
	return account.URL != "" && account.NextKey == "" && account.Email == k.settings.Email
}

// prepare is account under the lock.
func (k keeper) prepare(ctx context.Context) (state.Account, error) {
	account, salvaged, err := k.stored()
	if err != nil {
		return account, err
	}
	if salvaged {
		return k.recover(ctx, account)
	}
	if account.NextKey != "" {
		if account, _, err = k.settle(ctx, account); err != nil {
			return account, err
		}
	}
	if account.URL == "" {
		return k.register(ctx, account)
	}
	if account.Email != k.settings.Email {
		account = k.tellContact(ctx, account)
	}
	return account, nil
}

// stored reads the account. Where there is none, or only a damaged file, it gives one that is not registered yet, with a
// new key, or the key that could be read (salvaged). That an account was lost is said.
func (k keeper) stored() (account state.Account, salvaged bool, err error) {
	account, ok, err := k.store.Account(k.settings.Directory)
	damaged := errors.Is(err, state.ErrDamaged)
	if ok || err != nil && !damaged {
		return account, false, err
	}
	damage, found := err, k.store.SalvageAccount(k.settings.Directory)
	account = state.Account{Directory: k.settings.Directory, Key: found.Key, Created: time.Now().UTC()}
	former := state.FormerAccount{URL: found.URL, Until: account.Created}
	switch {
	case found.Key != "":
		return account, true, k.store.SaveAccount(account)
	case damaged:
		former.Why = "its file was damaged, and the key in it lost"
		k.notice(fmt.Sprintf("%v, and the account's key is lost with it; a new account is registered at %s, and the damaged file is kept beside it. "+
			"If there is a backup of %s, bring it back. %s", damage, k.host(), k.store.Path(), pinned(found.URL, "")))
	case k.store.HasIssued(k.settings.Directory):
		former.Why = "its file was lost"
		k.notice(fmt.Sprintf("certificates of %s are stored, but the account they came from is not; a new account is registered. "+
			"If there is a backup of %s, bring it back. %s", k.host(), k.store.Path(), pinned("", "")))
	}
	if former.Why != "" {
		account.Former = append(account.Former, former)
	}
	account, err = k.newKey(account)
	return account, false, err
}

// recover finds the account of a key that was read out of a damaged file.
func (k keeper) recover(ctx context.Context, account state.Account) (state.Account, error) {
	url, found, err := k.lookUp(ctx, account.Key)
	if err != nil {
		return account, err
	}
	if !found {
		k.notice(fmt.Sprintf("the account's file was damaged; its key could be read, but %s does not know it: it is registered anew. %s", k.host(), pinned("", "")))
		return k.register(ctx, account)
	}
	account.URL = url
	k.notice(fmt.Sprintf("the account's file was damaged; its key could be read, and %s gave the account for it: %s", k.host(), quoteURL(url)))
	if err := k.store.SaveAccount(account); err != nil {
		return account, err
	}
	return k.tellContact(ctx, account), nil
}

// newKey gives an account that is not registered yet its key, durably.
func (k keeper) newKey(account state.Account) (state.Account, error) {
	text, err := newAccountKey()
	if err != nil {
		return account, err
	}
	account.Key = text
	return account, k.store.SaveAccount(account)
}

func newAccountKey() (string, error) {
	key, err := bundle.EC256.Generate()
	if err != nil {
		return "", fmt.Errorf("account key: %w", err)
	}
	text, err := bundle.MarshalKey(key)
	return string(text), err
}

// register asks the CA for an account with this key: a new one, or the one that it already has.
func (k keeper) register(ctx context.Context, account state.Account) (state.Account, error) {
	account.URL = ""
	if err := k.checkBinding(); err != nil {
		return account, err
	}
	o, err := k.begin(ctx, account, accountRequests)
	if err != nil {
		return account, err
	}
	defer o.leave()
	request := legoacme.Account{TermsOfServiceAgreed: true, Contact: contactOf(k.settings.Email)}
	answer, err := call(o, func() (legoacme.ExtendedAccount, error) {
		if k.settings.EABKeyID != "" && (!k.settings.EABIfRequired || o.core.GetDirectory().Meta.ExternalAccountRequired) {
			return o.core.Accounts.NewEAB(request, k.settings.EABKeyID, k.settings.EABKey)
		}
		return o.core.Accounts.New(request)
	})
	if err != nil {
		return account, o.explain("account", err)
	}
	if account.URL, err = o.accepted(answer); err != nil {
		return account, err
	}
	account.Email, account.Terms = k.settings.Email, quote(o.core.GetDirectory().Meta.TermsOfService)
	if err := k.store.SaveAccount(account); err != nil {
		return account, err
	}
	k.say("account", "registered at "+k.host())
	if found := answer.Contact; len(found) > 0 && !slices.Equal(found, request.Contact) { // it was there before, with another contact
		account = k.tellContact(ctx, account)
	}
	return account, nil
}

// accepted checks the answer to a request for an account, and gives its URL.
func (o *operation) accepted(answer legoacme.ExtendedAccount) (string, error) {
	host := authority.Name(o.client.settings.Directory)
	switch {
	case answer.Location == "":
		return "", &Error{Stage: "account", ErrKind: "ca-error", temporary: true, Message: host + " gave no URL for the account"}
	case !o.transport.cache.names(authority.Name(answer.Location)): // stored, it would spoil every later request
		return "", o.explain("account", refusal("the account is at %.100q, a host that the directory does not name", authority.Name(answer.Location)))
	case answer.Status == legoacme.StatusDeactivated || answer.Status == legoacme.StatusRevoked:
		return "", unusable(host, answer.Location, fmt.Sprintf("it is %s", answer.Status), nil)
	}
	return answer.Location, nil
}

// unusable is that the CA does not serve an account any more: somebody ended it (RFC 8555 section 7.3.6). Another one is
// registered only when a person asks for it.
func unusable(host, url, why string, cause error) *Error {
	return &Error{Stage: "account", ErrKind: "account", cause: cause,
		Message:  fmt.Sprintf("the account %s cannot be used at %s any more: %s", quoteURL(url), host, why),
		NextStep: "find out who deactivated it and why; `mxcert account register --replace` registers a new one with a new key, whose URL CAA records with accounturi must then name"}
}

// ended reports whether an error is that of unusable.
func ended(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.ErrKind == "account"
}

// lookUp asks the CA for the account that has this key (RFC 8555 section 7.3.1). found is false where none has, and true
// with an error where it was ended.
func (k keeper) lookUp(ctx context.Context, key string) (url string, found bool, err error) {
	o, err := k.begin(ctx, state.Account{Directory: k.settings.Directory, Key: key}, accountRequests)
	if err != nil {
		return "", false, err
	}
	answer, err := call(o, func() (legoacme.ExtendedAccount, error) {
		return o.core.Accounts.New(legoacme.Account{OnlyReturnExisting: true})
	})
	switch {
	case unknownAccount(err):
		return "", false, nil
	case problemIs(err, "unauthorized"): // only who has an account can have lost the right to it
		return "", true, unusable(k.host(), "with this key", "the CA says: "+saidBy(err), err)
	case err != nil:
		return "", false, o.explain("account", err)
	}
	url, err = o.accepted(answer)
	return url, err == nil || ended(err), err
}

// restore finds out what became of an account that the CA does not know by its URL, and gives the one to go on with.
// Only an account that the CA knows neither by URL nor by key is registered again, with the same key.
func (k keeper) restore(ctx context.Context, lost state.Account) (state.Account, error) {
	unlock, err := k.store.Lock(ctx)
	if err != nil {
		return lost, err
	}
	defer unlock()
	account, ok, err := k.store.Account(k.settings.Directory)
	if err != nil || !ok || account.URL != lost.URL || account.Key != lost.Key { // another process was faster
		return account, err
	}
	url, found, err := k.lookUp(ctx, account.Key)
	switch {
	case err != nil:
		return account, err
	case found && url == lost.URL:
		return account, &Error{Stage: "account", ErrKind: "ca-error", temporary: true,
			Message:  fmt.Sprintf("%s contradicts itself: it does not know the account %s, and gives it for its key", k.host(), quoteURL(url)),
			NextStep: "the CA has a problem of its own; mxcert tries again later, the certificate in service is not touched"}
	}
	former := state.FormerAccount{URL: lost.URL, Until: time.Now().UTC(), Why: "the CA no longer knew it"}
	if found {
		former.Why = "the CA moved it"
	}
	account.Former = append(account.Former, former)
	if !found {
		if account, err = k.register(ctx, account); err != nil {
			return account, err
		}
		k.notice(fmt.Sprintf("%s no longer knows account %s; the same key was registered again as %s. %s", k.host(), quoteURL(lost.URL), quoteURL(account.URL), pinned(lost.URL, account.URL)))
		return account, nil
	}
	account.URL = url
	k.notice(fmt.Sprintf("%s no longer knows account %s; the same account is now %s. %s", k.host(), quoteURL(lost.URL), quoteURL(url), pinned(lost.URL, url)))
	return account, k.store.SaveAccount(account)
}

// pinned says what to look at when the URL of an account changes (RFC 8657 section 3).
func pinned(old, now string) string {
	text := "CAA records that name the account (accounturi, RFC 8657) keep the CA from issuing until they name the new one: look at them (dig NAME CAA, also of the parents)"
	if old != "" && now != "" {
		text += fmt.Sprintf(", and put %s in the place of %s", quoteURL(now), quoteURL(old))
	}
	return text
}

func contactOf(email string) []string {
	if email == "" {
		return nil
	}
	return []string{"mailto:" + email}
}

// quoteURL is a URL that came from a peer or a file.
func quoteURL(url string) string { return fmt.Sprintf("%.200s", quote(url)) }

// checkBinding finds a broken key of the External Account Binding before the CA is asked (RFC 8555 section 7.3.4: it is
// base64url; some CAs show it with padding).
func (k keeper) checkBinding() error {
	if k.settings.EABKeyID == "" {
		return nil
	}
	if _, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(k.settings.EABKey, "=")); err != nil || k.settings.EABKey == "" {
		return &Error{Stage: "account", ErrKind: "account", Message: "the key of the External Account Binding (acme.eab.hmac_key) is not base64url",
			NextStep: "copy kid and hmac_key once more from the CA's page"}
	}
	return nil
}

// unknownAccount reports whether the CA says that it does not know the account.
func unknownAccount(err error) bool { return problemIs(err, "accountDoesNotExist") }

// problemIs reports whether an error is the CA's problem document of one of these types (RFC 8555 section 6.7).
func problemIs(err error, types ...string) bool {
	problem, ok := errors.AsType[*legoacme.ProblemDetails](err)
	return ok && slices.Contains(types, strings.TrimPrefix(problem.Type, "urn:ietf:params:acme:error:"))
}

// saidBy is the CA's own text in an error.
func saidBy(err error) string {
	if problem, ok := errors.AsType[*legoacme.ProblemDetails](err); ok {
		return quote(detail(problem))
	}
	return quote(err.Error())
}
