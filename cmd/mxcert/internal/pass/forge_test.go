package pass

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

// forge issues other certificates in the lab's CA's place: with the key that was asked for, but otherwise as a test wants.
type forge struct {
	t           testing.TB
	root, inter *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newForge(t testing.TB, intermediateEnds time.Time) *forge {
	t.Helper()
	issuer := func(serial int64, name string, ends time.Time) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-5000 * time.Hour),
			NotAfter: ends, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: []byte{byte(serial)}}
	}
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	f := &forge{t: t, key: newKey()}
	rootKey := newKey()
	template := issuer(1, "forged root", time.Now().Add(100000*time.Hour))
	f.root = f.sign(template, template, rootKey.Public(), rootKey)
	f.inter = f.sign(issuer(2, "forged intermediate", intermediateEnds), f.root, f.key.Public(), rootKey)
	return f
}

func (f *forge) sign(template, parent *x509.Certificate, public any, key *ecdsa.PrivateKey) *x509.Certificate {
	f.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		f.t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		f.t.Fatal(err)
	}
	return certificate
}

func pemOf(chain ...*x509.Certificate) []byte {
	var text []byte
	for _, c := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}

// wrap replaces every delivered certificate by one of 90 days that change has changed.
func (f *forge) wrap(change func(*x509.Certificate)) func(http.Handler) http.Handler {
	return func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ca.EndpointOf(r.URL.Path) != ca.Certificate {
				inner.ServeHTTP(w, r)
				return
			}
			answer := httptest.NewRecorder()
			inner.ServeHTTP(answer, r)
			block, _ := pem.Decode(answer.Body.Bytes())
			if block == nil {
				f.t.Errorf("the CA delivered no certificate: %d", answer.Code)
				return
			}
			real, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				f.t.Error(err)
				return
			}
			serial, _ := rand.Int(rand.Reader, big.NewInt(1<<60))
			template := &x509.Certificate{SerialNumber: serial, DNSNames: real.DNSNames, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(90 * 24 * time.Hour),
				ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, KeyUsage: x509.KeyUsageDigitalSignature}
			change(template)
			for name, values := range answer.Header() {
				w.Header()[name] = values
			}
			w.Header().Del("Content-Length")
			w.Header().Del("Link")
			_, _ = w.Write(pemOf(f.sign(template, f.inter, real.PublicKey, f.key), f.inter))
		})
	}
}

// noRoots takes the demand for the lab's own root out of the configuration.
func (h *host) noRoots() {
	h.t.Helper()
	h.edit("  roots_file:", "  # roots_file:")
}

// What a CA does to a certificate that it may do must not make it due again at once: that would be an order a pass.
func TestNoOrderLoop(t *testing.T) {
	for name, tt := range map[string]struct {
		change       func(*x509.Certificate)
		intermediate time.Duration
		roots        bool
	}{
		"a name more": {change: func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "www."+c.DNSNames[0]) }},
		"upper case":  {change: func(c *x509.Certificate) { c.DNSNames[0] = strings.ToUpper(c.DNSNames[0]) }},
		"dated back": {change: func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-60*24*time.Hour), time.Now().Add(25*24*time.Hour)
		}},
		"issuer ends soon": {change: func(*x509.Certificate) {}, intermediate: 30 * 24 * time.Hour, roots: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, lab.Options{}, lab.ConfigOptions{})
			if tt.intermediate == 0 {
				tt.intermediate = 10000 * time.Hour
			}
			f := newForge(t, time.Now().Add(tt.intermediate))
			if tt.roots {
				h.write(strings.Replace(h.text(), "roots.pem", "forged.pem", 1))
				h.put("forged.pem", string(pemOf(f.root)))
			} else {
				h.noRoots()
			}
			h.CA.SetWrap(f.wrap(tt.change))
			first := h.pass(report.CodeOK, renew).Keys[0].Serial
			for range 2 {
				if r := h.pass(report.CodeOK, renew); r.Changed || r.Keys[0].Serial != first {
					t.Fatalf("ordered again: %+v", r)
				}
			}
		})
	}
}

// A certificate with a name that nobody asked for is refused, and does not cost an order a pass.
func TestForeignNames(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.noRoots()
	h.CA.SetWrap(newForge(t, time.Now().Add(10000*time.Hour)).wrap(func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "imap.example.net") }))
	for _, code := range []report.Code{report.CodeFailed, report.CodeTemporary, report.CodeTemporary} {
		c := h.pass(code, renew)
		if c.Error == nil || !strings.Contains(c.Error.Hint, "ask the CA") || !strings.Contains(c.Error.Message, `"imap.example.net"`) {
			t.Errorf("%+v", c.Error)
		}
	}
	if n := h.placed(); n != 1 {
		t.Errorf("%d orders", n)
	}
}

// A renewal window that always lies in the past costs four orders a week, not one a pass.
func TestWindowAlwaysPast(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.CA.SetWrap(func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ca.EndpointOf(r.URL.Path) == ca.RenewalInfo {
				_, _ = w.Write([]byte(`{"suggestedWindow":{"start":"2026-01-01T00:00:00Z","end":"2026-01-02T00:00:00Z"}}`))
				return
			}
			inner.ServeHTTP(w, r)
		})
	})
	for range 4 {
		h.pass(report.CodeOK, renew)
	}
	for range 3 {
		c := h.pass(report.CodeTemporary, renew)
		if c.Error.Kind != "backoff" || !strings.Contains(c.Error.Message, "4 certificates for these names were ordered within 7 days") {
			t.Errorf("%+v", c.Error)
		}
	}
	if n := h.CA.Count(ca.NewOrder); n != 4 {
		t.Errorf("%d orders", n)
	}
	h.pass(report.CodeOK, atOnce)
}
