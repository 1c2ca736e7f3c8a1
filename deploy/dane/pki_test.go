package dane

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"sync"
	"time"
)

// start is when the tests begin.
var start = moment(0).At

// issuer is a CA of the tests, with the chain that is sent above a leaf.
type issuer struct {
	certificate *x509.Certificate
	key         crypto.Signer
	above       []*x509.Certificate
}

// pki is made once: two CAs, the first with two intermediates, and keys of a mail host.
type pki struct {
	root, first, second, other *issuer
	keys                       map[string]crypto.Signer
}

var world = sync.OnceValue(func() *pki {
	root := authority("Root", nil)
	p := &pki{root: root, first: authority("First", root), second: authority("Second", root), other: authority("Other", authority("Other Root", nil)), keys: map[string]crypto.Signer{}}
	for _, name := range []string{"a", "b", "c", "d"} {
		p.keys[name] = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	}
	p.keys["rsa"] = must(rsa.GenerateKey(rand.Reader, 2048))
	return p
})

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// authority makes a CA. Its signatures are of RSA, because those are verified fastest.
func authority(name string, parent *issuer) *issuer {
	key := must(rsa.GenerateKey(rand.Reader, 2048))
	c := sign(&x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: start.Add(-1000 * day), NotAfter: start.Add(5000 * day)}, parent, key)
	return &issuer{certificate: c, key: key, above: []*x509.Certificate{c}}
}

func sign(template *x509.Certificate, parent *issuer, key crypto.Signer) *x509.Certificate {
	template.SerialNumber = must(rand.Int(rand.Reader, big.NewInt(1<<62)))
	by, signer := template, key
	if parent != nil {
		by, signer = parent.certificate, parent.key
	}
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, by, key.Public(), signer))))
}

// chain makes a new certificate of a key, with what is sent above it.
func (p *pki) chain(key string, by *issuer, until time.Time) []*x509.Certificate {
	leaf := sign(&x509.Certificate{Subject: pkix.Name{CommonName: mx.Host}, DNSNames: []string{mx.Host}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, NotBefore: start.Add(-day), NotAfter: until}, by, p.keys[key])
	return append([]*x509.Certificate{leaf}, by.above...)
}

// record makes a record that a certificate matches, without the code under test.
func record(usage, selector, matching int, c *x509.Certificate) string {
	data := c.Raw
	if selector == 1 {
		data = c.RawSubjectPublicKeyInfo
	}
	switch matching {
	case 1:
		sum := sha256.Sum256(data)
		data = sum[:]
	case 2:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	return fmt.Sprintf("%d %d %d %x", usage, selector, matching, data)
}

// given is a set that a server gives.
func given(ttl time.Duration, records ...string) Cached {
	return Cached{Set: Set{Records: records, TTL: ttl}.sorted(), Given: true, By: []string{"ns.example.org [192.0.2.1:53]"}}
}
