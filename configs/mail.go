package configs

import (
	"errors"
	"net/netip"
	"strings"
)

// mostMailDomains limits the mail domains of a certificate, because mxcert asks for all of them each hour.
const mostMailDomains = 1000

// checkMailDomains checks and normalises the mail domains in the list at p.
func (l *loader) checkMailDomains(p string, domains []string) {
	if n := len(domains); n > mostMailDomains {
		l.bad(p, "list those whose MX host names differ", "%d mail domains; a certificate has at most %d", n, mostMailDomains)
		return
	}
	for i, d := range domains {
		name, err := mailDomain(d)
		if err != nil {
			l.bad(at(p, i), "", "%s: %v", quote(d), err)
			continue
		}
		domains[i] = name
	}
	l.unique(p, domains)
}

// mailDomain normalises the part of mail addresses behind the @.
func mailDomain(s string) (string, error) {
	switch _, domain, isMail := cutLast(s); {
	case isMail:
		return "", errors.New("this is a mail address; write only " + quote(domain))
	case strings.Contains(s, "*"):
		return "", errors.New("a wildcard has no MX records; write each mail domain")
	case isAddress(strings.TrimSuffix(s, ".")):
		return "", errors.New("an IP address is not a mail domain")
	}
	return domainName(s)
}

// checkPublicAddresses checks and normalises the addresses.
func (l *loader) checkPublicAddresses(list []string) {
	const p = "public_addresses"
	for i, s := range list {
		a, err := netip.ParseAddr(s)
		switch {
		case err != nil || a.Zone() != "":
			l.bad(at(p, i), `write for example "192.0.2.25" or "2001:db8::25"`, "%s is not an IP address", quote(s))
		case !a.Unmap().IsGlobalUnicast():
			l.bad(at(p, i), "write the address that the MX host names of this host point to", "%s is not an address by which senders can reach a host", quote(s))
		default:
			list[i] = a.Unmap().String()
		}
	}
	l.unique(p, list)
}
