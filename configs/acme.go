package configs

import (
	"cmp"
	"net/netip"
	"net/url"
	"path"
	"strings"
)

// knownCA returns the directory URL of an authority that is known by name.
func knownCA(name string) (string, bool) {
	switch name {
	case "letsencrypt":
		return "https://acme-v02.api.letsencrypt.org/directory", true
	case "letsencrypt-staging":
		return "https://acme-staging-v02.api.letsencrypt.org/directory", true
	case "zerossl":
		return "https://acme.zerossl.com/v2/DV90", true
	case "google":
		return "https://dv.acme-v02.api.pki.goog/directory", true
	}
	return "", false
}

// check checks everything that concerns more than one value, or more than the form of one. It completes c.
func (l *loader) check(c *Config) {
	l.checkACME(&c.ACME)
	l.checkDNS("dns", &c.DNS)
	l.checkPath("state", c.State)
	l.checkPath("hooks.directory", c.Hooks.Directory)
	l.checkCertificates(c)
}

func (l *loader) checkACME(a *ACME) {
	if err := checkEmail(a.Email); a.Email != "" && err != nil {
		l.bad("acme.email", "write an address such as postmaster@example.org, or remove the line", "%s: %v", quote(a.Email), err)
	}
	if !a.AgreeTOS {
		l.checkTerms()
	}
	if len(a.Directories) == 0 {
		l.bad("acme.directory", "name one CA, or remove the line", "the list is empty")
	}
	for i, d := range a.Directories {
		a.Directories[i] = l.directory(d, a.EAB)
	}
	if len(a.Profile) > 64 || !onlyHas(a.Profile, alnum+"._-") {
		l.bad("acme.profile", `a profile is a word such as tlsserver; "" is the CA's default`, "%s is not the name of a profile", quote(a.Profile))
	}
	l.checkEAB(a.EAB)
	l.checkPath("acme.ca_file", a.CAFile)
	l.checkPath("acme.roots_file", a.RootsFile)
}

func (l *loader) checkTerms() {
	const hint = "read the terms of service of the CA, then write agree_tos: true"
	if _, ok := l.index.places["acme.agree_tos"]; ok {
		l.bad("acme.agree_tos", hint, "a CA issues nothing to who does not agree to its terms of service")
		return
	}
	l.missing("acme.agree_tos", hint)
}

// directory resolves the name of an authority, or checks its URL.
func (l *loader) directory(d string, eab EAB) string {
	if known, ok := knownCA(d); ok {
		switch {
		case d == "letsencrypt-staging":
			l.warn("acme.directory", "use letsencrypt when the rehearsal is over", "certificates of the staging CA are trusted by nobody")
		case d != "letsencrypt" && eab.KID == "":
			l.warn("acme.directory", "get kid and hmac_key from the CA and set acme.eab", "%s registers a new account only with an external account binding", d)
		}
		return known
	}
	where := "acme.directory"
	if _, ok := l.index.places["acme.directory[0]"]; ok {
		where = "acme.directory[0]"
	}
	u, err := url.Parse(d)
	switch {
	case strings.Contains(d, "@"):
		l.index.hide(where, d)
		l.bad(where, "remove the part before the @", "the URL contains a user name")
	case err != nil || !strings.Contains(d, "://"):
		names := []string{"letsencrypt", "letsencrypt-staging", "zerossl", "google"}
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

func (l *loader) checkEAB(e EAB) {
	switch {
	case e.KID == "" && e.HMACKey != "":
		l.missing("acme.eab.kid", "the CA gives kid and hmac_key together")
	case e.KID != "" && e.HMACKey == "":
		l.missing("acme.eab.hmac_key", "the CA gives kid and hmac_key together; write hmac_key: cred:eab")
	}
	l.checkSecret("acme.eab.hmac_key", e.HMACKey, true)
}

// checkDNS checks the section at p, and completes the resolvers.
func (l *loader) checkDNS(p string, d *DNS) {
	if !onlyHas(d.Provider, lower+digit+"-") {
		l.bad(join(p, "provider"), "`mxcert providers` lists the names", "%s is not the name of a DNS provider", quote(d.Provider))
	}
	for i, r := range d.Resolvers {
		address, err := resolverAddress(r)
		if err != nil {
			l.bad(at(join(p, "resolvers"), i), `write for example "192.0.2.53" or "[2001:db8::53]:53"`, "%s: %v", quote(r), err)
			continue
		}
		d.Resolvers[i] = address
	}
	l.unique(join(p, "resolvers"), d.Resolvers)
	for name, value := range d.Env {
		where := join(join(p, "env"), name)
		if !onlyHas(name, upper+digit+"_") || name == "" || onlyHas(name[:1], digit) {
			l.bad(where, "write it as in the documentation of the provider, for example DNSUPDATE_NAMESERVER", "%s is not the name of a variable", quote(name))
		}
		l.checkSecret(where, value, !isPublic(name))
	}
}

// checkPath checks the form of a path. An empty one is not there.
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

// unique records the elements of the list at p that are there twice.
func (l *loader) unique(p string, list []string) {
	seen := map[string]bool{}
	for i, s := range list {
		if seen[s] && s != "" {
			l.bad(at(p, i), "remove one of the two", "%s is listed twice", quote(s))
		}
		seen[s] = true
	}
}
