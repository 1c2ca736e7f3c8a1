package adopt

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mxcert/acme/authority"
)

// fromLego reads lego's tree: certificates/NAME.{crt,key,json}, accounts/SERVER/EMAIL.
func fromLego(root string) ([]Foreign, error) {
	files, err := match(root, "certificates/*.json")
	if err != nil {
		return nil, err
	}
	return readAll(files, func(file string) (Foreign, error) { return legoCertificate(root, file) })
}

func legoCertificate(root, file string) (Foreign, error) {
	base := strings.TrimSuffix(file, ".json")
	f := Foreign{Source: base + ".crt", Name: filepath.Base(base)}
	var resource struct {
		CertURL string `json:"certUrl"`
	}
	err := readJSON(file, &resource)
	if err != nil {
		return f, err
	}
	if f.Chain, err = os.ReadFile(base + ".crt"); err != nil {
		return f, err
	}
	if f.Key, err = os.ReadFile(base + ".key"); err != nil {
		return f, err
	}
	f.Directory, _ = authority.AtHost(resource.CertURL) // "" if the CA is unknown
	f.Account, err = legoAccount(root, f.Directory)
	if err != nil {
		f.Notes = append(f.Notes, withoutAccount(err))
	}
	return f, nil
}

// legoAccount reads the only account at a CA; if the CA is unknown, the only account of the tree. lego does not record which
// account ordered a certificate.
func legoAccount(root, directory string) (Account, error) {
	files, err := match(root, "accounts/*/*/account.json")
	if directory != "" {
		server := strings.ReplaceAll(authority.Name(directory), ":", "_")
		files = slices.DeleteFunc(files, func(file string) bool { return filepath.Base(filepath.Dir(filepath.Dir(file))) != server })
	}
	switch {
	case err != nil:
		return Account{}, err
	case len(files) == 0:
		return Account{}, errNoAccount
	case len(files) > 1:
		return Account{}, fmt.Errorf("%d accounts fit, and lego does not say which one it used", len(files))
	}
	var a struct {
		Email        string `json:"email"`
		Registration struct {
			URI string `json:"uri"`
		} `json:"registration"`
	}
	if err := readJSON(files[0], &a); err != nil {
		return Account{}, err
	}
	keys, err := match(filepath.Dir(files[0]), "keys/*.key")
	if err != nil {
		return Account{}, err
	}
	if len(keys) != 1 {
		return Account{}, fmt.Errorf("%s: there are %d keys beside it instead of one", files[0], len(keys))
	}
	key, err := os.ReadFile(keys[0])
	if err != nil {
		return Account{}, err
	}
	return Account{URL: a.Registration.URI, Email: a.Email, Key: key}, nil
}

func readJSON(file string, v any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}
