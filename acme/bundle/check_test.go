package bundle_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
)

// TestWrongCertificates holds what CAs, proxies and operators have been seen to deliver (FACTS of lego: it accepts each
// of them without an error).
func TestWrongCertificates(t *testing.T) {
	key := newKey(t)
	ca, other := newAuthority(t, "our", nil), newAuthority(t, "other", nil)
	good := ca.leaf(t, key.Public(), nil)
	leaf := func(edit func(*x509.Certificate)) []byte {
		return chainPEM(ca.leaf(t, key.Public(), edit), ca.intermediate)
	}
	below := func(edit func(*x509.Certificate)) []byte {
		a := newAuthority(t, "odd", edit)
		return chainPEM(a.leaf(t, key.Public(), nil), a.intermediate)
	}
	damaged := bytes.Replace(chainPEM(good, ca.intermediate), []byte("-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\nMII"),
		[]byte("-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\n!!!"), 1)
	tests := []struct {
		name  string
		chain []byte
		want  bundle.Want // At and Names are filled in
		id    string
		says  string // part of the message
	}{
		{name: "another key", chain: chainPEM(ca.leaf(t, newKey(t).Public(), nil), ca.intermediate), id: "wrong-key", says: "serial 4d"},
		{name: "a name missing", chain: leaf(nil), want: bundle.Want{Names: []string{name, "host7.example.org"}}, id: "names-missing", says: "lacks host7.example.org"},
		{name: "a wildcard in place of the name", chain: leaf(func(c *x509.Certificate) { c.DNSNames = []string{"*.example.org"} }), id: "names-missing"},
		{name: "the name only in the CN", chain: leaf(func(c *x509.Certificate) { c.DNSNames, c.Subject.CommonName = []string{"x.example.org"}, name }), id: "names-missing"},
		{name: "a name of another host", chain: leaf(func(c *x509.Certificate) { c.DNSNames = []string{name, "imap.example.net", "a: /etc/shadow\nb"} }), id: "names-foreign", says: `also for "imap.example.net", "a: /etc/shadow\nb",`},
		{name: "www of another host", chain: leaf(func(c *x509.Certificate) { c.DNSNames = []string{name, "www.example.org"} }), id: "names-foreign", says: `"www.example.org"`},
		{name: "a thousand names of others", chain: leaf(func(c *x509.Certificate) {
			for i := range 1000 {
				c.DNSNames = append(c.DNSNames, fmt.Sprintf("mx%d.example.net", i))
			}
		}), id: "names-foreign", says: "and 995 more"},
		{name: "expired", chain: leaf(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }), id: "expired", says: "expired at 2026-11-01T11:59:59Z"},
		{name: "not yet valid", chain: leaf(func(c *x509.Certificate) { c.NotBefore = now.Add(time.Second) }), id: "not-yet-valid", says: "clock says 2026-11-01T12:00:00Z"},
		{name: "intermediate expired", chain: below(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) }), id: "expired", says: `"odd intermediate"`},
		{name: "chain of another CA", chain: chainPEM(good, other.intermediate), id: "chain-order"},
		{name: "no chain", chain: chainPEM(good), id: "chain-incomplete", says: `"our intermediate"`},
		{name: "reversed", chain: chainPEM(ca.intermediate, good), id: "wrong-key"},
		{name: "issuers reversed", chain: chainPEM(good, ca.root, ca.intermediate), id: "chain-order"},
		{name: "leaf twice", chain: chainPEM(good, good, ca.intermediate), id: "not-a-ca"},
		{name: "intermediate is no CA", chain: below(func(c *x509.Certificate) { c.IsCA = false }), id: "not-a-ca"},
		{name: "intermediate for clients only", chain: below(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), id: "chain-incomplete", says: "does not verify"},
		{name: "intermediate for another domain", chain: below(func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.net"} }), id: "chain-incomplete", says: "does not verify"},
		{name: "a private key inside", chain: append(leaf(nil), keyPEM(t, key)...), id: "foreign-block", says: `"PRIVATE KEY"`},
		{name: "garbage", chain: []byte("<html>502 Bad Gateway</html>"), id: "malformed"},
		{name: "empty", chain: nil, id: "malformed", says: "no PEM certificate"},
		{name: "a CA certificate", chain: leaf(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }), id: "usage"},
		{name: "for clients only", chain: leaf(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), id: "usage"},
		{name: "without usage", chain: leaf(func(c *x509.Certificate) { c.ExtKeyUsage = nil }), id: "usage"},
		{name: "200 certificates", chain: bytes.Repeat(chainPEM(good), 200), id: "too-many", says: "more than 10"},
		{name: "a megabyte", chain: bytes.Repeat([]byte("\n"), 1<<20), id: "too-many", says: "1048576 bytes"},
		{name: "damaged second block", chain: damaged, id: "malformed", says: "2 PEM blocks but only 1"},
		{name: "truncated", chain: leaf(nil)[:len(leaf(nil))-40], id: "malformed", says: "2 PEM blocks but only 1"},
		{name: "DER damaged", chain: bytes.Replace(leaf(nil), []byte("\nMII"), []byte("\nMIJ"), 1), id: "malformed", says: "certificate 1"},
		{name: "another key type", chain: leaf(nil), want: bundle.Want{KeyType: bundle.RSA2048}, id: "key-type", says: "ec256"},
		{name: "roots that do not lead here", chain: leaf(nil), want: bundle.Want{Roots: other.roots()}, id: "untrusted-root", says: "acme.roots_file"},
		{name: "no chain, with roots", chain: chainPEM(good), want: bundle.Want{Roots: ca.roots()}, id: "chain-incomplete"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.At = now
			if tt.want.Names == nil {
				tt.want.Names = []string{name}
			}
			b, err := bundle.New(tt.chain, key)
			if err == nil {
				var warnings []string
				warnings, err = b.Check(tt.want)
				if err == nil {
					t.Fatalf("it passes, with warnings %q", warnings)
				}
			}
			f, ok := errors.AsType[*bundle.Fault](err)
			if !ok || f.ID != tt.id || f.Kind() != tt.id {
				t.Fatalf("got %v, want a fault %s", err, tt.id)
			}
			if !strings.Contains(f.Error(), tt.says) || f.Hint() == "" {
				t.Errorf("message %q does not say %q", f.Error(), tt.says)
			}
		})
	}
}

// TestForeignTextIsCapped: a CA may put as much as it likes into a name.
func TestForeignTextIsCapped(t *testing.T) {
	long := strings.Repeat("x", 20_000)
	key := newKey(t)
	ca := newAuthority(t, long, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) })
	other := newAuthority(t, long, nil)
	leaf := ca.leaf(t, key.Public(), nil)
	for _, chain := range [][]byte{chainPEM(leaf, ca.intermediate), chainPEM(leaf), chainPEM(leaf, other.intermediate), chainPEM(other.leaf(t, key.Public(), nil), other.intermediate)} {
		b, err := bundle.New(chain, key)
		if err != nil {
			t.Fatal(err)
		}
		warnings, err := b.Check(bundle.Want{Names: []string{name}, At: now})
		if err == nil && len(warnings) == 0 {
			t.Fatal("it passes without a warning")
		}
		text := strings.Join(warnings, "")
		if err != nil {
			text = err.Error()
		}
		if len(text) > 1000 {
			t.Errorf("a message of %d bytes: %.100s", len(text), text)
		}
	}
}

func TestGoodCertificates(t *testing.T) {
	key := newKey(t)
	ca := newAuthority(t, "our", nil)
	direct := sign(t, &x509.Certificate{
		SerialNumber: ca.root.SerialNumber, DNSNames: []string{"MX.example.org"}, NotBefore: now, NotAfter: now.Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca.root, key.Public(), ca.rootKey)
	many := ca.leaf(t, key.Public(), func(c *x509.Certificate) { c.DNSNames = []string{"*.example.org", "a.example.org", name} })
	untrusted := []string{`the chain leads to "our root", which this system does not trust (a staging or private CA?)`}
	tests := []struct {
		name     string
		chain    []byte
		want     bundle.Want
		warnings []string
	}{
		{"complete", chainPEM(ca.leaf(t, key.Public(), nil), ca.intermediate), bundle.Want{Roots: ca.roots()}, nil},
		{"with its root", chainPEM(ca.leaf(t, key.Public(), nil), ca.intermediate, ca.root), bundle.Want{Roots: ca.roots()}, nil},
		{"straight from the root", chainPEM(direct), bundle.Want{Roots: ca.roots()}, nil},
		{"more names than asked for", chainPEM(many, ca.intermediate), bundle.Want{Roots: ca.roots(), Names: []string{name, "*.example.org"}}, nil},
		{"names that commercial CAs add", chainPEM(ca.leaf(t, key.Public(), func(c *x509.Certificate) {
			c.DNSNames = []string{name, "WWW.mx.example.org", "www.example.net", "example.net", "*.example.com", "example.com"}
		}), ca.intermediate), bundle.Want{Roots: ca.roots(), Names: []string{name, "www.example.net", "*.example.com"}}, nil},
		{"nobody said what was asked for", chainPEM(many, ca.intermediate), bundle.Want{Roots: ca.roots(), Names: []string{}}, nil},
		{"text between the blocks", append([]byte("subject=x\n\n"), chainPEM(ca.leaf(t, key.Public(), nil), ca.intermediate)...), bundle.Want{Roots: ca.roots()}, nil},
		{"a root that nobody knows", chainPEM(ca.leaf(t, key.Public(), nil), ca.intermediate), bundle.Want{}, untrusted},
		{"an unknown root inside", chainPEM(ca.leaf(t, key.Public(), nil), ca.intermediate, ca.root), bundle.Want{}, untrusted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.At, tt.want.KeyType = now, bundle.EC256
			if tt.want.Names == nil {
				tt.want.Names = []string{name}
			}
			b, err := bundle.New(tt.chain, key)
			if err != nil {
				t.Fatal(err)
			}
			warnings, err := b.Check(tt.want)
			if err != nil || !slices.Equal(warnings, tt.warnings) {
				t.Errorf("warnings %q, error %v", warnings, err)
			}
		})
	}
}

// TestComplete: a leaf alone is complete only if a root signed it; a longer chain is not judged here.
func TestComplete(t *testing.T) {
	key := newKey(t)
	ca := newAuthority(t, "our", nil)
	direct := &authority{intermediate: ca.root, key: ca.rootKey}
	for _, tt := range []struct {
		what     string
		chain    []byte
		roots    *x509.CertPool
		at       time.Time
		complete bool
	}{
		{"with its issuer", chainPEM(ca.leaf(t, key.Public(), nil), ca.intermediate), nil, now, true},
		{"alone", chainPEM(ca.leaf(t, key.Public(), nil)), nil, now, false},
		{"alone, the root is known", chainPEM(ca.leaf(t, key.Public(), nil)), ca.roots(), now, false},
		{"alone, of a known root", chainPEM(direct.leaf(t, key.Public(), nil)), ca.roots(), now, true},
		{"alone, of a known root, expired", chainPEM(direct.leaf(t, key.Public(), nil)), ca.roots(), now.AddDate(1, 0, 0), true},
	} {
		b, err := bundle.New(tt.chain, key)
		if err != nil {
			t.Fatal(err)
		}
		err = b.Complete(tt.roots, tt.at)
		f, _ := errors.AsType[*bundle.Fault](err)
		if (err == nil) != tt.complete || err != nil && (f == nil || f.ID != "chain-incomplete" || !strings.Contains(f.Message, `"our intermediate"`)) {
			t.Errorf("%s: %v", tt.what, err)
		}
	}
}

// A clock that is a little behind: a certificate that others have judged is judged when it begins. One that begins later is refused.
func TestSoon(t *testing.T) {
	t.Parallel()
	key, ca := newKey(t), newAuthority(t, "our", nil)
	for ahead, want := range map[time.Duration]bool{-time.Minute: true, 5 * time.Minute: true, time.Hour: true, time.Hour + time.Second: false} {
		chain := chainPEM(ca.leaf(t, key.Public(), func(c *x509.Certificate) { c.NotBefore = now.Add(ahead) }), ca.intermediate)
		b, err := bundle.New(chain, key)
		if err != nil {
			t.Fatal(err)
		}
		at := b.Soon(now)
		if _, err := b.Check(bundle.Want{Roots: ca.roots(), At: at}); (err == nil) != want || ahead < 0 && !at.Equal(now) {
			t.Errorf("it begins after %v, judged at %v: %v", ahead, at, err)
		}
		if _, err := b.Check(bundle.Want{Roots: ca.roots(), At: now}); (err == nil) != (ahead < 0) {
			t.Errorf("it begins after %v, judged now: %v", ahead, err)
		}
	}
}
