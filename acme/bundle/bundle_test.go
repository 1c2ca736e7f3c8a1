package bundle_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mxcert/acme/bundle"
)

func TestBundleGivesItsParts(t *testing.T) {
	key := newKey(t)
	ca := newAuthority(t, "our", nil)
	leaf := ca.leaf(t, key.Public(), nil)
	b, err := bundle.Parse(chainPEM(leaf, ca.intermediate), keyPEM(t, key))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	if b.SPKI() != hex.EncodeToString(sum[:]) || b.Serial() != "4d" || !b.NotAfter().Equal(leaf.NotAfter) || !b.Leaf().Equal(leaf) || !key.Equal(b.Key()) {
		t.Errorf("spki %s, serial %s, not after %s", b.SPKI(), b.Serial(), b.NotAfter())
	}
	for what, texts := range map[string][2][]byte{
		"leaf":       {b.LeafPEM(), chainPEM(leaf)},
		"chain":      {b.ChainPEM(), chainPEM(ca.intermediate)},
		"full chain": {b.FullchainPEM(), chainPEM(leaf, ca.intermediate)},
		"key":        {b.KeyPEM(), keyPEM(t, key)},
		"combined":   {b.CombinedPEM(), append(keyPEM(t, key), chainPEM(leaf, ca.intermediate)...)},
	} {
		if !bytes.Equal(texts[0], texts[1]) {
			t.Errorf("%s is\n%s", what, texts[0])
		}
	}
	b.Chain()[0] = nil
	clear(b.KeyPEM())
	if b.Leaf() == nil || !bytes.Equal(b.KeyPEM(), keyPEM(t, key)) {
		t.Error("a caller changed the bundle")
	}
}

func TestSame(t *testing.T) {
	key := newKey(t)
	ca := newAuthority(t, "our", nil)
	leaf := ca.leaf(t, key.Public(), nil)
	make := func(chain ...*x509.Certificate) *bundle.Bundle {
		b, err := bundle.New(chainPEM(chain...), key)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := make(leaf, ca.intermediate)
	if !b.Same(make(leaf, ca.intermediate)) {
		t.Error("the same certificates differ")
	}
	if b.Same(nil) || b.Same(make(leaf)) || b.Same(make(leaf, ca.intermediate, ca.root)) {
		t.Error("different chains are the same")
	}
}

// TestSerialIsThatOfOpenSSL: operators compare the two by eye, scripts by ==.
func TestSerialIsThatOfOpenSSL(t *testing.T) {
	key := newKey(t)
	ca := newAuthority(t, "our", nil)
	for _, serial := range []string{"1", "a", "80", "ff", "100", "abc", "7fffffffffffffff", "8000000000000000", "00f0e0d0", "ff000000000000000000000000000000000000ff"} {
		number, ok := new(big.Int).SetString(serial, 16)
		if !ok {
			t.Fatal(serial)
		}
		leaf := ca.leaf(t, key.Public(), func(c *x509.Certificate) { c.SerialNumber = number })
		path := filepath.Join(t.TempDir(), "leaf.pem")
		if err := os.WriteFile(path, chainPEM(leaf), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("openssl", "x509", "-in", path, "-noout", "-serial").Output()
		if err != nil {
			t.Fatalf("openssl is needed: %v", err)
		}
		want := strings.ToLower(strings.TrimSpace(strings.TrimPrefix(string(out), "serial=")))
		if got := bundle.SerialOf(leaf); got != want {
			t.Errorf("serial %s: %s, openssl says %s", serial, got, want)
		}
	}
	if got := bundle.SerialOf(&x509.Certificate{SerialNumber: new(big.Int)}); got != "00" {
		t.Errorf("serial 0: %s", got)
	}
}

// FuzzParse: whatever is accepted is written and read again as the same, so that what was checked is what is deployed.
func FuzzParse(f *testing.F) {
	key := newKey(f)
	ca := newAuthority(f, "our", nil)
	good, text := chainPEM(ca.leaf(f, key.Public(), nil), ca.intermediate), keyPEM(f, key)
	f.Add(good, text)
	f.Add(append([]byte("# comment\n"), good...), append([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"), text...))
	f.Add(good[:len(good)/2], text)
	f.Add(append(good, text...), text)
	f.Add(bytes.Repeat(good, 6), text)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"), []byte("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n"))
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, chain, key []byte) {
		b, err := bundle.Parse(chain, key)
		if err != nil {
			if strings.Contains(err.Error(), "PRIVATE") && len(err.Error()) > 300 {
				t.Errorf("a long error: %s", err)
			}
			return
		}
		again, err := bundle.Parse(b.FullchainPEM(), b.KeyPEM())
		if err != nil {
			t.Fatalf("what was accepted is refused when written again: %v", err)
		}
		if !again.Same(b) || !bytes.Equal(again.KeyPEM(), b.KeyPEM()) || again.KeyType() != b.KeyType() {
			t.Error("what was written differs from what was read")
		}
		_, _ = b.Check(bundle.Want{Names: []string{name}, At: now})
	})
}
