package adopt

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// fromAcmeSh reads the tree of acme.sh: NAME or NAME_ecc with NAME.conf, NAME.key and fullchain.cer; ca/HOST/PATH.
func fromAcmeSh(root string) ([]Foreign, error) {
	if _, err := os.Stat(root); err != nil {
		return nil, err
	}
	confs, err := filepath.Glob(filepath.Join(root, "*", "*.conf"))
	if err != nil {
		return nil, err
	}
	var list []Foreign
	var problems []error
	for _, conf := range confs {
		dir, name := filepath.Dir(conf), strings.TrimSuffix(filepath.Base(conf), ".conf")
		if strings.TrimSuffix(filepath.Base(dir), "_ecc") != name {
			continue
		}
		settings, err := readSettings(conf, "'")
		f := Foreign{Source: dir, Name: name, Directory: settings["Le_API"]}
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
				f.Hooks = append(f.Hooks, fmt.Sprintf("%s = %s: put a script with this line into /etc/mxcert/hooks/%s, unless a unit in `deploy` does it", hook[0], command, hook[1]))
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
func acmeShAccount(root string, f *Foreign) {
	dir := filepath.Join(root, "ca", strings.TrimPrefix(f.Directory, "https://"))
	settings, err := readSettings(filepath.Join(dir, "ca.conf"), "'")
	var key []byte
	if err == nil {
		key, err = os.ReadFile(filepath.Join(dir, "account.key"))
	}
	if err != nil {
		f.Notes = append(f.Notes, fmt.Sprintf("the account cannot be read (%v); the next order registers a new one", err))
		return
	}
	f.Account = Account{URL: settings["ACCOUNT_URL"], Email: settings["CA_EMAIL"], Key: key}
}
