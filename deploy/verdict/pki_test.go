package verdict

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"sync"
	"time"

	"mxcert/acme/resolve"
)

// now is when the tests judge.
var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

// entity is a certificate with its key.
type entity struct {
	*x509.Certificate
	key crypto.Signer
}

type change = func(*x509.Certificate)

// keys are made once of each kind and place, because RSA keys take long.
var keys sync.Map

func keyOf(kind string) crypto.Signer {
	if kind == "ecdsa" {
		return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	}
	if old, ok := keys.Load(kind); ok {
		return old.(crypto.Signer)
	}
	var key crypto.Signer
	switch kind {
	case "rsa":
		key = must(rsa.GenerateKey(rand.Reader, 2048))
	case "rsa1024":
		key = must(rsa.GenerateKey(rand.Reader, 1024))
	case "ed25519":
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			panic(err)
		}
		key = private
	}
	keys.Store(kind, key)
	return key
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// authority makes a CA; its parent is itself if it has none.
func authority(name string, parent *entity, changes ...change) *entity {
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	return sign(template, parent, keyOf("ecdsa"), changes...)
}

// server makes a certificate for mx.example.org.
func server(kind string, parent *entity, changes ...change) *entity {
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "mx.example.org"}, DNSNames: []string{"mx.example.org"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	return sign(template, parent, keyOf(kind), changes...)
}

func sign(template *x509.Certificate, parent *entity, key crypto.Signer, changes ...change) *entity {
	template.SerialNumber = must(rand.Int(rand.Reader, big.NewInt(1<<62)))
	template.NotBefore, template.NotAfter = now.Add(-day), now.Add(60*day)
	if template.IsCA {
		template.NotBefore, template.NotAfter = now.Add(-1000*day), now.Add(1000*day)
	}
	for _, f := range changes {
		f(template)
	}
	if parent == nil {
		parent = &entity{template, key}
	}
	der := must(x509.CreateCertificate(rand.Reader, template, parent.Certificate, key.Public(), parent.key))
	made.Store(string(der), key)
	return &entity{must(x509.ParseCertificate(der)), key}
}

// made has the key of each certificate.
var made sync.Map

func withNames(names ...string) change { return func(c *x509.Certificate) { c.DNSNames = names } }

func cn(name string) change {
	return func(c *x509.Certificate) { c.DNSNames, c.Subject.CommonName = nil, name }
}

func until(t time.Time) change { return func(c *x509.Certificate) { c.NotAfter = t } }

func from(t time.Time) change { return func(c *x509.Certificate) { c.NotBefore = t } }

func uses(list ...x509.ExtKeyUsage) change { return func(c *x509.Certificate) { c.ExtKeyUsage = list } }

func pool(list ...*entity) *x509.CertPool {
	p := x509.NewCertPool()
	for _, e := range list {
		p.AddCert(e.Certificate)
	}
	return p
}

// tlsa makes a record that matches the certificate.
func tlsa(usage, selector, matching uint8, e *entity) resolve.TLSA {
	data := e.Raw
	if selector == 1 {
		data = e.RawSubjectPublicKeyInfo
	}
	switch matching {
	case 1:
		sum := sha256.Sum256(data)
		data = sum[:]
	case 2:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	return resolve.TLSA{Usage: usage, Selector: selector, MatchingType: matching, Data: data}
}

// stale makes a record of these numbers that matches nothing.
func stale(usage, selector, matching uint8) resolve.TLSA {
	return tlsa(usage, selector, matching, other)
}

// The world of the tests: a root that senders trust, an intermediate, and what mx.example.org serves.
var (
	root      = authority("Test Root", nil)
	inter     = authority("Test Intermediate", root)
	good      = server("ecdsa", inter)
	goodRSA   = server("rsa", inter)
	other     = server("ecdsa", inter)
	private   = authority("Private Root", nil)
	privateCA = authority("Private Intermediate", private)
	mine      = server("ecdsa", privateCA)
)
