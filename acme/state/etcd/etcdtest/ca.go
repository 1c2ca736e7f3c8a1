package etcdtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// CA issues certificates for members and clients.
type CA struct {
	t           testing.TB
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	serial      int64
}

// NewCA makes a CA.
func NewCA(t testing.TB) *CA {
	t.Helper()
	ca := &CA{t: t}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := Valid()
	template.Subject = pkix.Name{CommonName: "CA of etcd " + rand.Text()[:6]}
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	ca.certificate, ca.key = &template, key
	ca.certificate = ca.sign(template, key)
	return ca
}

// Valid is the validity of a certificate that is valid today.
func Valid() x509.Certificate {
	return Span(time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour))
}

// Span is a validity.
func Span(from, to time.Time) x509.Certificate {
	return x509.Certificate{NotBefore: from, NotAfter: to}
}

func (ca *CA) sign(template x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	ca.t.Helper()
	ca.serial++
	template.SerialNumber = big.NewInt(ca.serial)
	der, err := x509.CreateCertificate(rand.Reader, &template, ca.certificate, &key.PublicKey, ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		ca.t.Fatal(err)
	}
	return certificate
}

func (ca *CA) issue(name string, template x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	ca.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		ca.t.Fatal(err)
	}
	template.Subject = pkix.Name{CommonName: name}
	template.DNSNames, template.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	return ca.sign(template, key), key
}

// Client returns how a client with a common name reaches the cluster; it trusts this CA.
func (ca *CA) Client(name string, template x509.Certificate) *tls.Config {
	ca.t.Helper()
	certificate, key := ca.issue(name, template)
	roots := x509.NewCertPool()
	roots.AddCert(ca.certificate)
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{{Certificate: [][]byte{certificate.Raw}, PrivateKey: key}}}
}

// Files writes a certificate for 127.0.0.1 and its key.
func (ca *CA) Files(dir, name string, template x509.Certificate) (certificate, key string) {
	ca.t.Helper()
	leaf, private := ca.issue(name, template)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		ca.t.Fatal(err)
	}
	return ca.write(dir, name+".pem", "CERTIFICATE", leaf.Raw), ca.write(dir, name+".key", "PRIVATE KEY", der)
}

// File writes the certificate of the CA.
func (ca *CA) File(dir string) string {
	ca.t.Helper()
	return ca.write(dir, "ca.pem", "CERTIFICATE", ca.certificate.Raw)
}

func (ca *CA) write(dir, name, kind string, der []byte) string {
	ca.t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		ca.t.Fatal(err)
	}
	return path
}
