package fleet

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"testing"
	"time"

	"filippo.io/age"

	"mxcert/acme/bundle"
	"mxcert/acme/fleet/seal"
	"mxcert/acme/state"
)

// newIdentity is a host's, of age-keygen.
func newIdentity(t testing.TB) *seal.Identity {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	identity, err := seal.ParseIdentity(key.String())
	if err != nil {
		t.Fatal(err)
	}
	return identity
}

// newVaults are those of hosts h0, h1, … which know each other by their configuration.
func newVaults(t testing.TB, fleet string, n int) []vault {
	t.Helper()
	var all []seal.Recipient
	vaults := make([]vault, n)
	for i := range vaults {
		vaults[i] = vault{fleet: fleet, host: "h" + string(rune('0'+i)), identity: newIdentity(t)}
		all = append(all, vaults[i].identity.Recipient())
	}
	for i := range vaults {
		vaults[i].trust = newTrust(fleet, all[i], all)
	}
	return vaults
}

// newBundle has a certificate for a name that signs itself.
func newBundle(t testing.TB, name string) *bundle.Bundle {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return certify(t, name, key, time.Now().Add(90*24*time.Hour))
}

// certify makes the certificate of a key.
func certify(t testing.TB, name string, key crypto.Signer, until time.Time) *bundle.Bundle {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: until.Add(-90 * 24 * time.Hour), NotAfter: until.Truncate(time.Second),
	}
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

func generationOf(b *bundle.Bundle) state.Generation {
	return state.Generation{
		Version: 1, ID: "20260102T030405Z", Names: b.Leaf().DNSNames, Key: b.KeyType(), Directory: "https://ca.example/directory",
		Order: "https://ca.example/order/7", Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

// wantRefused fails unless err is a refusal with a word.
func wantRefused(t testing.TB, what string, err error, id string) {
	t.Helper()
	var r *Refused
	if !errors.As(err, &r) || r.ID != id {
		t.Errorf("%s: the error is %v, want a refusal as %q", what, err, id)
	}
}

func TestABundleArrivesAtEveryHost(t *testing.T) {
	vaults := newVaults(t, "berlin", 3)
	b := newBundle(t, "mx.example.org")
	value, err := vaults[0].sealBundle("mx", 7, generationOf(b), b)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range vaults {
		shared, err := v.openBundle(value, "mx", bundle.EC256, 7)
		if err != nil {
			t.Fatal(err)
		}
		if !shared.Bundle.Same(b) || !bytes.Equal(shared.Bundle.KeyPEM(), b.KeyPEM()) || shared.Generation != 7 || shared.Host != "h0" ||
			shared.Order != "https://ca.example/order/7" {
			t.Errorf("%s got %+v", v.host, shared)
		}
	}
}
