// Package cttest is a CA, a log of certificate transparency and the services that have indexed it, for tests. The services are strict: they
// refuse what their documentation does not have.
package cttest

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math/big"
	"sync"
	"testing"
	"time"

	"mxcert/acme/ct/sct"
)

// Key makes a key.
func Key(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// CA issues certificates, which it logs.
type CA struct {
	Certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// NewCA makes a CA with that common name.
func NewCA(t testing.TB, name string) *CA {
	t.Helper()
	ca := &CA{key: Key(t)}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name, Organization: []string{"Test"}}, NotBefore: time.Now().Add(-24 * time.Hour),
		NotAfter: time.Now().Add(10 * 365 * 24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	ca.Certificate = ca.sign(t, template, template, ca.key.Public())
	return ca
}

func (ca *CA) sign(t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Template returns a certificate for names that is valid until a time.
func Template(t testing.TB, until time.Time, names ...string) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		t.Fatal(err)
	}
	return &x509.Certificate{SerialNumber: serial.SetBit(serial, 126, 1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
}

var (
	idList   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2} //nolint:gochecknoglobals // a constant
	idPoison = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 3} //nolint:gochecknoglobals // a constant
)

// Issue makes a pre-certificate, has it signed by logs, and makes the certificate with their SCTs, as a CA does (RFC 6962 section 3.1).
func (ca *CA) Issue(t testing.TB, template *x509.Certificate, public crypto.PublicKey, logs ...*Log) (certificate, precertificate *x509.Certificate) {
	t.Helper()
	pre := *template
	pre.ExtraExtensions = append(pre.ExtraExtensions[:len(pre.ExtraExtensions):len(pre.ExtraExtensions)], pkix.Extension{Id: idPoison, Critical: true, Value: asn1.NullBytes})
	precertificate = ca.sign(t, &pre, ca.Certificate, public)
	var scts [][]byte
	for _, log := range logs {
		scts = append(scts, log.Sign(t, precertificate, ca.Certificate, time.Now().Add(-time.Minute)))
	}
	return ca.Embed(t, template, public, List(scts...)), precertificate
}

// Embed makes a certificate with a list of SCTs; none without one.
func (ca *CA) Embed(t testing.TB, template *x509.Certificate, public crypto.PublicKey, list []byte) *x509.Certificate {
	t.Helper()
	final := *template
	if list != nil {
		value, err := asn1.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		final.ExtraExtensions = append(final.ExtraExtensions[:len(final.ExtraExtensions):len(final.ExtraExtensions)], pkix.Extension{Id: idList, Value: value})
	}
	return ca.sign(t, &final, ca.Certificate, public)
}

// List encodes SCTs as a list (RFC 6962 section 3.3); nil without any.
func List(scts ...[]byte) []byte {
	var body []byte
	for _, one := range scts {
		body = append(binary.BigEndian.AppendUint16(body, uint16(len(one))), one...) //nolint:gosec // short
	}
	if body == nil {
		return nil
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(body))), body...) //nolint:gosec // short
}

// Log is a log that signs, and can be served.
type Log struct {
	Name string
	key  *ecdsa.PrivateKey

	mu      sync.Mutex
	entries []entry
}

// NewLog makes a log.
func NewLog(t testing.TB, name string) *Log { return &Log{Name: name, key: Key(t)} }

// SPKI returns the log's public key in DER.
func (l *Log) SPKI(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(l.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Sign returns an SCT for a pre-certificate or certificate.
func (l *Log) Sign(t testing.TB, c, issuer *x509.Certificate, at time.Time) []byte {
	t.Helper()
	tbs, err := sct.TBS(c)
	if err != nil {
		t.Fatal(err)
	}
	id, key := sha256.Sum256(l.SPKI(t)), sha256.Sum256(issuer.RawSubjectPublicKeyInfo)
	stamp := binary.BigEndian.AppendUint64(nil, uint64(at.UnixMilli())) //nolint:gosec // after 1970
	signed := append([]byte{0, 0}, stamp...)
	signed = append(append(signed, 0, 1), key[:]...)
	signed = append(signed, byte(len(tbs)>>16), byte(len(tbs)>>8), byte(len(tbs)))
	signed = append(append(signed, tbs...), 0, 0)
	sum := sha256.Sum256(signed)
	signature, err := ecdsa.SignASN1(rand.Reader, l.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	out := append(append([]byte{0}, id[:]...), stamp...)
	out = append(out, 0, 0, 4, 3)
	return append(binary.BigEndian.AppendUint16(out, uint16(len(signature))), signature...) //nolint:gosec // short
}

// Listed is how a log stands in a log list. The zero value is a usable log for all certificates.
type Listed struct {
	*Log
	State      string
	Since      time.Time
	Start, End time.Time
	Tiled      bool
	URL        string // where it is; "" is an address at which nothing is
}

// LogList returns a log list in JSON, version 3.
func LogList(t testing.TB, logs ...Listed) []byte {
	t.Helper()
	kinds := map[string][]map[string]any{"logs": {}, "tiled_logs": {}}
	for _, l := range logs {
		der := l.SPKI(t)
		id := sha256.Sum256(der)
		state := l.State
		if state == "" {
			state = "usable"
		}
		entry := map[string]any{"description": l.Name, "log_id": base64.StdEncoding.EncodeToString(id[:]), "key": base64.StdEncoding.EncodeToString(der), "mmd": 86400,
			"state": map[string]any{state: map[string]any{"timestamp": l.Since.UTC().Format(time.RFC3339)}}}
		if !l.End.IsZero() {
			entry["temporal_interval"] = map[string]any{"start_inclusive": l.Start.UTC().Format(time.RFC3339), "end_exclusive": l.End.UTC().Format(time.RFC3339)}
		}
		address := cmp.Or(l.URL, "https://log.example/")
		kind := "logs"
		if entry["url"] = address; l.Tiled {
			kind = "tiled_logs"
			delete(entry, "url")
			entry["submission_url"], entry["monitoring_url"] = address, address
		}
		kinds[kind] = append(kinds[kind], entry)
	}
	text, err := json.Marshal(map[string]any{"version": "50.1", "operators": []any{map[string]any{"name": "Operator", "email": []string{}, "logs": kinds["logs"], "tiled_logs": kinds["tiled_logs"]}}})
	if err != nil {
		t.Fatal(err)
	}
	return text
}
