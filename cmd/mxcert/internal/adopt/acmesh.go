package adopt

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// fromAcmeSh reads the tree of acme.sh: NAME (RSA) or NAME_ecc with NAME.conf, NAME.key and fullchain.cer; ca/HOST/PATH.
func fromAcmeSh(root string) ([]Foreign, error) {
	files, err := match(root, "*/*.conf")
	if err != nil {
		return nil, err
	}
	files = slices.DeleteFunc(files, func(file string) bool {
		return strings.TrimSuffix(filepath.Base(filepath.Dir(file)), "_ecc") != acmeShName(file)
	})
	return readAll(files, func(file string) (Foreign, error) { return acmeShCertificate(root, file) })
}

func acmeShName(conf string) string { return strings.TrimSuffix(filepath.Base(conf), ".conf") }

func acmeShCertificate(root, conf string) (Foreign, error) {
	settings, err := readSettings(conf, "'")
	if err != nil {
		return Foreign{}, err
	}
	dir, name := filepath.Dir(conf), acmeShName(conf)
	f := Foreign{Source: dir, Name: name, Directory: settings["Le_API"]}
	if f.Chain, err = os.ReadFile(filepath.Join(dir, "fullchain.cer")); err != nil {
		return f, err
	}
	if f.Key, err = os.ReadFile(filepath.Join(dir, name+".key")); err != nil {
		return f, err
	}
	if provider, ok := strings.CutPrefix(settings["Le_Webroot"], "dns_"); ok {
		f.Provider = provider
	}
	for _, hook := range [][2]string{{"Le_PreHook", "pre.d"}, {"Le_PostHook", "post.d"}, {"Le_RenewHook", "deploy.d"}, {"Le_ReloadCmd", "deploy.d"}} {
		if command := plainAcmeSh(settings[hook[0]]); command != "" {
			f.Hooks = append(f.Hooks, hookOf(hook[0], command, hook[1])+", unless a unit in `deploy` does the same")
		}
	}
	f.Account, err = acmeShAccount(root, f.Directory)
	if err != nil {
		f.Notes = append(f.Notes, withoutAccount(err))
	}
	return f, nil
}

// plainAcmeSh decodes a value that acme.sh keeps as base64. A value that is not, or not well, comes back as it is.
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

// acmeShAccount reads the account at a CA: ca/HOST/PATH, after the URL of the CA's directory.
func acmeShAccount(root, directory string) (Account, error) {
	dir := filepath.Join(root, "ca", strings.TrimPrefix(directory, "https://"))
	settings, err := readSettings(filepath.Join(dir, "ca.conf"), "'")
	if err != nil {
		return Account{}, err
	}
	key, err := os.ReadFile(filepath.Join(dir, "account.key"))
	if err != nil {
		return Account{}, err
	}
	return Account{URL: settings["ACCOUNT_URL"], Email: settings["CA_EMAIL"], Key: key}, nil
}
