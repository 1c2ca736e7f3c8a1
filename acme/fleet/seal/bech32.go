package seal

import (
	"errors"
	"strings"
)

// Bech32 (BIP 173 without its limit of 90 characters, as age uses it): a prefix, the digit 1, and 5-bit groups of which the last six are a
// checksum that notices every change of up to four characters.
const alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

var errChecksum = errors.New("its checksum does not match")

// checksum folds the values of a prefix and of groups; it is 1 if the text is right.
func checksum(prefix string, groups []byte) uint32 {
	sum := uint32(1)
	fold := func(value byte) {
		top := sum >> 25
		sum = (sum&0x1ffffff)<<5 ^ uint32(value)
		for i, generator := range [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			if top>>i&1 == 1 {
				sum ^= generator
			}
		}
	}
	for i := range len(prefix) {
		fold(prefix[i] >> 5)
	}
	fold(0)
	for i := range len(prefix) {
		fold(prefix[i] & 31)
	}
	for _, group := range groups {
		fold(group)
	}
	return sum
}

// split takes a text in lower case apart. bad is the place of the first character, from 0, that no such text has; otherwise it is -1.
func split(text string) (prefix string, groups []byte, bad int) {
	one := strings.LastIndexByte(text, '1')
	if one < 1 {
		return "", nil, 0
	}
	for i := range len(text) - one - 1 {
		group := strings.IndexByte(alphabet, text[one+1+i])
		if group < 0 {
			return text[:one], nil, one + 1 + i
		}
		groups = append(groups, byte(group))
	}
	return text[:one], groups, -1
}

// decode returns the 32 bytes that groups with a checksum stand for.
func decode(prefix string, groups []byte) ([]byte, error) {
	if len(groups) != 58 { // 52 of 5 bits for 256 bits, and 6
		return nil, errors.New("it has the wrong length")
	}
	if checksum(prefix, groups) != 1 {
		return nil, errChecksum
	}
	var out []byte
	var have, bits uint
	for _, group := range groups[:52] {
		have, bits = have<<5|uint(group), bits+5
		if bits >= 8 {
			bits -= 8
			out = append(out, byte(have>>bits)) //nolint:gosec // the low eight bits are meant
		}
	}
	if have&(1<<bits-1) != 0 {
		return nil, errors.New("its last bits are not zero")
	}
	return out, nil
}

// wrong returns the only place at which another character would make the checksum match; -1 if there is none or more than one.
func wrong(prefix string, groups []byte) int {
	place := -1
	for i, was := range groups {
		for other := range byte(32) {
			groups[i] = other
			if other != was && checksum(prefix, groups) == 1 {
				if place >= 0 {
					groups[i] = was
					return -1
				}
				place = i
			}
		}
		groups[i] = was
	}
	return place
}
