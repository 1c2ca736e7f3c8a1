package adopt

import (
	"cmp"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"mxcert/acme/finding"
)

// fromCertbot reads certbot's tree: live/NAME, renewal/NAME.conf, accounts/SERVER/PATH/ID, renewal-hooks, cli.ini.
func fromCertbot(root string) ([]Foreign, error) {
	files, err := match(root, "renewal/*.conf")
	if err != nil {
		return nil, err
	}
	common, _ := readINI(filepath.Join(root, "cli.ini")) // most trees have none
	var found []Foreign
	for _, file := range files {
		f := certbotLineage(root, file)
		f.Hooks, f.Notes = append(f.Hooks, certbotDefaults(root, common)...), append(f.Notes, certbotChain("preferred-chain of cli.ini", common["preferred-chain"])...)
		found = append(found, f)
	}
	return found, nil
}

func certbotLineage(root, conf string) Foreign {
	f := Foreign{Source: conf, Name: strings.TrimSuffix(filepath.Base(conf), ".conf")}
	settings, err := readINI(conf)
	if err != nil {
		f.Err = err
		return f
	}
	f.Directory = settings["server"]
	// A plugin of another package once had its package before its name: PACKAGE:dns-NAME.
	authenticator := settings["authenticator"][strings.LastIndexByte(settings["authenticator"], ':')+1:]
	if plugin, ok := strings.CutPrefix(authenticator, "dns-"); ok {
		f.Plugins = []string{plugin}
	}
	if f.Err = f.certbotFiles(root, settings); f.Err != nil {
		return f
	}
	for _, setting := range []string{"manual_auth_hook", "manual_cleanup_hook"} {
		if command := settings[setting]; command != "" {
			f.Plugins = []string{hookPlugin}
			f.Notes = append(f.Notes, fmt.Sprintf("%s = %s: the DNS provider certbot-hook runs it", setting, finding.Quote(command, mostOfCommand)))
		}
	}
	f.Notes = append(append(f.Notes, certbotChain("preferred_chain", settings["preferred_chain"])...), certbotProof(authenticator, settings)...)
	f.Hooks = certbotHooks(root, settings)
	f.Account, err = certbotAccount(root, settings["server"], settings["account"])
	if err != nil {
		f.Notes = append(f.Notes, withoutAccount(err))
	}
	return f
}

// certbotFiles reads certificate and key: those that live/ leads to. A tree that was copied here still names its old paths, so the files
// below the root come first. If the links of live/ were not copied, or lead nowhere, the newest files of archive/ count.
func (f *Foreign) certbotFiles(root string, settings map[string]string) error {
	live := filepath.Join(root, "live", f.Name)
	file := func(name, setting string) (Text, error) {
		return readEither(filepath.Join(live, name), settings[setting])
	}
	var chainErr, keyErr error
	f.Chain, chainErr = file("fullchain.pem", "fullchain")
	f.Key, keyErr = file("privkey.pem", "privkey")
	f.Issuer, _ = file("chain.pem", "chain") // needed only if the chain lacks it
	err := cmp.Or(chainErr, keyErr)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	archive := filepath.Join(root, "archive", f.Name)
	number, ok := newestOf(archive)
	if !ok {
		return err
	}
	f.Chain, chainErr = read(filepath.Join(archive, "fullchain"+number+".pem"))
	f.Key, keyErr = read(filepath.Join(archive, "privkey"+number+".pem"))
	f.Issuer, _ = read(filepath.Join(archive, "chain"+number+".pem"))
	f.Notes = append(f.Notes, fmt.Sprintf("%v; mxcert takes the newest certificate of %s, which is number %s", err, archive, number))
	return cmp.Or(chainErr, keyErr)
}

// newestOf returns the highest number of a certificate in a directory of archive/ that has its key, too.
func newestOf(archive string) (number string, ok bool) {
	newest := 0
	files, _ := match(archive, "fullchain*.pem")
	for _, file := range files {
		text := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "fullchain"), ".pem")
		n, err := strconv.Atoi(text)
		if _, keyErr := os.Stat(filepath.Join(archive, "privkey"+text+".pem")); err == nil && keyErr == nil && n > newest {
			newest, number = n, text
		}
	}
	return number, newest > 0
}

// certbotProof notes where certbot has the secrets of its DNS plugin, or that it did not prove the names by DNS.
func certbotProof(authenticator string, settings map[string]string) (notes []string) {
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if strings.HasPrefix(name, "dns_") && strings.HasSuffix(name, "_credentials") {
			notes = append(notes, fmt.Sprintf("%s = %s: this file has the credentials of the DNS plugin, which `dns` needs, too", name, finding.Quote(settings[name], finding.MostQuoted)))
		}
	}
	if slices.Contains([]string{"webroot", "standalone", "nginx", "apache"}, authenticator) {
		notes = append(notes, overHTTP("authenticator = "+authenticator))
	}
	return notes
}

// certbotPlace is one kind of certbot's hooks.
type certbotPlace struct {
	settings []string // its names
	folder   string   // of scripts
	place    string   // mxcert's folder
}

func certbotPlaces() []certbotPlace {
	return []certbotPlace{{[]string{"pre_hook"}, "pre", "pre.d"}, {[]string{"post_hook"}, "post", "post.d"}, {[]string{"renew_hook", "deploy_hook"}, "deploy", "deploy.d"}}
}

// certbotHooks proposes what to do with the hooks of one certificate, and with those of all certificates.
func certbotHooks(root string, settings map[string]string) []string {
	var hooks []string
	for _, hook := range certbotPlaces() {
		for _, setting := range hook.settings {
			if command := settings[setting]; command != "" {
				hooks = append(hooks, hookOf(setting, command, hook.place))
			}
		}
		scripts, err := match(root, "renewal-hooks/"+hook.folder+"/*")
		if err != nil {
			hooks = append(hooks, fmt.Sprintf("hook: look yourself for scripts of certbot: %v", err))
		}
		for _, script := range scripts {
			hooks = append(hooks, fmt.Sprintf("hook: install -m 0755 %s /etc/mxcert/hooks/%s/", script, hook.place))
		}
	}
	slices.Sort(hooks)
	return hooks
}

// certbotDefaults proposes what to do with the hooks in cli.ini, which certbot runs for every certificate.
func certbotDefaults(root string, common map[string]string) []string {
	var hooks []string
	for _, hook := range certbotPlaces() {
		for _, setting := range hook.settings {
			setting = strings.ReplaceAll(setting, "_", "-")
			if command := common[setting]; command != "" {
				hooks = append(hooks, hookOf(setting+" of "+filepath.Join(root, "cli.ini"), command, hook.place))
			}
		}
	}
	return hooks
}

// certbotChain is the note about the chain that certbot asked the CA for.
func certbotChain(setting, name string) []string {
	if name == "" {
		return nil
	}
	return []string{fmt.Sprintf("%s = %s: set preferred_chain in the section acme to ask for the same chain", setting, finding.Quote(name, finding.MostQuoted))}
}

// certbotAccount finds the account with an ID: in the directory of the CA, or else in that of any CA, because one CA may have had another
// address when the account was made.
func certbotAccount(root, server, id string) (Account, error) {
	dir, accounts := "", filepath.Join(root, "accounts")
	if _, place, ok := strings.Cut(server, "://"); ok && id != "" && isDir(filepath.Join(accounts, place, id)) {
		return certbotAccountAt(filepath.Join(accounts, place, id))
	}
	_ = filepath.WalkDir(accounts, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && entry.Name() == id && id != "" {
			dir = path
		}
		return nil // a directory that cannot be read has no account for us
	})
	if dir == "" {
		return Account{}, fmt.Errorf("there is no account %s below %s", finding.Quoted(id, finding.MostQuoted), accounts)
	}
	return certbotAccountAt(dir)
}

func certbotAccountAt(dir string) (Account, error) {
	text, err := os.ReadFile(filepath.Join(dir, "private_key.json"))
	if err != nil {
		return Account{}, err
	}
	var key jose.JSONWebKey
	if err := key.UnmarshalJSON(text); err != nil {
		return Account{}, fmt.Errorf("the account key in %s: %w", dir, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key.Key)
	if err != nil {
		return Account{}, fmt.Errorf("the account key in %s: %w", dir, err)
	}
	var registration struct {
		URI string `json:"uri"`
	}
	if text, err := os.ReadFile(filepath.Join(dir, "regr.json")); err == nil {
		_ = json.Unmarshal(text, &registration) // without its URL, the CA finds the account by its key
	}
	return Account{URL: registration.URI, Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}, nil
}
