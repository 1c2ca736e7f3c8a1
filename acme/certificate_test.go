package acme_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"mxcert/acme"
	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
)

// forger issues what it is asked for.
type forger struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newForger(t *testing.T) *forger {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f := &forger{key: key}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "forger"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	f.certificate = f.sign(t, template, template, key.Public())
	return f
}

func (f *forger) sign(t *testing.T, template, parent *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, f.key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// leaf is a good one for the names of a world, but for what edit does.
func (f *forger) leaf(t *testing.T, public crypto.PublicKey, edit func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{"mx.example.org", "host7.example.org"}, NotBefore: time.Now().Add(-time.Minute),
		NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if edit != nil {
		edit(template)
	}
	return f.sign(t, template, f.certificate, public)
}

func encode(certificates ...*x509.Certificate) string {
	var text strings.Builder
	for _, c := range certificates {
		text.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return text.String()
}

// TestWrongCertificates: whatever the CA or somebody in between delivers, only what was asked for is given to the
// caller, and the order is not tried again at once.
func TestWrongCertificates(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	key, err := bundle.EC256.Generate()
	if err != nil {
		t.Fatal(err)
	}
	f := newForger(t)
	leaf := func(edit func(*x509.Certificate)) string {
		return encode(f.leaf(t, key.Public(), edit), f.certificate)
	}
	keyPEM, err := bundle.MarshalKey(key)
	if err != nil {
		t.Fatal(err)
	}
	blocks := func(chain string) (first, second string) {
		cut := strings.LastIndex(chain, "-----BEGIN")
		return chain[:cut], chain[cut:]
	}
	tests := map[string]struct {
		deliver func(good string) string
		says    string
		kind    string // "" for bad-certificate
	}{
		"another key":    {deliver: func(string) string { return encode(f.leaf(t, f.key.Public(), nil), f.certificate) }, says: "does not belong"},
		"a name missing": {deliver: func(string) string { return leaf(func(c *x509.Certificate) { c.DNSNames = c.DNSNames[:1] }) }, says: "lacks host7.example.org"},
		"a foreign name": {deliver: func(string) string {
			return leaf(func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "imap.example.net") })
		}, says: `also for "imap.example.net", which nobody asked for`},
		"expired": {deliver: func(string) string {
			return leaf(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })
		}, says: "expired at", kind: "clock"},
		"not yet valid": {deliver: func(string) string {
			return leaf(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(2 * time.Hour) })
		}, says: "valid from", kind: "clock"},
		"of another CA": {deliver: func(string) string { return leaf(nil) }, says: "acme.roots_file"},
		"a CA certificate": {deliver: func(string) string {
			return leaf(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })
		}, says: "is a CA certificate"},
		"for clients": {deliver: func(string) string {
			return leaf(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
		}, says: "server authentication"},
		"without its chain":    {deliver: func(good string) string { first, _ := blocks(good); return first }, says: "without the certificate of its issuer"},
		"reversed":             {deliver: func(good string) string { first, second := blocks(good); return second + first }, says: "does not belong"},
		"a foreign chain":      {deliver: func(good string) string { first, _ := blocks(good); return first + encode(f.certificate) }, says: "did not sign"},
		"a private key inside": {deliver: func(good string) string { return good + string(keyPEM) }, says: "PRIVATE KEY"},
		"200 certificates":     {deliver: func(good string) string { return strings.Repeat(good, 100) }, says: "more than"},
		"a damaged block": {deliver: func(good string) string {
			first, second := blocks(good)
			return first + strings.Replace(second, "MII", "!!!", 1)
		}, says: "only 1 can be read"},
		"garbage": {deliver: func(string) string { return "\x00\x01\x02<html>" }, says: "no PEM certificate"},
		"null":    {deliver: func(string) string { return "null" }, says: "no PEM certificate"},
		"nothing": {deliver: func(string) string { return "" }, says: "no PEM certificate"},
	}
	for what, tt := range tests {
		w.CA.SetWrap(func(inner http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if ca.EndpointOf(r.URL.Path) != ca.Certificate {
					inner.ServeHTTP(rw, r)
					return
				}
				answer := httptest.NewRecorder()
				inner.ServeHTTP(answer, r)
				rw.Header().Set("Content-Type", "application/pem-certificate-chain")
				rw.Header()["Replay-Nonce"] = answer.Header()["Replay-Nonce"]
				_, _ = rw.Write([]byte(tt.deliver(answer.Body.String())))
			})
		})
		orders, downloads := w.orders(), w.CA.Count(ca.Certificate)
		issued, err := w.issue(t.Context(), func(r *acme.Request) { r.Key, r.Urgent = key, true })
		if n, m := w.orders()-orders, w.CA.Count(ca.Certificate)-downloads; n != 1 || m != 1 {
			t.Errorf("%s: %d orders, %d downloads", what, n, m)
		}
		if issued != nil {
			t.Errorf("%s: it is given to the caller", what)
		}
		e, ok := errors.AsType[*acme.Error](err)
		if !ok || e.Stage() != "check" || e.Temporary() || !e.ChargedToCA() || !strings.Contains(e.Error(), tt.says) || !strings.Contains(e.Error(), "thrown away") || e.Hint() == "" {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if tt.kind == "" {
			tt.kind = "bad-certificate"
		}
		if e.Kind() != tt.kind {
			t.Errorf("%s: kind %s", what, e.Kind())
		}
		if w.stored(t) {
			t.Errorf("%s: the order is kept, and would be downloaded again", what)
		}
		if bytes.Contains([]byte(e.Error()+e.Hint()), keyPEM[30:60]) {
			t.Errorf("%s: the key is in %v", what, e)
		}
		w.clean(t, what)
	}
	if generations, err := w.lineage(t).Generations(); err != nil || len(generations) != 0 {
		t.Errorf("stored: %v, %v", generations, err)
	}
	w.CA.SetWrap(nil)
	w.order(t, func(r *acme.Request) { r.Urgent = true })
}

// TestWrongClock: the CA's certificate is fine, but this host lives two hours earlier.
func TestWrongClock(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	key, err := bundle.EC256.Generate()
	if err != nil {
		t.Fatal(err)
	}
	f := newForger(t)
	chain := encode(f.leaf(t, key.Public(), func(c *x509.Certificate) {
		c.NotBefore = time.Now().Add(2 * time.Hour)
		c.NotAfter = time.Now().Add(3 * time.Hour)
	}), f.certificate)
	w.CA.SetWrap(func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Date", time.Now().Add(2*time.Hour).UTC().Format(http.TimeFormat))
			if ca.EndpointOf(r.URL.Path) == ca.Certificate {
				_, _ = rw.Write([]byte(chain))
				return
			}
			inner.ServeHTTP(rw, r)
		})
	})
	_, err = w.issue(t.Context(), func(r *acme.Request) { r.Key = key })
	if e, ok := errors.AsType[*acme.Error](err); !ok || e.Kind() != "clock" || !strings.Contains(e.Hint(), "this host's clock is 2h0m0s behind the CA's") {
		t.Errorf("%v, hint %s", err, e.Hint())
	}
}

// TestUnknownRootIsAWarning where no roots were demanded.
func TestUnknownRootIsAWarning(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	issued := w.order(t, func(r *acme.Request) { r.Roots = nil })
	if len(issued.Warnings) != 1 || !strings.Contains(issued.Warnings[0], "does not trust") {
		t.Errorf("warnings %q", issued.Warnings)
	}
}
