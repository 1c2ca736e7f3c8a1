package ocsp

import (
	"crypto/x509"
	"time"
)

// Sent is what a server sends along with a certificate, in a word for programs.
type Sent string

// What a server can send along.
const (
	SentGood    Sent = "good"    // a response of the certificate that says good, and has not expired
	SentNothing Sent = "none"    // no response
	SentExpired Sent = "expired" // a response of the certificate that has expired
	SentUseless Sent = "invalid" // anything else: of another certificate, damaged, or it says revoked or unknown
)

// Judge says what a server has sent along with the leaf, as a client that checks revocation sees it (RFC 6066 section 8). der is the response;
// empty if there was none. The error is an *Error of the kind KindNotSent or KindInvalid, unless the response is good.
func Judge(der []byte, leaf, issuer *x509.Certificate, now time.Time) (Sent, error) {
	if len(der) == 0 {
		return SentNothing, fault(KindNotSent, "the server sends no OCSP response")
	}
	r, err := Parse(der, leaf, issuer, now)
	switch {
	case err != nil:
		return SentUseless, fault(KindInvalid, "the OCSP response that the server sends does not belong to the certificate: %v", err)
	case r.Status != Good:
		return SentUseless, fault(KindInvalid, "the server sends an OCSP response that says %s", r.Status)
	case r.Expired(now):
		return SentExpired, fault(KindInvalid, "the OCSP response that the server sends expired at %s", clock(r.NextUpdate))
	}
	return SentGood, nil
}
