package fleet

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"
)

// A pki is the authority of an operator's own for etcd: its members, and clients by their common names.
type pki struct {
	t           testing.TB
	certificate *x509.Certificate
	key         crypto.Signer
}

// A pair is a certificate and its key, as PEM.
type pair struct{ certificate, key []byte }

func newPKI(t testing.TB) *pki {
	t.Helper()
	p := &pki{t: t}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "etcd"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	p.certificate, p.key = p.sign(template, nil, nil)
	return p
}

// sign makes a certificate; without an issuer it signs itself.
func (p *pki) sign(template, issuer *x509.Certificate, by crypto.Signer) (*x509.Certificate, crypto.Signer) {
	p.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p.check(err)
	if issuer == nil {
		issuer, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), by)
	p.check(err)
	certificate, err := x509.ParseCertificate(der)
	p.check(err)
	return certificate, key
}

func (p *pki) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// issue makes a certificate for a common name and addresses, for a time that may be negative.
func (p *pki) issue(name string, life time.Duration, addresses ...string) pair {
	p.t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(life), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, address := range addresses {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(address))
	}
	certificate, key := p.sign(template, p.certificate, p.key)
	text, err := x509.MarshalPKCS8PrivateKey(key)
	p.check(err)
	return pair{encode("CERTIFICATE", certificate.Raw), encode("PRIVATE KEY", text)}
}

// root is the certificate that members and clients trust.
func (p *pki) root() []byte { return encode("CERTIFICATE", p.certificate.Raw) }

// server is a pair for a server of the test's own.
func (p *pki) server(address string) tls.Certificate {
	p.t.Helper()
	c := p.issue(address, 24*time.Hour, address)
	pair, err := tls.X509KeyPair(c.certificate, c.key)
	p.check(err)
	return pair
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
