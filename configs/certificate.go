package configs

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// maxNames is how many names the largest profiles of the known CAs allow in a certificate.
const maxNames = 100

func (l *loader) checkCertificates(c *Config) {
	if len(c.Certificates) == 0 {
		l.missing("certificates", "name at least one certificate, here or in conf.d")
	}
	l.checkNames(c.Certificates)
	for i := range c.Certificates {
		l.checkCertificate(c, i)
	}
	l.checkProviders(c)
	l.checkSameNames(c.Certificates)
	l.checkCollisions(c)
	l.warnStaples(c)
}

func (l *loader) checkCertificate(c *Config, i int) {
	cert, p := &c.Certificates[i], at("certificates", i)
	l.checkDomains(p, cert)
	l.checkMailDomains(join(p, "mail_domains"), cert.MailDomains)
	if len(cert.Keys) == 0 {
		l.bad(join(p, "keys"), "write [ec256], or remove the line", "the list is empty")
	}
	l.unique(join(p, "keys"), cert.Keys)
	l.oneOfEachAlgorithm(join(p, "keys"), cert.Keys)
	l.checkDNS(join(p, "dns"), &cert.DNS, cmp.Or(cert.DNS.Provider, c.DNS.Provider))
	cert.DNS = merge(cert.DNS, c.DNS)
	l.checkRenewal(join(p, "renewal"), &cert.Renewal)
	if cert.Renewal.Window == nil {
		cert.Renewal = c.Renewal
	}
	for j := range cert.Deploy {
		l.checkTarget(at(join(p, "deploy"), j), cert, &cert.Deploy[j])
	}
	if len(cert.Deploy) == 0 && !l.touched[join(p, "deploy")] && !l.unknown[p] {
		l.warn(p, "add a target to deploy", "has no deploy section: mxcert would order the certificate and not deploy it")
	}
	l.checkEndpoints(join(p, "verify.endpoints"), &cert.Verify)
	l.checkDANE(p, cert)
}

// checkNames checks the names of all certificates.
func (l *loader) checkNames(list []Certificate) {
	taken := map[string]string{}
	for i, c := range list {
		p := join(at("certificates", i), "name")
		other, twice := taken[c.Name]
		switch {
		case c.Name == "":
			l.missing(p, "give it a short name, for commands, paths and reports")
		case !isName(c.Name):
			l.bad(p, "use lower-case letters, digits, dot, hyphen and underscore; at most 64, the first a letter or digit",
				"%s cannot be the name of a certificate", quote(c.Name))
		case twice:
			l.bad(p, "give each certificate a name of its own", "%s is already the name of another certificate (%s)", quote(c.Name), l.index.position(other))
		default:
			taken[c.Name] = p
		}
	}
}

// isName checks the form of a certificate's name, which becomes part of paths.
func isName(s string) bool {
	const first = lower + digit
	return len(s) <= 64 && onlyHas(s, first+"._-") && onlyHas(s[:1], first)
}

// checkDomains checks and normalises the names of a certificate: the required ones, and the optional ones.
func (l *loader) checkDomains(p string, cert *Certificate) {
	domains, optional := join(p, "domains"), join(p, "optional")
	if len(cert.Domains) == 0 {
		l.missing(domains, "list the host names that senders use")
	}
	if n := len(cert.Domains) + len(cert.Optional); n > maxNames {
		l.bad(domains, "split it into two certificates", "%d names; a certificate has at most %d", n, maxNames)
		return
	}
	l.normalise(domains, cert.Domains)
	l.normalise(optional, cert.Optional)
	for i, name := range cert.Optional {
		if slices.Contains(cert.Domains, name) {
			l.bad(at(optional, i), "remove one of the two: a name in domains is never left out", "%s is already in domains", quote(name))
		}
	}
	all := slices.Concat(cert.Domains, cert.Optional)
	l.coveredTwice(domains, cert.Domains, all)
	l.coveredTwice(optional, cert.Optional, all)
}

// normalise checks the form of the names in a list, and that none is there twice.
func (l *loader) normalise(p string, names []string) {
	for i, d := range names {
		name, err := domainName(d)
		if err != nil {
			l.bad(at(p, i), "", "%s: %v", quote(d), err)
			continue
		}
		names[i] = name
	}
	l.unique(p, names)
}

// coveredTwice finds names in a list that a wildcard among all names covers, too.
func (l *loader) coveredTwice(p string, names, all []string) {
	for i, d := range names {
		_, parent, _ := strings.Cut(d, ".")
		if slices.Contains(all, "*."+parent) && d != "*."+parent {
			l.bad(at(p, i), "remove one of the two", "%s already covers %s, and Let's Encrypt refuses to certify both", quote("*."+parent), quote(d))
		}
	}
}

// merge completes the override o of a certificate from the section above. The environment belongs to its provider:
// another provider does not inherit it.
func merge(o, above DNS) DNS {
	if o.Env == nil && (o.Provider == "" || o.Provider == above.Provider) {
		o.Env = maps.Clone(above.Env)
	}
	if o.Resolvers == nil {
		o.Resolvers = slices.Clone(above.Resolvers)
	}
	if o.ResolversTrusted == nil {
		o.ResolversTrusted = slices.Clone(above.ResolversTrusted)
	}
	if o.Zones == nil {
		o.Zones = above.Zones
	}
	o.Provider = cmp.Or(o.Provider, above.Provider)
	o.Propagation.Timeout = cmp.Or(o.Propagation.Timeout, above.Propagation.Timeout)
	o.Propagation.Require = cmp.Or(o.Propagation.Require, above.Propagation.Require)
	return o
}

// checkProviders checks that every certificate has a DNS provider, or zones that have one.
func (l *loader) checkProviders(c *Config) {
	if c.DNS.Provider == "" && len(c.DNS.Env) > 0 && len(c.DNS.Zones) > 0 {
		l.missing("dns.provider", "dns.env belongs to it; the account of a zone has an env of its own")
	}
	for i := range c.Certificates {
		p, cert := at("certificates", i), &c.Certificates[i]
		switch {
		case cert.DNS.Provider != "" || l.touched[join(p, "dns")] || l.touched["dns.zones"]:
		case len(cert.DNS.Zones) > 0:
			l.checkCovered(p, cert)
		default:
			l.missing("dns.provider", "`mxcert providers` lists the names; "+quote(c.Certificates[i].Name)+" has no provider of its own")
			return
		}
	}
}

// checkSameNames warns about certificates for the same names: CAs limit how often the same set is certified.
func (l *loader) checkSameNames(list []Certificate) {
	seen := map[string]string{}
	for i, c := range list {
		names := strings.Join(slices.Sorted(slices.Values(slices.Concat(c.Domains, c.Optional))), " ")
		other, twice := seen[names]
		if twice {
			l.warn(join(at("certificates", i), "domains"), "one certificate can have several targets and keys", "the same names as %s", other)
		}
		seen[names] = quote(c.Name)
	}
}

// checkEndpoints checks the endpoints and notes whether the configuration lists any.
func (l *loader) checkEndpoints(p string, v *Verify) {
	v.EndpointsSet = v.Endpoints != nil
	for i, e := range v.Endpoints {
		if err := endpointAddress(e); err != nil {
			l.bad(at(p, i), `write for example "127.0.0.1:25" or "[::1]:25"`, "%s: %v", quote(e), err)
		}
	}
	l.unique(p, v.Endpoints)
}

// oneOfEachAlgorithm refuses two keys of one algorithm. A server chooses a certificate by the algorithms that the client knows, so
// it would never show the second one, and mxcert could not prove it.
func (l *loader) oneOfEachAlgorithm(path string, keys []string) {
	first := map[bool]string{}
	for _, key := range keys {
		rsa := strings.HasPrefix(key, "rsa")
		if other := first[rsa]; other != "" && other != key {
			l.bad(path, "keep one of them", "%s and %s use the same algorithm: a server would show only one of them", other, key)
			return
		}
		first[rsa] = key
	}
}
