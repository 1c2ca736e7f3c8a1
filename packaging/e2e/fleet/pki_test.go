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
	clients     map[string]pair
}

// A pair is a certificate and its key, as PEM.
type pair struct{ certificate, key []byte }

// newPKI makes it by the commands of the README, on a host, with certificates for root and for the hosts of the fleet.
func (w *town) newPKI(hosts ...string) *pki {
	w.t.Helper()
	const directory = "/root/etcd"
	w.run(w.center, "mkdir -p "+directory+"; cd "+directory+"\n"+w.readme("clients", hosts))
	p := &pki{t: w.t, clients: map[string]pair{}}
	read := func(name string) []byte {
		text, err := w.center.Read(directory + "/" + name)
		w.check(err)
		return []byte(text)
	}
	for _, name := range append([]string{"root"}, hosts...) {
		p.clients[name] = pair{read(name + ".pem"), read(name + ".key")}
	}
	ca, err := tls.X509KeyPair(read("etcd-ca.pem"), read("etcd-ca.key"))
	w.check(err)
	p.certificate = ca.Leaf
	p.key, _ = ca.PrivateKey.(crypto.Signer)
	return p
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
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p.check(err)
	der, err := x509.CreateCertificate(rand.Reader, template, p.certificate, key.Public(), p.key)
	p.check(err)
	text, err := x509.MarshalPKCS8PrivateKey(key)
	p.check(err)
	return pair{encode("CERTIFICATE", der), encode("PRIVATE KEY", text)}
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
