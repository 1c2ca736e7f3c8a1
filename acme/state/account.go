package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"
)

// Account is an ACME account (RFC 8555 section 7.1.2) at one CA. The key is stored before it is used.
type Account struct {
	Version   int    `json:"version"`
	Directory string `json:"directory"`       // URL of the CA's directory
	Email     string `json:"email,omitempty"` // the contact that the CA has on file
	URL       string `json:"url,omitempty"`   // the account URL ("kid"); empty until the CA has answered
	Key       string `json:"key"`             // PKCS #8 PEM
	// NextKey is a key that the account was to get (RFC 8555 section 7.3.5; PKCS #8 PEM). While there is one, only the CA
	// knows which of the two keys the account has.
	NextKey string          `json:"next_key,omitempty"`
	Terms   string          `json:"terms,omitempty"` // URL of the terms of service to which the account agreed
	Created time.Time       `json:"created"`
	Former  []FormerAccount `json:"former,omitempty"` // accounts that this one replaced, oldest first
}

// FormerAccount is an account that is no longer used. CAA records may still name it (RFC 8657 section 3).
type FormerAccount struct {
	URL   string    `json:"url,omitempty"` // empty if it is no longer known
	Until time.Time `json:"until"`
	Why   string    `json:"why"`
}

// ByHand is the Why of an account that a person has replaced.
const ByHand = "replaced by hand"

const accountFile = "account.json"

// Account reads the account at a CA. ok is false if there is no account yet. A damaged record is ErrDamaged.
func (b *Book) Account(directory string) (account Account, ok bool, err error) {
	key := accountKey(directory)
	err = b.read(key, &account)
	if errors.Is(err, fs.ErrNotExist) {
		return Account{}, false, nil
	}
	if err == nil && account.Directory != directory {
		return Account{}, false, b.failed("use", key, fmt.Errorf("it belongs to the account at %.200q: somebody has moved the file", account.Directory))
	}
	return account, err == nil, err
}

// Accounts lists the accounts at all CAs, configured or not, in the order of their folders' names. The error names the
// records that cannot be read.
func (b *Book) Accounts() (accounts []Account, err error) {
	folders, err := b.below("accounts")
	problems := []error{err}
	for _, folder := range folders {
		var account Account
		err := b.read(path.Join("accounts", folder, accountFile), &account)
		switch {
		case err == nil:
			accounts = append(accounts, account)
		case !errors.Is(err, fs.ErrNotExist):
			problems = append(problems, err)
		}
	}
	return accounts, errors.Join(problems...)
}

// SaveAccount stores an account durably. It sets a damaged record in its place aside first: the key in it may be useful.
func (b *Book) SaveAccount(account Account) error {
	key := accountKey(account.Directory)
	if _, _, err := b.Account(account.Directory); errors.Is(err, ErrDamaged) {
		if _, err := b.setAside(key); err != nil {
			return err
		}
	}
	account.Version = version
	return b.write(key, account)
}

// RetireAccount keeps an account's record under another name, so that a new account can take its place, and returns where
// it is kept.
func (b *Book) RetireAccount(directory string, at time.Time) (kept string, err error) {
	key := accountKey(directory)
	former := key + ".former-" + uniqueID(at)
	if err := b.store.Rename(key, former); err != nil {
		return "", b.renamed("set aside", key, err)
	}
	return b.name(former), nil
}

// ShareAccount keeps the account at a CA from getting another key until release is called, or the process ends. Any
// number of processes may share it.
func (b *Book) ShareAccount(ctx context.Context, directory string) (release func(), err error) {
	return b.store.Share(ctx, accountFolder(directory)+"/lock")
}

// HoldAccount waits until no process shares the account at a CA, or ctx ends, and excludes others until release is called.
func (b *Book) HoldAccount(ctx context.Context, directory string) (release func(), err error) {
	return b.store.Lock(ctx, accountFolder(directory)+"/lock")
}

// HasIssued reports whether a stored certificate came from a CA, whose account must have been here then.
func (b *Book) HasIssued(directory string) bool {
	lineages, _ := b.below("lineages")
	for _, name := range lineages {
		generations, _ := b.Lineage(name).Generations()
		for _, g := range generations {
			if g.Directory == directory {
				return true
			}
		}
	}
	return false
}
