//go:build linux && amd64

package crash

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mxcert/acme/bundle"
)

// bundles are files with a key and its chain, in a directory that others may read, too.
type bundles struct {
	old, renewed, rekeyed string                    // renewed has the key of old, rekeyed a new one
	parsed                map[string]*bundle.Bundle // by path
}

// shared are made once: RSA keys take their time.
var shared bundles

// makeBundles issues three chains of three certificates: large enough to fill several blocks of a disk.
func makeBundles(t *testing.T) bundles {
	t.Helper()
	if shared.parsed != nil {
		return shared
	}
	dir := filepath.Join(filepath.Dir(victim), "bundles")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ca := newAuthority(t)
	first, second := newKey(t), newKey(t)
	b := bundles{parsed: map[string]*bundle.Bundle{}}
	for i, f := range []struct {
		path *string
		name string
		key  crypto.Signer
	}{{&b.old, "old", first}, {&b.renewed, "renewed", first}, {&b.rekeyed, "rekeyed", second}} {
		made, err := bundle.New(ca.issue(t, f.key, int64(i+1)), f.key)
		if err != nil {
			t.Fatal(err)
		}
		*f.path = filepath.Join(dir, f.name)
		b.parsed[*f.path] = made
		if err := os.WriteFile(*f.path, made.CombinedPEM(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	shared = b
	return b
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := bundle.RSA2048.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// authority is an intermediate under another one.
type authority struct {
	key   crypto.Signer
	cert  *x509.Certificate
	chain []byte
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	root, key := newKey(t), newKey(t)
	upper := certificate(t, template("Root", 100), nil, root, root)
	lower := certificate(t, template("Intermediate", 101), upper, key, root)
	return authority{key: key, cert: lower, chain: append(encode(lower), encode(upper)...)}
}

func template(name string, serial int64) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
}

// certificate signs; without a parent it is self-signed.
func certificate(t *testing.T, template, parent *x509.Certificate, key, signer crypto.Signer) *x509.Certificate {
	t.Helper()
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (a authority) issue(t *testing.T, key crypto.Signer, serial int64) []byte {
	t.Helper()
	leaf := template("", serial)
	leaf.IsCA, leaf.DNSNames = false, []string{"mx.example.org", fmt.Sprintf("mx%d.example.org", serial)}
	return append(encode(certificate(t, leaf, a.cert, key, a.key)), a.chain...)
}

func encode(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
