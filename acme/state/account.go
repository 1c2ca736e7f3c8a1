package state

import (
	"errors"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// Account is an ACME account (RFC 8555 section 7.1.2) at one CA. The key is stored before it is used.
type Account struct {
	Version   int       `json:"version"`
	Directory string    `json:"directory"` // URL of the CA's directory
	Email     string    `json:"email,omitempty"`
	URL       string    `json:"url,omitempty"` // the account URL ("kid"); empty until the CA has answered
	Key       string    `json:"key"`           // PKCS #8 PEM
	Created   time.Time `json:"created"`
}

// Account reads the account at a CA. ok is false where there is none yet. A damaged file is ErrDamaged.
func (d *Dir) Account(directory string) (account Account, ok bool, err error) {
	err = readJSON(d.accountPath(directory), &account)
	if errors.Is(err, fs.ErrNotExist) {
		return Account{}, false, nil
	}
	return account, err == nil, err
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

// accountPath has one directory a CA, named after the URL so that a person can find it.
func (d *Dir) accountPath(directory string) string {
	name := directory
	if u, err := url.Parse(directory); err == nil && u.Host != "" {
		name = u.Host + u.Path
	}
	safe := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '-', r >= 'A' && r <= 'Z':
			return r
		}
		return '_'
	}, strings.Trim(name, "/"))
	return filepath.Join(d.path, "accounts", strings.TrimLeft(safe, "."), "account.json")
}
