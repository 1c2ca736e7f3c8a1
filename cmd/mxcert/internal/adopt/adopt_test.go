package adopt_test

import (
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/issuer"
	"mxcert/cmd/mxcert/internal/adopt"
)

const life = 90 * 24 * time.Hour

// tree writes files below a new directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// book opens a new state directory.
func book(t *testing.T) (store *state.Book, dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "state")
	s, err := disk.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return state.New(s), dir
}

// listing is everything below a directory, with size and time of change.
func listing(t *testing.T, root string) string {
	t.Helper()
	var text strings.Builder
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			fmt.Fprintln(&text, path, info.Mode(), info.Size(), info.ModTime().UnixNano())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// foreign is what a client would have left of a bundle.
func foreign(name string, b *bundle.Bundle) adopt.Foreign {
	return adopt.Foreign{Client: "lego", Source: "there", Name: name, Chain: adopt.Text{File: name + ".crt", PEM: b.FullchainPEM()}, Key: adopt.Text{File: name + ".key", PEM: b.KeyPEM()}}
}

// take takes over one certificate.
func take(t *testing.T, store *state.Book, f adopt.Foreign, o adopt.Options) (adopt.Taken, error) {
	t.Helper()
	taken := adopt.Take(t.Context(), store, []adopt.Foreign{f}, o)[0]
	return taken, taken.Err
}

// one reads a tree that must hold one certificate.
func one(t *testing.T, client, root string) adopt.Foreign {
	t.Helper()
	found, err := adopt.Read(client, root, "")
	if err != nil || len(found) != 1 {
		t.Fatalf("%d certificates, %v", len(found), err)
	}
	return found[0]
}

func says(t *testing.T, list []string, text string) {
	t.Helper()
	if !strings.Contains(strings.Join(list, "\n"), text) {
		t.Errorf("%q is not in %q", text, list)
	}
}

// certbot's tree: the paths in the configuration are those of another host, because the tree was copied.
func certbotTree(t *testing.T, b *bundle.Bundle, settings string) string {
	t.Helper()
	key, err := jose.JSONWebKey{Key: b.Key()}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return tree(t, map[string]string{
		"renewal/mail.conf":       "version = 2.1.0\nfullchain = /elsewhere/fullchain.pem\nprivkey = /elsewhere/privkey.pem\n[renewalparams]\naccount = 0123abc\nserver = https://ca.example/directory\n" + settings,
		"live/mail/fullchain.pem": string(b.FullchainPEM()), "live/mail/privkey.pem": string(b.KeyPEM()),
		"accounts/ca.example/directory/0123abc/private_key.json": string(key), "accounts/ca.example/directory/0123abc/regr.json": `{"uri": "https://ca.example/acct/1"}`,
		"renewal-hooks/deploy/10-exim": "#!/bin/sh\n",
	})
}

func TestCertbot(t *testing.T) {
	t.Parallel()
	b := issuer.New(t).Issue(t, life, "mx.example.org")
	f := one(t, "certbot", certbotTree(t, b, "authenticator = dns-cloudflare\nrenew_hook = systemctl reload exim4\n"))
	if f.Name != "mail" || f.Directory != "https://ca.example/directory" || !slices.Equal(f.Plugins, []string{"cloudflare"}) || f.Account.URL != "https://ca.example/acct/1" || f.Account.Key == nil ||
		string(f.Chain.PEM) != string(b.FullchainPEM()) || string(f.Key.PEM) != string(b.KeyPEM()) {
		t.Errorf("%+v", f)
	}
	says(t, f.Hooks, "renew_hook = systemctl reload exim4: put a script with this line into /etc/mxcert/hooks/deploy.d")
	says(t, f.Hooks, "/etc/mxcert/hooks/deploy.d/")
	f = one(t, "certbot", certbotTree(t, b, "authenticator = manual\nmanual_auth_hook = /etc/auth.sh\n"))
	if says(t, f.Notes, "manual_auth_hook = /etc/auth.sh: the DNS provider certbot-hook runs it"); !slices.Equal(f.Plugins, []string{"certbot-hook"}) {
		t.Errorf("%+v", f)
	}
}

// What is missing of an account is said; what cannot be read of one certificate does not hide the others.
func TestCertbotWithDamage(t *testing.T) {
	t.Parallel()
	b := issuer.New(t).Issue(t, life, "mx.example.org")
	root := certbotTree(t, b, "")
	for path, text := range map[string]string{"accounts/ca.example/directory/0123abc/private_key.json": "rubbish", "renewal/other.conf": "server = x\n"} {
		if err := os.WriteFile(filepath.Join(root, path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found, err := adopt.Read("certbot", root, "")
	if err != nil || len(found) != 2 || found[0].Err != nil || found[1].Err == nil || !strings.Contains(found[1].Err.Error(), "live/other") {
		t.Fatalf("%+v, %v", found, err)
	}
	says(t, found[0].Notes, "no account is taken over (the account key in ")
	if err := os.RemoveAll(filepath.Join(root, "accounts")); err != nil {
		t.Fatal(err)
	}
	found, _ = adopt.Read("certbot", root, "")
	says(t, found[0].Notes, "no account is taken over (there is no account \"0123abc\" below "+filepath.Join(root, "accounts")+"); mxcert registers a new one")
	if _, err := adopt.Read("certbot", filepath.Join(root, "nowhere"), ""); err == nil {
		t.Error("a tree that does not exist was read")
	}
}

func TestLego(t *testing.T) {
	t.Parallel()
	b := issuer.New(t).Issue(t, life, "mx.example.org")
	files := map[string]string{
		"certificates/mx.example.org.json": `{"certUrl": "https://acme-v02.api.letsencrypt.org/acme/cert/1"}`,
		"certificates/mx.example.org.crt":  string(b.FullchainPEM()), "certificates/mx.example.org.key": string(b.KeyPEM()),
		"accounts/acme-v02.api.letsencrypt.org/a@example.org/account.json":           `{"email": "a@example.org", "registration": {"uri": "https://acme-v02.api.letsencrypt.org/acct/1"}}`,
		"accounts/acme-v02.api.letsencrypt.org/a@example.org/keys/a@example.org.key": string(b.KeyPEM()),
		"accounts/other.example/b@example.org/account.json":                          `{}`,
	}
	f := one(t, "lego", tree(t, files))
	if f.Directory != "https://acme-v02.api.letsencrypt.org/directory" || f.Account.Email != "a@example.org" || f.Account.URL == "" || f.Account.Key == nil {
		t.Errorf("%+v", f)
	}
	files["accounts/acme-v02.api.letsencrypt.org/c@example.org/account.json"] = `{}`
	f = one(t, "lego", tree(t, files))
	if says(t, f.Notes, "2 accounts below "); f.Account.Key != nil {
		t.Errorf("one of two accounts was chosen: %+v", f.Account)
	}
	files["certificates/broken.json"] = "{"
	found, err := adopt.Read("lego", tree(t, files), "")
	if err != nil || len(found) != 2 || found[0].Err == nil || !strings.Contains(found[0].Err.Error(), "broken of lego: ") || found[1].Err != nil {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestAcmeSh(t *testing.T) {
	t.Parallel()
	b := issuer.New(t).Issue(t, life, "mx.example.org")
	coded := "__ACME_BASE64__START_" + base64.StdEncoding.EncodeToString([]byte("systemctl reload exim4")) + "__ACME_BASE64__END_"
	f := one(t, "acme.sh", tree(t, map[string]string{
		"mx.example.org_ecc/mx.example.org.conf": fmt.Sprintf("# comment='x'\nLe_API='https://ca.example/dir'\nLe_Webroot='dns_cf'\nLe_ReloadCmd='%s'\nLe_PreHook='true'\n", coded),
		"mx.example.org_ecc/mx.example.org.key":  string(b.KeyPEM()), "mx.example.org_ecc/fullchain.cer": string(b.FullchainPEM()),
		"mx.example.org_ecc/mx.example.org.csr.conf": "x", // not the certificate's own
		"ca/ca.example/dir/ca.conf":                  "ACCOUNT_URL='https://ca.example/acct/1'\nCA_EMAIL='a@example.org'\n", "ca/ca.example/dir/account.key": string(b.KeyPEM()),
		"notify/other.conf": "x",
	}))
	if f.Directory != "https://ca.example/dir" || !slices.Equal(f.Plugins, []string{"cf"}) || f.Account.URL != "https://ca.example/acct/1" || f.Account.Email != "a@example.org" {
		t.Errorf("%+v", f)
	}
	says(t, f.Hooks, "Le_ReloadCmd = systemctl reload exim4: put a script with this line into /etc/mxcert/hooks/deploy.d")
	says(t, f.Hooks, "Le_PreHook = true")
	f = one(t, "acme.sh", tree(t, map[string]string{"a/a.conf": "Le_API='https://ca.example/dir'\nLe_ReloadCmd='__ACME_BASE64__START_???'\n", "a/a.key": "k", "a/fullchain.cer": "c"}))
	says(t, f.Notes, "no account is taken over (open ")
	says(t, f.Notes, "Le_ReloadCmd: the coded text in ")
}

// A certificate is stored under the name that the configuration has for its names, once, with its account.
func TestTake(t *testing.T) {
	t.Parallel()
	ca := issuer.New(t)
	store, dir := book(t)
	before := listing(t, dir)
	b := ca.Issue(t, life, "mx.example.org", "host7.example.org")
	f := foreign("Mail.Example.ORG", b)
	f.Directory, f.Plugins, f.Hooks = "https://ca.example/dir", []string{"cloudflare"}, []string{"a hook"}
	f.Account = adopt.Account{URL: "https://ca.example/acct/1", Email: "a@example.org", Key: b.KeyPEM()}
	o := adopt.Options{Configured: []adopt.Configured{{Name: "list", Names: []string{"lists.example.org"}}, {Name: "mx", Names: []string{"host7.example.org", "mx.example.org"}, Keys: []bundle.KeyType{"rsa2048"}}}}

	o.DryRun = true
	dry, err := take(t, store, f, o)
	if err != nil || dry.Stored || dry.Name != "mx" || dry.Proposal != "" || dry.Account != "https://ca.example/acct/1" || dry.Serial != b.Serial() {
		t.Errorf("dry run: %+v, %v", dry, err)
	}
	if says(t, dry.Notes, "the key is ec256: set keys: [ec256] to keep it"); !slices.Contains(dry.Notes, "a hook") {
		t.Errorf("notes: %q", dry.Notes)
	}
	if after := listing(t, dir); after != before {
		t.Errorf("the dry run changed the state directory from\n%s to\n%s", before, after)
	}

	o.DryRun = false
	taken, err := take(t, store, f, o)
	if err != nil || !taken.Stored {
		t.Fatalf("%+v, %v", taken, err)
	}
	record, _, err := store.Lineage("mx").Look()
	if err != nil || record.Slot("ec256").Current == "" || record.Slot("ec256").RenewAt.IsZero() || record.Events[0].Event != "imported" || record.Events[0].Message != "from there" {
		t.Errorf("%+v, %v", record, err)
	}
	account, ok, err := store.Account("https://ca.example/dir")
	if err != nil || !ok || account.URL != "https://ca.example/acct/1" || account.Email != "a@example.org" {
		t.Errorf("%+v, %v, %v", account, ok, err)
	}

	again, err := take(t, store, f, o)
	if says(t, again.Notes, "mxcert has this certificate already"); err != nil || again.Stored {
		t.Errorf("again: %+v, %v", again, err)
	}
	other := f
	newer := ca.Issue(t, life, "mx.example.org", "host7.example.org")
	other.Chain.PEM, other.Key.PEM, other.Account.URL = newer.FullchainPEM(), newer.KeyPEM(), "https://ca.example/acct/2"
	kept, err := take(t, store, other, o)
	if says(t, kept.Notes, "keeps it; --force replaces it"); err != nil || kept.Stored || kept.Account != "https://ca.example/acct/1" {
		t.Errorf("over mxcert's own: %+v, %v", kept, err)
	}
	o.Force = true
	if forced, err := take(t, store, other, o); err != nil || !forced.Stored {
		t.Errorf("by force: %+v, %v", forced, err)
	}
}

// A certificate that lacks nothing but optional names is the configured one.
func TestTakeWithoutOptionalNames(t *testing.T) {
	t.Parallel()
	store, _ := book(t)
	o := adopt.Options{Configured: []adopt.Configured{{Name: "mx", Names: []string{"mx.example.org", "a.example", "b.example"}, Optional: []string{"a.example", "b.example"}, Keys: []bundle.KeyType{"ec256"}}}}
	for names, want := range map[string]string{"mx.example.org": "mx", "mx.example.org b.example": "mx", "mx.example.org c.example": "other", "a.example b.example": "other"} {
		o.DryRun = true
		taken, err := take(t, store, foreign("other", issuer.New(t).Issue(t, life, strings.Fields(names)...)), o)
		if err != nil || taken.Name != want {
			t.Errorf("%s: %q, want %q: %v", names, taken.Name, want, err)
		}
	}
}

// What the configuration does not name gets a name that it accepts, and a proposal. What is wrong is said.
func TestTakeUnknown(t *testing.T) {
	t.Parallel()
	ca := issuer.New(t)
	store, _ := book(t)
	expired := ca.Issue(t, -time.Minute, "mx.example.org")
	f := foreign("..Mail Host/"+strings.Repeat("x", 100), expired)
	f.Plugins = []string{"cf"}
	taken, err := take(t, store, f, adopt.Options{})
	if err != nil || !taken.Stored || !strings.HasPrefix(taken.Name, "mail-host-xxx") || len(taken.Name) > 64 {
		t.Errorf("%+v, %v", taken, err)
	}
	says(t, taken.Notes, "it has expired")
	says(t, taken.Notes, "the CA is unknown: name its directory URL with --directory")
	if !strings.Contains(taken.Proposal, `domains: ["mx.example.org"]`) || !strings.Contains(taken.Proposal, "# dns: {provider: cloudflare}") || !strings.Contains(taken.Proposal, "`mxcert providers cloudflare`") {
		t.Errorf("proposal:\n%s", taken.Proposal)
	}
	f.Key.PEM = ca.Issue(t, life, "mx.example.org").KeyPEM()
	if _, err := take(t, store, f, adopt.Options{}); err == nil {
		t.Error("a key of another certificate was accepted")
	}
	f.Key.PEM, f.Directory, f.Account.Key = expired.KeyPEM(), "https://ca.example/dir", []byte("rubbish")
	taken, err = take(t, store, f, adopt.Options{})
	if says(t, taken.Notes, "no account is taken over (the account key: "); err != nil || taken.Account != "" {
		t.Errorf("%+v, %v", taken, err)
	}
}
