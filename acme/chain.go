package acme

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	"mxcert/acme/finding"
	"mxcert/acme/session"
)

// preferredChain chooses among the chains that a CA offers (RFC 8555 section 7.4.2) the first whose root has the preferred
// name, else the first that contains an issuer of that name. If there is no such chain, or it cannot be fetched, it takes
// the default chain and warns: the certificate must not be lost because of its chain.
func (f *flow) preferredChain(standard []byte, others []string) []byte {
	wanted := f.client.settings.PreferredChain
	if wanted == "" || topIssuer(standard) == wanted {
		return standard
	}
	chains, offered := [][]byte{standard}, []string{topIssuer(standard)}
	for _, other := range others {
		chain, err := session.Call(f.Session, func() ([]byte, error) {
			chain, _, err := f.Core.Certificates.Get(other, true)
			return chain, err
		})
		if err != nil {
			offered = append(offered, "one that could not be fetched: "+finding.Line(f.Explain("download", err)))
			continue
		}
		chains, offered = append(chains, chain), append(offered, topIssuer(chain))
	}
	for _, fits := range []func([]byte) bool{
		func(chain []byte) bool { return topIssuer(chain) == wanted },
		func(chain []byte) bool { return slices.Contains(issuers(chain), wanted) },
	} {
		if i := slices.IndexFunc(chains, fits); i >= 0 {
			f.Progress("certificate", "uses the chain to "+offered[i]+"")
			return chains[i]
		}
	}
	f.chain = fmt.Sprintf("%s offers no chain to %q (acme.preferred_chain), only to: %s; its default chain is used",
		f.ca(), wanted, strings.Join(offered, ", "))
	return standard
}

// issuers lists the names of all issuers in a chain, including the root, which is not sent.
func issuers(chainPEM []byte) (names []string) {
	for _, c := range certificates(chainPEM) {
		names = append(names, finding.Quote(c.Issuer.CommonName, mostWord))
	}
	return names
}

// topIssuer names the root to which a chain leads.
func topIssuer(chainPEM []byte) string {
	names := issuers(chainPEM)
	if len(names) == 0 {
		return "(no certificate)"
	}
	return names[len(names)-1]
}

// certificates parses the certificates that it can parse; the chain is proven later.
func certificates(chainPEM []byte) (list []*x509.Certificate) {
	for block, rest := pem.Decode(chainPEM); block != nil; block, rest = pem.Decode(rest) {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			list = append(list, c)
		}
	}
	return list
}
