package verdict

import (
	"crypto/x509"
	"slices"
	"strings"

	"mxcert/acme/finding"
)

// named reports whether the certificate has one of the names as a DNS-ID (RFC 9525: the CN does not count, and a wildcard stands for the
// whole left-most label).
func named(leaf *certificate, names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return name != "" && leaf.VerifyHostname(name) == nil })
}

// namedByCN reports whether the CN counts and is one of the names: only in a certificate without any DNS-ID (RFC 7672 section 3.2.3).
func namedByCN(leaf *certificate, names ...string) bool {
	cn := leaf.Subject.CommonName
	if len(leaf.DNSNames) > 0 || cn == "" {
		return false
	}
	twin := &x509.Certificate{DNSNames: []string{cn}}
	return slices.ContainsFunc(names, func(name string) bool { return name != "" && twin.VerifyHostname(name) == nil })
}

// has lists the names of a certificate, which are foreign text.
func has(leaf *certificate) string {
	const most = 5
	var list []string
	for i, name := range leaf.DNSNames {
		if i == most {
			list = append(list, "…")
			break
		}
		list = append(list, finding.Quote(name, 100))
	}
	if len(list) == 0 {
		return "no DNS name"
	}
	return strings.Join(list, ", ")
}
