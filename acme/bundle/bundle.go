// Package bundle holds the value that flows through mxcert: a certificate chain and its private key that provably belong
// together.
//
// A Bundle is made only by [Parse] and [New], which read the PEM blocks strictly and prove that the key matches the
// leaf, so that no later step has to ask. [Bundle.Check] compares it with what was wanted before it is stored or
// deployed: names (RFC 9525: SAN only), validity, order and completeness of the chain (RFC 8446 section 4.4.2),
// extended key usage, root. Raw keys are marshalled as PKCS #8 (RFC 5958), certificates as RFC 7468 text.
//
// Not supported: revocation status, certificate transparency, name constraints beyond what crypto/x509 checks.
package bundle

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"slices"
	"time"
)

// Limits on what is accepted from a CA or a file. A chain of ten certificates is already absurd; senders cap the
// handshake at 64 KiB or less.
const (
	maxCertificates = 10
	maxChainBytes   = 128 << 10
	maxKeyBytes     = 32 << 10
)

// Bundle is a leaf certificate, the chain that was delivered with it, and the private key of the leaf. It is
// immutable.
type Bundle struct {
	keyType KeyType
	chain   []*x509.Certificate
	key     crypto.Signer
	keyPEM  []byte
	fullPEM []byte // of the chain: every pass compares it with files
}

// Parse reads a full chain (leaf first, PEM) and a private key (PEM: PKCS #8, PKCS #1 or SEC 1) and proves that they
// belong together. The error is a *Fault that names what is wrong: "malformed", "foreign-block", "too-many",
// "wrong-key".
func Parse(fullchainPEM, keyPEM []byte) (*Bundle, error) {
	chain, err := ParseChain(fullchainPEM)
	if err != nil {
		return nil, err
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		return nil, err
	}
	return assemble(chain, key)
}

// New joins the chain that a CA delivered (PEM, leaf first) with the key of the request. Errors as for [Parse].
func New(fullchainPEM []byte, key crypto.Signer) (*Bundle, error) {
	chain, err := ParseChain(fullchainPEM)
	if err != nil {
		return nil, err
	}
	return assemble(chain, key)
}

func assemble(chain []*x509.Certificate, key crypto.Signer) (*Bundle, error) {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(chain[0].PublicKey) {
		return nil, fault("wrong-key", "the private key does not belong to the certificate with serial %s", SerialOf(chain[0]))
	}
	keyType, err := TypeOf(key.Public())
	if err != nil {
		return nil, err
	}
	keyPEM, err := MarshalKey(key)
	if err != nil {
		return nil, err
	}
	return &Bundle{keyType: keyType, chain: chain, key: key, keyPEM: keyPEM, fullPEM: encode(chain)}, nil
}

// ParseChain reads PEM text that must consist of CERTIFICATE blocks only: at least one, at most ten, nothing but
// white space and comments between them. The error is a *Fault.
func ParseChain(text []byte) ([]*x509.Certificate, error) {
	if len(text) > maxChainBytes {
		return nil, fault("too-many", "the chain has %d bytes, more than the %d that are accepted", len(text), maxChainBytes)
	}
	var chain []*x509.Certificate
	for rest := text; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fault("foreign-block", "the chain contains a block of type %.40q; only CERTIFICATE belongs there", block.Type)
		}
		if len(chain) == maxCertificates {
			return nil, fault("too-many", "the chain has more than %d certificates", maxCertificates)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fault("malformed", "certificate %d of the chain cannot be read: %.200v", len(chain)+1, err)
		}
		chain = append(chain, certificate)
	}
	if len(chain) == 0 {
		return nil, fault("malformed", "the chain contains no PEM certificate")
	}
	// pem.Decode skips a damaged block: count the markers, so that a block is never dropped silently.
	if n := bytes.Count(text, []byte("-----BEGIN ")); n != len(chain) {
		return nil, fault("malformed", "the chain has %d PEM blocks but only %d can be read", n, len(chain))
	}
	return chain, nil
}

// KeyType is the kind of the private key.
func (b *Bundle) KeyType() KeyType { return b.keyType }

// Key is the private key.
func (b *Bundle) Key() crypto.Signer { return b.key }

// Leaf is the server's own certificate.
func (b *Bundle) Leaf() *x509.Certificate { return b.chain[0] }

// Chain is the leaf and its issuers in the order delivered.
func (b *Bundle) Chain() []*x509.Certificate { return append([]*x509.Certificate(nil), b.chain...) }

// NotAfter is the end of the leaf's validity.
func (b *Bundle) NotAfter() time.Time { return b.chain[0].NotAfter }

// Serial is the leaf's serial number in lower-case hexadecimal, whole bytes, as OpenSSL prints it but for the case.
func (b *Bundle) Serial() string { return SerialOf(b.chain[0]) }

// SPKI names the leaf's key: see [SPKIOf].
func (b *Bundle) SPKI() string { return SPKIOf(b.chain[0].RawSubjectPublicKeyInfo) }

// SPKIOf returns the SHA-256 of a SubjectPublicKeyInfo (DER) in lower-case hexadecimal: the data of a TLSA 3 1 1 record
// (RFC 6698 section 2.1).
func SPKIOf(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// Same reports whether both bundles carry the same leaf and the same chain.
func (b *Bundle) Same(other *Bundle) bool {
	return other != nil && bytes.Equal(b.fullPEM, other.fullPEM)
}

// KeyPEM is the private key as a PKCS #8 block.
func (b *Bundle) KeyPEM() []byte { return bytes.Clone(b.keyPEM) }

// LeafPEM is the leaf alone.
func (b *Bundle) LeafPEM() []byte { return encode(b.chain[:1]) }

// ChainPEM is everything but the leaf; empty if the CA delivered only the leaf.
func (b *Bundle) ChainPEM() []byte { return encode(b.chain[1:]) }

// FullchainPEM is the leaf and its issuers: what a server sends.
func (b *Bundle) FullchainPEM() []byte { return bytes.Clone(b.fullPEM) }

// CombinedPEM is the key followed by the full chain, for servers that read one file.
func (b *Bundle) CombinedPEM() []byte { return slices.Concat(b.keyPEM, b.fullPEM) }

// SerialOf returns a certificate's serial number as [Bundle.Serial] does.
func SerialOf(c *x509.Certificate) string {
	if c.SerialNumber.Sign() == 0 {
		return "00"
	}
	return hex.EncodeToString(c.SerialNumber.Bytes())
}

func encode(chain []*x509.Certificate) []byte {
	var text bytes.Buffer
	for _, c := range chain {
		// Writing to a bytes.Buffer cannot fail.
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return text.Bytes()
}
