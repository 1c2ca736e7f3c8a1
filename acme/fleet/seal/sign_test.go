package seal

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"testing"

	"filippo.io/age"
	"filippo.io/edwards25519"
)

// newIdentity returns a fresh identity, as age-keygen makes it.
func newIdentity(t testing.TB) *Identity {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	identity, err := ParseIdentity("# created: 2026-01-02T03:04:05Z\n# public key: " + key.Recipient().String() + "\n" + key.String() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(identity.Recipient()), key.Recipient().String(); got != want {
		t.Fatalf("the recipient is %s, age says %s", got, want)
	}
	return identity
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// The vector of Signal's libraries (test_curve25519_signature of libsignal-protocol-c), which puts the sign bit of the Edwards key into the
// signature. It proves that a Montgomery key becomes the Edwards key that others make of it.
func TestTheVectorOfSignalIsVerified(t *testing.T) {
	private := unhex(t, "c097248412e58bf05df487968205132794178e367637f5818f81e0e6ce73e865")
	public := unhex(t, "ab7e717d4a163b7d9a1d8071dfe9dcf8cdcd1cea3339b6356be84d887e322c64")
	text := unhex(t, "05edce9d9c415ca78cb7252e72c2c4a554d3eb29485a0e1d503118d1a82d99fb4a")
	signature := unhex(t, "5de88ca9a89b4a115da79109c67c9c7464a3e4180274f1cb8c63c2984e286dfb"+
		"ede82deb9dcd9fae0bfbb821569b3d9001bd8130cd11d486cef047bd60b86e88")
	scalar, err := edwards25519.NewScalar().SetBytesWithClamping(private)
	if err != nil {
		t.Fatal(err)
	}
	if got := new(edwards25519.Point).ScalarBaseMult(scalar).BytesMontgomery(); !bytes.Equal(got, public) {
		t.Fatalf("the public key is %x, want %x", got, public)
	}
	p, err := edwards(public)
	if err != nil {
		t.Fatal(err)
	}
	key := p.Bytes()
	key[31] |= signature[63] & 0x80
	signature[63] &= 0x7f
	if !ed25519.Verify(key, text, signature) {
		t.Error("the signature does not verify")
	}
	text[0] ^= 1
	if ed25519.Verify(key, text, signature) {
		t.Error("the signature verifies for another text")
	}
}

func TestSignaturesAreOfOneTextPurposeAndHost(t *testing.T) {
	one, other := newIdentity(t), newIdentity(t)
	text := []byte("a text")
	signature := one.Sign("purpose", text)
	if !one.Recipient().Verify("purpose", text, signature) {
		t.Fatal("a signature does not verify")
	}
	for name, accepted := range map[string]bool{
		"another purpose":          one.Recipient().Verify("purposes", text, signature),
		"a moved border":           one.Recipient().Verify("purposea", text[1:], signature),
		"another text":             one.Recipient().Verify("purpose", []byte("a texts"), signature),
		"another host":             other.Recipient().Verify("purpose", text, signature),
		"no signature":             one.Recipient().Verify("purpose", text, nil),
		"a short one":              one.Recipient().Verify("purpose", text, signature[:63]),
		"a long one":               one.Recipient().Verify("purpose", text, append(bytes.Clone(signature), 0)),
		"a recipient that is none": Recipient("age1").Verify("purpose", text, signature),
	} {
		if accepted {
			t.Errorf("accepted: %s", name)
		}
	}
	if bytes.Equal(one.Sign("purpose", text), signature) {
		t.Error("two signatures are the same: the nonce is not random")
	}
}

func TestEveryFlippedBitIsNoticed(t *testing.T) {
	text := []byte("generation 7")
	for range 4 {
		identity := newIdentity(t)
		signature := identity.Sign("p", text)
		for bit := range len(signature) * 8 {
			signature[bit/8] ^= 1 << (bit % 8)
			if identity.Recipient().Verify("p", text, signature) {
				t.Errorf("bit %d of the signature may be flipped", bit)
			}
			signature[bit/8] ^= 1 << (bit % 8)
		}
		for bit := range len(text) * 8 {
			text[bit/8] ^= 1 << (bit % 8)
			if identity.Recipient().Verify("p", text, signature) {
				t.Errorf("bit %d of the text may be flipped", bit)
			}
			text[bit/8] ^= 1 << (bit % 8)
		}
	}
}

// What Sign makes is an Ed25519 signature for the standard library, with keys of both signs.
func TestTheStandardLibraryAccepts(t *testing.T) {
	signs := [2]int{}
	for i := range uint64(200) {
		identity := newIdentity(t)
		signs[new(edwards25519.Point).ScalarBaseMult(identity.secrets().scalar).Bytes()[31]>>7]++
		p, err := point(string(identity.Recipient()))
		if err != nil {
			t.Fatal(err)
		}
		text := binary.BigEndian.AppendUint64(nil, i)
		if !ed25519.Verify(p.Bytes(), message("p", text), identity.Sign("p", text)) {
			t.Fatalf("signature %d is refused", i)
		}
	}
	if signs[0] == 0 || signs[1] == 0 {
		t.Errorf("the keys had the signs %v: both must be tried", signs)
	}
}

// s + l verifies by the equation, and is another signature of the same text: it is refused.
func TestASignatureHasOneForm(t *testing.T) {
	identity := newIdentity(t)
	signature := identity.Sign("p", nil)
	order := unhex(t, "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
	carry := 0
	for i := range 32 {
		sum := int(signature[32+i]) + int(order[i]) + carry
		signature[32+i], carry = byte(sum), sum>>8
	}
	if identity.Recipient().Verify("p", nil, signature) {
		t.Error("a second form of a signature is accepted")
	}
}

func BenchmarkVerify(b *testing.B) {
	identity := newIdentity(b)
	text := make([]byte, 8<<10)
	_, _ = rand.Read(text)
	signature := identity.Sign("p", text)
	for b.Loop() {
		if !identity.Recipient().Verify("p", text, signature) {
			b.Fatal("refused")
		}
	}
}
