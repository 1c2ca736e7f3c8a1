package bundle

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// KeyType names a kind of private key as the configuration does.
type KeyType string

// The key types that public CAs certify and mail servers load.
const (
	EC256   KeyType = "ec256"   // ECDSA on P-256, the default
	EC384   KeyType = "ec384"   // ECDSA on P-384
	RSA2048 KeyType = "rsa2048" // RSA, 2048 bits
	RSA3072 KeyType = "rsa3072" // RSA, 3072 bits
	RSA4096 KeyType = "rsa4096" // RSA, 4096 bits
)

// ECDSA reports whether a key of this type signs with ECDSA; otherwise it is RSA.
func (t KeyType) ECDSA() bool { return t == EC256 || t == EC384 }

// Generate makes a new key. It fails only for a type that is not one of the constants.
func (t KeyType) Generate() (crypto.Signer, error) {
	switch t {
	case EC256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case EC384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	}
	return nil, fmt.Errorf("key type %q is unknown", string(t))
}

// TypeOf returns the type of a public key. Other curves and RSA sizes are a *Fault "key-type".
func TypeOf(public crypto.PublicKey) (KeyType, error) {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return EC256, nil
		case elliptic.P384():
			return EC384, nil
		}
	case *rsa.PublicKey:
		switch key.N.BitLen() {
		case 2048:
			return RSA2048, nil
		case 3072:
			return RSA3072, nil
		case 4096:
			return RSA4096, nil
		}
	}
	return "", fault("key-type", "a key of type %T and this size is none of ec256, ec384, rsa2048, rsa3072, rsa4096", public)
}

// MarshalKey returns the PKCS #8 PEM of a private key.
func MarshalKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// ParseKey reads one private key in PEM (PKCS #8, SEC 1 or PKCS #1; an "EC PARAMETERS" block before it, as OpenSSL
// writes, is skipped). The error is a *Fault "malformed" and never contains key material.
func ParseKey(text []byte) (crypto.Signer, error) {
	if len(text) > maxKeyBytes {
		return nil, fault("malformed", "the private key has %d bytes, more than the %d that are accepted", len(text), maxKeyBytes)
	}
	blocks := 1
	block, rest := pem.Decode(text)
	if block != nil && block.Type == "EC PARAMETERS" {
		blocks = 2
		block, _ = pem.Decode(rest)
	}
	if block == nil {
		return nil, fault("malformed", "there is no PEM private key")
	}
	// pem.Decode skips a damaged block, wherever it is: count the markers.
	if bytes.Count(text, []byte("-----BEGIN ")) > blocks {
		return nil, fault("malformed", "there is more than one PEM block where one private key is expected")
	}
	key, err := parseDER(block)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fault("malformed", "a private key of type %T cannot sign", key)
	}
	return signer, nil
}

func parseDER(block *pem.Block) (key any, err error) {
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, fault("malformed", "a block of type %.40q is not an unencrypted private key", block.Type)
	}
	if err != nil {
		return nil, fault("malformed", "the private key cannot be read; is the file damaged?")
	}
	return key, nil
}
