package judges

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

const day = 24 * time.Hour

// authority is a CA certificate with its key.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// pki holds the authorities of all rows, by the names that rows call them.
type pki struct {
	now         time.Time
	authorities map[string]*authority
	keys        map[string]crypto.Signer // of the expensive kinds; leaves share them
}

// leaf says which certificate a row's server has. The zero value is a good one: ECDSA, for the MX host, of the intermediate.
type leaf struct {
	names   []string      // DNS names; nil: the MX host
	cn      string        // common name; "": none
	key     string        // p256 (default), p384, p521, p224, rsa2048, rsa3072, rsa1024, ed25519
	issuer  string        // authority; "": int
	from    time.Duration // from now; 0: a day ago
	until   time.Duration // from now; 0: in 90 days
	usage   []x509.ExtKeyUsage
	sign    x509.SignatureAlgorithm
	san     []byte // the extension as it is, instead of names
	serial  bool   // a negative serial number
	staple  bool   // must-staple
	selfSig bool   // signed with its own key
}

// trusted lists the anchors of the file that PKIX judges trust.
var trusted = []string{"root", "old-root", "small-root"}

func newPKI(now time.Time) (*pki, error) {
	p := &pki{now: now, authorities: map[string]*authority{}, keys: map[string]crypto.Signer{}}
	for _, a := range []struct {
		name, issuer string
		change       func(*x509.Certificate)
	}{
		{"root", "", nil},
		{"int", "root", nil},
		{"stranger", "", nil}, // nobody trusts it
		{"stranger-int", "stranger", nil},
		{"old-root", "", func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(-900*day), now.Add(-30*day) }},
		{"old-root-int", "old-root", nil},
		{"stale-anchor", "", func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(-900*day), now.Add(-30*day) }}, // not trusted
		{"stale-anchor-int", "stale-anchor", nil},
		{"expired-int", "root", func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(-90*day), now.Add(-2*day) }},
		{"brief-int", "root", func(c *x509.Certificate) { c.NotAfter = now.Add(5 * day) }},
		{"no-ca", "root", func(c *x509.Certificate) { c.IsCA = false }},
		{"narrow", "root", func(c *x509.Certificate) { c.MaxPathLenZero = true }}, // path length 0
		{"below-narrow", "narrow", nil},
		{"constrained", "root", func(c *x509.Certificate) {
			c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"elsewhere.example"}
		}},
		{"client-int", "root", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }},
		{"deep-1", "int", nil},
		{"deep-2", "deep-1", nil},
		{"small-root", "", nil},
	} {
		if err := p.addAuthority(a.name, a.issuer, a.change); err != nil {
			return nil, fmt.Errorf("authority %s: %w", a.name, err)
		}
	}
	return p, p.addCross()
}

func (p *pki) addAuthority(name, issuer string, change func(*x509.Certificate)) error {
	key, err := p.newKey(map[bool]string{true: "rsa1024", false: "p256"}[name == "small-root"])
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serialNumber(), Subject: pkix.Name{CommonName: "Judges " + name}, BasicConstraintsValid: true, IsCA: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: p.now.Add(-1000 * day), NotAfter: p.now.Add(2000 * day),
	}
	if change != nil {
		change(template)
	}
	parent := &authority{template, key}
	if issuer != "" {
		parent = p.authorities[issuer]
	}
	cert, err := createCertificate(template, parent, key.Public())
	p.authorities[name] = &authority{cert, key}
	return err
}

// addCross certifies the intermediate's name and key by the stranger, too.
func (p *pki) addCross() error {
	of := p.authorities["int"]
	template := *of.cert
	template.SerialNumber = serialNumber()
	cert, err := createCertificate(&template, p.authorities["stranger"], of.key.Public())
	p.authorities["cross"] = &authority{cert, of.key}
	return err
}

func createCertificate(template *x509.Certificate, parent *authority, public crypto.PublicKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, public, parent.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func serialNumber() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	b[0] = b[0]&0x3f | 0x40
	return new(big.Int).SetBytes(b)
}

func (p *pki) newKey(kind string) (crypto.Signer, error) {
	curves := map[string]elliptic.Curve{"": elliptic.P256(), "p256": elliptic.P256(), "p224": elliptic.P224(), "p384": elliptic.P384(), "p521": elliptic.P521()}
	if curve := curves[kind]; curve != nil {
		return ecdsa.GenerateKey(curve, rand.Reader)
	}
	if kind == "ed25519" {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	var bits int
	if _, err := fmt.Sscanf(kind, "rsa%d", &bits); err != nil {
		return nil, fmt.Errorf("no such key: %q", kind)
	}
	if p.keys[kind] == nil {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			return nil, err
		}
		p.keys[kind] = key
	}
	return p.keys[kind], nil
}

// issued is a leaf with its key: DER, because some are not what crypto/x509 reads.
type issued struct {
	der []byte
	key crypto.Signer
}

// issue makes the leaf of a host.
func (p *pki) issue(l leaf, host string) (issued, error) {
	key, err := p.newKey(l.key)
	if err != nil {
		return issued{}, err
	}
	parent := p.authorities[or(l.issuer, "int")]
	if parent == nil {
		return issued{}, fmt.Errorf("no such authority: %q", l.issuer)
	}
	template := p.template(l, host)
	if l.selfSig {
		parent = &authority{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, key.Public(), parent.key)
	if err == nil && l.serial {
		der, err = negateSerial(der, template.SerialNumber, parent.key)
	}
	return issued{der, key}, err
}

func (p *pki) template(l leaf, host string) *x509.Certificate {
	c := &x509.Certificate{
		SerialNumber: serialNumber(), Subject: pkix.Name{CommonName: l.cn, Organization: []string{"Judges"}}, DNSNames: l.names, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: l.usage, SignatureAlgorithm: l.sign,
		NotBefore: p.now.Add(-day), NotAfter: p.now.Add(90 * day),
	}
	if l.names == nil {
		c.DNSNames = []string{host}
	}
	if l.usage == nil {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	if l.from != 0 {
		c.NotBefore = p.now.Add(l.from)
	}
	if l.until != 0 {
		c.NotAfter = p.now.Add(l.until)
	}
	if l.until < 0 {
		c.NotBefore = p.now.Add(l.until - 90*day)
	}
	if l.san != nil {
		c.DNSNames = nil
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: l.san})
	}
	if l.staple { // RFC 7633
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5}})
	}
	return c
}

// negateSerial sets the sign of the serial number, which CreateCertificate refuses to do, and signs again. The authority's key is ECDSA.
func negateSerial(der []byte, serial *big.Int, key crypto.Signer) ([]byte, error) {
	var c struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &c); err != nil {
		return nil, err
	}
	tbs := slices.Clone(c.TBS.FullBytes)
	at := bytes.Index(tbs, serial.Bytes())
	tbs[at] |= 0x80
	hash := sha256.Sum256(tbs)
	signature, err := key.Sign(rand.Reader, hash[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	c.TBS, c.Signature = asn1.RawValue{FullBytes: tbs}, asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	return asn1.Marshal(c)
}

// rawSAN is a subjectAltName extension with one DNS name as it is given, in whatever encoding.
func rawSAN(name string) []byte {
	b, _ := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte(name)}})
	return b
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func keyPEM(key crypto.Signer) (string, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return pemOf("PRIVATE KEY", der), err
}

// anchors is the file of those that PKIX judges trust.
func (p *pki) anchors() string {
	var b strings.Builder
	for _, name := range trusted {
		b.WriteString(pemOf("CERTIFICATE", p.authorities[name].cert.Raw))
	}
	return b.String()
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
