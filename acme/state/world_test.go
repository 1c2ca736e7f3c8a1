package state_test

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
)

func open(t testing.TB) *state.Book {
	t.Helper()
	store, err := disk.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	return state.New(store)
}

// newBundle makes a self-signed certificate: the store looks at nothing but the key.
func newBundle(t testing.TB, keyType bundle.KeyType, serial int64) *bundle.Bundle {
	t.Helper()
	key, err := keyType.Generate()
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{"mx.example.org"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.New(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// add stores a bundle as the i-th generation of a lineage.
func add(t testing.TB, l *state.Lineage, b *bundle.Bundle, i int) state.Generation {
	t.Helper()
	g, err := l.Add(b, b.Leaf().DNSNames, "https://ca.example/dir", fmt.Sprintf("https://ca.example/order/%d", i), time.Now().Add(time.Duration(i)*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func ids(t testing.TB, l *state.Lineage) []string {
	t.Helper()
	generations, err := l.Generations()
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, g := range generations {
		ids = append(ids, g.ID)
	}
	return ids
}

func write(t testing.TB, content string, elements ...string) string {
	t.Helper()
	path := filepath.Join(elements...)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
