package doctor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxcert/acme/finding"
	"mxcert/deploy/discover"
)

// certificateFile writes a key and a certificate to one file, as servers have them.
func certificateFile(t *testing.T, path string, template *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(1), time.Now(), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n" + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestClientCertificates: what a server shows when it sends.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	h := desert(t)
	d := h.doctor()
	both, serverOnly, ours := h.Path("both.pem"), h.Path("server.pem"), h.Path("mx.crt")
	usages := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	certificateFile(t, both, &x509.Certificate{ExtKeyUsage: usages})
	certificateFile(t, serverOnly, &x509.Certificate{ExtKeyUsage: usages[:1]})
	certificateFile(t, ours, &x509.Certificate{ExtKeyUsage: usages})
	h.check(syscall.Mkfifo(h.Path("pipe"), 0o600))
	h.check(os.WriteFile(h.Path("some.key"), []byte("-----BEGIN PRIVATE KEY-----\n"), 0o600))
	for _, tt := range []struct {
		path     string
		severity finding.Severity // "" for nothing
		says     string
	}{
		{both, finding.OK, "is for clients until"},
		{serverOnly, finding.Warning, "no clientAuth"},
		{ours, finding.Warning, "mxcert renews this file"},
		{h.Path("missing.pem"), finding.Warning, "cannot be read"},
		{h.Path("pipe"), finding.Warning, "not a regular file"},
		{h.Path("some.key"), finding.OK, "shows no certificate"},
		{"${if eq{$host}{x}{/a.pem}}", finding.OK, "decided at each connection"},
		{"", finding.OK, "Exim shows no certificate"},
	} {
		s := Server{Sending: discover.Sending{Kind: "exim"}, files: map[string]file{}}
		if tt.path != "" {
			s.Clients = []discover.ClientCertificate{{Where: "the transport remote_smtp", Setting: "tls_certificate", Path: tt.path}}
			if filepath.IsAbs(tt.path) {
				s.files[tt.path] = readFile(tt.path)
			}
		}
		d.Servers = []Server{s}
		one(t, tt.path, d.sending(t.Context()), tt.severity, tt.says)
	}
}

// TestStapling: a file that Exim cannot use stops TLS for everybody.
func TestStapling(t *testing.T) {
	t.Parallel()
	h := desert(t)
	with, without, empty, staple := h.Path("with.pem"), h.Path("without.pem"), h.Path("empty.der"), h.Path("ocsp.der")
	certificateFile(t, with, &x509.Certificate{OCSPServer: []string{"http://ocsp.example"}})
	certificateFile(t, without, &x509.Certificate{})
	h.check(os.WriteFile(empty, nil, 0o600))
	h.check(os.WriteFile(staple, []byte("x"), 0o600))
	for _, tt := range []struct {
		certificate, path string
		severity          finding.Severity
		says              string
	}{
		{with, staple, finding.OK, "write it again"},
		{without, staple, finding.Warning, "names no OCSP responder"},
		{h.Path("none.pem") + " : " + without, staple, finding.Warning, "names no OCSP responder"},
		{"${lookup{x}}", staple, finding.OK, "write it again"},
		{with, h.Path("missing.der"), finding.Error, "does not exist"},
		{with, empty, finding.Error, "is empty"},
		{with, "${if exists{/a}{/a}}", finding.OK, "decided at each connection"},
	} {
		s := Server{Sending: discover.Sending{Kind: "exim", Certificate: tt.certificate, Stapling: tt.path}, files: map[string]file{}}
		for _, path := range []string{with, without, tt.path} {
			if filepath.IsAbs(path) {
				s.files[path] = readFile(path)
			}
		}
		one(t, tt.path, []finding.Finding{s.staple(nil)}, tt.severity, tt.says)
	}
}

// TestStaplingOfOurs: Exim reads the response that mxcert writes, and can do without it.
func TestStaplingOfOurs(t *testing.T) {
	t.Parallel()
	const ours = "/etc/exim4/ocsp.der"
	for _, tt := range []struct {
		setting  string
		severity finding.Severity
		says     string
	}{
		{"", finding.Warning, "tls_ocsp_file is not set"},
		{"/etc/exim4/other.der", finding.Warning, "but mxcert writes " + ours},
		{"${if exists{" + ours + "}{" + ours + "}}", finding.OK, "which names a file that mxcert writes"},
	} {
		s := Server{Sending: discover.Sending{Kind: "exim", Stapling: tt.setting}, files: map[string]file{}}
		found := s.staple([]string{ours})
		one(t, tt.setting, []finding.Finding{found}, tt.severity, tt.says)
		if found.Severity != finding.OK && !strings.Contains(found.Hint, "${if exists{"+ours+"}{"+ours+".served}}") {
			t.Errorf("%q: the hint is %q", tt.setting, found.Hint)
		}
	}
	s := Server{Sending: discover.Sending{Kind: "exim", Stapling: ours}, files: map[string]file{ours: {size: 1}}}
	one(t, "plain", []finding.Finding{s.staple([]string{ours})}, finding.Warning, "without a condition")
}

// TestEximFiles: a certificate beside ours that nobody renews.
func TestEximFiles(t *testing.T) {
	t.Parallel()
	h := desert(t)
	ours, other := h.Path("mx.crt"), h.Path("rsa.crt")
	certificateFile(t, other, &x509.Certificate{})
	s := Server{Sending: discover.Sending{Kind: "exim"}, files: map[string]file{other: readFile(other)}}
	look := func(setting string) []finding.Finding {
		s.Certificate = setting
		return s.reads([]string{ours})
	}
	one(t, "ours alone", look(ours), finding.OK, "which mxcert writes")
	if found := look(ours + " : " + other + " : /missing.crt"); len(found) != 3 || !h.says(found, finding.Warning, other) || !h.says(found, finding.Warning, "valid until") || !h.says(found, finding.Warning, "/missing.crt") {
		t.Errorf("others beside ours: %+v", found)
	}
	for _, setting := range []string{"", other, "${if exists{" + ours + "}{" + ours + "}}"} { // the test of the places knows
		if found := look(setting); len(found) != 0 {
			t.Errorf("%q: %+v", setting, found)
		}
	}
}
