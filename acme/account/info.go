package account

import (
	"context"
	"errors"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/acme/session"
	"mxcert/acme/state"
)

// The states of an account besides those of RFC 8555 section 7.1.2 (valid, deactivated, revoked).
const (
	StatusNone         = "none"         // nothing is stored
	StatusUnregistered = "unregistered" // there is a key that the CA has not seen yet
	StatusUnknown      = "unknown"      // the CA does not know it
	StatusRefused      = "refused"      // the CA does not accept its key: it is deactivated or revoked
	StatusDamaged      = "damaged"      // its file cannot be read
)

// mostStatus and mostContacts limit what is taken over from the CA.
const (
	mostStatus   = 60 // bytes
	mostContacts = 10
)

// Info is an account as it is stored, and as the CA sees it.
type Info struct {
	Directory  string // URL of the CA's directory
	URL        string // "" if it has none yet
	Status     string // what the CA says, or one of the constants; "" if the CA could not be asked
	Contact    []string
	KeyType    bundle.KeyType
	Thumbprint string // of the key, base64url (RFC 7638)
	Pending    bool   // a change of the key was started, and it is not known yet whether the CA has carried it out
	Created    time.Time
	Terms      string // URL of the terms of service to which the account agreed; "" if that was not noted
	CATerms    string // URL of the terms that the CA has now; "" if it has none, or was not asked
	Former     []state.FormerAccount
	Asked      bool  // the CA was asked: Status and Contact come from it
	Err        error // why the CA could not be asked, or why the account cannot be used
}

// Stored describes an account as it is stored. It does not ask the CA.
func Stored(account state.Account) Info {
	info := Info{Directory: account.Directory, URL: account.URL, Contact: contactOf(account.Email), Pending: account.NextKey != "",
		Created: account.Created, Terms: account.Terms, Former: account.Former}
	if account.URL == "" {
		info.Status = StatusUnregistered
	}
	info.Thumbprint, info.KeyType, info.Err = thumbprint(account.Key)
	return info
}

// Info describes the account at this CA, and changes nothing. If the CA cannot be asked, Err says why, and the rest is what is
// stored.
func (r *Registrar) Info(ctx context.Context) Info {
	account, ok, err := r.store.Account(r.directory)
	switch {
	case errors.Is(err, state.ErrDamaged):
		return Info{Directory: r.directory, Status: StatusDamaged, Err: err}
	case err != nil:
		return Info{Directory: r.directory, Err: err}
	case !ok:
		return Info{Directory: r.directory, Status: StatusNone}
	}
	info := Stored(account)
	if account.URL == "" || info.Err != nil {
		return info
	}
	answer, err := r.ask(ctx, account)
	if err != nil && account.NextKey != "" {
		next := account
		next.Key = account.NextKey
		if a, nextErr := r.ask(ctx, next); nextErr == nil {
			answer, err = a, nil
		}
	}
	switch {
	case err == nil:
		info.Status, info.Asked = finding.Quote(answer.Status, mostStatus), true
	case Unknown(err):
		info.Status, info.Asked, info.Err = StatusUnknown, true, err
	case ended(err):
		info.Status, info.Asked, info.Err = StatusRefused, true, err
		if answer.Status != "" {
			info.Status = finding.Quote(answer.Status, mostStatus)
		}
	default:
		info.Err = err
		return info
	}
	if len(answer.Contact) > 0 { // some CAs keep no contact, or do not show it
		info.Contact = nil
		for _, contact := range answer.Contact[:min(len(answer.Contact), mostContacts)] {
			info.Contact = append(info.Contact, finding.Quote(contact, finding.MostQuoted))
		}
	}
	if directory, err := session.Directory(ctx, r.pool); err == nil {
		info.CATerms = directory.Terms
	}
	return info
}
