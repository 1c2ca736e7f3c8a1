package configs

import (
	"cmp"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"

	"mxcert/acme/authority"
	"mxcert/acme/resolve"
)

// check applies all rules that need more than one value, or more than the form of a value. It completes c.
func (l *loader) check(c *Config) {
	l.checkACME(&c.ACME)
	l.checkDNS("dns", &c.DNS, c.DNS.Provider)
	l.checkRenewal("renewal", &c.Renewal)
	l.checkPath("state", c.State)
	l.checkPath("hooks.directory", c.Hooks.Directory)
	l.checkCertificates(c)
	l.checkPublicAddresses(c.PublicAddresses)
	l.checkTLSRPT(c)
	l.checkCT(&c.CT)
	l.checkMetrics(&c.Metrics, c.State)
	l.checkChannels(c.Notify)
	l.checkReport(c)
	l.checkFleet(&c.Fleet)
}

func (l *loader) checkACME(a *ACME) {
	l.checkEmail(a)
	if !a.AgreeTOS {
		l.checkTerms()
	}
	if len(a.Directories) == 0 {
		l.bad("acme.directory", "name one CA, or remove the line", "the list is empty")
	}
	if a.EAB = slices.DeleteFunc(a.EAB, func(e EAB) bool { return e == EAB{} }); len(a.EAB) == 0 { // as in the example
		a.EAB = nil
	}
	for i := range a.EAB {
		l.checkEAB(a, i)
	}
	for i, d := range a.Directories {
		a.Directories[i] = l.directory(d, i, a)
	}
	l.unique("acme.directory", a.Directories)
	l.checkLimits(a)
	if len(a.Profile) > 64 || !onlyHas(a.Profile, alnum+"._-") {
		l.bad("acme.profile", `a profile is a word such as tlsserver; "" is the CA's default`, "%s is not the name of a profile", quote(a.Profile))
	}
	if len(a.PreferredChain) > 200 || strings.ContainsFunc(a.PreferredChain, func(r rune) bool { return r < ' ' }) {
		l.bad("acme.preferred_chain", "write the common name of a root or issuer, such as ISRG Root X1", "%s is not a name", quote(a.PreferredChain))
	}
	l.checkPath("acme.ca_file", a.CAFile)
	l.checkPath("acme.roots_file", a.RootsFile)
}

// checkEmail normalises the address, and warns of one that a public CA refuses.
func (l *loader) checkEmail(a *ACME) {
	if a.Email == "" {
		return
	}
	address, err := mailAddress(a.Email)
	if err != nil {
		l.bad("acme.email", "write an address such as postmaster@example.org, or remove the line", "%s: %v", quote(a.Email), err)
		return
	}
	a.Email = address
	switch _, domain, _ := cutLast(address); {
	case !slices.ContainsFunc(a.Directories, isPublic):
	case isPrivate(domain):
		l.warn("acme.email", "write an address that the CA can reach, or remove the line", "%s is of a private domain, which the public DNS does not have: CAs refuse such an address (invalidContact)", quote(address))
	case isReserved(domain):
		l.warn("acme.email", "write an address of yours, or remove the line", "%s is only an example: CAs refuse such an address (invalidContact)", quote(address))
	}
}

// isPublic reports whether a directory, a name or a URL, belongs to one of the CAs that mxcert knows.
func isPublic(directory string) bool {
	_, named := authority.Directory(directory)
	_, known := authority.AtHost(directory)
	return named || known
}

func (l *loader) checkTerms() {
	const hint = "read the terms of service of the CA, then write agree_tos: true"
	if _, ok := l.index.places["acme.agree_tos"]; ok {
		l.bad("acme.agree_tos", hint, "a CA issues certificates only if you agree to its terms of service")
		return
	}
	l.missing("acme.agree_tos", hint)
}

// directory resolves the name of the i-th authority, or checks its URL.
func (l *loader) directory(d string, i int, a *ACME) string {
	where := "acme.directory"
	if _, ok := l.index.places[at(where, i)]; ok {
		where = at(where, i)
	}
	if known, ok := authority.Directory(d); ok {
		_, bound := a.Binding(known)
		switch {
		case d == "letsencrypt-staging":
			l.warn(where, "use letsencrypt when the rehearsal is over", "senders do not trust certificates of the staging CA")
		case d != "letsencrypt" && !bound:
			l.warn(where, "get kid and hmac_key from the CA and set acme.eab", "%s registers a new account only with an external account binding", d)
		}
		return known
	}
	u, err := url.Parse(d)
	switch {
	case strings.Contains(d, "@"):
		l.index.hide(where, d)
		l.bad(where, "remove the part before the @", "the URL contains a user name")
	case err != nil || !strings.Contains(d, "://"):
		names := authority.Names()
		l.bad(where, cmp.Or(suggest(d, names), "known: "+strings.Join(names, ", ")+", or an https URL"), "%s is not a known CA", quote(d))
	case u.Host == "" || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http":
		l.bad(where, "write an https URL", "%s is not the URL of a directory", quote(d))
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		l.bad(where, "write https://; plain http is accepted for a CA on this host only", "%s is not encrypted", quote(d))
	}
	return d
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// Binding returns the external account binding for the authority with that directory URL: the one that names it, or else the
// one without a directory, which is for any authority that asks for one.
func (a ACME) Binding(directory string) (binding EAB, ok bool) {
	for _, e := range a.EAB {
		if e.Directory == directory {
			return e, true
		}
		if e.Directory == "" {
			binding, ok = e, true
		}
	}
	return binding, ok
}

// checkEAB checks the i-th binding.
func (l *loader) checkEAB(a *ACME, i int) {
	e, p := &a.EAB[i], "acme.eab"
	if _, ok := l.index.places[at(p, i)]; ok {
		p = at(p, i)
	}
	switch {
	case e.KID == "" && e.HMACKey != "":
		l.missing(join(p, "kid"), "the CA gives kid and hmac_key together")
	case e.KID != "" && e.HMACKey == "":
		l.missing(join(p, "hmac_key"), "the CA gives kid and hmac_key together; write hmac_key: cred:eab")
	}
	l.checkSecret(join(p, "hmac_key"), e.HMACKey, variable{})
	l.checkBindingsCA(a, e, p)
}

// checkBindingsCA finds the authority for which a binding is. Another authority would not accept it.
func (l *loader) checkBindingsCA(a *ACME, e *EAB, p string) {
	known := slices.Clone(a.Directories)
	for i, d := range known {
		known[i] = cmp.Or(first(authority.Directory(d)), d)
	}
	directory := cmp.Or(first(authority.Directory(e.Directory)), e.Directory)
	switch {
	case e.Directory == "" && len(a.EAB) > 1:
		l.missing(join(p, "directory"), "say which of the CAs gave kid and hmac_key: directory: "+a.Directories[len(known)-1])
	case e.Directory == "":
	case !slices.Contains(known, directory):
		l.bad(join(p, "directory"), "write it as in acme.directory", "%s is not among the CAs of acme.directory", quote(e.Directory))
	default:
		e.Directory = directory
	}
}

func first(s string, _ bool) string { return s }

// checkDNS checks the section at p, which is about a provider that it or the section above names, and completes the
// resolvers.
func (l *loader) checkDNS(p string, d *DNS, provider string) {
	l.checkProvider(p, d.Provider)
	l.checkResolvers(join(p, "resolvers"), d.Resolvers)
	l.checkResolvers(join(p, "resolvers_trusted"), d.ResolversTrusted)
	l.checkEnv(p, d.Env, provider)
	l.checkZones(join(p, "zones"), d.Zones)
}

// checkResolvers checks the resolvers at p and completes them with their ports.
func (l *loader) checkResolvers(p string, list []string) {
	for i, r := range list {
		server, err := resolve.ParseServer(r)
		if err != nil {
			l.bad(at(p, i), `write for example "192.0.2.53", "[2001:db8::53]:53" or "tls://dns.example.net@192.0.2.53"`, "%s: %v", quote(r), err)
			continue
		}
		list[i] = server
	}
	l.unique(p, list)
}

// checkProvider checks the form of a provider's name.
func (l *loader) checkProvider(p, provider string) {
	if !onlyHas(provider, lower+digit+"-") {
		l.bad(join(p, "provider"), "`mxcert providers` lists the names", "%s is not the name of a DNS provider", quote(provider))
	}
}

// checkEnv checks the variables of an account, in the section at p.
func (l *loader) checkEnv(p string, env map[string]Secret, provider string) {
	for name, value := range env {
		where := join(join(p, "env"), name)
		if !onlyHas(name, upper+digit+"_") || name == "" || onlyHas(name[:1], digit) {
			l.bad(where, "write it as in the documentation of the provider, for example DNSUPDATE_NAMESERVER", "%s is not the name of a variable", quote(name))
		}
		l.checkSecret(where, value, variable{provider, name})
	}
}

// checkPath checks the form of a path. An empty path means that the setting is absent.
func (l *loader) checkPath(p, file string) {
	switch {
	case file == "":
	case !path.IsAbs(file):
		l.bad(p, "write a path that begins with /", "%s is not an absolute path", quote(file))
	case path.Clean(file) != file || file == "/":
		l.bad(p, cmp.Or(cleaner(file), "name a file or directory"), "%s is not a plain path", quote(file))
	case strings.ContainsFunc(file, func(r rune) bool { return r < ' ' }):
		l.bad(p, "remove it", "%s contains a control character", quote(file))
	}
}

func cleaner(file string) string {
	if clean := path.Clean(file); clean != "/" {
		return "did you mean " + quote(clean) + "?"
	}
	return ""
}

// unique records a fault for each element that occurs twice in the list at p.
func (l *loader) unique(p string, list []string) {
	seen := map[string]bool{}
	for i, s := range list {
		if seen[s] && s != "" {
			l.bad(at(p, i), "remove one of the two", "%s is listed twice", quote(s))
		}
		seen[s] = true
	}
}
