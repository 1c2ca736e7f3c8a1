package bundle_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"mxcert/acme/bundle"
)

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestParseKeyFormats(t *testing.T) {
	ec, rsaKey := newKey(t), must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
	bytesOf := must[[]byte](t)
	parameters := "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
	for name, tt := range map[string]struct {
		text string
		want crypto.Signer
	}{
		"PKCS #8, ECDSA":         {block("PRIVATE KEY", bytesOf(x509.MarshalPKCS8PrivateKey(ec))), ec},
		"PKCS #8, RSA":           {block("PRIVATE KEY", bytesOf(x509.MarshalPKCS8PrivateKey(rsaKey))), rsaKey},
		"PKCS #1":                {block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)), rsaKey},
		"SEC 1":                  {block("EC PRIVATE KEY", bytesOf(x509.MarshalECPrivateKey(ec))), ec},
		"SEC 1 after parameters": {parameters + block("EC PRIVATE KEY", bytesOf(x509.MarshalECPrivateKey(ec))), ec},
		"text around it":         {"Bag Attributes\n" + block("PRIVATE KEY", bytesOf(x509.MarshalPKCS8PrivateKey(ec))) + "\n\n", ec},
	} {
		key, err := bundle.ParseKey([]byte(tt.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if equal, ok := key.(interface{ Equal(crypto.PrivateKey) bool }); !ok || !equal.Equal(tt.want) {
			t.Errorf("%s: another key came out", name)
		}
	}
}

func TestParseKeyRefuses(t *testing.T) {
	ec := must[[]byte](t)(x509.MarshalPKCS8PrivateKey(newKey(t)))
	good := block("PRIVATE KEY", ec)
	secret := good[40:80]
	for name, text := range map[string]string{
		"nothing":                  "",
		"no PEM":                   "not a key",
		"a certificate":            block("CERTIFICATE", ec),
		"an encrypted key":         block("ENCRYPTED PRIVATE KEY", ec),
		"a public key":             block("PUBLIC KEY", ec),
		"parameters alone":         "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n",
		"two keys":                 good + good,
		"a damaged key and a good": good[:100] + "\n" + good,
		"a good and a damaged key": good + good[:100],
		"truncated":                good[:len(good)-30],
		"damaged DER":              block("PRIVATE KEY", ec[:len(ec)-3]),
		"the wrong label":          block("RSA PRIVATE KEY", ec),
		"40 KB":                    good + strings.Repeat(" ", 40<<10),
	} {
		_, err := bundle.ParseKey([]byte(text))
		f, ok := errors.AsType[*bundle.Fault](err)
		if !ok || f.ID != "malformed" {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(f.Error(), secret) {
			t.Errorf("%s: the error shows key material", name)
		}
	}
}

func TestKeyTypes(t *testing.T) {
	for keyType, isECDSA := range map[bundle.KeyType]bool{bundle.EC256: true, bundle.EC384: true, bundle.RSA2048: false, bundle.RSA3072: false, bundle.RSA4096: false} {
		t.Run(string(keyType), func(t *testing.T) {
			t.Parallel()
			key, err := keyType.Generate()
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := bundle.ParseKey(keyPEM(t, key))
			if err != nil {
				t.Fatal(err)
			}
			got, err := bundle.TypeOf(parsed.Public())
			if err != nil || got != keyType || keyType.ECDSA() != isECDSA {
				t.Errorf("type %s, %v", got, err)
			}
			ca := newAuthority(t, "our", nil)
			b, err := bundle.New(chainPEM(ca.leaf(t, key.Public(), nil), ca.intermediate), parsed)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.Check(bundle.Want{Names: []string{name}, KeyType: keyType, Roots: ca.roots(), At: now}); err != nil || b.KeyType() != keyType {
				t.Errorf("%s: %v", b.KeyType(), err)
			}
		})
	}
	if _, err := bundle.KeyType("ec521").Generate(); err == nil || !strings.Contains(err.Error(), `"ec521"`) {
		t.Errorf("an unknown type: %v", err)
	}
}

func TestOtherKeysAreRefused(t *testing.T) {
	p521 := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	odd := must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 1536))
	ca := newAuthority(t, "our", nil)
	for name, key := range map[string]crypto.Signer{"P-521": p521, "Ed25519": ed, "RSA 1536": odd} {
		_, err := bundle.Parse(chainPEM(ca.leaf(t, key.Public(), nil), ca.intermediate), keyPEM(t, key))
		if f, ok := errors.AsType[*bundle.Fault](err); !ok || f.ID != "key-type" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
