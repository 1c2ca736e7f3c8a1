package seal

import (
	"bytes"
	"crypto/rand"
	"crypto/sha512"
	"math/big"
	"slices"
	"testing"

	"filippo.io/edwards25519"
)

// The specification once more, with big integers and affine formulas, from its text alone (sections 2.1 to 2.5 and 4.4; RFC 8032 section 5.1
// has the curve): slow, and nothing in common with the code under test but SHA-512.
var (
	specP = number("57896044618658097711785492504343953926634992332820282019728792003956564819949") // 2^255 - 19
	specQ = number("7237005577332262213973186563042994240857116359379907606001950938285454250989")  // order of the base point
	specD = number("37095705934669439343138083508754565189542113879843219016388785533085940283555") // -121665/121666
	specB = specPoint{
		number("15112221349535400772501151409588531511454012693041857206046113283949847762202"),
		number("46316835694926478169428394003475163141307993866256225615783033603165251855960"),
	}
)

type specPoint struct{ x, y *big.Int }

func number(text string) *big.Int {
	n, _ := new(big.Int).SetString(text, 10)
	return n
}

func modP(n *big.Int) *big.Int { return n.Mod(n, specP) }

func times(a, b *big.Int) *big.Int { return modP(new(big.Int).Mul(a, b)) }

// plus is the addition of RFC 8032 section 5.1.4, in affine coordinates.
func (a specPoint) plus(b specPoint) specPoint {
	one := big.NewInt(1)
	k := times(times(specD, times(a.x, b.x)), times(a.y, b.y))
	x := modP(new(big.Int).Add(times(a.x, b.y), times(b.x, a.y)))
	y := modP(new(big.Int).Add(times(a.y, b.y), times(a.x, b.x)))
	return specPoint{
		times(x, new(big.Int).ModInverse(modP(new(big.Int).Add(one, k)), specP)),
		times(y, new(big.Int).ModInverse(modP(new(big.Int).Sub(one, k)), specP)),
	}
}

func (a specPoint) multiple(n *big.Int) specPoint {
	sum := specPoint{big.NewInt(0), big.NewInt(1)}
	for i := n.BitLen() - 1; i >= 0; i-- {
		sum = sum.plus(sum)
		if n.Bit(i) == 1 {
			sum = sum.plus(a)
		}
	}
	return sum
}

func little(n *big.Int) []byte {
	b := n.FillBytes(make([]byte, 32))
	slices.Reverse(b)
	return b
}

func (a specPoint) encode() []byte {
	b := little(a.y)
	b[31] |= byte(a.x.Bit(0)) << 7
	return b
}

func specHash(parts ...[]byte) *big.Int {
	sum := sha512.Sum512(bytes.Join(parts, nil))
	b := sum[:]
	slices.Reverse(b)
	return new(big.Int).Mod(new(big.Int).SetBytes(b), specQ)
}

// specSign is xeddsa_sign(k, M, Z).
func specSign(private, text, z []byte) (signature, u []byte) {
	clamped := bytes.Clone(private)
	clamped[0] &= 248
	clamped[31] = clamped[31]&127 | 64
	slices.Reverse(clamped)
	k := new(big.Int).SetBytes(clamped)
	e := specB.multiple(k)
	a := new(big.Int).Mod(k, specQ)
	if e.x.Bit(0) == 1 {
		a = a.Mod(new(big.Int).Neg(k), specQ)
	}
	public := little(e.y) // its sign bit is 0
	prefix := little(new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(2)))
	r := specHash(prefix, little(a), text, z)
	commitment := specB.multiple(r).encode()
	h := specHash(commitment, public, text)
	s := new(big.Int).Mod(new(big.Int).Add(r, new(big.Int).Mul(h, a)), specQ)
	one := big.NewInt(1) // u = (1 + y) / (1 - y), RFC 7748 section 4.1
	u = little(times(new(big.Int).Add(one, e.y), new(big.Int).ModInverse(modP(new(big.Int).Sub(one, e.y)), specP)))
	return append(commitment, little(s)...), u
}

func TestSignaturesAreThoseOfTheSpecification(t *testing.T) {
	for i := range 12 {
		private, z, text := make([]byte, 32), [64]byte{}, make([]byte, 17*i)
		_, _ = rand.Read(private)
		_, _ = rand.Read(z[:])
		_, _ = rand.Read(text)
		scalar, err := edwards25519.NewScalar().SetBytesWithClamping(private)
		if err != nil {
			t.Fatal(err)
		}
		want, u := specSign(private, text, z[:])
		if got := xeddsa(scalar, text, z); !bytes.Equal(got, want) {
			t.Fatalf("key %x, text %x, nonce %x:\n got %x\nwant %x", private, text, z, got, want)
		}
		if got := new(edwards25519.Point).ScalarBaseMult(scalar).BytesMontgomery(); !bytes.Equal(got, u) {
			t.Fatalf("key %x: the public key is %x, want %x", private, got, u)
		}
		if _, err := edwards(u); err != nil {
			t.Fatalf("the public key %x: %v", u, err)
		}
	}
}
