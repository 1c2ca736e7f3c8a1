package seal

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"encoding/binary"

	"filippo.io/edwards25519"
)

// Sign signs a text for a purpose, such as "mxcert bundle v1": a signature for one purpose does not count for another.
func (i *Identity) Sign(purpose string, text []byte) []byte {
	var nonce [64]byte
	_, _ = rand.Read(nonce[:]) // never fails: the program ends if there is no randomness
	return xeddsa(i.secrets().scalar, message(purpose, text), nonce)
}

// Verify reports whether the holder of a recipient's identity has signed a text for a purpose.
func (r Recipient) Verify(purpose string, text, signature []byte) bool {
	p, err := point(string(r))
	if err != nil {
		return false
	}
	// The standard library refuses what XEdDSA refuses, and an s that is not reduced besides.
	return ed25519.Verify(p.Bytes(), message(purpose, text), signature)
}

// message is what is signed: the purpose with its length, so that no other purpose and text make the same.
func message(purpose string, text []byte) []byte {
	m := append([]byte("mxcert seal v1\x00"), binary.BigEndian.AppendUint32(nil, uint32(len(purpose)))...) //nolint:gosec // a few words
	return append(append(m, purpose...), text...)
}

// xeddsa is xeddsa_sign of the specification (revision 1, 2016-10-20, section 4.4) with the curve X25519. nonce is its Z.
func xeddsa(k *edwards25519.Scalar, text []byte, nonce [64]byte) []byte {
	// calculate_key_pair: the public key has sign bit 0, and the private scalar is that of this point.
	public, a := new(edwards25519.Point).ScalarBaseMult(k), k
	encoded := public.Bytes()
	negative := int(encoded[31] >> 7)
	a = choose(edwards25519.NewScalar().Negate(k), a, negative)
	encoded[31] &= 0x7f

	// hash1 begins with 2^256 - 2, little endian.
	prefix := append([]byte{0xfe}, bytes.Repeat([]byte{0xff}, 31)...)
	r := hash(prefix, a.Bytes(), text, nonce[:])
	commitment := new(edwards25519.Point).ScalarBaseMult(r).Bytes()
	h := hash(commitment, encoded, text)
	return append(commitment, edwards25519.NewScalar().MultiplyAdd(h, a, r).Bytes()...)
}

// choose returns yes if bit is 1, and no if it is 0, in constant time.
func choose(yes, no *edwards25519.Scalar, bit int) *edwards25519.Scalar {
	a, b, mask := yes.Bytes(), no.Bytes(), byte(-bit) //nolint:gosec // 0 or 255
	for i := range a {
		a[i] = a[i]&mask | b[i]&^mask
	}
	chosen, _ := edwards25519.NewScalar().SetCanonicalBytes(a) // one of two that are canonical
	return chosen
}

// hash is SHA-512 of the parts, as a scalar.
func hash(parts ...[]byte) *edwards25519.Scalar {
	h := sha512.New()
	for _, part := range parts {
		h.Write(part)
	}
	s, _ := edwards25519.NewScalar().SetUniformBytes(h.Sum(nil)) // has the right length
	return s
}
