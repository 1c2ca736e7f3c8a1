package adopt

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	// A tree that was copied here still names its old paths. So the files below the root come first.
	live := filepath.Join(root, "live", f.Name)
	if f.Chain, f.Err = readEither(filepath.Join(live, "fullchain.pem"), settings["fullchain"]); f.Err != nil {
		return f
	}
	if f.Key, f.Err = readEither(filepath.Join(live, "privkey.pem"), settings["privkey"]); f.Err != nil {
		return f
	}
	f.Issuer, _ = readEither(filepath.Join(live, "chain.pem"), settings["chain"]) // needed only if the chain lacks it
	for _, setting := range []string{"manual_auth_hook", "manual_cleanup_hook"} {
		if command := settings[setting]; command != "" {
			f.Plugins = []string{hookPlugin}
			f.Notes = append(f.Notes, fmt.Sprintf("%s = %s: the DNS provider certbot-hook runs it", setting, finding.Quote(command, mostOfCommand)))
		}
	}
	f.Notes = append(f.Notes, certbotChain("preferred_chain", settings["preferred_chain"])...)
	f.Hooks = certbotHooks(root, settings)
	f.Account, err = certbotAccount(root, settings["account"])
	if err != nil {
		f.Notes = append(f.Notes, withoutAccount(err))
	}
	return f
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

// certbotAccount finds the account with an ID, whatever the CA in whose directory it is.
func certbotAccount(root, id string) (Account, error) {
	dir, accounts := "", filepath.Join(root, "accounts")
	_ = filepath.WalkDir(accounts, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && entry.Name() == id && id != "" {
			dir = path
		}
		return nil // a directory that cannot be read has no account for us
	})
	if dir == "" {
		return Account{}, fmt.Errorf("there is no account %s below %s", finding.Quoted(id, finding.MostQuoted), accounts)
	}
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
