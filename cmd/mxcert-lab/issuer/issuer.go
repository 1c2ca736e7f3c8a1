// Package issuer makes bundles for tests that need certificates and no CA: an authority of its own signs them on the spot.
package issuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"

	"mxcert/acme/bundle"
)

// Issuer is an authority with a self-signed certificate.
type Issuer struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// New makes an authority.
func New(t testing.TB) *Issuer {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(1000 * 24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(t, err)
	certificate, err := x509.ParseCertificate(der)
	check(t, err)
	return &Issuer{certificate: certificate, key: key}
}

// Issue makes a bundle with a new ec256 key for names and IP addresses; it has been valid for an hour, and ends after life (which may be negative).
func (i *Issuer) Issue(t testing.TB, life time.Duration, names ...string) *bundle.Bundle {
	t.Helper()
	return i.IssueFor(t, newKey(t), life, names...)
}

// IssueFor makes such a bundle with a key of any type.
func (i *Issuer) IssueFor(t testing.TB, key crypto.Signer, life time.Duration, names ...string) *bundle.Bundle {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	check(t, err)
	template := &x509.Certificate{SerialNumber: serial, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, i.certificate, key.Public(), i.key)
	check(t, err)
	text, err := bundle.MarshalKey(key)
	check(t, err)
	chain := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.certificate.Raw})...)
	b, err := bundle.Parse(chain, text)
	check(t, err)
	return b
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return key
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
