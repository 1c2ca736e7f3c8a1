package acme

import (
	"context"
	"errors"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// The states of an account beside those that a CA gives (valid, deactivated, revoked; RFC 8555 section 7.1.2).
const (
	AccountNone         = "none"         // nothing is stored
	AccountUnregistered = "unregistered" // there is a key, which the CA has not been shown yet
	AccountUnknown      = "unknown"      // the CA does not know it
	AccountRefused      = "refused"      // the CA does not accept its key: it is deactivated or revoked
	AccountDamaged      = "damaged"      // its file cannot be read
)

// AccountInfo is an account as it is stored, and as the CA sees it.
type AccountInfo struct {
	Directory  string // URL of the CA's directory
	URL        string // "" for none
	Status     string // what the CA says, or one of the Account constants; "" where the CA could not be asked
	Contact    []string
	KeyType    bundle.KeyType
	Thumbprint string // of the key, base64url (RFC 7638)
	Pending    bool   // a change of the key was begun, and it is not known yet whether the CA has made it
	Created    time.Time
	Terms      string // URL of the terms of service that were agreed to; "" where that was not noted
	CATerms    string // URL of those that the CA has now; "" where it has none, or was not asked
	Former     []state.FormerAccount
	Asked      bool  // the CA was asked: Status and Contact are its own words
	Err        error // why the CA could not be asked, or why the account cannot be used
}

// ShowAccount tells of an account as it is stored. Nothing is asked of the CA.
func ShowAccount(account state.Account) AccountInfo {
	info := AccountInfo{Directory: account.Directory, URL: account.URL, Contact: contactOf(account.Email), Pending: account.NextKey != "",
		Created: account.Created, Terms: account.Terms, Former: account.Former}
	if account.URL == "" {
		info.Status = AccountUnregistered
	}
	info.Thumbprint, info.KeyType, info.Err = KeyThumbprint(account.Key)
	return info
}

// Account tells of the account at this CA, and changes nothing anywhere. Where the CA cannot be asked, Err says why, and
// what is told is what is stored.
func (c *Client) Account(ctx context.Context) AccountInfo {
	k := c.keeper(nil, nil)
	account, ok, err := c.store.Account(c.settings.Directory)
	switch {
	case errors.Is(err, state.ErrDamaged):
		return AccountInfo{Directory: c.settings.Directory, Status: AccountDamaged, Err: err}
	case err != nil:
		return AccountInfo{Directory: c.settings.Directory, Err: err}
	case !ok:
		return AccountInfo{Directory: c.settings.Directory, Status: AccountNone}
	}
	info := ShowAccount(account)
	if account.URL == "" || info.Err != nil {
		return info
	}
	answer, err := k.ask(ctx, account)
	if err != nil && account.NextKey != "" {
		next := account
		next.Key = account.NextKey
		if a, nextErr := k.ask(ctx, next); nextErr == nil {
			answer, err = a, nil
		}
	}
	e, told := errors.AsType[*Error](err)
	switch {
	case err == nil:
		info.Status, info.Asked = quoteWord(answer.Status), true
	case unknownAccount(err):
		info.Status, info.Asked, info.Err = AccountUnknown, true, err
	case told && e.ErrKind == "account":
		info.Status, info.Asked, info.Err = AccountRefused, true, err
		if answer.Status != "" {
			info.Status = quoteWord(answer.Status)
		}
	default:
		info.Err = err
		return info
	}
	if len(answer.Contact) > 0 { // some CAs keep none, or do not show it
		info.Contact = nil
		for _, contact := range answer.Contact[:min(len(answer.Contact), 10)] {
			info.Contact = append(info.Contact, quote(contact))
		}
	}
	if directory, err := c.Directory(ctx); err == nil {
		info.CATerms = directory.Terms
	}
	return info
}
