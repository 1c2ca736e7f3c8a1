package adopt

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// fromCertbot reads certbot's tree: live/NAME, renewal/NAME.conf, accounts/SERVER/PATH/ID, renewal-hooks.
func fromCertbot(root string) ([]Foreign, error) {
	confs, err := filepath.Glob(filepath.Join(root, "renewal", "*.conf"))
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(root); err != nil {
		return nil, err
	}
	var list []Foreign
	var problems []error
	for _, conf := range confs {
		f, err := certbotLineage(root, conf)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		list = append(list, f)
	}
	return list, errors.Join(problems...)
}

func certbotLineage(root, conf string) (Foreign, error) {
	settings, err := readSettings(conf, "")
	if err != nil {
		return Foreign{}, err
	}
	name := strings.TrimSuffix(filepath.Base(conf), ".conf")
	f := Foreign{Source: conf, Name: name, Directory: settings["server"]}
	if authenticator, ok := strings.CutPrefix(settings["authenticator"], "dns-"); ok {
		f.Provider = authenticator
	}
	// The files may be a copy, so the paths in the file are first tried below the root.
	for file, into := range map[string]*[]byte{"fullchain": &f.Chain, "privkey": &f.Key} {
		if *into, err = readEither(filepath.Join(root, "live", name, file+".pem"), settings[file]); err != nil {
			return f, err
		}
	}
	for _, hook := range [][2]string{{"pre_hook", "pre.d"}, {"post_hook", "post.d"}, {"renew_hook", "deploy.d"}, {"manual_auth_hook", ""}, {"manual_cleanup_hook", ""}} {
		switch command := settings[hook[0]]; {
		case command == "":
		case hook[1] == "":
			f.Provider = "certbot-hook"
			f.Notes = append(f.Notes, fmt.Sprintf("%s = %s: the DNS provider certbot-hook runs it", hook[0], command))
		default:
			f.Hooks = append(f.Hooks, fmt.Sprintf("%s = %s: put a script with this line into /etc/mxcert/hooks/%s", hook[0], command, hook[1]))
		}
	}
	for dir, place := range map[string]string{"pre": "pre.d", "deploy": "deploy.d", "post": "post.d"} {
		scripts, _ := filepath.Glob(filepath.Join(root, "renewal-hooks", dir, "*")) // the pattern is well-formed
		for _, script := range scripts {
			f.Hooks = append(f.Hooks, fmt.Sprintf("hook: install -m 0755 %s /etc/mxcert/hooks/%s/", script, place))
		}
	}
	slices.Sort(f.Hooks)
	f.Account = certbotAccount(root, settings["account"], &f)
	return f, nil
}

// certbotAccount finds the account by its ID, in the directory of any CA.
func certbotAccount(root, id string, f *Foreign) (a Account) {
	dir := ""
	_ = filepath.WalkDir(filepath.Join(root, "accounts"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && entry.Name() == id && id != "" {
			dir = path
		}
		return nil // a file that cannot be read counts as not found
	})
	if dir == "" {
		f.Notes = append(f.Notes, "the account was not found; a new one is registered")
		return a
	}
	var registration struct {
		URI string `json:"uri"`
	}
	if text, err := os.ReadFile(filepath.Join(dir, "regr.json")); err == nil {
		_ = json.Unmarshal(text, &registration) // without a URL the account is found again by its key
	}
	text, err := os.ReadFile(filepath.Join(dir, "private_key.json"))
	var key jose.JSONWebKey
	if err == nil {
		err = key.UnmarshalJSON(text)
	}
	var der []byte
	if err == nil {
		der, err = x509.MarshalPKCS8PrivateKey(key.Key)
	}
	if err != nil {
		f.Notes = append(f.Notes, fmt.Sprintf("the account key cannot be used (%v); a new account is registered", err))
		return a
	}
	return Account{URL: registration.URI, Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}
}
