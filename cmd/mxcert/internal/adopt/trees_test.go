package adopt_test

import (
	"errors"
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
	if f := one(t, "certbot", root); string(f.Chain.PEM) != string(b.FullchainPEM()) || string(f.Key.PEM) != string(b.KeyPEM()) || f.Source != filepath.Join(root, "renewal/mail.conf") {
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
	if f := one(t, "certbot", tree(t, map[string]string{"renewal/mail.conf": settings})); string(f.Chain.PEM) != string(b.FullchainPEM()) || string(f.Key.PEM) != string(b.KeyPEM()) {
		t.Errorf("%+v", f)
	}
	root := tree(t, map[string]string{"renewal/mail.conf": strings.Replace(settings, "key.pem", "lost.pem", 1)})
	if found, err := adopt.Read("certbot", root, ""); err != nil || len(found) != 1 || found[0].Err == nil || !strings.Contains(found[0].Err.Error(), filepath.Join(root, "live/mail/privkey.pem")) {
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
		"two CAs, the CA unknown":            {"https://y.example/cert/1", map[string]string{"ca.example/a/account.json": account, "x.example/a/account.json": account}, "2 accounts below "},
		"the only one is at another CA":      {"https://acme.zerossl.com/cert/1", map[string]string{"ca.example/a/account.json": account}, "there is no account below "},
		"no account":                         {"", nil, "there is no account below "},
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
	found, err := adopt.Read("acme.sh", root, "")
	if err != nil || len(found) != 4 || string(found[1].Key.PEM) != "rsa" || string(found[2].Key.PEM) != "ecdsa" || found[1].Name != "mx" || found[2].Name != "mx" {
		t.Fatalf("%+v, %v", found, err)
	}
	for i, missing := range map[int]string{0: "half/half.key", 3: "pending_ecc/fullchain.cer"} {
		if err := found[i].Err; err == nil || !strings.Contains(err.Error(), filepath.Join(root, missing)) {
			t.Errorf("%s is not in %v", missing, err)
		}
	}
	if says(t, found[1].Notes, "account.key: no such file"); found[1].Account.URL != "" {
		t.Errorf("an account without its key: %+v", found[1].Account)
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
		for path, says := range map[string]string{empty: "there is no certificate of " + client + " below " + empty, filepath.Join(empty, "nowhere"): "there is no tree of " + client} {
			found, err := adopt.Read(client, path, "")
			fault, _ := errors.AsType[*adopt.Fault](err)
			if len(found) != 0 || fault == nil || !strings.Contains(err.Error(), says) || !strings.Contains(fault.Hint(), "mxcert import "+client+" PATH") {
				t.Errorf("%s: %v, %v", client, found, err)
			}
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

func FuzzParseINI(f *testing.F) {
	f.Add("a = 'b'\n# c = d\ne\n = f\r\n[x]\ny = z\n[renewalparams]\nb = \"\"\"c\nd\"\"\"")
	f.Fuzz(func(t *testing.T, text string) { checkSettings(t, text, adopt.ParseINI(text)) })
}

func FuzzParseShell(f *testing.F) {
	f.Add("A='b'\nexport C=\"d\\\"e\"'\nf'\nG='\n#H=i\nJ=k\\\nl;M=n")
	f.Fuzz(func(t *testing.T, text string) { checkSettings(t, text, adopt.ParseShell(text)) })
}

// checkSettings checks what any parser must give: names that stand in the text, and values that are not longer than it.
func checkSettings(t *testing.T, text string, settings map[string]string) {
	t.Helper()
	for name, value := range settings {
		if name == "" || strings.Contains(name, "\n") || strings.HasPrefix(name, "#") || strings.TrimSpace(name) != name || !strings.Contains(text, name) || len(value) > len(text) {
			t.Errorf("%q = %q out of %q", name, value, text)
		}
	}
}

func FuzzPlainAcmeSh(f *testing.F) {
	f.Add("__ACME_BASE64__START_dHJ1ZQ==__ACME_BASE64__END_")
	f.Add("true")
	f.Fuzz(func(t *testing.T, value string) {
		plain, ok := adopt.PlainAcmeSh(value)
		if len(plain) > len(value) || !ok && plain != "" || plain != value && !strings.HasPrefix(value, "__ACME_BASE64__START_") {
			t.Errorf("%q, %v out of %q", plain, ok, value)
		}
	})
}
