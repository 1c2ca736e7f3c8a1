package adopt

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mxcert/acme/authority"
)

// fromLego reads lego's tree: certificates/NAME.{crt,key,json}, accounts/SERVER/EMAIL.
func fromLego(root string) ([]Foreign, error) {
	if _, err := os.Stat(root); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(root, "certificates", "*.json"))
	if err != nil {
		return nil, err
	}
	var list []Foreign
	var problems []error
	for _, file := range files {
		base := strings.TrimSuffix(file, ".json")
		f := Foreign{Source: base + ".crt", Name: filepath.Base(base)}
		var resource struct {
			CertURL string `json:"certUrl"`
		}
		text, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(text, &resource)
		}
		if err == nil {
			f.Chain, err = os.ReadFile(base + ".crt")
		}
		if err == nil {
			f.Key, err = os.ReadFile(base + ".key")
		}
		if err != nil {
			problems = append(problems, err)
			continue
		}
		f.Directory, _ = authority.AtHost(resource.CertURL) // "" for an unknown CA
		legoAccount(root, &f)
		list = append(list, f)
	}
	return list, errors.Join(problems...)
}

// legoAccount takes the account if there is only one, either in all the files or at this CA.
func legoAccount(root string, f *Foreign) {
	files, _ := filepath.Glob(filepath.Join(root, "accounts", "*", "*", "account.json")) // the pattern is well-formed
	if host := authority.Name(f.Directory); f.Directory != "" {
		files = slices.DeleteFunc(files, func(file string) bool {
			return filepath.Base(filepath.Dir(filepath.Dir(file))) != strings.ReplaceAll(host, ":", "_")
		})
	}
	if len(files) != 1 {
		f.Notes = append(f.Notes, fmt.Sprintf("%d accounts fit; none is taken over", len(files)))
		return
	}
	var a struct {
		Email        string `json:"email"`
		Registration struct {
			URI string `json:"uri"`
		} `json:"registration"`
	}
	text, err := os.ReadFile(files[0])
	if err == nil {
		err = json.Unmarshal(text, &a)
	}
	keys, _ := filepath.Glob(filepath.Join(filepath.Dir(files[0]), "keys", "*.key")) // the pattern is well-formed
	if err != nil || len(keys) != 1 {
		f.Notes = append(f.Notes, "the account cannot be read; a new one is registered")
		return
	}
	key, err := os.ReadFile(keys[0])
	if err != nil {
		f.Notes = append(f.Notes, fmt.Sprintf("the account key cannot be read (%v)", err))
		return
	}
	f.Account = Account{URL: a.Registration.URI, Email: a.Email, Key: key}
}
