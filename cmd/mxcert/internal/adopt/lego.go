package adopt

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mxcert/acme/authority"
)

// fromLego reads the tree of lego 4 and 5: certificates/NAME.{crt,issuer.crt,key,json}, accounts/SERVER/ID.
func fromLego(root string) ([]Foreign, error) {
	files, err := match(root, "certificates/*")
	if err != nil {
		return nil, err
	}
	var found []Foreign
	for _, file := range files {
		base, isJSON := strings.CutSuffix(file, ".json")
		if !isJSON { // one without its description is a certificate, too
			certificate, ok := strings.CutSuffix(file, ".crt")
			if !ok || strings.HasSuffix(certificate, ".issuer") || slices.Contains(files, certificate+".json") {
				continue
			}
			base = certificate
		}
		found = append(found, legoCertificate(root, base))
	}
	return found, nil
}

func legoCertificate(root, base string) Foreign {
	f := Foreign{Source: base + ".crt", Name: filepath.Base(base)}
	var resource struct {
		CertURL string `json:"certUrl"`
	}
	err := readJSON(base+".json", &resource)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.Err = err
		return f
	}
	if f.Chain, f.Err = read(base + ".crt"); f.Err != nil {
		return f
	}
	if f.Key, f.Err = read(base + ".key"); f.Err != nil {
		return f
	}
	f.Issuer, _ = read(base + ".issuer.crt") // needed only if the chain lacks it
	f.Directory, _ = authority.AtHost(resource.CertURL)
	account, server, err := legoAccount(root, resource.CertURL)
	if err != nil {
		f.Notes = append(f.Notes, withoutAccount(err))
	}
	f.Account = account
	if f.Directory == "" {
		f.Directory = server
	}
	if u, err := url.Parse(resource.CertURL); err == nil && f.Directory == "" {
		f.Host = u.Host
	}
	return f
}

// legoAccount reads the only account at the CA that issued a certificate; if the CA is unknown, the only account of the tree. lego does not
// record which account ordered a certificate. lego 5 also says what the URL of the CA's directory is.
func legoAccount(root, certURL string) (account Account, directory string, err error) {
	var files []string
	for _, pattern := range []string{"accounts/*/*/account.json", "accounts/*/*/*/account.json"} { // the latter has the type of the key
		some, err := match(root, pattern)
		if err != nil {
			return Account{}, "", err
		}
		files = append(files, some...)
	}
	where := filepath.Join(root, "accounts")
	if u, err := url.Parse(certURL); err == nil && u.Host != "" {
		server := filepath.Join(where, strings.ReplaceAll(u.Host, ":", "_"))
		_, known := authority.AtHost(certURL)
		if known || isDir(server) {
			where = server
			files = slices.DeleteFunc(files, func(file string) bool { return !strings.HasPrefix(file, server+string(filepath.Separator)) })
		}
	}
	if len(files) == 0 {
		return Account{}, "", fmt.Errorf("there is no account below %s", where)
	}
	if len(files) > 1 {
		return Account{}, "", fmt.Errorf("%d accounts below %s fit, and lego does not say which one it used", len(files), where)
	}
	return legoAccountAt(files[0])
}

func legoAccountAt(file string) (account Account, directory string, err error) {
	var a struct {
		Email        string `json:"email"`
		Server       string `json:"server"` // lego 5
		Registration struct {
			URI        string `json:"uri"`        // lego 4
			AccountURL string `json:"accountURL"` // lego 5
		} `json:"registration"`
	}
	if err := readJSON(file, &a); err != nil {
		return Account{}, "", err
	}
	var keys []string
	for _, pattern := range []string{"*.key", "keys/*.key"} { // lego 5, lego 4
		some, err := match(filepath.Dir(file), pattern)
		if err != nil {
			return Account{}, a.Server, err
		}
		keys = append(keys, some...)
	}
	if len(keys) != 1 {
		return Account{}, a.Server, fmt.Errorf("%s: there are %d keys beside it instead of one", file, len(keys))
	}
	key, err := os.ReadFile(keys[0])
	if err != nil {
		return Account{}, a.Server, err
	}
	return Account{URL: a.Registration.URI + a.Registration.AccountURL, Email: a.Email, Key: key}, a.Server, nil
}
