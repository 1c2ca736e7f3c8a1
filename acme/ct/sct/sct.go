// Package sct reads the signed certificate timestamps that a certificate carries, and checks their signatures (RFC 6962 section 3). A log of
// certificate transparency promises with such a timestamp to show the certificate to everybody.
//
// A certificate and the pre-certificate that was logged before it share one TBSCertificate, apart from two extensions: [TBS] makes it, and
// its hash is what services such as Cert Spotter name an issuance by.
//
// The package is small on purpose: a library for logs brings its own fork of crypto/x509. It reads SCTs of version 1 that are embedded in
// certificates, not those of TLS extensions or OCSP responses, and no pre-certificates of special signing certificates, which CAs no longer
// use. Nothing here asks a log, so that it does not matter whether a log speaks RFC 6962 or only static-ct.
package sct

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// most limits the SCTs of a certificate that are read; CAs embed two to four.
const most = 32

// ErrNone is returned for a certificate without embedded SCTs.
var ErrNone = errors.New("the certificate has no embedded SCTs")

// SCT is a signed certificate timestamp (RFC 6962 section 3.2).
type SCT struct {
	Log [32]byte  // ID of the log: the SHA-256 of its public key
	At  time.Time // when the log took the certificate, as it says; to the millisecond

	extensions      []byte
	hash, algorithm byte // of the signature (RFC 5246 section 7.4.1.4.1)
	signature       []byte
}

// LogID returns the ID of the log as log lists write it.
func (s SCT) LogID() string { return base64.StdEncoding.EncodeToString(s.Log[:]) }

// The extensions of RFC 6962: the list of SCTs (section 3.3), and the poison of pre-certificates (section 3.1).
var (
	list   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2} //nolint:gochecknoglobals // a constant
	poison = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 3} //nolint:gochecknoglobals // a constant
)

// IsPrecertificate reports whether a certificate is one that logs accept and nobody else.
func IsPrecertificate(c *x509.Certificate) bool {
	for _, e := range c.Extensions {
		if e.Id.Equal(poison) {
			return true
		}
	}
	return false
}

// Embedded returns the SCTs that a certificate carries. The error is ErrNone if it carries none; otherwise it says why they cannot be read.
func Embedded(c *x509.Certificate) ([]SCT, error) {
	for _, e := range c.Extensions {
		if !e.Id.Equal(list) {
			continue
		}
		var packed []byte
		if rest, err := asn1.Unmarshal(e.Value, &packed); err != nil || len(rest) > 0 {
			return nil, errors.New("the list of SCTs is not an octet string")
		}
		return parseList(packed)
	}
	return nil, ErrNone
}

// errCut is returned for a list that ends too early, or too late.
var errCut = errors.New("the list of SCTs is cut off or has bytes too many")

// parseList reads a SignedCertificateTimestampList (RFC 6962 section 3.3).
func parseList(packed []byte) ([]SCT, error) {
	body, rest, ok := vector(packed)
	if !ok || len(rest) > 0 || len(body) == 0 {
		return nil, errCut
	}
	var found []SCT
	for len(body) > 0 {
		var one []byte
		if one, body, ok = vector(body); !ok {
			return nil, errCut
		}
		if len(found) == most {
			return nil, fmt.Errorf("the certificate has more than %d SCTs", most)
		}
		s, err := parse(one)
		if err != nil {
			return nil, err
		}
		found = append(found, s)
	}
	return found, nil
}

// parse reads one SignedCertificateTimestamp (RFC 6962 section 3.2).
func parse(one []byte) (s SCT, err error) {
	const fixed = 1 + 32 + 8
	if len(one) < fixed {
		return s, errCut
	}
	if one[0] != 0 {
		return s, fmt.Errorf("an SCT has version %d; only version 1, written as 0, is known", one[0])
	}
	copy(s.Log[:], one[1:33])
	milliseconds := binary.BigEndian.Uint64(one[33:fixed])
	if milliseconds > 253402300799999 { // the year 9999, after which RFC 3339 has no dates
		return s, errors.New("an SCT has a time after the year 9999")
	}
	s.At = time.UnixMilli(int64(milliseconds)).UTC() //nolint:gosec // bounded above
	var rest []byte
	var ok bool
	if s.extensions, rest, ok = vector(one[fixed:]); !ok || len(rest) < 2 {
		return s, errCut
	}
	s.hash, s.algorithm, rest = rest[0], rest[1], rest[2:]
	if s.signature, rest, ok = vector(rest); !ok || len(rest) > 0 {
		return s, errCut
	}
	return s, nil
}

// vector cuts off a vector with a length of two bytes (RFC 5246 section 4.3).
func vector(b []byte) (body, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n {
		return nil, nil, false
	}
	return b[2 : 2+n], b[2+n:], true
}

// TBS returns the TBSCertificate that a certificate shares with its pre-certificate: without the SCTs and without the poison. Every other
// byte stays as the CA wrote it.
func TBS(c *x509.Certificate) ([]byte, error) {
	failed := errors.New("the certificate cannot be taken apart")
	var whole asn1.RawValue
	if _, err := asn1.Unmarshal(c.RawTBSCertificate, &whole); err != nil {
		return nil, failed
	}
	var out []byte
	for rest := whole.Bytes; len(rest) > 0; {
		var part asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &part); err != nil {
			return nil, failed
		}
		if part.Class != asn1.ClassContextSpecific || part.Tag != 3 { // [3] holds the extensions (RFC 5280 section 4.1)
			out = append(out, part.FullBytes...)
			continue
		}
		kept, err := withoutCT(part.Bytes)
		if err != nil {
			return nil, failed
		}
		if len(kept) > 0 {
			out = append(out, wrap(asn1.ClassContextSpecific, 3, wrap(asn1.ClassUniversal, asn1.TagSequence, kept))...)
		}
	}
	return wrap(asn1.ClassUniversal, asn1.TagSequence, out), nil
}

// withoutCT returns the content of a sequence of extensions without those of RFC 6962.
func withoutCT(sequence []byte) (kept []byte, err error) {
	var all asn1.RawValue
	if _, err = asn1.Unmarshal(sequence, &all); err != nil {
		return nil, err
	}
	for rest := all.Bytes; len(rest) > 0; {
		var extension asn1.RawValue
		if rest, err = asn1.Unmarshal(rest, &extension); err != nil {
			return nil, err
		}
		var id asn1.ObjectIdentifier
		if _, err = asn1.Unmarshal(extension.Bytes, &id); err != nil {
			return nil, err
		}
		if !id.Equal(list) && !id.Equal(poison) {
			kept = append(kept, extension.FullBytes...)
		}
	}
	return kept, nil
}

// wrap encodes a constructed value.
func wrap(class, tag int, content []byte) []byte {
	b, _ := asn1.Marshal(asn1.RawValue{Class: class, Tag: tag, IsCompound: true, Bytes: content}) // cannot fail for such a value
	return b
}

// Hash returns the SHA-256 of [TBS] in hexadecimal; "" if the certificate cannot be taken apart.
func Hash(c *x509.Certificate) string {
	tbs, err := TBS(c)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(tbs)
	return hex.EncodeToString(sum[:])
}
