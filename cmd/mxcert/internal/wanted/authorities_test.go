package wanted_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert/internal/wanted"
)

// rootFile is a file with a new root certificate.
func rootFile(t *testing.T) (path string, root *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Private CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if root, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, root
}

// poolOf is a pool with these roots alone.
func poolOf(roots ...*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, root := range roots {
		pool.AddCert(root)
	}
	return pool
}

const (
	first  = "https://ca.example/directory"
	second = "https://other.example/directory"
	both   = `directory: ["` + first + `", "` + second + `"]`
	one    = `directory: "` + first + `"`
)

// Each CA gets what the configuration says of it, in the order of preference.
func TestAuthorities(t *testing.T) {
	t.Parallel()
	text := strings.Replace(good, one, both+`, email: postmaster@example.org, preferred_chain: "Root X"`, 1)
	settings, err := load(t, text).Authorities("1.2.3")
	if err != nil || len(settings) != 2 || settings[0].Directory != first || settings[1].Directory != second {
		t.Fatalf("%+v, %v", settings, err)
	}
	for _, s := range settings {
		if s.Account.Email != "postmaster@example.org" || s.PreferredChain != "Root X" || s.UserAgent != "mxcert/1.2.3" || s.Roots != nil || s.Account.EABKeyID != "" {
			t.Errorf("%+v", s)
		}
	}
}

// The file of a private CA replaces the system's roots for one CA alone; if there are several, another may be public.
func TestRootsOfCAs(t *testing.T) {
	t.Parallel()
	path, root := rootFile(t)
	alone, err := load(t, strings.Replace(good, one, one+`, ca_file: `+path, 1)).Authorities("1")
	if err != nil || !alone[0].Roots.Equal(poolOf(root)) {
		t.Errorf("one CA: %+v, %v", alone, err)
	}
	system, err := x509.SystemCertPool()
	if err != nil {
		t.Fatal(err)
	}
	system.AddCert(root)
	several, err := load(t, strings.Replace(good, one, both+`, ca_file: `+path, 1)).Authorities("1")
	if err != nil || !several[0].Roots.Equal(system) || !several[1].Roots.Equal(system) {
		t.Errorf("two CAs: %+v, %v", several, err)
	}
	host := load(t, strings.Replace(good, one, one+`, ca_file: `+path, 1))
	if got, err := host.Authority(first, "1"); err != nil || !got.Roots.Equal(poolOf(root)) {
		t.Errorf("the configured CA: %+v, %v", got, err)
	}
	if got, err := host.Authority(second, "1"); err != nil || got.Directory != second || !got.Roots.Equal(system) {
		t.Errorf("a CA that is not configured any more: %+v, %v", got, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got, err := host.Authorities("1"); err == nil || !strings.Contains(err.Error(), "acme.ca_file") || len(got) != 1 || got[0].Directory != first || got[0].Roots != nil {
		t.Errorf("a file that is gone: %+v, %v", got, err)
	}
}

// The roots to which chains must lead are read once, for the host and its certificates.
func TestRootsOfChains(t *testing.T) {
	t.Parallel()
	path, root := rootFile(t)
	host := load(t, strings.Replace(good, one, one+`, roots_file: `+path, 1))
	if !host.Roots.Equal(poolOf(root)) || host.Certificates[1].Roots != host.Roots {
		t.Errorf("%+v", host.Roots)
	}
	if host := load(t, good); host.Roots != nil || host.Certificates[0].Roots != nil {
		t.Errorf("without the setting: %+v", host.Roots)
	}
	if host, err := wanted.From(config(t, strings.Replace(good, one, one+`, roots_file: /nonexistent/roots.pem`, 1))); err == nil || !strings.Contains(err.Error(), "acme.roots_file") || len(host.Certificates) != 2 {
		t.Errorf("a file that is gone: %+v, %v", host, err)
	}
}

// A binding is of the CA that it names, or of all; of all, it is for those that ask for one.
func TestExternalBinding(t *testing.T) {
	t.Setenv("MXCERT_TEST_HMAC", "bWFj")
	binding := func(directory, kid, key string) string {
		if directory != "" {
			directory = `directory: "` + directory + `", `
		}
		return `{` + directory + `kid: "` + kid + `", hmac_key: "` + key + `"}`
	}
	for _, tt := range []struct {
		what       string
		acme       string
		kids       []string // in the order of the CAs
		ifRequired bool     // that without a directory
		err        bool
	}{
		{"none", both, []string{"", ""}, false, false},
		{"of the only CA", one + ", eab: " + binding("", "a", "env:MXCERT_TEST_HMAC"), []string{"a"}, false, false},
		{"of all CAs", both + ", eab: " + binding("", "a", "env:MXCERT_TEST_HMAC"), []string{"a", "a"}, true, false},
		{"of the second", both + ", eab: " + binding(second, "b", "env:MXCERT_TEST_HMAC"), []string{"", "b"}, false, false},
		{"one each", both + ", eab: [" + binding(first, "a", "env:MXCERT_TEST_HMAC") + ", " + binding(second, "b", "env:MXCERT_TEST_HMAC") + "]", []string{"a", "b"}, false, false},
		{"a key that cannot be read", both + ", eab: [" + binding(first, "a", "file:/nonexistent/mac") + ", " + binding(second, "b", "env:MXCERT_TEST_HMAC") + "]", []string{"", "b"}, false, true},
	} {
		host := load(t, strings.Replace(good, one, tt.acme, 1))
		settings, err := host.Authorities("1")
		if (err != nil) != tt.err || err != nil && !strings.Contains(err.Error(), "acme.eab.hmac_key") {
			t.Errorf("%s: %v", tt.what, err)
		}
		for i, s := range settings {
			if key := map[bool]string{true: "bWFj"}[tt.kids[i] != ""]; s.Account.EABKeyID != tt.kids[i] || s.Account.EABKey != key || s.Account.EABIfRequired != (tt.ifRequired && tt.kids[i] != "") {
				t.Errorf("%s: %+v, want %q", tt.what, s.Account, tt.kids[i])
			}
			if kid, ok := host.ExternalBinding(s.Directory); !tt.err && (kid != tt.kids[i] || ok != (tt.kids[i] != "")) {
				t.Errorf("%s: %q, %v", tt.what, kid, ok)
			}
		}
	}
}

// Configured endpoints are taken as they are, none too; otherwise the usual ports, on IPv6 if something listens there.
func TestEndpoints(t *testing.T) {
	t.Parallel()
	for verify, want := range map[string][]string{`["192.0.2.1:25", "[2001:db8::1]:465"]`: {"192.0.2.1:25", "[2001:db8::1]:465"}, "[]": {}} {
		host := load(t, strings.Replace(good, "    renewal:", "    verify: {endpoints: "+verify+"}\n    renewal:", 1))
		if got := host.Certificates[1].Endpoints(); !slices.Equal(got, want) {
			t.Errorf("%s: %v", verify, got)
		}
	}
	var listener net.ListenConfig
	l, err := listener.Listen(context.Background(), "tcp", "[::1]:25")
	if err != nil { // no IPv6, no rights, or a mail server: then it is there, or it is not
		return
	}
	defer l.Close()
	if got := load(t, good).Certificates[0].Endpoints(); !slices.Equal(got, []string{"127.0.0.1:25", "[::1]:25"}) {
		t.Errorf("with a server on IPv6: %v", got)
	}
}

// A solver has the secrets that its variables refer to, as they are now.
func TestSolver(t *testing.T) {
	t.Setenv("MXCERT_TEST_SECRET", "c2VjcmV0")
	for what, tt := range map[string]struct{ secret, says string }{
		"a secret that is there":       {"env:MXCERT_TEST_SECRET", ""},
		"a secret that is not there":   {"env:MXCERT_TEST_MISSING", "dns.env.DNSUPDATE_TSIG_SECRET: secret env:MXCERT_TEST_MISSING"},
		"a secret that is of no use":   {"no base64!", "DNSUPDATE_TSIG_SECRET"},
		"a secret in a missing folder": {"file:/nonexistent/tsig", "/nonexistent/tsig"},
	} {
		mx := load(t, strings.Replace(good, `DNSUPDATE_TSIG_SECRET: "cred:tsig"`, `DNSUPDATE_TSIG_KEY: "mxcert.", DNSUPDATE_TSIG_SECRET: "`+tt.secret+`"`, 1)).Certificates[0]
		solver, err := mx.Accounts(mx.Resolver())[0].Solver()
		if (err == nil) != (tt.says == "") || (solver == nil) != (err != nil) || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, %v", what, solver, err)
		}
		if err != nil && strings.Contains(err.Error(), "no base64!") {
			t.Errorf("%s: the secret is in the error: %v", what, err)
		}
	}
}

// A certificate without a unit, or with one twice, has it at most once.
func TestUnitsOnce(t *testing.T) {
	t.Parallel()
	text := strings.Replace(good, "reload: auto, unit: other.service", "unit: exim4.service", 1)
	mx := load(t, text).Certificates[0]
	if got := mx.Units(wanted.Always, wanted.Auto, wanted.Never); !slices.Equal(got, []string{"exim4.service", "third.service"}) {
		t.Errorf("%v", got)
	}
	if !mx.ReloadedByHook() {
		t.Error("a target is never reloaded by its unit, and no hook may reload its server")
	}
	if of := (wanted.Certificate{Places: []wanted.Place{{Unit: "exim4.service", Reload: wanted.Auto}, {Unit: "", Reload: wanted.Never}}}); !of.ReloadedByHook() {
		t.Error("one of two targets has no unit, and no hook may reload its server")
	}
	if of := (wanted.Certificate{Places: []wanted.Place{{Unit: "exim4.service", Reload: wanted.Auto}, {Unit: "a.service", Reload: wanted.Always}}}); of.ReloadedByHook() {
		t.Error("all targets have units, and a hook is taken for what reloads")
	}
	if got := mx.Units(); len(got) != 0 {
		t.Errorf("of no way to reload: %v", got)
	}
	if !mx.Has("dovecot", "files") || mx.Has("dovecot") || mx.Has() {
		t.Error("kinds of places")
	}
}

// TestLimitsOfPrivateCAs: acme.limits is for private CAs, each limit to the full; public ones keep theirs.
func TestLimitsOfPrivateCAs(t *testing.T) {
	t.Parallel()
	for set, want := range map[string]string{
		"{}":                             "none set",
		"none":                           "as much as is due",
		"{orders: 300/3h}":               "300 orders in 3h, 4 certificates for the same names in 7 days, 4 failed proofs of one name in 1h",
		"{orders: none, names: 50/1d}":   "50 certificates for the same names in 24h, 4 failed proofs of one name in 1h",
		"{domain: 9/2d, failures: none}": "270 orders in 3h, 9 new certificates below one domain in 2 days, 4 certificates for the same names in 7 days",
	} {
		h := load(t, strings.Replace(good, one, `directory: [letsencrypt, "`+first+`"], limits: `+set, 1))
		list, err := h.Authorities("1")
		if err != nil {
			t.Fatal(err)
		}
		got := "none set"
		if list[1].Limits != nil {
			got = list[1].Limits.String()
		}
		if got != want || list[0].Limits != nil {
			t.Errorf("%s: %s; Let's Encrypt: %v", set, got, list[0].Limits)
		}
	}
}
