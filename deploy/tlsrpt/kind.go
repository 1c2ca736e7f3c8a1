package tlsrpt

import (
	"slices"

	"mxcert/acme/finding"
)

// Kind is what mxcert knows about a result type.
type Kind struct {
	Type    string // of RFC 8460 section 4.3; other, for words that the RFC does not have; unspecified, if there is none
	Meaning string // a clause: "the certificate …"
	// Certificate says that another certificate or other TLSA records at the host may end it, so a deployment may have.
	Certificate bool
	// Policy says that it is about the web server of the MTA-STS policy or about DNS, and not about the MX host.
	Policy bool
}

// kinds are the result types of RFC 8460 section 4.3, as deploy/verdict uses them.
//
//nolint:gochecknoglobals // a constant list
var kinds = []Kind{ //nolint:gochecknoglobals // a constant table
	{"starttls-not-supported", "the host did not offer STARTTLS", true, false},
	{"certificate-host-mismatch", "the certificate was not for the name of the host", true, false},
	{"certificate-expired", "the certificate had expired", true, false},
	{"certificate-not-trusted", "the certificate did not lead to a root that the sender trusts", true, false},
	{"validation-failure", "the TLS connection failed, or the certificate was refused, for a reason that has no word of its own", true, false},
	{"tlsa-invalid", "the TLSA records did not fit the certificate, or could not be used", true, false},
	{"dnssec-invalid", "the sender's resolver could not validate the DNS answers about the host", false, true},
	{"dane-required", "the sender is set to DANE only and found no usable TLSA records", true, false},
	{"sts-policy-fetch-error", "the sender could not fetch the MTA-STS policy", false, true},
	{"sts-policy-invalid", "the MTA-STS policy has a fault", false, true},
	{"sts-webpki-invalid", "the web server of the MTA-STS policy showed a certificate that the sender refuses", false, true},
	{Unspecified, "the report does not say why", true, false},
	{Other, "the sender uses a word that RFC 8460 does not have", true, false},
}

// The types of failures that have none of RFC 8460.
const (
	Unspecified = "unspecified"
	Other       = "other"
)

// KindOf returns what is known about a result type.
func KindOf(result string) Kind {
	if result == "" {
		result = Unspecified
	}
	if i := slices.IndexFunc(kinds, func(k Kind) bool { return k.Type == result }); i >= 0 {
		return kinds[i]
	}
	return kinds[len(kinds)-1]
}

// Severity says how much a failure matters: an error if the mail may have been kept or returned, a warning if the sender delivers in any case.
func (s Sum) Severity() finding.Severity {
	if s.Policy == "tlsa" || s.Policy == "sts" && !s.Testing && !KindOf(s.Type).Policy {
		return finding.Error
	}
	return finding.Warning
}
