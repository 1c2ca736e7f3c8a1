package doctor

import (
	"crypto/x509"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy/ocsp"
)

// staplePaths lists the OCSP responses that mxcert writes.
func (d *Doctor) staplePaths() (paths []string) {
	if d.Runner == nil || d.Runner.Host == nil {
		return nil
	}
	for _, want := range d.Runner.Host.Certificates {
		for _, target := range want.Targets() {
			if target.OCSP != "" && !slices.Contains(paths, target.OCSP) {
				paths = append(paths, target.OCSP)
			}
		}
	}
	return paths
}

// staple judges tls_ocsp_file. If Exim cannot use the file, it answers STARTTLS with 454. ours are the responses that mxcert writes.
func (s Server) staple(ours []string) finding.Finding {
	const remove = "remove tls_ocsp_file from Exim's configuration: Let's Encrypt and others have no OCSP any more"
	path := finding.Quote(s.Stapling, 200)
	f, read := s.files[s.Stapling]
	leaf, issuer := s.served()
	if len(ours) > 0 {
		if found, wrong := s.stapleOfOurs(ours); wrong {
			return found
		}
	}
	switch {
	case !read && len(ours) > 0:
		return well("tls_ocsp_file is %s, which names a file that mxcert writes", path)
	case !read:
		return well("tls_ocsp_file is %s; which file that is, is decided at each connection, so it was not judged", path)
	case errors.Is(f.err, os.ErrNotExist):
		return bad("tls_ocsp_file is %s, which does not exist: Exim refuses STARTTLS with 454", path).Next(remove)
	case f.err != nil:
		return doubtful("tls_ocsp_file is %s, which cannot be read: %v", path, f.err).Next(remove)
	case f.size == 0:
		return bad("tls_ocsp_file is %s, which is empty: Exim refuses STARTTLS with 454", path).Next(remove)
	case leaf != nil && len(leaf.OCSPServer) == 0:
		return doubtful("tls_ocsp_file is %s, but the certificate names no OCSP responder: nothing can renew the file, and when it does not fit the certificate any more, Exim refuses STARTTLS with 454", path).Next(remove)
	}
	if leaf != nil && issuer != nil && f.text != nil {
		if r, err := ocsp.Parse(f.text, leaf, issuer, time.Now()); err != nil {
			return bad("tls_ocsp_file is %s, which is no response about the certificate that Exim reads: when Exim reads it again, it refuses STARTTLS with 454: %v", path, err).
				Next("put a response of this certificate there, or remove tls_ocsp_file")
		} else if r.Expired(time.Now()) {
			return bad("tls_ocsp_file is %s, whose response expired at %s: when Exim reads it again, it refuses STARTTLS with 454", path, report.Minute(r.NextUpdate)).
				Next("put a new response there, or remove tls_ocsp_file")
		}
	}
	if len(ours) > 0 {
		return doubtful("tls_ocsp_file is %s without a condition: Exim refuses STARTTLS with 454 while there is no valid response", path).Next(conditional(s.Stapling))
	}
	return well("tls_ocsp_file is %s; whatever wrote it has to write it again after each renewal", path)
}

// stapleOfOurs compares tls_ocsp_file with the files that mxcert writes. wrong says that it does not read them.
func (s Server) stapleOfOurs(ours []string) (found finding.Finding, wrong bool) {
	missing := slices.DeleteFunc(slices.Clone(ours), func(path string) bool { return strings.Contains(s.Stapling, path) })
	switch {
	case s.Stapling == "":
		return doubtful("mxcert writes %s, but Exim sends no OCSP response: tls_ocsp_file is not set", finding.Quote(strings.Join(ours, ", "), 200)).Next(conditional(ours[0])), true
	case len(missing) > 0:
		return doubtful("tls_ocsp_file is %s, but mxcert writes %s", finding.Quote(s.Stapling, 200), finding.Quote(strings.Join(missing, ", "), 200)).Next(conditional(missing[0])), true
	}
	return found, false
}

// conditional returns the setting that lets Exim go on without a response.
func conditional(path string) string {
	return "write in Exim's configuration: " + wanted.ConditionalStaple(path)
}

// served returns the first certificate that Exim reads, and that of its issuer.
func (s Server) served() (leaf, issuer *x509.Certificate) {
	for _, path := range strings.Split(s.Certificate, ":") {
		if f := s.files[strings.TrimSpace(path)]; f.leaf != nil {
			return f.leaf, f.issuer
		}
	}
	return nil, nil
}
