package verdict

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"

	"mxcert/acme/resolve"
)

// The fields of a TLSA record (RFC 7218).
const (
	usageTA, usageEE            = 2, 3 // PKIX-TA 0 and PKIX-EE 1 are not for SMTP (RFC 7672 section 3.1.3)
	wholeCertificate, publicKey = 0, 1
	full, sha2256, sha2512      = 0, 1, 2
)

// useless says why senders cannot use a record (RFC 6698 section 4.1, RFC 7672 section 3.1); "" if they can.
func useless(r resolve.TLSA) string {
	switch {
	case r.Usage < usageTA:
		return fmt.Sprintf("usage %d is not for SMTP", r.Usage)
	case r.Usage > usageEE:
		return fmt.Sprintf("usage %d is unknown", r.Usage)
	case r.Selector > publicKey:
		return fmt.Sprintf("selector %d is unknown", r.Selector)
	case r.MatchingType > sha2512:
		return fmt.Sprintf("matching type %d is unknown", r.MatchingType)
	case len(r.Data) == 0:
		return "its data is empty"
	case r.MatchingType == sha2256 && len(r.Data) != sha256.Size:
		return fmt.Sprintf("a SHA-256 digest has %d bytes, not %d", sha256.Size, len(r.Data))
	case r.MatchingType == sha2512 && len(r.Data) != sha512.Size:
		return fmt.Sprintf("a SHA-512 digest has %d bytes, not %d", sha512.Size, len(r.Data))
	case r.MatchingType == full && !shaped(r):
		return "its data is neither a certificate nor a key"
	}
	return ""
}

// shaped reports whether the data of a full record has the outline of what the selector names. crypto/x509 may still not read it.
func shaped(r resolve.TLSA) bool {
	var rest []byte
	var err error
	if r.Selector == wholeCertificate {
		var outline struct {
			TBS       asn1.RawValue
			Algorithm pkix.AlgorithmIdentifier
			Signature asn1.BitString
		}
		rest, err = asn1.Unmarshal(r.Data, &outline)
	} else {
		var outline struct {
			Algorithm pkix.AlgorithmIdentifier
			Key       asn1.BitString
		}
		rest, err = asn1.Unmarshal(r.Data, &outline)
	}
	return err == nil && len(rest) == 0
}

// peculiar reports whether other libraries may read the data of a full record, and crypto/x509 does not.
func peculiar(r resolve.TLSA) bool {
	if r.MatchingType != full {
		return false
	}
	var err error
	if r.Selector == wholeCertificate {
		_, err = x509.ParseCertificate(r.Data)
	} else {
		_, err = x509.ParsePKIXPublicKey(r.Data)
	}
	return err != nil
}

// matches compares a record with one certificate.
func matches(r resolve.TLSA, c *certificate) bool { return r.Matches(c.Raw, c.RawSubjectPublicKeyInfo) }

// strongest leaves, of each usage and selector, the full records and those with the strongest digest (RFC 7671 section 9).
func strongest(records []resolve.TLSA) []resolve.TLSA {
	var list []resolve.TLSA
	for _, r := range records {
		if r.MatchingType == full || !slices.ContainsFunc(records, func(other resolve.TLSA) bool {
			return other.Usage == r.Usage && other.Selector == r.Selector && other.MatchingType > r.MatchingType
		}) {
			list = append(list, r)
		}
	}
	return list
}

// combination is how people write the numbers of a record.
func combination(r resolve.TLSA) string {
	return fmt.Sprintf("%d %d %d", r.Usage, r.Selector, r.MatchingType)
}
