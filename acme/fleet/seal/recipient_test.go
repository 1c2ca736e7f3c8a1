package seal

import (
	"bytes"
	"math/big"
	"strings"
	"testing"

	"filippo.io/edwards25519"
)

// encode makes the recipient of 32 bytes, whatever they are.
func encode(u []byte) string {
	var groups []byte
	var have, bits uint
	for _, b := range u {
		have, bits = have<<8|uint(b), bits+8
		for bits >= 5 {
			bits -= 5
			groups = append(groups, byte(have>>bits)&31)
		}
	}
	if bits > 0 {
		groups = append(groups, byte(have<<(5-bits))&31)
	}
	sum := checksum("age", append(groups, make([]byte, 6)...)) ^ 1
	for i := range 6 {
		groups = append(groups, byte(sum>>(5*(5-i)))&31)
	}
	text := "age1"
	for _, group := range groups {
		text += string(alphabet[group])
	}
	return text
}

func TestTheRecipientOfAgeIsRead(t *testing.T) {
	identity := newIdentity(t)
	text := string(identity.Recipient())
	if got, err := ParseRecipient(text); err != nil || got != identity.Recipient() {
		t.Errorf("got %q, %v", got, err)
	}
	prefix, groups, _ := split(text)
	u, err := decode(prefix, groups)
	if err != nil || encode(u) != text {
		t.Errorf("the test's encoding is %q, want %q", encode(u), text)
	}
}

// u plus n in the field, as little-endian bytes, plus times p without reducing.
func montgomery(n int64, p int64) []byte {
	v := new(big.Int).Add(modP(big.NewInt(n)), new(big.Int).Mul(big.NewInt(p), specP))
	return little(v)
}

func TestPointsThatNobodyHasAreRefused(t *testing.T) {
	order8 := []string{ // of RFC 7748's curve; see https://cr.yp.to/ecdh.html#validate
		"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
		"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
	}
	bad := map[string][]byte{
		"0": montgomery(0, 0), "1": montgomery(1, 0), "-1": montgomery(-1, 0), "p": montgomery(0, 1), "p+1": montgomery(1, 1),
		"p+9, the base point not reduced": montgomery(9, 1), "2, on the twist": montgomery(2, 0), "2^255-1": bytes.Repeat([]byte{0xff}, 32),
		"order 8": unhex(t, order8[0]), "another of order 8": unhex(t, order8[1]),
	}
	high := montgomery(9, 0)
	high[31] |= 0x80
	bad["9 with the highest bit"] = high
	// A point of prime order plus one of order 4: for some texts, a signature of the one verifies as the other's.
	mixed, err := new(edwards25519.Point).SetBytes(make([]byte, 32)) // y = 0
	if err != nil {
		t.Fatal(err)
	}
	bad["mixed order"] = mixed.Add(mixed, edwards25519.NewGeneratorPoint()).BytesMontgomery()
	for name, u := range bad {
		text := encode(u)
		if _, err := ParseRecipient(text); err == nil || strings.Contains(err.Error(), "typo") {
			t.Errorf("u = %s (%s): the error is %v", name, text, err)
		}
		if Recipient(text).Verify("p", nil, make([]byte, 64)) {
			t.Errorf("u = %s: a signature of zeros verifies", name)
		}
		if _, err := Seal(nil, []Recipient{Recipient(text)}); err == nil {
			t.Errorf("u = %s: a secret was encrypted to it", name)
		}
	}
	for name, want := range map[string]string{"p+9, the base point not reduced": "not reduced", "2, on the twist": "not on the curve", "-1": "small order"} {
		if _, err := ParseRecipient(encode(bad[name])); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("u = %s: the error is %v, want one with %q", name, err, want)
		}
	}
	if _, err := ParseRecipient(encode(montgomery(9, 0))); err != nil {
		t.Errorf("the base point has prime order and is refused: %v", err)
	}
}

func TestATypoInARecipientIsNamed(t *testing.T) {
	right := "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p" // README of age
	if _, err := ParseRecipient(right); err != nil {
		t.Fatal(err)
	}
	for _, place := range []int{4, 20, 40, 61} {
		other := byte('q')
		if right[place] == other {
			other = 'p'
		}
		typo := right[:place] + string(other) + right[place+1:]
		_, err := ParseRecipient(typo)
		want := "character " + big.NewInt(int64(place+1)).String() + " "
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), typo) {
			t.Errorf("a typo in character %d: %v", place+1, err)
		}
	}
	for text, want := range map[string]string{
		"":                            "empty",
		right[:61]:                    "length",
		right + "q":                   "length",
		right[:30] + "b" + right[31:]: "character 31 ",
		right[:20] + right[21:22] + right[20:21] + right[22:]: "checksum",
		strings.ToUpper(right):                                "upper case",
		right + "\n":                                          "spaces",
		" " + right:                                           "spaces",
		"age1":                                                "length",
		"mx1.example.org":                                     "does not begin with age1",
		"ssh-ed25519 AAAAC3NzaC1":                             "SSH",
		"age1pq1" + strings.Repeat("q", 1950):                 "post-quantum",
		"age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t": "plugin",
		"AGE-SECRET-KEY-1CANARY": "secret",
	} {
		_, err := ParseRecipient(text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "CANARY") || len(err.Error()) > 300 {
			t.Errorf("%.80q: the error is %v, want one with %q", text, err, want)
		}
	}
}
