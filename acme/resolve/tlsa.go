package resolve

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// String returns the record as in a zone file: usage, selector and matching type in decimal, and the data in lower-case hexadecimal.
func (t TLSA) String() string {
	return strconv.Itoa(int(t.Usage)) + " " + strconv.Itoa(int(t.Selector)) + " " + strconv.Itoa(int(t.MatchingType)) + " " + hex.EncodeToString(t.Data)
}

// ParseTLSA reads a record as a zone file has it (RFC 6698 section 2.2): the data in upper or lower case, and with blanks between digits. The
// error says what is wrong.
func ParseTLSA(text string) (TLSA, error) {
	fields := strings.Fields(text)
	if len(fields) < 4 {
		return TLSA{}, fmt.Errorf("%.200q is no TLSA record: it has usage, selector, matching type and data, such as 3 1 1 0123…", text)
	}
	var numbers [3]uint8
	for i := range numbers {
		n, err := strconv.ParseUint(fields[i], 10, 8)
		if err != nil {
			return TLSA{}, fmt.Errorf("%.20q in the TLSA record %.200q is no number from 0 to 255", fields[i], text)
		}
		numbers[i] = uint8(n)
	}
	data, err := hex.DecodeString(strings.Join(fields[3:], ""))
	if err != nil || len(data) == 0 {
		return TLSA{}, fmt.Errorf("the data of the TLSA record %.200q are not in hexadecimal", text)
	}
	return TLSA{Usage: numbers[0], Selector: numbers[1], MatchingType: numbers[2], Data: data}, nil
}

// Matches reports whether the record is that of a certificate and its SubjectPublicKeyInfo, both in DER (RFC 6698 section 2.1). It is not if
// the one that the selector names is not known (nil).
func (t TLSA) Matches(certificate, key []byte) bool {
	var data []byte
	switch t.Selector {
	case 0:
		data = certificate
	case 1:
		data = key
	}
	if data == nil {
		return false
	}
	switch t.MatchingType {
	case 0:
		return bytes.Equal(data, t.Data)
	case 1:
		sum := sha256.Sum256(data)
		return bytes.Equal(sum[:], t.Data)
	case 2:
		sum := sha512.Sum512(data)
		return bytes.Equal(sum[:], t.Data)
	}
	return false
}
