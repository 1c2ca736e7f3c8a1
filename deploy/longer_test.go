package deploy_test

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/deploy"
)

// issued makes a certificate that another key has signed.
func issued(t *testing.T, key crypto.Signer, serial int64, notAfter time.Time, names ...string) *bundle.Bundle {
	t.Helper()
	ca := newKey(t, bundle.EC256)
	issuer := &x509.Certificate{SerialNumber: big.NewInt(99), Subject: pkix.Name{CommonName: "Some CA"}, IsCA: true, BasicConstraintsValid: true}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: names, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), ca)
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.New(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestShortens: the end of what is live does not come nearer by accident.
func TestShortens(t *testing.T) {
	key, now := newKey(t, bundle.EC256), time.Now()
	next := issued(t, key, 9, now.Add(90*24*time.Hour), "mx.example.org", "host7.example.org")
	for _, tt := range []struct {
		what string
		live *bundle.Bundle
		want bool
	}{
		{"ends later", issued(t, key, 1, now.Add(91*24*time.Hour), "host7.example.org", "MX.example.org"), true},
		{"ends at the same time", issued(t, key, 1, now.Add(90*24*time.Hour), "mx.example.org", "host7.example.org"), false},
		{"ends earlier", issued(t, key, 1, now.Add(time.Hour), "mx.example.org", "host7.example.org"), false},
		{"other names", issued(t, key, 1, now.Add(91*24*time.Hour), "mx.example.org"), false},
		{"self-signed", named(t, key, 1, "mx.example.org", "host7.example.org"), false},
	} {
		for layout, target := range map[string]deploy.Target{"pair": pair(t.TempDir()), "combined": combined(t.TempDir()), "directory": generation(t.TempDir()), "map": sni(t.TempDir(), "mx")} {
			if err := plan(t, tt.live, target).Apply(keepNothing); err != nil {
				t.Fatal(err)
			}
			err := plan(t, next, target).Summary().Shortens(now)
			if (err != nil) != tt.want {
				t.Errorf("%s, %s: %v", tt.what, layout, err)
			}
			if tt.want {
				refused(t, err, target.Places(next)[0], "longer-lived", `serial 01, from "Some CA"`, "--shorter")
			}
			if err := plan(t, tt.live, target).Summary().Shortens(now); err != nil {
				t.Errorf("%s, %s: nothing changes, and: %v", tt.what, layout, err)
			}
		}
	}
	if err := plan(t, next, pair(t.TempDir())).Summary().Shortens(now); err != nil {
		t.Errorf("nothing was there: %v", err)
	}
}
