package dnsprovider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	storageVariable = "ACME_DNS_STORAGE_PATH"
	// mostAccounts is the size of a file of accounts, or of an answer with one, that is read, in bytes.
	mostAccounts = 1 << 20
	// storageTime bounds one question to a storage server.
	storageTime = 30 * time.Second
)

// accountStorage is where the accounts at the acme-dns server are kept: a file, or a server. lego reads and writes it; this reads it.
type accountStorage struct {
	path string // of the file
	base string // URL of the server
	env  map[string]string
}

func storageOf(env map[string]string) accountStorage {
	return accountStorage{path: env[storageVariable], base: env["ACME_DNS_STORAGE_BASE_URL"], env: env}
}

// String returns the path, or names the server.
func (s accountStorage) String() string {
	if s.path != "" {
		return s.path
	}
	return "the storage server (ACME_DNS_STORAGE_BASE_URL)"
}

func (s accountStorage) fault(op, reason, hint string) *Error {
	return &Error{Provider: "acme-dns", Op: op, What: s.String(), ErrKind: "dns-config", Reason: reason, NextStep: hint}
}

// usable reports whether the file could be read and written. It changes nothing: if an account is registered first and cannot be stored
// then, it is lost, and the next try registers another. A server is not asked.
func (s accountStorage) usable() error {
	const elsewhere = "; or choose another path in dns.env." + storageVariable + ", such as /var/lib/mxcert/acme-dns.json"
	if s.path == "" {
		return nil
	}
	if _, err := s.read(); err != nil {
		return err
	}
	err := unix.Faccessat(unix.AT_FDCWD, s.path, unix.R_OK|unix.W_OK, unix.AT_EACCESS)
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return s.fault("write", err.Error(), "let the user of the service write this file: chown mxcert "+s.path+elsewhere)
	}
	directory := filepath.Dir(s.path)
	if err := unix.Faccessat(unix.AT_FDCWD, directory, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return s.fault("create", directory+": "+err.Error(), "make the directory, for the user of the service: install -d -m 0700 -o mxcert "+directory+elsewhere)
	}
	return nil
}

// account is what the file has of one name, without the password.
type account struct {
	FullDomain string `json:"fulldomain"`
}

// read returns the accounts in the file; none if there is no file yet. lego would take a damaged file for an empty one, and write over it.
func (s accountStorage) read() (map[string]account, error) {
	f, err := os.OpenFile(s.path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, s.fault("read", errno(err), "let the user of the service read and write this file: chown mxcert "+s.path)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, mostAccounts+1))
	var accounts map[string]account
	switch {
	case err != nil:
		return nil, s.fault("read", errno(err), "dns.env."+storageVariable+" has to name a file, which mxcert creates if it is not there")
	case len(text) == 0:
		return nil, nil
	case len(text) > mostAccounts || json.Unmarshal(text, &accounts) != nil:
		return nil, s.fault("read", "this is not a file of acme-dns accounts", "restore it from a backup; or move it away: mxcert then registers new accounts, and every alias (CNAME) has to be changed")
	}
	return accounts, nil
}

// errno returns an error without the operation and the path.
func errno(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}

// find returns the name below which the records of a domain are.
func (s accountStorage) find(ctx context.Context, domain string) (target string, known bool, err error) {
	var found account
	if s.path != "" {
		accounts, err := s.read()
		if err != nil {
			return "", false, err
		}
		found, known = accounts[domain]
	} else if found, known, err = s.fetch(ctx, domain); err != nil {
		return "", false, err
	}
	if known && found.FullDomain == "" {
		return "", false, s.fault("use", "the account for "+domain+" has no fulldomain", "remove this account from it: mxcert then registers another")
	}
	return found.FullDomain, known, nil
}

// fetch asks the storage server for the account of a domain.
func (s accountStorage) fetch(ctx context.Context, domain string) (found account, known bool, err error) {
	failed := func(reason string) error {
		e := s.fault("ask", capped(reason, "acme-dns", s.env), "look whether the storage server runs")
		e.ErrKind, e.temporary = "dns-unreachable", true
		return e
	}
	base, err := url.Parse(s.base)
	if err != nil {
		return account{}, false, failed(err.Error())
	}
	ctx, cancel := context.WithTimeout(ctx, storageTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath(domain).String(), nil)
	if err != nil {
		return account{}, false, failed(err.Error())
	}
	request.Header.Set("Accept", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return account{}, false, failed(err.Error())
	}
	defer response.Body.Close()
	switch {
	case response.StatusCode == http.StatusNotFound:
		return account{}, false, nil
	case response.StatusCode != http.StatusOK:
		return account{}, false, failed(fmt.Sprintf("it answered %d", response.StatusCode))
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, mostAccounts)).Decode(&found); err != nil {
		return account{}, false, failed("its answer is not an account")
	}
	return found, true, nil
}
