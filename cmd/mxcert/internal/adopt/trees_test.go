package adopt_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mxcert/cmd/mxcert-lab/issuer"
	"mxcert/cmd/mxcert/internal/adopt"
)

// In a tree where certbot works, live/ has links into archive/. The root's path may have characters of a pattern in it.
func TestCertbotFollowsItsLinks(t *testing.T) {
	t.Parallel()
	b := issuer.New(t).Issue(t, life, "mx.example.org")
	root := filepath.Join(tree(t, map[string]string{
		"le[1]/renewal/mail.conf": "server = https://ca.example/directory\n", "le[1]/live/mail/README": "x",
		"le[1]/archive/mail/fullchain3.pem": string(b.FullchainPEM()), "le[1]/archive/mail/privkey3.pem": string(b.KeyPEM()),
	}), "le[1]")
	for _, name := range []string{"fullchain", "privkey"} {
		if err := os.Symlink("../../archive/mail/"+name+"3.pem", filepath.Join(root, "live/mail", name+".pem")); err != nil {
			t.Fatal(err)
		}
	}
	before := listing(t, root)
	if f := one(t, "certbot", root); string(f.Chain) != string(b.FullchainPEM()) || string(f.Key) != string(b.KeyPEM()) || f.Source != filepath.Join(root, "renewal/mail.conf") {
		t.Errorf("%+v", f)
	}
	if after := listing(t, root); after != before {
		t.Errorf("reading changed the tree from\n%s to\n%s", before, after)
	}
}

// If only renewal/ was copied, the paths in the settings are those of the files.
func TestCertbotReadsItsPaths(t *testing.T) {
	t.Parallel()
	b := issuer.New(t).Issue(t, life, "mx.example.org")
	elsewhere := tree(t, map[string]string{"chain.pem": string(b.FullchainPEM()), "key.pem": string(b.KeyPEM())})
	settings := "fullchain = " + elsewhere + "/chain.pem\nprivkey = " + elsewhere + "/key.pem\n"
	if f := one(t, "certbot", tree(t, map[string]string{"renewal/mail.conf": settings})); string(f.Chain) != string(b.FullchainPEM()) || string(f.Key) != string(b.KeyPEM()) {
		t.Errorf("%+v", f)
	}
	root := tree(t, map[string]string{"renewal/mail.conf": strings.Replace(settings, "key.pem", "lost.pem", 1)})
	if found, err := adopt.Read("certbot", root); len(found) != 0 || err == nil || !strings.Contains(err.Error(), filepath.Join(root, "live/mail/privkey.pem")) {
		t.Errorf("%v, %v", found, err)
	}
}

// An account is taken over if it is the only one that fits; a note says why it is not.
func TestLegoAccounts(t *testing.T) {
	t.Parallel()
	const account = `{"email": "a@example.org", "registration": {"uri": "https://ca.example/acct/1"}}`
	for name, tt := range map[string]struct {
		certURL string
		files   map[string]string
		note    string // "" if the account is taken over
	}{
		"the only one, the CA unknown":       {"https://ca.example/cert/1", map[string]string{"ca.example/a/account.json": account, "ca.example/a/keys/a.key": "k"}, ""},
		"two CAs, the CA unknown":            {"https://ca.example/cert/1", map[string]string{"ca.example/a/account.json": account, "x.example/a/account.json": account}, "2 accounts fit"},
		"the only one is at another CA":      {"https://acme.zerossl.com/cert/1", map[string]string{"ca.example/a/account.json": account}, "the tree has none for this CA"},
		"no account":                         {"", nil, "the tree has none for this CA"},
		"no key":                             {"", map[string]string{"ca.example/a/account.json": account}, "0 keys"},
		"two keys":                           {"", map[string]string{"ca.example/a/account.json": account, "ca.example/a/keys/a.key": "k", "ca.example/a/keys/b.key": "k"}, "2 keys"},
		"a damaged account":                  {"", map[string]string{"ca.example/a/account.json": "{", "ca.example/a/keys/a.key": "k"}, "account.json: unexpected end"},
		"a directory in the place of a file": {"", map[string]string{"ca.example/a/account.json": account, "ca.example/a/keys/a.key/x": ""}, "is a directory"},
	} {
		files := map[string]string{"certificates/mx.json": `{"certUrl": "` + tt.certURL + `"}`, "certificates/mx.crt": "c", "certificates/mx.key": "k"}
		for path, text := range tt.files {
			files["accounts/"+path] = text
		}
		f := one(t, "lego", tree(t, files))
		if tt.note == "" {
			if f.Account.URL != "https://ca.example/acct/1" || f.Account.Email != "a@example.org" || string(f.Account.Key) != "k" || len(f.Notes) != 0 {
				t.Errorf("%s: %+v", name, f)
			}
			continue
		}
		if f.Account.URL != "" || f.Account.Key != nil || len(f.Notes) != 1 || !strings.Contains(f.Notes[0], tt.note) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// acme.sh may have two certificates for a name, of RSA and ECDSA. One whose files are missing does not hide the others.
func TestAcmeShKeyTypes(t *testing.T) {
	t.Parallel()
	root := tree(t, map[string]string{
		"mx/mx.conf": "Le_API='https://ca.example/dir'\n", "mx/mx.key": "rsa", "mx/fullchain.cer": "c",
		"mx_ecc/mx.conf": "Le_API='https://ca.example/dir'\n", "mx_ecc/mx.key": "ecdsa", "mx_ecc/fullchain.cer": "c",
		"half/half.conf": "Le_API='x'\n", "half/fullchain.cer": "c",
		"pending_ecc/pending.conf":    "Le_API='x'\n",
		"ca/ca.example/dir/ca.conf":   "ACCOUNT_URL='https://ca.example/acct/1'\n", // the key is missing
		"account.conf":                "LOG_FILE='x'\n",
		"dnsapi/dns_x/something.else": "",
	})
	found, err := adopt.Read("acme.sh", root)
	if len(found) != 2 || string(found[0].Key) != "rsa" || string(found[1].Key) != "ecdsa" || found[0].Name != "mx" || found[1].Name != "mx" {
		t.Errorf("%+v", found)
	}
	for _, missing := range []string{"half/half.key", "pending_ecc/fullchain.cer"} {
		if err == nil || !strings.Contains(err.Error(), filepath.Join(root, missing)) {
			t.Errorf("%s is not in %v", missing, err)
		}
	}
	if says(t, found[0].Notes, "account.key: no such file"); found[0].Account.URL != "" {
		t.Errorf("an account without its key: %+v", found[0].Account)
	}
}

// Each client has a usual place. A tree that is not there is an error, an empty one is empty.
func TestNoTree(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	for _, client := range adopt.Clients() {
		if !filepath.IsAbs(adopt.UsualPath(client)) {
			t.Errorf("%s has no usual place", client)
		}
		if found, err := adopt.Read(client, empty); err != nil || len(found) != 0 {
			t.Errorf("%s: %v, %v", client, found, err)
		}
		if _, err := adopt.Read(client, filepath.Join(empty, "nowhere")); !os.IsNotExist(err) {
			t.Errorf("%s: %v", client, err)
		}
	}
}

// What the other client's files say reaches a terminal without control characters.
func TestForeignTextIsQuoted(t *testing.T) {
	t.Parallel()
	root := tree(t, map[string]string{"renewal/mail.conf": "pre_hook = echo \x1b[2Jx\nmanual_auth_hook = a\x07b\n", "live/mail/fullchain.pem": "c", "live/mail/privkey.pem": "k"})
	f := one(t, "certbot", root)
	if text := strings.Join(append(f.Hooks, f.Notes...), ""); strings.ContainsAny(text, "\x1b\x07") || !strings.Contains(text, "pre_hook = echo") {
		t.Errorf("%q", text)
	}
}

func FuzzParseSettings(f *testing.F) {
	f.Add("a = 'b'\n# c = d\ne\n = f\r\n", "'")
	f.Fuzz(func(t *testing.T, text, quote string) {
		for name, value := range adopt.ParseSettings(text, quote) {
			if strings.ContainsAny(name+value, "\n") || strings.HasPrefix(name, "#") || strings.TrimSpace(name) != name || !strings.Contains(text, name) || !strings.Contains(text, value) {
				t.Errorf("%q = %q out of %q", name, value, text)
			}
		}
	})
}

func FuzzPlainAcmeSh(f *testing.F) {
	f.Add("__ACME_BASE64__START_dHJ1ZQ==__ACME_BASE64__END_")
	f.Add("true")
	f.Fuzz(func(t *testing.T, value string) {
		if plain := adopt.PlainAcmeSh(value); len(plain) > len(value) || plain != value && !strings.HasPrefix(value, "__ACME_BASE64__START_") {
			t.Errorf("%q out of %q", plain, value)
		}
	})
}
