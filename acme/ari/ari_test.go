package ari

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"testing"
	"time"

	"mxcert/acme/schedule"
)

// FuzzRenewalInfo: a window that is accepted gives an instant in it.
func FuzzRenewalInfo(f *testing.F) {
	for _, body := range []string{
		`{"suggestedWindow":{"start":"2026-12-01T00:00:00Z","end":"2026-12-03T00:00:00.5Z"},"explanationURL":"https://ca.example/why"}`,
		`{"suggestedWindow":{"start":"0001-01-01T00:00:00Z","end":"9999-12-31T23:59:59Z"}}`,
		`{"suggestedWindow":{"start":"2026-12-01T00:00:00.9Z","end":"2026-12-01T00:00:00.95Z"}}`,
		`{"suggestedWindow":null}`, `{"suggestedWindow":{"start":7}}`, "null", "[]", "",
	} {
		f.Add([]byte(body))
	}
	leaf := &x509.Certificate{NotBefore: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2027, 1, 30, 0, 0, 0, 0, time.UTC)}
	f.Fuzz(func(t *testing.T, body []byte) {
		var a answer
		if json.Unmarshal(body, &a) != nil || checkWindow(a.Window.Start, a.Window.End, leaf) != nil {
			return
		}
		if at := schedule.Draw(a.Window.Start, a.Window.End); at.Before(a.Window.Start.Add(-time.Second)) || !at.Before(a.Window.End) {
			t.Errorf("%s is not from %s to %s", at, a.Window.Start, a.Window.End)
		}
	})
}

// The example of RFC 9773 section 4.1.
func TestCertID(t *testing.T) {
	key, err := hex.DecodeString("69885b6b87464041e1b37b847bd0ae2cde01c8d4")
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{AuthorityKeyId: key, SerialNumber: new(big.Int).SetBytes([]byte{0x87, 0x65, 0x43, 0x21})}
	if got, want := CertID(leaf), "aYhba4dGQEHhs3uEe9CuLN4ByNQ.AIdlQyE"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := CertID(&x509.Certificate{SerialNumber: big.NewInt(1)}); got != "" {
		t.Errorf("without an authority key identifier: %q", got)
	}
}
