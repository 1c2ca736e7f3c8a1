package acme

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"mxcert/acme/authority"
)

// maxAlternates bounds the other chains that are looked at; CAs offer two or three.
const maxAlternates = 8

// preferredChain chooses among the chains that a CA offers (RFC 8555 section 7.4.2) the first whose root has the preferred
// name, else the first that has an issuer of that name in it. Where there is none, or one cannot be had, the default
// chain is taken and a warning says so: a certificate that is there must not be lost for its chain.
func (f *flow) preferredChain(standard []byte, others []string) []byte {
	wanted := f.client.settings.PreferredChain
	if wanted == "" || topIssuer(standard) == wanted {
		return standard
	}
	chains, offered := [][]byte{standard}, []string{topIssuer(standard)}
	for _, other := range others {
		chain, err := call(f.operation, func() ([]byte, error) {
			chain, _, err := f.core.Certificates.Get(other, true)
			return chain, err
		})
		if err != nil {
			offered = append(offered, "one that could not be fetched: "+oneLine(f.explain("download", err).Error()))
			continue
		}
		chains, offered = append(chains, chain), append(offered, topIssuer(chain))
	}
	for _, fits := range []func([]byte) bool{
		func(chain []byte) bool { return topIssuer(chain) == wanted },
		func(chain []byte) bool { return slices.Contains(issuers(chain), wanted) },
	} {
		if i := slices.IndexFunc(chains, fits); i >= 0 {
			f.Progress("certificate", "chain to "+offered[i]+" taken")
			return chains[i]
		}
	}
	f.chain = fmt.Sprintf("%s offers no chain to %q (acme.preferred_chain), only to: %s; its default chain is used",
		authority.Name(f.stored.Directory), wanted, strings.Join(offered, ", "))
	return standard
}

// issuers lists the names of all issuers in a chain, the root that was not sent included.
func issuers(chainPEM []byte) (names []string) {
	for _, c := range certificates(chainPEM) {
		names = append(names, quoteWord(c.Issuer.CommonName))
	}
	return names
}

// topIssuer names the root that a chain leads to.
func topIssuer(chainPEM []byte) string {
	names := issuers(chainPEM)
	if len(names) == 0 {
		return "(no certificate)"
	}
	return names[len(names)-1]
}

// certificates reads what can be read: the chain is proven later.
func certificates(chainPEM []byte) (list []*x509.Certificate) {
	for block, rest := pem.Decode(chainPEM); block != nil; block, rest = pem.Decode(rest) {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			list = append(list, c)
		}
	}
	return list
}

// alternates reads the links to other chains, at most maxAlternates.
func alternates(from *url.URL, header http.Header) (list []string) {
	for _, line := range header.Values("Link") {
		for _, link := range strings.Split(line, "<") { // several may be in one line (RFC 8288 section 3)
			target, parameters, found := strings.Cut(link, ">")
			if !found || !strings.Contains(strings.ReplaceAll(parameters, " ", ""), `rel="alternate"`) || len(list) == maxAlternates {
				continue
			}
			if u, err := from.Parse(target); err == nil {
				list = append(list, u.String())
			}
		}
	}
	return list
}

// otherChains are the links of the last answer.
func (t *transport) otherChains() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.alternates
}
