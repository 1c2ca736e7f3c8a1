package adopt_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/issuer"
	"mxcert/cmd/mxcert/internal/adopt"
)

// Files that an editor of another system has touched: a mark before UTF-8, other ends of lines, none at the end.
func TestFilesOfOtherEditors(t *testing.T) {
	t.Parallel()
	b := issuer.New(t).Issue(t, life, "mx.example.org")
	all := trees(b, string(b.FullchainPEM()), string(b.ChainPEM()))
	all["lego"]["certificates/mx.json"] = `{"certUrl": "https://acme-v02.api.letsencrypt.org/acme/cert/1"}` + "\n"
	all["acme.sh"]["mx_ecc/mx.conf"] = "Le_API='https://ca.example/dir'\nLe_PreHook='true'\n"
	all["dehydrated"]["config"] = "CA='https://ca.example/dir'\nHOOK='/etc/hook'\n"
	for client, files := range all {
		for what, change := range map[string]func(string) string{
			"a mark": func(text string) string { return "\ufeff" + text },
			"CRLF":   func(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") },
			"no end": func(text string) string { return strings.TrimSuffix(text, "\n") },
			"all of it": func(text string) string {
				return "\ufeff" + strings.TrimSuffix(strings.ReplaceAll(text, "\n", "\r\n"), "\r\n")
			},
			"a text before it": func(text string) string {
				return map[bool]string{true: "Bag Attributes\n    friendlyName: mx\n"}[strings.HasPrefix(text, "-----")] + text
			},
		} {
			changed := map[string]string{}
			for path, text := range files {
				changed[path] = change(text)
			}
			f := one(t, client, tree(t, changed))
			store, _ := book(t)
			taken, err := take(t, store, f, adopt.Options{})
			if err != nil || !taken.Stored || client != "lego" && f.Directory != "https://ca.example/dir" || client == "lego" && f.Directory == "" {
				t.Errorf("%s, %s: %+v, directory %q, %v", client, what, taken, f.Directory, err)
			}
		}
	}
}

// Links of certbot that were not copied, or that lead nowhere: the newest certificate of archive/ that has its key counts.
func TestCertbotWithoutItsLinks(t *testing.T) {
	t.Parallel()
	ca := issuer.New(t)
	older, newer, without := ca.Issue(t, life-time.Hour, "mx.example.org"), ca.Issue(t, life, "mx.example.org"), ca.Issue(t, life, "mx.example.org")
	files := map[string]string{
		"renewal/mail.conf":           "fullchain = /elsewhere/live/mail/fullchain.pem\nprivkey = /elsewhere/live/mail/privkey.pem\nserver = https://ca.example/directory\n",
		"archive/mail/fullchain9.pem": string(older.FullchainPEM()), "archive/mail/privkey9.pem": string(older.KeyPEM()),
		"archive/mail/fullchain10.pem": string(newer.FullchainPEM()), "archive/mail/privkey10.pem": string(newer.KeyPEM()),
		"archive/mail/fullchain11.pem": string(without.FullchainPEM()), "archive/mail/fullchainx.pem": "x",
	}
	for what, live := range map[string]func(root string) error{
		"no live/": func(string) error { return nil },
		"broken links": func(root string) error {
			if err := os.MkdirAll(filepath.Join(root, "live/mail"), 0o700); err != nil {
				return err
			}
			return os.Symlink("../../lost/fullchain3.pem", filepath.Join(root, "live/mail/fullchain.pem"))
		},
	} {
		root := tree(t, files)
		if err := live(root); err != nil {
			t.Fatal(err)
		}
		f := one(t, "certbot", root)
		if f.Err != nil || !bytes.Equal(f.Chain.PEM, newer.FullchainPEM()) || !bytes.Equal(f.Key.PEM, newer.KeyPEM()) {
			t.Errorf("%s: %v, %s", what, f.Err, f.Chain.File)
		}
		says(t, f.Notes, "which is number 10")
	}
	maps.DeleteFunc(files, func(path, _ string) bool { return strings.HasPrefix(path, "archive/mail/privkey") })
	if f := one(t, "certbot", tree(t, files)); f.Err == nil || !strings.Contains(f.Err.Error(), "live/mail/fullchain.pem") {
		t.Errorf("%v", f.Err)
	}
}

// One account ID at two CAs: that of the certificate's CA is taken.
func TestCertbotAccountOfTheServer(t *testing.T) {
	t.Parallel()
	b := issuer.New(t).Issue(t, life, "mx.example.org")
	root := certbotTree(t, b, "authenticator = dns-rfc2136\ndns_rfc2136_credentials = /etc/rfc2136.ini\n")
	for path, text := range map[string]string{"accounts/zz.example/directory/0123abc/private_key.json": "rubbish", "accounts/zz.example/directory/0123abc/regr.json": `{"uri": "https://zz.example/acct/9"}`} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := one(t, "certbot", root)
	if f.Account.URL != "https://ca.example/acct/1" || f.Account.Key == nil {
		t.Errorf("%+v", f)
	}
	says(t, f.Notes, "dns_rfc2136_credentials = /etc/rfc2136.ini: this file has the credentials")
}

// Clients that proved the names by HTTP: the operator has to choose a DNS provider.
func TestProvenOverHTTP(t *testing.T) {
	t.Parallel()
	b := issuer.New(t).Issue(t, life, "mx.example.org")
	all := trees(b, string(b.FullchainPEM()), "")
	all["certbot"]["renewal/mx.conf"] = "server = https://ca.example/dir\n[renewalparams]\nauthenticator = webroot\nwebroot_path = /var/www,\n[[webroot_map]]\nmx.example.org = /var/www\n"
	all["acme.sh"]["mx_ecc/mx.conf"] = "Le_Webroot='/var/www'\n"
	all["dehydrated"]["config"] = "CHALLENGETYPE=\"http-01\"\n"
	delete(all, "lego")
	for client, files := range all {
		says(t, one(t, client, tree(t, files)).Notes, "the names were proven by HTTP; mxcert proves them by TXT records")
	}
	for _, way := range []string{"dns_cf", "dns", ""} {
		all["acme.sh"]["mx_ecc/mx.conf"] = "Le_Webroot='" + way + "'\n"
		if f := one(t, "acme.sh", tree(t, all["acme.sh"])); strings.Contains(strings.Join(f.Notes, ""), "proven by HTTP") {
			t.Errorf("%s: %q", way, f.Notes)
		}
	}
}

// A certificate of a staging service never goes into service; its key is kept. A configuration for rehearsals takes it.
func TestStagingLeftovers(t *testing.T) {
	t.Parallel()
	const staging, production = "https://acme-staging-v02.api.letsencrypt.org/directory", "https://acme-v02.api.letsencrypt.org/directory"
	ca := issuer.New(t)
	longer, shorter := ca.Issue(t, life, "mx.example.org"), ca.Issue(t, life-time.Hour, "mx.example.org")
	rehearsed, real := foreign("mx-0001", longer), foreign("mx", shorter)
	rehearsed.Directory, real.Directory = staging, production
	store, _ := book(t)
	taken, err := take(t, store, rehearsed, adopt.Options{Directories: []string{production}})
	if says(t, taken.Notes, "it is from a staging service, which no sender trusts; mxcert does not put it in service: the next pass orders a certificate with its key"); err != nil || !taken.Stored {
		t.Errorf("%+v, %v", taken, err)
	}
	record := mustRecord(t, store, taken.Name)
	if b, err := store.Lineage(taken.Name).Bundle(record.Slot("ec256").Current); err != nil || b.Complete(nil, time.Now()) == nil || b.SPKI() != longer.SPKI() {
		t.Errorf("what is stored could go into service: %v", err)
	}
	store, _ = book(t)
	both := adopt.Take(t.Context(), store, []adopt.Foreign{rehearsed, real}, adopt.Options{Directories: []string{production}})
	if both[0].Stored || !both[1].Stored {
		t.Errorf("%+v", both)
	}
	store, _ = book(t)
	if taken, err := take(t, store, rehearsed, adopt.Options{Directories: []string{staging}}); err != nil || !taken.Stored || len(taken.Notes) > 0 {
		t.Errorf("a configuration for rehearsals: %+v, %v", taken, err)
	}
}

// Private keys in every form that programs write, and what is said of those that cannot be used.
func TestFormsOfKeys(t *testing.T) {
	t.Parallel()
	ca := issuer.New(t)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	large, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	check(t, err)
	sec1, err := x509.MarshalECPrivateKey(ec)
	check(t, err)
	p521, err := x509.MarshalECPrivateKey(large)
	check(t, err)
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	ofEC, ofRSA := ca.IssueFor(t, ec, life, "mx.example.org"), ca.IssueFor(t, rsaKey, life, "mx.example.org")
	for _, tt := range []struct {
		what string
		b    *bundle.Bundle
		key  string
		says string
	}{
		{"SEC 1", ofEC, block("EC PRIVATE KEY", sec1), ""},
		{"SEC 1 after its parameters", ofEC, block("EC PARAMETERS", []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}) + block("EC PRIVATE KEY", sec1), ""},
		{"PKCS #1", ofRSA, block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)), ""},
		{"PKCS #8", ofRSA, string(ofRSA.KeyPEM()), ""},
		{"encrypted", ofEC, block("ENCRYPTED PRIVATE KEY", sec1), "mx.key: the private key is encrypted"},
		{"encrypted as OpenSSL once did", ofRSA, "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00112233445566778899AABBCCDDEEFF\n\n" + base64.StdEncoding.EncodeToString(sec1) + "\n-----END RSA PRIVATE KEY-----\n", "mx.key: the private key is encrypted"},
		{"another curve", ofEC, block("EC PRIVATE KEY", p521), "mx.key: "},
		{"empty", ofEC, "", "mx.key: there is no PEM private key"},
		{"a certificate", ofEC, string(ofEC.LeafPEM()), "mx.key: "},
	} {
		store, _ := book(t)
		f := foreign("mx", tt.b)
		f.Key.PEM = []byte(tt.key)
		taken, err := take(t, store, f, adopt.Options{})
		if (err == nil) != (tt.says == "") || taken.Stored != (tt.says == "") || err != nil && (!strings.Contains(err.Error(), tt.says) || taken.Hint == "" || strings.Contains(err.Error()+taken.Hint, base64.StdEncoding.EncodeToString(sec1)[:20])) {
			t.Errorf("%s: %+v, %v", tt.what, taken, err)
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Names in a certificate may have capitals; the configuration has none.
func TestCapitalsInNames(t *testing.T) {
	t.Parallel()
	store, _ := book(t)
	f := foreign("MX.Example.ORG", issuer.New(t).Issue(t, life, "MX.Example.ORG", "xn--Bcher-Kva.example"))
	taken, err := take(t, store, f, adopt.Options{Configured: []adopt.Configured{{Name: "mail", Names: []string{"xn--bcher-kva.example", "mx.example.org"}, Keys: []bundle.KeyType{"ec256"}}}})
	if err != nil || !taken.Stored || taken.Name != "mail" || taken.Proposal != "" || taken.Names[0] != "mx.example.org" {
		t.Errorf("%+v, %v", taken, err)
	}
}

// lego keeps only the address of a certificate. The CA is that of the configuration at the same host.
func TestLegoAtTheCAOfTheConfiguration(t *testing.T) {
	t.Parallel()
	b := issuer.New(t).Issue(t, life, "mx.example.org")
	f := one(t, "lego", tree(t, map[string]string{
		"certificates/mx.json": `{"certUrl": "https://ca.example:14000/certZ/1"}`, "certificates/mx.crt": string(b.FullchainPEM()), "certificates/mx.key": string(b.KeyPEM()),
		"accounts/ca.example_14000/a@example.org/account.json": `{"registration": {"uri": "https://ca.example:14000/acct/1"}}`, "accounts/ca.example_14000/a@example.org/keys/a@example.org.key": string(b.KeyPEM()),
	}))
	for directory, account := range map[string]string{"https://ca.example:14000/dir": "https://ca.example:14000/acct/1", "https://ca.example/dir": "", "https://other.example:14000/dir": ""} {
		store, _ := book(t)
		taken, err := take(t, store, f, adopt.Options{Directories: []string{"https://first.example/dir", directory}})
		if unknown := strings.Contains(strings.Join(taken.Notes, ""), "the CA is unknown"); err != nil || taken.Account != account || unknown != (account == "") {
			t.Errorf("%s: %+v, %v", directory, taken, err)
		}
	}
}

// dehydrated's settings name its own directory, and go on in a directory of parts.
func TestDehydratedSettings(t *testing.T) {
	t.Parallel()
	b := issuer.New(t).Issue(t, life, "mx.example.org")
	ca := base64.RawURLEncoding.EncodeToString([]byte("https://ca.example/dir\n"))
	f := one(t, "dehydrated", tree(t, map[string]string{
		"config": "BASEDIR=/elsewhere\nCERTDIR=\"${BASEDIR}/kept\"\nCONFIG_D=$BASEDIR/conf.d\nCA=letsencrypt\n", "conf.d/10-local.sh": "CA=\"https://ca.example/dir\"\nHOOK=\"${BASEDIR}/hook.sh\"\nACCOUNTDIR=\"$BASEDIR/acc\"\n", "conf.d/README": "CA=x\n",
		"kept/mx/fullchain.pem": string(b.FullchainPEM()), "kept/mx/privkey.pem": string(b.KeyPEM()),
		"acc/" + ca + "/account_key.pem": string(b.KeyPEM()), "acc/" + ca + "/account_id.json": `{"url": "https://ca.example/acct/1"}`,
	}))
	if f.Err != nil || f.Directory != "https://ca.example/dir" || f.Account.URL != "https://ca.example/acct/1" {
		t.Errorf("%+v", f)
	}
	says(t, f.Hooks, "/hook.sh: dehydrated calls it")
}

// Two hundred lineages, each with a name of its own, are read and taken over within a minute.
func TestTwoHundred(t *testing.T) {
	t.Parallel()
	ca, key := issuer.New(t), ca256(t)
	files := map[string]string{}
	for i := range 200 {
		b := ca.IssueFor(t, key, life, fmt.Sprintf("mx%d.example.org", i))
		name := fmt.Sprintf("mx%d.example.org", i)
		files["renewal/"+name+".conf"], files["live/"+name+"/fullchain.pem"], files["live/"+name+"/privkey.pem"] = "server = https://ca.example/dir\n", string(b.FullchainPEM()), string(b.KeyPEM())
	}
	root := tree(t, files)
	began := time.Now()
	found, err := adopt.Read("certbot", root, "")
	store, _ := book(t)
	stored := 0
	for _, one := range adopt.Take(t.Context(), store, found, adopt.Options{}) {
		if one.Stored {
			stored++
		}
	}
	if took := time.Since(began); err != nil || stored != 200 || took > 3*time.Minute {
		t.Errorf("%d stored in %s, %v", stored, took, err)
	}
}

func ca256(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return key
}
