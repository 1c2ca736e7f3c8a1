package verdict

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"strings"
)

// acceptedAnyway names senders that accept a certificate that the RFC refuses.
func (j *judge) acceptedAnyway(sent []*certificate, c check) {
	if c.purpose {
		j.differUntil(rightUsage, PKIX, "the certificate of %s, or an issuer of it, is not for TLS servers: Postfix and mox refuse it, Exim with GnuTLS accepts it", j.who())
	}
	if c.kind != typeName || !j.toRoot(sent).ok() {
		return
	}
	if namedByCN(sent[0], j.Host) {
		j.differ(PKIX, "%s has its name only as the common name: Postfix and Exim accept that, mox and other senders refuse it (RFC 9525)", j.who())
	}
	if domain := "." + j.Domain; j.Domain != "" && slices.ContainsFunc(sent[0].DNSNames, func(name string) bool { return strings.HasSuffix("."+strings.ToLower(name), domain) }) {
		j.differ(PKIX, "the certificate of %s has a name of or below %s: that is enough for Postfix at level secure, but not at level verify, nor for Exim and mox", j.who(), j.Domain)
	}
}

// refusedAnyway names senders that refuse a certificate that the RFC accepts.
func (j *judge) refusedAnyway(s session) {
	for _, h := range s.shown {
		leaf := h.Shown.Chain[0]
		if len(leaf.ExtKeyUsage) > 0 && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) {
			j.differUntil(rightUsage, PKIX, "the certificate of %s is for any usage, not for TLS servers by name: Postfix refuses it, Exim with GnuTLS and mox accept it", j.who())
		}
		if MustStaple(leaf) && len(h.Shown.Staple) == 0 {
			j.differUntil("get a certificate without this demand", PKIX, "the certificate of %s demands a stapled OCSP response (RFC 7633), and none came: Exim with GnuTLS refuses it, Postfix and mox accept it", j.who())
		}
		if !first(h.Shown.Chain, j.Roots, j.At) {
			j.differUntil(oneIssuer, PKIX, crossed, j.who())
		}
	}
	if s.old {
		j.differUntil(newTLS, PKIX, "%s offers only TLS 1.1 or older: Postfix (secure) and mox defer the mail, Exim with GnuTLS delivers it", j.who())
	}
	j.static(PKIX)
	bare := j.with("")
	if sni(j.Host) == "" || !bare.made {
		return
	}
	if c, _ := j.worst(bare); c.reason != "" || len(bare.shown) == 0 && bare.failed() != nil {
		j.differUntil(defaultCert, PKIX, "%s shows a right certificate only to senders that send its name (SNI): Postfix and Exim do not unless they are told to or use DANE, mox and the STS plugins do", j.who())
	}
}

// MustStaple reports whether a certificate demands a stapled OCSP response: whether it has the TLS feature status_request or
// status_request_v2 (RFC 7633 section 4).
func MustStaple(leaf *x509.Certificate) bool {
	for _, extension := range leaf.Extensions {
		var features []int
		if !extension.Id.Equal(tlsFeature) {
			continue
		}
		if _, err := asn1.Unmarshal(extension.Value, &features); err == nil {
			return slices.Contains(features, 5) || slices.Contains(features, 17)
		}
	}
	return false
}

var tlsFeature = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24} //nolint:gochecknoglobals // a constant
