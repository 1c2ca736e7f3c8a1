// Package ocsp gets the CA's statement that a certificate is not revoked (an OCSP response, RFC 6960), and checks it, so that a mail server
// can send it along with the certificate (stapling, RFC 6066 section 8).
//
// [Fetch] asks the responder that the certificate names. [Parse] checks a response as strictly as the mail server's library does, because
// Exim with GnuTLS refuses STARTTLS for everybody (454) if its tls_ocsp_file holds a response that is damaged, expired, or of another
// certificate.
//
// # What Exim does
//
// Seen with Exim 4.96 and 4.98 of Debian 12 and 13 (GnuTLS 3.7 and 3.8):
//
//   - tls_ocsp_file = PATH: Exim reads the file when it starts or reloads, and some 5 s after something has changed in its directory. If the
//     file is then missing, empty, expired, or of another certificate, Exim answers 454 from then on. If the response expires while Exim
//     holds it, Exim sends none, and TLS works.
//   - tls_ocsp_file = ${if exists{PATH}{PATH.served}}: Exim reads the file at each connection. If it is missing, Exim sends no response, and TLS
//     works. If it is expired or of another certificate, Exim answers 454. So a response has to be gone before it expires: see
//     [Response.ServeUntil].
//   - A file with several responses, also one of PEM blocks, does not help: GnuTLS refuses it if one of them is of another certificate.
//
// # The order of a change
//
// Certificate, key and response are three files, and no rename exchanges them all. So deploy first takes the old response away, then changes
// certificate and key, and then puts the new response in place. At every instant the path holds a response of the certificate that is in
// place, or nothing. With the second form of tls_ocsp_file, Exim accepts each of these states, also if mxcert is killed between two of them.
// With the first form, Exim sees the states only if it reads in the second that the change takes, or if mxcert is killed just then; the next
// pass finishes the change. A new response of the same certificate replaces the old one in one rename.
//
// With the second form, Exim looks whether the response exists, then loads certificate and key, and then opens the response. If both names were
// the same, a connection that is between the two when the response is taken away would get 454 (8 of 6,949 connections, in 80 changes under
// load). So PATH only says whether there is a response, and Exim opens a copy, PATH.served, which changes while there is none.
//
// Not supported: nonces (RFC 9654; public responders sign in advance and ignore them), signed requests, and responses for the CA's own
// certificates (RFC 6961).
package ocsp

import (
	"bytes"
	"crypto"
	_ "crypto/sha1"   //nolint:gosec // certificate IDs (RFC 5019, section 2.1.1)
	_ "crypto/sha256" // certificate IDs
	_ "crypto/sha512" // certificate IDs
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
)

// Status is what the CA says about a certificate.
type Status string

// The statuses (RFC 6960 section 2.2).
const (
	Good    Status = "good"
	Revoked Status = "revoked"
	Unknown Status = "unknown" // the responder does not know the certificate
)

const (
	// skew is how far the clocks of this host and of the responder may differ.
	skew = 5 * time.Minute
	// lifeWithoutEnd is how long a response counts that does not say when the next one comes. GnuTLS takes 15 days.
	lifeWithoutEnd = 72 * time.Hour
	// A response is taken away when partMargin of its life is left, or mostMargin.
	mostMargin = 90 * time.Minute
	partMargin = 8
	// Largest is the size of the largest response, in bytes. Usual ones have one or two KiB.
	Largest = 64 << 10
)

// Response is a response whose signature is right and that is about the certificate.
type Response struct {
	DER        []byte
	Status     Status
	ThisUpdate time.Time // when the CA knew this
	NextUpdate time.Time // when the response expires
	RevokedAt  time.Time // if Status is Revoked
	Reason     string    // of the revocation, by its name in RFC 5280 section 5.3.1
}

// Responder returns the URL of the responder that a certificate names (RFC 5280 section 4.2.2.1); "" if it names none that can be asked.
func Responder(leaf *x509.Certificate) string {
	for _, address := range leaf.OCSPServer {
		if usable(address) {
			return address
		}
	}
	return ""
}

// Issuer returns the certificate that has issued the leaf of a bundle: the second of its chain. The error is an *Error.
func Issuer(b *bundle.Bundle) (*x509.Certificate, error) {
	if chain := b.Chain(); len(chain) > 1 {
		return chain[1], nil
	}
	return nil, fault(KindInvalid, "the chain has no certificate of the issuer, so no OCSP response can be checked").
		next("let the CA send its chain, or remove `ocsp` from the target")
}

// Parse checks a response about a certificate: signature, responder, certificate ID and the begin of its validity. It does not check whether
// the response has expired: see [Response.Expired]. The error is an *Error of the kind KindInvalid.
func Parse(der []byte, leaf, issuer *x509.Certificate, now time.Time) (*Response, error) {
	if len(der) > Largest {
		return nil, fault(KindInvalid, "the response is larger than %d KiB", Largest>>10)
	}
	// Without the issuer, the library compares the signature with a certificate inside only. With it, the library refuses a response that
	// contains the certificate of an issuer that is no root.
	r, err := ocsp.ParseResponseForCert(der, leaf, nil)
	if err != nil {
		return nil, fault(KindInvalid, "the response cannot be used: %s", finding.Quote(err.Error(), finding.MostQuoted))
	}
	if err := responder(r, issuer, now); err != nil {
		return nil, err
	}
	if !about(der, leaf, issuer) {
		return nil, fault(KindInvalid, "the response is about a certificate of another issuer")
	}
	if r.ThisUpdate.After(now.Add(skew)) {
		return nil, fault(KindInvalid, "the response is not valid before %s, and this host's clock says %s", clock(r.ThisUpdate), clock(now)).
			next("check the clock of this host (timedatectl)")
	}
	got := &Response{DER: bytes.Clone(der), ThisUpdate: r.ThisUpdate.UTC(), NextUpdate: r.NextUpdate.UTC()}
	if r.NextUpdate.IsZero() {
		got.NextUpdate = got.ThisUpdate.Add(lifeWithoutEnd)
	}
	if got.NextUpdate.Before(got.ThisUpdate) {
		return nil, fault(KindInvalid, "the response ends before it begins")
	}
	switch r.Status {
	case ocsp.Good:
		got.Status = Good
	case ocsp.Revoked:
		got.Status, got.RevokedAt, got.Reason = Revoked, r.RevokedAt.UTC(), reason(r.RevocationReason)
	default:
		got.Status = Unknown
	}
	return got, nil
}

// ServeUntil returns when the response must be gone: an eighth of its life before it expires, or an hour and a half. Exim that opens the file at
// each connection refuses TLS for everybody from the second on in which it expires. This leaves time for an hourly pass, and for clocks.
func (r *Response) ServeUntil() time.Time {
	return r.NextUpdate.Add(-min(mostMargin, r.NextUpdate.Sub(r.ThisUpdate)/partMargin))
}

// Expired reports whether a mail server would refuse the response for its age.
func (r *Response) Expired(now time.Time) bool { return !now.Before(r.NextUpdate) }

// responder checks who has signed: the issuer, or a certificate of the issuer for this purpose (RFC 6960 section 4.2.2.2). If the response
// contains a certificate, the library has checked that its key has signed the response.
func responder(r *ocsp.Response, issuer *x509.Certificate, now time.Time) error {
	c := r.Certificate
	if c == nil {
		if err := r.CheckSignatureFrom(issuer); err != nil {
			return fault(KindInvalid, "the response is not signed by %s, which has issued the certificate: %v", who(issuer), err)
		}
		return nil
	}
	if bytes.Equal(c.RawSubject, issuer.RawSubject) && bytes.Equal(c.RawSubjectPublicKeyInfo, issuer.RawSubjectPublicKeyInfo) {
		return nil // the issuer's certificate, or another one of its key
	}
	signed := issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature)
	switch {
	case signed != nil, !bytes.Equal(c.RawIssuer, issuer.RawSubject):
		return fault(KindInvalid, "the response is signed by %s, which the issuer of the certificate has not issued", who(c))
	case !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
		return fault(KindInvalid, "the response is signed by %s, a certificate that may not sign responses (no OCSPSigning)", who(c))
	case now.Add(skew).Before(c.NotBefore) || now.Add(-skew).After(c.NotAfter):
		return fault(KindInvalid, "the response is signed by %s, a certificate that is valid from %s to %s only", who(c), clock(c.NotBefore), clock(c.NotAfter))
	}
	return nil
}

func who(c *x509.Certificate) string { return finding.Quoted(c.Subject.String(), finding.MostQuoted) }

// certID is how a response names a certificate (RFC 6960 section 4.1.1).
type certID struct {
	Hash     pkix.AlgorithmIdentifier
	NameHash []byte
	KeyHash  []byte
	Serial   *big.Int
}

// about reports whether the first response about the serial number is about the issuer, too. The library compares the serial number only, and
// GnuTLS compares both.
func about(der []byte, leaf, issuer *x509.Certificate) bool {
	var outer struct {
		Status asn1.Enumerated
		Bytes  struct {
			Type     asn1.ObjectIdentifier
			Response []byte
		} `asn1:"explicit,tag:0,optional"`
	}
	var basic struct {
		Data struct {
			Version   int `asn1:"optional,default:0,explicit,tag:0"`
			Responder asn1.RawValue
			Produced  time.Time `asn1:"generalized"`
			Responses []asn1.RawValue
			Rest      asn1.RawValue `asn1:"optional"`
		}
		Algorithm    pkix.AlgorithmIdentifier
		Signature    asn1.BitString
		Certificates []asn1.RawValue `asn1:"explicit,tag:0,optional"`
	}
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		return false
	}
	if _, err := asn1.Unmarshal(outer.Bytes.Response, &basic); err != nil {
		return false
	}
	for i, raw := range basic.Data.Responses {
		var id certID
		if _, err := asn1.Unmarshal(raw.Bytes, &id); err != nil {
			return false
		}
		if id.Serial.Cmp(leaf.SerialNumber) == 0 {
			// GnuTLS looks at the first response only.
			return i == 0 && id.names(issuer)
		}
	}
	return false
}

// names reports whether the ID has the digests of an issuer's name and key.
func (id certID) names(issuer *x509.Certificate) bool {
	hash, ok := map[string]crypto.Hash{"1.3.14.3.2.26": crypto.SHA1, "2.16.840.1.101.3.4.2.1": crypto.SHA256,
		"2.16.840.1.101.3.4.2.2": crypto.SHA384, "2.16.840.1.101.3.4.2.3": crypto.SHA512}[id.Hash.Algorithm.String()]
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(issuer.RawSubjectPublicKeyInfo, &info); err != nil || !ok {
		return false
	}
	sum := func(data []byte) []byte {
		h := hash.New()
		h.Write(data)
		return h.Sum(nil)
	}
	return bytes.Equal(id.NameHash, sum(issuer.RawSubject)) && bytes.Equal(id.KeyHash, sum(info.Key.RightAlign()))
}

// reason returns the name of a reason for a revocation.
func reason(code int) string {
	names := []string{"unspecified", "keyCompromise", "cACompromise", "affiliationChanged", "superseded", "cessationOfOperation", "certificateHold", "",
		"removeFromCRL", "privilegeWithdrawn", "aACompromise"}
	if code < 0 || code >= len(names) {
		return ""
	}
	return names[code]
}

func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }
