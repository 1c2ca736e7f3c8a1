// Package authority is the one table of the CAs that mxcert knows by name.
//
// Everything else about a CA comes from its directory document (RFC 8555 section 7.1.1); its limits are in the room schedule. A
// CA that is not in the table also works: the configuration then names the URL of its directory.
package authority

import "net/url"

type entry struct {
	name      string // as it is written in the configuration
	directory string // URL of the directory
	staging   string // directory of the service to rehearse with; "" if there is none
	caa       string // the domain that CAA records name it by (RFC 8659 section 4.2), as its documentation says
}

func table() []entry {
	const letsEncryptStaging = "https://acme-staging-v02.api.letsencrypt.org/directory"
	return []entry{
		{"letsencrypt", "https://acme-v02.api.letsencrypt.org/directory", letsEncryptStaging, "letsencrypt.org"},
		{"letsencrypt-staging", letsEncryptStaging, "", "letsencrypt.org"},
		{"zerossl", "https://acme.zerossl.com/v2/DV90", "", "sectigo.com"},
		{"google", "https://dv.acme-v02.api.pki.goog/directory", "", "pki.goog"},
	}
}

// Names lists the short names, the default one first.
func Names() []string {
	var names []string
	for _, e := range table() {
		names = append(names, e.name)
	}
	return names
}

// Directory returns the directory URL of the CA with that short name; ok is false if the table does not have it.
func Directory(name string) (directory string, ok bool) {
	for _, e := range table() {
		if e.name == name {
			return e.directory, true
		}
	}
	return "", false
}

// AtHost returns the directory URL of the CA whose host and port are those of url, which may be any of its URLs, such as
// that of a certificate; ok is false if the table does not have it.
func AtHost(url string) (directory string, ok bool) {
	for _, e := range table() {
		if Name(e.directory) == Name(url) {
			return e.directory, true
		}
	}
	return "", false
}

// Staging returns the directory URL of a CA's staging service; ok is false if the table has none.
func Staging(directory string) (staging string, ok bool) {
	for _, e := range table() {
		if e.directory == directory && e.staging != "" {
			return e.staging, true
		}
	}
	return "", false
}

// IsStaging reports whether a directory URL is that of a staging service, whose certificates no sender trusts.
func IsStaging(directory string) bool {
	for _, e := range table() {
		if e.staging != "" && e.staging == directory {
			return true
		}
	}
	return false
}

// CAA returns the domain by which CAA records name a CA; "" if the table does not have the CA.
func CAA(directory string) string {
	for _, e := range table() {
		if e.directory == directory {
			return e.caa
		}
	}
	return ""
}

// Name returns what messages call a CA: the host of its directory URL, with the port if the URL has one. It returns text that
// is not such a URL as it is.
func Name(directory string) string {
	if u, err := url.Parse(directory); err == nil && u.Host != "" {
		return u.Host
	}
	return directory
}

// mostNames is how many names the known CAs certify together, unless a profile allows fewer.
const mostNames = 100

// MostNames returns how many names a CA certifies together in a profile; "" is its default profile. The profiles tlsserver and shortlived of
// Let's Encrypt allow fewer than its default one (letsencrypt.org/docs/profiles). A CA that is not in the table is assumed to allow
// as many as the others.
func MostNames(directory, profile string) int {
	if Name(directory) == "acme-v02.api.letsencrypt.org" || Name(directory) == "acme-staging-v02.api.letsencrypt.org" {
		switch profile {
		case "tlsserver", "shortlived":
			return 25
		}
	}
	return mostNames
}

// WithoutOCSP reports whether the certificates of the CA with that directory URL name no OCSP responder: Let's Encrypt ended OCSP in 2025.
func WithoutOCSP(directory string) bool {
	letsEncrypt, _ := Directory("letsencrypt")
	staging, _ := Staging(letsEncrypt)
	return directory == letsEncrypt || directory == staging
}
