package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Account is an ACME account (RFC 8555 section 7.1.2) at one CA. The key is stored before it is used.
type Account struct {
	Version   int    `json:"version"`
	Directory string `json:"directory"`       // URL of the CA's directory
	Email     string `json:"email,omitempty"` // the contact that the CA was told
	URL       string `json:"url,omitempty"`   // the account URL ("kid"); empty until the CA has answered
	Key       string `json:"key"`             // PKCS #8 PEM
	// NextKey is a key that the account was to get (RFC 8555 section 7.3.5; PKCS #8 PEM). While there is one, which of the
	// two keys the CA knows has to be asked.
	NextKey string          `json:"next_key,omitempty"`
	Terms   string          `json:"terms,omitempty"` // URL of the terms of service that were agreed to
	Created time.Time       `json:"created"`
	Former  []FormerAccount `json:"former,omitempty"` // accounts in whose place this one came, oldest first
}

// FormerAccount is one that is not used any more. CAA records may still name it (RFC 8657 section 3).
type FormerAccount struct {
	URL   string    `json:"url,omitempty"` // empty where it is not known any more
	Until time.Time `json:"until"`
	Why   string    `json:"why"`
}

// Account reads the account at a CA. ok is false where there is none yet. A damaged file is ErrDamaged.
func (d *Dir) Account(directory string) (account Account, ok bool, err error) {
	path := d.accountPath(directory)
	err = readJSON(path, &account)
	if errors.Is(err, fs.ErrNotExist) {
		return Account{}, false, nil
	}
	if err == nil && account.Directory != directory {
		return Account{}, false, failed("use", path, fmt.Errorf("it is of the account at %.200q: somebody moved it", account.Directory))
	}
	return account, err == nil, err
}

// Accounts lists the accounts of all CAs, those of CAs that no configuration names any more too, in the order of their
// directories' names. Files that cannot be read are in the error.
func (d *Dir) Accounts() (accounts []Account, err error) {
	paths, _ := filepath.Glob(filepath.Join(d.path, "accounts", "*", accountFile)) // the pattern is well-formed
	var problems []error
	for _, path := range paths {
		var account Account
		if err := readJSON(path, &account); err != nil {
			problems = append(problems, err)
			continue
		}
		accounts = append(accounts, account)
	}
	return accounts, errors.Join(problems...)
}

// SaveAccount stores an account durably. A damaged file in its place is set aside first: the key in it may be of use.
func (d *Dir) SaveAccount(account Account) error {
	path := d.accountPath(account.Directory)
	if err := makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	if _, _, err := d.Account(account.Directory); errors.Is(err, ErrDamaged) {
		if _, err := setAside(path); err != nil {
			return err
		}
	}
	account.Version = version
	return writeJSON(path, account)
}

// RetireAccount keeps an account's file under another name, which it gives, so that a new account can take its place.
func (d *Dir) RetireAccount(directory string, at time.Time) (kept string, err error) {
	path := d.accountPath(directory)
	kept = path + ".former-" + uniqueID(at)
	if err := os.Rename(path, kept); err != nil {
		return "", failed("set aside", path, err)
	}
	return kept, failed("set aside", path, syncDir(filepath.Dir(path)))
}

// ShareAccount keeps the account at a CA from getting another key until release is called, or the process ends. Any
// number of processes may share it.
func (d *Dir) ShareAccount(ctx context.Context, directory string) (release func(), err error) {
	return d.lockAccount(ctx, directory, syscall.LOCK_SH)
}

// HoldAccount waits until nobody shares the account at a CA, or ctx ends, and keeps others out until release is called.
func (d *Dir) HoldAccount(ctx context.Context, directory string) (release func(), err error) {
	return d.lockAccount(ctx, directory, syscall.LOCK_EX)
}

func (d *Dir) lockAccount(ctx context.Context, directory string, how int) (release func(), err error) {
	dir := d.accountDir(directory)
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	return flock(ctx, filepath.Join(dir, "lock"), how)
}
