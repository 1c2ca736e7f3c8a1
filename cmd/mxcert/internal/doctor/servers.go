package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/discover"
	"mxcert/deploy/ocsp"
)

const (
	// serverTime limits the questions to one mail server's programs.
	serverTime = 20 * time.Second
	// largestFile limits what is read of a certificate file that a mail server names.
	largestFile = 1 << 20
)

// Server is what a mail server of this host says about itself, with the files that it names.
type Server struct {
	discover.Sending
	err   error
	files map[string]file
}

// file is a certificate or stapling file of a mail server.
type file struct {
	leaf   *x509.Certificate // nil if the file has no certificate
	issuer *x509.Certificate // nil if the file has no chain
	text   []byte            // if the file may be an OCSP response
	size   int64
	err    error
}

// ReadServers asks the mail servers of this host. Call it with the rights of root, because others may not read all files.
func ReadServers(ctx context.Context) (servers []Server) {
	for _, kind := range []string{"exim", "postfix"} {
		bounded, cancel := context.WithTimeout(ctx, serverTime)
		sending, err := discover.LookAtSending(bounded, kind)
		cancel()
		if errors.Is(err, discover.ErrAbsent) {
			continue
		}
		sending.Kind = kind
		s := Server{Sending: sending, err: err, files: map[string]file{}}
		paths := append([]string{s.Stapling}, strings.Split(s.Certificate, ":")...)
		for _, c := range s.Clients {
			paths = append(paths, c.Path)
		}
		for _, path := range paths {
			if path = strings.TrimSpace(path); strings.HasPrefix(path, "/") && !strings.Contains(path, "$") {
				s.files[path] = readFile(path)
			}
		}
		servers = append(servers, s)
	}
	return servers
}

// readFile reads a regular file.
func readFile(path string) file {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return file{err: err}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return file{err: errors.Join(err, errors.New("it is not a regular file"))}
	}
	text, err := io.ReadAll(io.LimitReader(f, largestFile))
	if err != nil {
		return file{err: err}
	}
	read := file{size: info.Size()}
	if len(text) <= ocsp.Largest {
		read.text = text
	}
	if i := strings.Index(string(text), "-----BEGIN CERTIFICATE-----"); i >= 0 { // a key may come first
		text = text[i:]
		if end := strings.Index(string(text), "-----END CERTIFICATE-----"); end >= 0 {
			if chain, err := bundle.ParseChain(text[:end+len("-----END CERTIFICATE-----")]); err == nil && len(chain) > 0 {
				read.leaf = chain[0]
				if len(chain) > 1 {
					read.issuer = chain[1]
				}
			}
		}
	}
	return read
}

// sending reports how the mail servers use certificates when they send, and what Exim staples.
func (d *Doctor) sending(context.Context) (found []finding.Finding) {
	for _, s := range d.Servers {
		if s.err != nil {
			found = append(found, doubtful("%s was not asked: %s", title(s.Kind), report.OneLine(s.err.Error())).About(s.Kind).Next(report.HintOf(s.err)))
			continue
		}
		var about []finding.Finding
		for _, c := range s.Clients {
			about = append(about, s.client(c, d.targetPaths())...)
		}
		if len(about) == 0 {
			about = append(about, well("%s shows no certificate to the servers to which it sends", title(s.Kind)))
		}
		for _, f := range about {
			found = append(found, called("client-certificate", f).About(s.Kind))
		}
		if ours := d.staplePaths(); s.Kind == "exim" && (s.Stapling != "" || len(ours) > 0) {
			found = append(found, called("ocsp-file", s.staple(ours)).About(s.Kind))
		}
		for _, f := range s.reads(d.targetPaths()) {
			found = append(found, called("exim-files", f).About(s.Kind))
		}
	}
	return found
}

func title(kind string) string { return strings.ToUpper(kind[:1]) + kind[1:] }

// targetPaths lists the files that mxcert writes.
func (d *Doctor) targetPaths() (paths []string) {
	for _, want := range d.Runner.Host.Certificates {
		for _, target := range want.Targets() {
			for _, pair := range target.Pairs(nil) {
				paths = append(paths, pair.Certificate)
			}
		}
	}
	return paths
}

// reads compares the files of Exim's tls_certificate with those that mxcert writes. If Exim reads none of them, the test of the places says so
// and what to change; it also knows what expressions mean.
func (s Server) reads(targets []string) (found []finding.Finding) {
	if s.Certificate == "" || strings.Contains(s.Certificate, "$") {
		return nil
	}
	var ours, others []string
	for _, path := range strings.Split(s.Certificate, ":") {
		if path = strings.TrimSpace(path); slices.Contains(targets, path) {
			ours = append(ours, path)
		} else if path != "" {
			others = append(others, path)
		}
	}
	if len(ours) == 0 {
		return nil
	}
	found = []finding.Finding{well("Exim reads %s (tls_certificate), which mxcert writes", finding.Quote(strings.Join(ours, ", "), 200))}
	for _, path := range others {
		text := fmt.Sprintf("Exim also reads %s (tls_certificate), which mxcert does not write", finding.Quote(path, 200))
		if leaf := s.files[path].leaf; leaf != nil {
			text += ": its certificate is valid until " + report.Minute(leaf.NotAfter)
		}
		found = append(found, doubtful("%s", text).Next("add its key type to keys: and its path to the target, or remove it from tls_certificate and tls_privatekey"))
	}
	return found
}

// client judges one certificate of a client. Public CAs have issued no certificates for clients since 2026, and a server that verifies
// refuses one without that usage.
func (s Server) client(c discover.ClientCertificate, targets []string) []finding.Finding {
	text := fmt.Sprintf("%s of %s (%s) shows %s to the servers to which it sends", c.Where, title(s.Kind), c.Setting, finding.Quote(c.Path, 200))
	hint := fmt.Sprintf("remove %s from %s: no server needs it to take your mail; if one does, give it a certificate of its own for that", c.Setting, c.Where)
	f, read := s.files[c.Path]
	ours := slices.Contains(targets, c.Path)
	switch {
	case !read:
		return []finding.Finding{well("%s; which file that is, is decided at each connection, so it was not judged", text)}
	case f.err != nil && !ours:
		return []finding.Finding{doubtful("%s, and the file cannot be read: %v", text, f.err).Next(hint)}
	case f.leaf == nil && !ours:
		return nil // a key, in a list of keys and certificates
	case f.leaf != nil && !forClients(f.leaf):
		return []finding.Finding{doubtful("%s, but this certificate is not for clients (no clientAuth): a server that verifies clients refuses it", text).Next(hint)}
	case ours:
		return []finding.Finding{doubtful("%s, and mxcert renews this file: public CAs certify no clients any more, so a later certificate is not for clients", text).Next(hint)}
	}
	return []finding.Finding{well("%s; the certificate is for clients until %s", text, report.Minute(f.leaf.NotAfter))}
}

// forClients reports whether a certificate may be a client's (RFC 5280 section 4.2.1.12).
func forClients(leaf *x509.Certificate) bool {
	return len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) == 0 || slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny)
}
