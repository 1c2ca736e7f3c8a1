package adopt

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"mxcert/acme/authority"
	"mxcert/acme/finding"
)

// dehydratedConfig is the file of settings of Debian's package.
const dehydratedConfig = "/etc/dehydrated/config"

// fromDehydrated reads the tree of dehydrated: certs/NAME with privkey.pem, fullchain.pem and chain.pem; accounts/CA, where CA is the URL of
// the CA's directory in base64.
func fromDehydrated(root string) ([]Foreign, error) {
	settings, file := dehydratedSettings(root)
	certificates := filepath.Join(root, "certs")
	if dir := settings["CERTDIR"]; isDir(dir) {
		certificates = dir
	}
	files, err := match(certificates, "*/privkey.pem")
	if errors.Is(err, fs.ErrNotExist) && isDir(root) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	directory, account, accountErr := dehydratedAccount(root, settings)
	var found []Foreign
	for _, key := range files {
		dir := filepath.Dir(key)
		f := Foreign{Source: dir, Name: filepath.Base(dir), Directory: directory, Account: account}
		if f.Key, f.Err = read(key); f.Err == nil {
			f.Chain, f.Err = read(filepath.Join(dir, "fullchain.pem"))
		}
		f.Issuer, _ = read(filepath.Join(dir, "chain.pem")) // needed only if the chain lacks it
		if hook := settings["HOOK"]; hook != "" {
			f.Hooks = append(f.Hooks, fmt.Sprintf("HOOK of %s = %s: dehydrated calls it for TXT records (deploy_challenge) and for new certificates (deploy_cert); mxcert does the first by `dns`, the second by `deploy` and scripts in /etc/mxcert/hooks/deploy.d", file, finding.Quote(hook, mostOfCommand)))
		}
		if way := settings["CHALLENGETYPE"]; way != "" && way != "dns-01" {
			f.Notes = append(f.Notes, overHTTP(fmt.Sprintf("CHALLENGETYPE of %s = %s", file, finding.Quote(way, finding.MostQuoted))))
		}
		if accountErr != nil {
			f.Notes = append(f.Notes, withoutAccount(accountErr))
		}
		found = append(found, f)
	}
	return found, nil
}

// dehydratedSettings reads the settings: in the tree itself, or for the usual tree where Debian has them.
func dehydratedSettings(root string) (settings map[string]string, file string) {
	file = filepath.Join(root, "config")
	settings, err := readShell(file)
	if err != nil && samePath(root, UsualPath(dehydrated)) {
		file = dehydratedConfig
		settings, _ = readShell(file)
	}
	settings = inTree(settings, root)
	more, _ := match(settings["CONFIG_D"], "*.sh") // most trees have none
	for _, part := range more {
		if own, err := readShell(part); err == nil {
			maps.Copy(settings, inTree(own, root))
		}
	}
	return settings, file
}

// inTree puts the tree's path into settings. The path that they name may be that of another host.
func inTree(settings map[string]string, root string) map[string]string {
	tree := map[string]string{}
	for name, value := range settings {
		tree[name] = strings.NewReplacer("${BASEDIR}", root, "$BASEDIR", root).Replace(value)
	}
	return tree
}

// dehydratedAccount finds the account at the CA that the settings name; without them, the only account of the tree. Their CA may be one of
// dehydrated's short names.
func dehydratedAccount(root string, settings map[string]string) (directory string, account Account, err error) {
	accounts := filepath.Join(root, "accounts")
	if dir := settings["ACCOUNTDIR"]; isDir(dir) {
		accounts = dir
	}
	directory = settings["CA"]
	if url, known := authority.Directory(strings.Replace(directory, "letsencrypt-test", "letsencrypt-staging", 1)); known {
		directory = url
	}
	files, err := match(accounts, "*/account_key.pem")
	if err != nil {
		return directory, Account{}, err
	}
	at := ""
	for _, file := range files {
		url, err := base64.RawURLEncoding.DecodeString(filepath.Base(filepath.Dir(file)))
		if ca := strings.TrimSpace(string(url)); err == nil && (ca == directory || directory == "" && len(files) == 1) {
			directory, at = ca, filepath.Dir(file)
		}
	}
	if at == "" {
		return directory, Account{}, fmt.Errorf("%d accounts are below %s, and none is known to be the one at this CA", len(files), accounts)
	}
	key, err := os.ReadFile(filepath.Join(at, "account_key.pem"))
	if err != nil {
		return directory, Account{}, err
	}
	var id struct {
		URL string `json:"url"`
	}
	_ = readJSON(filepath.Join(at, "account_id.json"), &id) // without its URL, the CA finds the account by its key
	var registration struct {
		Contact []string `json:"contact"`
	}
	_ = readJSON(filepath.Join(at, "registration_info.json"), &registration)
	account = Account{URL: id.URL, Key: key}
	if len(registration.Contact) > 0 {
		account.Email = strings.TrimPrefix(registration.Contact[0], "mailto:")
	}
	return directory, account, nil
}
