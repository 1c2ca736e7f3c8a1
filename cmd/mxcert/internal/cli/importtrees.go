package cli

import (
	"crypto/x509"
	"encoding/base64"
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

	"mxcert/acme/authority"
)

// fromCertbot reads certbot's tree: live/NAME, renewal/NAME.conf, accounts/SERVER/PATH/ID, renewal-hooks.
func fromCertbot(root string) ([]foreign, error) {
	confs, err := filepath.Glob(filepath.Join(root, "renewal", "*.conf"))
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(root); err != nil {
		return nil, err
	}
	var list []foreign
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

func certbotLineage(root, conf string) (foreign, error) {
	settings, err := readSettings(conf, "")
	if err != nil {
		return foreign{}, err
	}
	name := strings.TrimSuffix(filepath.Base(conf), ".conf")
	f := foreign{Source: conf, Name: name, Directory: settings["server"]}
	if authenticator, ok := strings.CutPrefix(settings["authenticator"], "dns-"); ok {
		f.Provider = authenticator
	}
	// The tree may have been copied: the paths in the file are tried first below the root.
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

// certbotAccount finds the account by its ID in whatever CA's directory it lies.
func certbotAccount(root, id string, f *foreign) (a account) {
	dir := ""
	_ = filepath.WalkDir(filepath.Join(root, "accounts"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && entry.Name() == id && id != "" {
			dir = path
		}
		return nil // what cannot be read is not found
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
	return account{URL: registration.URI, Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}
}

// fromLego reads lego's tree: certificates/NAME.{crt,key,json}, accounts/SERVER/EMAIL.
func fromLego(root string) ([]foreign, error) {
	if _, err := os.Stat(root); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(root, "certificates", "*.json"))
	if err != nil {
		return nil, err
	}
	var list []foreign
	var problems []error
	for _, file := range files {
		base := strings.TrimSuffix(file, ".json")
		f := foreign{Source: base + ".crt", Name: filepath.Base(base)}
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
		f.Directory, _ = authority.AtHost(resource.CertURL) // "" for a CA that is not known
		legoAccount(root, &f)
		list = append(list, f)
	}
	return list, errors.Join(problems...)
}

// legoAccount takes the only account of the tree, or the only one of the CA.
func legoAccount(root string, f *foreign) {
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
	f.Account = account{URL: a.Registration.URI, Email: a.Email, Key: key}
}

// fromAcmeSh reads the tree of acme.sh: NAME or NAME_ecc with NAME.conf, NAME.key and fullchain.cer; ca/HOST/PATH.
func fromAcmeSh(root string) ([]foreign, error) {
	if _, err := os.Stat(root); err != nil {
		return nil, err
	}
	confs, err := filepath.Glob(filepath.Join(root, "*", "*.conf"))
	if err != nil {
		return nil, err
	}
	var list []foreign
	var problems []error
	for _, conf := range confs {
		dir, name := filepath.Dir(conf), strings.TrimSuffix(filepath.Base(conf), ".conf")
		if strings.TrimSuffix(filepath.Base(dir), "_ecc") != name {
			continue
		}
		settings, err := readSettings(conf, "'")
		f := foreign{Source: dir, Name: name, Directory: settings["Le_API"]}
		if err == nil {
			f.Chain, err = os.ReadFile(filepath.Join(dir, "fullchain.cer"))
		}
		if err == nil {
			f.Key, err = os.ReadFile(filepath.Join(dir, name+".key"))
		}
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if provider, ok := strings.CutPrefix(settings["Le_Webroot"], "dns_"); ok {
			f.Provider = provider
		}
		for _, hook := range [][2]string{{"Le_PreHook", "pre.d"}, {"Le_PostHook", "post.d"}, {"Le_RenewHook", "deploy.d"}, {"Le_ReloadCmd", "deploy.d"}} {
			if command := plainAcmeSh(settings[hook[0]]); command != "" {
				f.Hooks = append(f.Hooks, fmt.Sprintf("%s = %s: put a script with this line into /etc/mxcert/hooks/%s, if a unit in `deploy` does not do it", hook[0], command, hook[1]))
			}
		}
		acmeShAccount(root, &f)
		list = append(list, f)
	}
	return list, errors.Join(problems...)
}

// plainAcmeSh decodes a value that acme.sh keeps as base64.
func plainAcmeSh(value string) string {
	text, ok := strings.CutPrefix(value, "__ACME_BASE64__START_")
	if !ok {
		return value
	}
	decoded, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(text, "__ACME_BASE64__END_"))
	if err != nil {
		return value
	}
	return string(decoded)
}

// acmeShAccount reads ca/HOST/PATH of the certificate's CA.
func acmeShAccount(root string, f *foreign) {
	dir := filepath.Join(root, "ca", strings.TrimPrefix(f.Directory, "https://"))
	settings, err := readSettings(filepath.Join(dir, "ca.conf"), "'")
	var key []byte
	if err == nil {
		key, err = os.ReadFile(filepath.Join(dir, "account.key"))
	}
	if err != nil {
		f.Notes = append(f.Notes, fmt.Sprintf("the account cannot be read (%v); a new one is registered", err))
		return
	}
	f.Account = account{URL: settings["ACCOUNT_URL"], Email: settings["CA_EMAIL"], Key: key}
}

// readSettings reads lines NAME = VALUE; quotes of the given kind around values are taken off.
func readSettings(file, quote string) (map[string]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	settings := map[string]string{}
	for _, line := range strings.Split(string(text), "\n") {
		name, value, ok := strings.Cut(line, "=")
		if name = strings.TrimSpace(name); !ok || strings.HasPrefix(name, "#") {
			continue
		}
		settings[name] = strings.Trim(strings.TrimSpace(value), quote)
	}
	return settings, nil
}

// readEither reads the first of two files that is there.
func readEither(first, second string) ([]byte, error) {
	text, err := os.ReadFile(first)
	if err != nil && second != "" {
		if other, again := os.ReadFile(second); again == nil {
			return other, nil
		}
	}
	return text, err
}
