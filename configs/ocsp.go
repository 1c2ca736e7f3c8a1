package configs

import (
	"slices"
	"strings"

	"mxcert/acme/authority"
)

// checkStaple checks the path of the OCSP response of a target of certificate c.
func (l *loader) checkStaple(p string, c *Certificate, t *Target) {
	where := join(p, "ocsp")
	switch {
	case t.OCSP == "":
		return
	case t.Kind != kindExim:
		l.bad(where, "remove it", "%s cannot send an OCSP response from a file; only Exim can (tls_ocsp_file)", whoReads(t.Kind))
		return
	case t.SNIMap != "":
		l.bad(where, "remove ocsp, or use certificate and private_key, or combined, without a map", "Exim's tls_ocsp_file cannot follow sni_map")
		return
	case t.Directory != "" && (t.OCSP == t.Directory || strings.HasPrefix(t.OCSP, t.Directory+"/") || strings.HasPrefix(t.OCSP, t.Directory+".generations/")):
		l.bad(where, "write the response beside the link, for example to "+quote(t.Directory+".ocsp"), "%s is inside the directory that mxcert exchanges at a renewal", quote(t.OCSP))
		return
	}
	l.checkTemplate(where, t.OCSP)
	if len(c.Keys) > 1 && !strings.Contains(t.OCSP, "{key}") {
		l.bad(where, "put {key} into the path: each certificate has a response of its own", "%s is the same for all %d keys", quote(t.OCSP), len(c.Keys))
	}
}

// whoReads returns the reader of a target's files as a person writes it.
func whoReads(kind string) string {
	if kind == kindFiles {
		return "a target of the kind files"
	}
	return server(kind)
}

// sharedStaple refuses a response beside files that an earlier target writes: the order of the change is that of one target.
func (l *loader) sharedStaple(p string, t Target) {
	if t.OCSP != "" {
		l.bad(join(p, "ocsp"), "write the exim target first", "the certificate of this target is written by an earlier target")
	}
}

// warnStaples warns about targets that want OCSP responses of a CA that has none.
func (l *loader) warnStaples(c *Config) {
	for i, cert := range c.Certificates {
		for j, t := range cert.Deploy {
			without := slices.IndexFunc(c.ACME.Directories, authority.WithoutOCSP)
			if t.OCSP == "" || without < 0 {
				continue
			}
			p := join(join(at(join(at("certificates", i), "deploy"), j), t.Kind), "ocsp")
			l.warn(p, "remove it: the certificate will not be deployed with it", "certificates of %s name no OCSP responder", authority.Name(c.ACME.Directories[without]))
		}
	}
}
