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

// fromCertbot reads certbot's tree: live/NAME, renewal/NAME.conf, accounts/SERVER/PATH/ID, renewal-hooks.
func fromCertbot(root string) ([]Foreign, error) {
	files, err := match(root, "renewal/*.conf")
	if err != nil {
		return nil, err
	}
	return readAll(files, func(file string) (Foreign, error) { return certbotLineage(root, file) })
}

func certbotLineage(root, conf string) (Foreign, error) {
	settings, err := readSettings(conf, "")
	if err != nil {
		return Foreign{}, err
	}
	f := Foreign{Source: conf, Name: strings.TrimSuffix(filepath.Base(conf), ".conf"), Directory: settings["server"]}
	if authenticator, ok := strings.CutPrefix(settings["authenticator"], "dns-"); ok {
		f.Provider = authenticator
	}
	// A tree that was copied here still names its old paths. So the files below the root come first.
	live := filepath.Join(root, "live", f.Name)
	if f.Chain, err = readEither(filepath.Join(live, "fullchain.pem"), settings["fullchain"]); err != nil {
		return f, err
	}
	if f.Key, err = readEither(filepath.Join(live, "privkey.pem"), settings["privkey"]); err != nil {
		return f, err
	}
	for _, setting := range []string{"manual_auth_hook", "manual_cleanup_hook"} {
		if command := settings[setting]; command != "" {
			f.Provider = "certbot-hook"
			f.Notes = append(f.Notes, fmt.Sprintf("%s = %s: the DNS provider certbot-hook runs it", setting, finding.Quote(command, mostOfCommand)))
		}
	}
	f.Hooks = certbotHooks(root, settings)
	f.Account, err = certbotAccount(root, settings["account"])
	if err != nil {
		f.Notes = append(f.Notes, withoutAccount(err))
	}
	return f, nil
}

// certbotHooks proposes what to do with the hooks of one certificate, and with those of all certificates.
func certbotHooks(root string, settings map[string]string) []string {
	var hooks []string
	for _, hook := range []struct{ setting, folder, place string }{{"pre_hook", "pre", "pre.d"}, {"post_hook", "post", "post.d"}, {"renew_hook", "deploy", "deploy.d"}} {
		if command := settings[hook.setting]; command != "" {
			hooks = append(hooks, hookOf(hook.setting, command, hook.place))
		}
		scripts, _ := match(root, "renewal-hooks/"+hook.folder+"/*") // the root was there a moment ago
		for _, script := range scripts {
			hooks = append(hooks, fmt.Sprintf("hook: install -m 0755 %s /etc/mxcert/hooks/%s/", script, hook.place))
		}
	}
	slices.Sort(hooks)
	return hooks
}

// certbotAccount finds the account with an ID, whatever the CA in whose directory it is.
func certbotAccount(root, id string) (Account, error) {
	dir := ""
	_ = filepath.WalkDir(filepath.Join(root, "accounts"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && entry.Name() == id && id != "" {
			dir = path
		}
		return nil // a directory that cannot be read has no account for us
	})
	if dir == "" {
		return Account{}, errNoAccount
	}
	text, err := os.ReadFile(filepath.Join(dir, "private_key.json"))
	if err != nil {
		return Account{}, err
	}
	var key jose.JSONWebKey
	if err := key.UnmarshalJSON(text); err != nil {
		return Account{}, fmt.Errorf("the account key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key.Key)
	if err != nil {
		return Account{}, fmt.Errorf("the account key: %w", err)
	}
	var registration struct {
		URI string `json:"uri"`
	}
	if text, err := os.ReadFile(filepath.Join(dir, "regr.json")); err == nil {
		_ = json.Unmarshal(text, &registration) // without its URL, the CA finds the account by its key
	}
	return Account{URL: registration.URI, Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}, nil
}
