package adopt_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/issuer"
	"mxcert/cmd/mxcert/internal/adopt"
)

// Every setting of certbot that does something beside the certificate becomes a note, whichever file it is in.
func TestCertbotSettings(t *testing.T) {
	t.Parallel()
	b := issuer.New(t).Issue(t, life, "mx.example.org")
	root := certbotTree(t, b, "authenticator = \"certbot_dns_x:dns-hetzner\"\ndeploy_hook = systemctl reload exim4\npre_hook = \"\"\npreferred_chain = \"ISRG Root X1\"\n")
	const defaults = "# comment\nmax-log-backups = 0\ndeploy-hook = \"/etc/copy.sh\"\npre-hook = true\npost-hook = ''\npreferred-chain = ISRG Root X2\n"
	if err := os.WriteFile(filepath.Join(root, "cli.ini"), []byte(defaults), 0o600); err != nil {
		t.Fatal(err)
	}
	f := one(t, "certbot", root)
	all := slices.Concat(f.Hooks, f.Notes)
	for _, note := range []string{
		"deploy_hook = systemctl reload exim4: put a script with this line into /etc/mxcert/hooks/deploy.d",
		"deploy-hook of " + root + "/cli.ini = /etc/copy.sh: put a script with this line into /etc/mxcert/hooks/deploy.d",
		"pre-hook of " + root + "/cli.ini = true: put a script with this line into /etc/mxcert/hooks/pre.d",
		"preferred_chain = ISRG Root X1: set preferred_chain", "preferred-chain of cli.ini = ISRG Root X2: set preferred_chain",
	} {
		says(t, all, note)
	}
	if text := strings.Join(all, "\n"); strings.Contains(text, "pre_hook") || strings.Contains(text, "post") || !slices.Equal(f.Plugins, []string{"hetzner"}) || f.Directory != "https://ca.example/directory" {
		t.Errorf("%q, %q", text, f.Plugins)
	}
}

// acmeShSettings is a tree of acme.sh with settings as it writes them, but in either kind of quotes, and with a long command over two lines.
func acmeShSettings(t *testing.T, b *bundle.Bundle, settings string) string {
	t.Helper()
	return tree(t, map[string]string{
		"mx_ecc/mx.conf": "Le_API=\"https://ca.example:14000/dir\"\n" + settings, "mx_ecc/mx.key": string(b.KeyPEM()), "mx_ecc/fullchain.cer": string(b.FullchainPEM()),
		"ca/ca.example/dir/ca.conf": "ACCOUNT_URL=\"https://ca.example/acct/1\"\nCA_EMAIL=\"a@example.org\"\n", "ca/ca.example/dir/account.key": string(b.KeyPEM()),
	})
}

// What acme.sh's settings say beside the certificate becomes notes, and the paths and providers go into the proposal, with mxcert's names.
func TestAcmeShSettings(t *testing.T) {
	t.Parallel()
	b := issuer.New(t).Issue(t, life, "mx.example.org")
	const command = "/usr/local/sbin/install-certificate --owner Debian-exim --group Debian-exim --reload"
	coded := base64.StdEncoding.EncodeToString([]byte(command))
	f := one(t, "acme.sh", acmeShSettings(t, b, "Le_Webroot=\"dns_cf,dns_nsupdate,dns_cf\"\nLe_DeployHook='exim4,haproxy'\nLe_RealFullChainPath='/etc/exim4/exim.crt'\nLe_RealKeyPath=\"/etc/exim4/exim.key\"\n"+
		"Le_RealCertPath=''\nLe_RealCACertPath='/etc/ca.crt'\nLe_Preferred_Chain='__ACME_BASE64__START_SVNSRw==__ACME_BASE64__END_'\nLe_ReloadCmd='__ACME_BASE64__START_"+coded[:64]+"\n"+coded[64:]+"__ACME_BASE64__END_'\n"+
		"Le_PostHook='__ACME_BASE64__START_"+coded[:64]+"'\nLe_RenewHook=\"\"\n"))
	if f.Directory != "https://ca.example:14000/dir" || f.Account.URL != "https://ca.example/acct/1" || f.Account.Email != "a@example.org" {
		t.Errorf("%+v", f)
	}
	says(t, f.Hooks, "Le_ReloadCmd = "+command+": put a script")
	for _, note := range []string{"Le_PostHook: the coded text in ", "Le_DeployHook = exim4,haproxy: ", "Le_RealFullChainPath = /etc/exim4/exim.crt: ", "Le_RealKeyPath = /etc/exim4/exim.key: ", "Le_RealCACertPath = /etc/ca.crt: ", "Le_Preferred_Chain = ISRG: "} {
		says(t, f.Notes, note)
	}
	if len(f.Hooks) != 1 || strings.Contains(strings.Join(f.Notes, "\n"), "Le_RealCertPath") {
		t.Errorf("%q, %q", f.Hooks, f.Notes)
	}
	propose := func(o adopt.Options) string {
		t.Helper()
		store, _ := book(t)
		taken, err := take(t, store, f, o)
		if err != nil {
			t.Fatal(err)
		}
		return taken.Proposal
	}
	exim := adopt.Installed{Fullchain: "/etc/exim4/exim.crt", Key: "/etc/exim4/exim.key"}
	for what, tt := range map[string]struct {
		options adopt.Options
		has     []string
	}{
		"Exim reads them":                   {adopt.Options{Exim: exim}, []string{`- exim: {certificate: "/etc/exim4/exim.crt", private_key: "/etc/exim4/exim.key"}`, "used 2 DNS plugins", "# dns: {provider: cloudflare}", "`mxcert providers cloudflare`", "# dns: {provider: rfc2136}"}},
		"nobody does":                       {adopt.Options{}, []string{`- files: {certificate: "/etc/exim4/exim.crt", private_key: "/etc/exim4/exim.key"}`}},
		"a provider that this mxcert lacks": {adopt.Options{Knows: func(p string) bool { return p == "rfc2136" }}, []string{"acme.sh used its DNS plugin cf; `mxcert providers` lists those of this mxcert", "# dns: {provider: rfc2136}"}},
	} {
		text := propose(tt.options)
		for _, line := range tt.has {
			if !strings.Contains(text, line) {
				t.Errorf("%s: %q is not in\n%s", what, line, text)
			}
		}
	}
	f = one(t, "acme.sh", acmeShSettings(t, b, "Le_RealFullChainPath='/a b/{x}.crt'\nLe_RealKeyPath='/k'\nLe_ReloadCmd='systemctl reload postfix'\n"))
	if text := propose(adopt.Options{}); !strings.Contains(text, "deploy: []") {
		t.Errorf("%s", text)
	}
	f = one(t, "acme.sh", acmeShSettings(t, b, "Le_RealFullChainPath='/c'\nLe_RealKeyPath='/k'\nLe_ReloadCmd='sudo systemctl reload postfix'\n"))
	if text := propose(adopt.Options{}); !strings.Contains(text, `- files: {certificate: "/c", private_key: "/k", unit: "postfix.service"}`) {
		t.Errorf("%s", text)
	}
}

// A certificate of RSA and one of ECDSA for the same names are both taken, and share one section.
func TestAcmeShBothAlgorithms(t *testing.T) {
	t.Parallel()
	ca := issuer.New(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	r, e := ca.IssueFor(t, key, life, "mx.example.org"), ca.Issue(t, life, "mx.example.org")
	root := tree(t, map[string]string{
		"mx.example.org/mx.example.org.conf": "Le_API='https://ca.example/dir'\n", "mx.example.org/mx.example.org.key": string(r.KeyPEM()), "mx.example.org/fullchain.cer": string(r.FullchainPEM()),
		"mx.example.org_ecc/mx.example.org.conf": "Le_API='https://ca.example/dir'\n", "mx.example.org_ecc/mx.example.org.key": string(e.KeyPEM()), "mx.example.org_ecc/fullchain.cer": string(e.FullchainPEM()),
	})
	found, err := adopt.Read("acme.sh", root, "")
	if err != nil {
		t.Fatal(err)
	}
	store, _ := book(t)
	taken := adopt.Take(t.Context(), store, found, adopt.Options{})
	if len(taken) != 2 || !taken[0].Stored || !taken[1].Stored || taken[0].Name != "mx.example.org" || taken[1].Name != taken[0].Name || !strings.Contains(taken[0].Proposal, "keys: [ec256, rsa2048]") || taken[1].Proposal != "" ||
		current(t, store, "mx.example.org", "rsa2048") != r.Serial() || current(t, store, "mx.example.org", "ec256") != e.Serial() {
		t.Errorf("%+v", taken)
	}
	says(t, taken[1].Notes, "the proposal is that of "+taken[0].From)
	o := adopt.Options{DryRun: true, Configured: []adopt.Configured{{Name: "mx", Names: []string{"mx.example.org"}, Keys: []bundle.KeyType{"ec256"}}}}
	says(t, adopt.Take(t.Context(), store, found, o)[0].Notes, "the key is rsa2048: set keys: [ec256, rsa2048] to keep it")
}

// acme.sh may keep certificates, settings and accounts in different places.
func TestAcmeShHomes(t *testing.T) {
	t.Parallel()
	b := issuer.New(t).Issue(t, life, "mx.example.org")
	certificates := map[string]string{"mx_ecc/mx.conf": "Le_API='https://ca.example/dir'\n", "mx_ecc/mx.key": string(b.KeyPEM()), "mx_ecc/fullchain.cer": string(b.FullchainPEM())}
	accounts := map[string]string{"account.conf": "", "ca/ca.example/dir/ca.conf": "ACCOUNT_URL='https://ca.example/acct/1'\n", "ca/ca.example/dir/account.key": string(b.KeyPEM())}
	home := func(settings string) string {
		root := tree(t, accounts)
		if err := os.WriteFile(filepath.Join(root, "account.conf"), []byte(settings), 0o600); err != nil {
			t.Fatal(err)
		}
		return root
	}
	inside := map[string]string{}
	for name, text := range certificates {
		inside["certs/"+name] = text
	}
	for name, text := range accounts {
		inside[name] = text
	}
	elsewhere, program := tree(t, certificates), tree(t, map[string]string{"acme.sh": ""})
	if err := os.WriteFile(filepath.Join(program, "acme.sh.env"), fmt.Appendf(nil, "export LE_WORKING_DIR=%q\nexport LE_CONFIG_HOME=%q\n", program, home("CERT_HOME='"+elsewhere+"'\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, tt := range map[string]struct {
		root, accounts string
		note           string // "" if the account is found
	}{
		"CERT_HOME in account.conf":         {root: home("CERT_HOME=\"" + elsewhere + "\"\n")},
		"CERT_HOME below the home":          {root: filepath.Join(tree(t, inside), "certs")},
		"LE_CONFIG_HOME in acme.sh.env":     {root: program},
		"CA_HOME in account.conf":           {root: elsewhere, accounts: tree(t, map[string]string{"account.conf": "CA_HOME='" + home("") + "/ca'\n"})},
		"CERT_HOME, and the home beside it": {root: elsewhere, accounts: home("")},
		"CERT_HOME alone":                   {root: elsewhere, note: "name its own directory, which has account.conf and ca, too, such as --accounts /root/.acme.sh"},
	} {
		found, err := adopt.Read("acme.sh", tt.root, tt.accounts)
		if err != nil || len(found) != 1 || found[0].Err != nil {
			t.Errorf("%s: %+v, %v", what, found, err)
			continue
		}
		if says(t, found[0].Notes, tt.note); (found[0].Account.URL != "") != (tt.note == "") {
			t.Errorf("%s: %+v", what, found[0])
		}
	}
}

// The accounts of lego 5 are found, as its versions lay them out, and give the URL of the CA's directory.
func TestLego5(t *testing.T) {
	t.Parallel()
	b := issuer.New(t).Issue(t, life, "mx.example.org")
	const account = `{"id": "a@example.org", "email": "a@example.org", "keyType": "EC256", "server": "https://ca.example:14000/dir", "origin": "command",
		"registration": {"status": "valid", "accountURL": "https://ca.example:14000/acct/1"}}`
	certificate := map[string]string{
		"certificates/mx.example.org.json": `{"id": "mx.example.org", "domains": ["mx.example.org"], "keyType": "EC256", "certUrl": "https://ca.example:14000/cert/1", "certStableUrl": "https://ca.example:14000/cert/1", "origin": "command"}`,
		"certificates/mx.example.org.crt":  string(b.FullchainPEM()), "certificates/mx.example.org.key": string(b.KeyPEM()), "certificates/mx.example.org.issuer.crt": string(b.ChainPEM()),
		"accounts/other.example/b/account.json": `{}`,
	}
	for _, place := range []string{"accounts/ca.example_14000/a@example.org", "accounts/ca.example_14000/a@example.org/EC256"} {
		files := map[string]string{place + "/account.json": account, place + "/a@example.org.key": string(b.KeyPEM())}
		for name, text := range certificate {
			files[name] = text
		}
		f := one(t, "lego", tree(t, files))
		if f.Directory != "https://ca.example:14000/dir" || f.Account.URL != "https://ca.example:14000/acct/1" || f.Account.Email != "a@example.org" || string(f.Account.Key) != string(b.KeyPEM()) || len(f.Notes) != 0 {
			t.Errorf("%s: %+v", place, f)
		}
	}
	root := tree(t, certificate)
	if err := os.MkdirAll(filepath.Join(root, "accounts/ca.example_14000"), 0o700); err != nil {
		t.Fatal(err)
	}
	says(t, one(t, "lego", root).Notes, "no account is taken over (there is no account below "+root+"/accounts/ca.example_14000)")
	delete(certificate, "certificates/mx.example.org.json")
	if f := one(t, "lego", tree(t, certificate)); f.Err != nil || f.Name != "mx.example.org" || f.Directory != "" {
		t.Errorf("without its description: %+v", f)
	}
}

// dehydrated keeps the URL of each CA's directory in the name of a folder, and the one in use in its settings, perhaps by a name of its own.
func TestDehydrated(t *testing.T) {
	t.Parallel()
	b := issuer.New(t).Issue(t, life, "mx.example.org")
	const production, staging = "https://acme-v02.api.letsencrypt.org/directory", "https://acme-staging-v02.api.letsencrypt.org/directory"
	account := func(files map[string]string, directory, url string) {
		dir := "accounts/" + base64.RawURLEncoding.EncodeToString([]byte(directory+"\n")) + "/"
		files[dir+"account_key.pem"], files[dir+"account_id.json"], files[dir+"registration_info.json"] = string(b.KeyPEM()), `{"url": "`+url+`"}`, `{"contact": ["mailto:a@example.org"]}`
	}
	for what, tt := range map[string]struct {
		config    string
		accounts  []string
		directory string
		account   bool
	}{
		"the only one":            {"", []string{production}, production, true},
		"the one in the settings": {"CA=\"letsencrypt-test\"\nHOOK=/etc/hook.sh\n", []string{production, staging}, staging, true},
		"by its URL":              {"CA='https://ca.example/dir'\n", []string{"https://ca.example/dir"}, "https://ca.example/dir", true},
		"two":                     {"", []string{production, staging}, "", false},
		"another in the settings": {"CA=https://ca.example/dir\n", []string{production}, "https://ca.example/dir", false},
	} {
		files := map[string]string{"certs/mail/fullchain.pem": string(b.FullchainPEM()), "certs/mail/privkey.pem": string(b.KeyPEM()), "certs/mail/chain.pem": string(b.ChainPEM()), "config": tt.config}
		for _, directory := range tt.accounts {
			account(files, directory, directory+"/acct/1")
		}
		f := one(t, "dehydrated", tree(t, files))
		if f.Err != nil || f.Name != "mail" || f.Directory != tt.directory || (f.Account.Key != nil) != tt.account || tt.account && (f.Account.URL != tt.directory+"/acct/1" || f.Account.Email != "a@example.org") {
			t.Errorf("%s: %+v", what, f)
		}
		if !tt.account {
			says(t, f.Notes, "no account is taken over (")
		}
		if strings.Contains(tt.config, "HOOK") {
			says(t, f.Hooks, "config = /etc/hook.sh: dehydrated calls it for TXT records")
		}
	}
}

func TestUacme(t *testing.T) {
	t.Parallel()
	b := issuer.New(t).Issue(t, life, "mx.example.org")
	files := map[string]string{"mx.example.org/cert.pem": string(b.FullchainPEM()), "private/mx.example.org/key.pem": string(b.KeyPEM()), "private/key.pem": "k", "other/cert.pem": "c"}
	found, err := adopt.Read("uacme", tree(t, files), "")
	if err != nil || len(found) != 2 || found[0].Err != nil || found[0].Name != "mx.example.org" || string(found[0].Account.Key) != "k" || found[1].Err == nil || !strings.Contains(found[1].Err.Error(), "private/other/key.pem") {
		t.Errorf("%+v, %v", found, err)
	}
	delete(files, "private/key.pem")
	found, _ = adopt.Read("uacme", tree(t, files), "")
	says(t, found[0].Notes, "no account is taken over (open ")
}
