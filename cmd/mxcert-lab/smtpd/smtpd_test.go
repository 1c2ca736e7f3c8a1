package smtpd_test

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/smtpd"
)

func start(t *testing.T, opts smtpd.Options) *smtpd.Server {
	t.Helper()
	s, err := smtpd.Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the server: %v", err)
		}
	})
	return s
}

// files are the PEM blocks of a self-signed certificate.
type files struct {
	certificate, key []byte
	serial           *big.Int
}

func make509(t *testing.T, serial int64, key crypto.Signer) files {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"mx.example.org"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return files{
		certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		serial:      template.SerialNumber,
	}
}

func ecKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func write(t *testing.T, path string, content ...[]byte) {
	t.Helper()
	if err := os.WriteFile(path, slices.Concat(content...), 0o600); err != nil {
		t.Fatal(err)
	}
}

// client is a connection of a test, without any knowledge of SMTP but reply lines.
type client struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func dial(t *testing.T, s *smtpd.Server) *client {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return &client{t: t, conn: conn, in: bufio.NewReader(conn)}
}

// reply reads one reply, which may have many lines.
func (c *client) reply() string {
	c.t.Helper()
	var text strings.Builder
	for {
		line, err := c.in.ReadString('\n')
		text.WriteString(line)
		if err != nil {
			c.t.Fatalf("after %q: %v", text.String(), err)
		}
		if len(line) < 4 || line[3] != '-' {
			return text.String()
		}
	}
}

func (c *client) say(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, line+"\r\n"); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) ask(line string) string {
	c.t.Helper()
	c.say(line)
	return c.reply()
}

// toTLS goes as far as the reply to STARTTLS.
func (c *client) toTLS() string {
	c.t.Helper()
	if greeting := c.reply(); !strings.HasPrefix(greeting, "220 ") {
		c.t.Errorf("greeting %q", greeting)
	}
	if offer := c.ask("EHLO client.example.com"); !strings.Contains(offer, "STARTTLS\r\n") {
		c.t.Errorf("no STARTTLS in %q", offer)
	}
	return c.ask("STARTTLS")
}

// handshake gives the leaf that the server shows.
func (c *client) handshake(config *tls.Config) *x509.Certificate {
	c.t.Helper()
	config.InsecureSkipVerify = true // the certificate is looked at by the caller
	if config.ServerName == "" {
		config.ServerName = "mx.example.org"
	}
	conn := tls.Client(c.conn, config)
	if err := conn.HandshakeContext(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	c.conn, c.in = conn, bufio.NewReader(conn)
	return conn.ConnectionState().PeerCertificates[0]
}

// served gives the serial that the server shows, nil when it says 454.
func served(t *testing.T, s *smtpd.Server) *big.Int {
	t.Helper()
	c := dial(t, s)
	reply := c.toTLS()
	if strings.HasPrefix(reply, "454 ") {
		return nil
	}
	if !strings.HasPrefix(reply, "220 ") {
		t.Fatalf("STARTTLS: %q", reply)
	}
	return c.handshake(&tls.Config{}).SerialNumber
}

func same(a, b *big.Int) bool { return a != nil && b != nil && a.Cmp(b) == 0 }

func TestSession(t *testing.T) {
	directory := t.TempDir()
	one := make509(t, 1, ecKey(t))
	combined := filepath.Join(directory, "combined.pem")
	write(t, combined, one.key, one.certificate)
	s := start(t, smtpd.Options{Hostname: "mx.example.org", Pairs: []smtpd.Pair{{Certificate: combined}}})
	c := dial(t, s)
	if reply := c.toTLS(); !strings.HasPrefix(reply, "220 ") {
		t.Fatal(reply)
	}
	if leaf := c.handshake(&tls.Config{}); !same(leaf.SerialNumber, one.serial) {
		t.Errorf("serial %s", leaf.SerialNumber)
	}
	if offer := c.ask("EHLO client.example.com"); strings.Contains(offer, "STARTTLS") || !strings.Contains(offer, "REQUIRETLS") {
		t.Errorf("in TLS: %q", offer)
	}
	for command, code := range map[string]string{"NOOP": "250", "MAIL FROM:<>": "550", "STARTTLS": "503", "XYZZY": "500", "HELO x": "250"} {
		if reply := c.ask(command); !strings.HasPrefix(reply, code) {
			t.Errorf("%s: %q", command, reply)
		}
	}
	if reply := c.ask("QUIT"); !strings.HasPrefix(reply, "221 ") {
		t.Errorf("QUIT: %q", reply)
	}
	if _, err := c.in.ReadByte(); err != io.EOF {
		t.Errorf("after QUIT: %v, want the end", err)
	}
	sessions := s.Sessions()
	if s.Count() != 1 || len(sessions) != 1 {
		t.Fatalf("%d sessions are counted, %d recorded", s.Count(), len(sessions))
	}
	got := sessions[0]
	if !got.TLS || got.ServerName != "mx.example.org" || got.Version != tls.VersionTLS13 {
		t.Errorf("recorded: %+v", got)
	}
	if first, last := got.Commands[0], got.Commands[len(got.Commands)-1]; first != "EHLO client.example.com" || last != "QUIT" {
		t.Errorf("commands from %q to %q", first, last)
	}
}

// TestPerConnection changes the files between connections.
func TestPerConnection(t *testing.T) {
	directory := t.TempDir()
	pair := smtpd.Pair{Certificate: filepath.Join(directory, "mx.crt"), PrivateKey: filepath.Join(directory, "mx.key")}
	s := start(t, smtpd.Options{Pairs: []smtpd.Pair{pair}})
	if got := served(t, s); got != nil {
		t.Errorf("without files serial %s is served", got)
	}
	one, two := make509(t, 1, ecKey(t)), make509(t, 2, ecKey(t))
	write(t, pair.Certificate, one.certificate)
	write(t, pair.PrivateKey, one.key)
	if got := served(t, s); !same(got, one.serial) {
		t.Errorf("serial %v, want 1", got)
	}
	write(t, pair.Certificate, two.certificate)
	if got := served(t, s); got != nil {
		t.Errorf("serial %s is served with a key that does not match", got)
	}
	write(t, pair.PrivateKey, two.key)
	if got := served(t, s); !same(got, two.serial) {
		t.Errorf("serial %v, want 2", got)
	}
	write(t, pair.PrivateKey, two.key[:40])
	if got := served(t, s); got != nil {
		t.Errorf("serial %s is served with half a key", got)
	}
}

func TestPreload(t *testing.T) {
	directory := t.TempDir()
	pair := smtpd.Pair{Certificate: filepath.Join(directory, "mx.crt"), PrivateKey: filepath.Join(directory, "mx.key")}
	one, two := make509(t, 1, ecKey(t)), make509(t, 2, ecKey(t))
	write(t, pair.Certificate, one.certificate)
	write(t, pair.PrivateKey, one.key)
	s := start(t, smtpd.Options{Pairs: []smtpd.Pair{pair}, Preload: true})
	write(t, pair.Certificate, two.certificate)
	write(t, pair.PrivateKey, two.key)
	if got := served(t, s); !same(got, one.serial) {
		t.Errorf("before the reload serial %v is served, want 1", got)
	}
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := served(t, s); !same(got, two.serial) {
		t.Errorf("after the reload serial %v is served, want 2", got)
	}
	if err := os.Remove(pair.PrivateKey); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the reload without a key says %v", err)
	}
	if got := served(t, s); got != nil {
		t.Errorf("serial %s is served after a reload without a key", got)
	}
	if s.Reloads() != 2 {
		t.Errorf("%d reloads are counted", s.Reloads())
	}
}

func TestWatch(t *testing.T) {
	directory := t.TempDir()
	pair := smtpd.Pair{Certificate: filepath.Join(directory, "mx.pem")}
	one := make509(t, 1, ecKey(t))
	s := start(t, smtpd.Options{Pairs: []smtpd.Pair{pair}, Preload: true, Watch: 10 * time.Millisecond})
	if got := served(t, s); got != nil {
		t.Errorf("serial %s is served before there is one", got)
	}
	write(t, filepath.Join(directory, "new"), one.certificate, one.key)
	if err := os.Rename(filepath.Join(directory, "new"), pair.Certificate); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); !same(served(t, s), one.serial); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the new file is never loaded")
		}
	}
	if s.Reloads() == 0 {
		t.Error("no reload is counted")
	}
}

func TestWatchNeedsTheDirectory(t *testing.T) {
	pair := smtpd.Pair{Certificate: filepath.Join(t.TempDir(), "missing", "mx.pem")}
	if s, err := smtpd.Start(smtpd.Options{Pairs: []smtpd.Pair{pair}, Preload: true, Watch: time.Second}); err == nil {
		_ = s.Close()
		t.Error("a directory that is not there is watched")
	}
}

func TestSeveralKeyTypes(t *testing.T) {
	directory := t.TempDir()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, rsaFiles := make509(t, 1, ecKey(t)), make509(t, 2, rsaKey)
	pairs := []smtpd.Pair{{Certificate: filepath.Join(directory, "ec.pem")}, {Certificate: filepath.Join(directory, "rsa.pem")}}
	write(t, pairs[0].Certificate, ec.certificate, ec.key)
	write(t, pairs[1].Certificate, rsaFiles.certificate, rsaFiles.key)
	s := start(t, smtpd.Options{Pairs: pairs})
	for _, test := range []struct {
		what  string
		suite uint16
		want  *big.Int
	}{
		{"TLS 1.3", 0, ec.serial},
		{"ECDSA only", tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, ec.serial},
		{"RSA only", tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, rsaFiles.serial},
	} {
		config := &tls.Config{}
		if test.suite != 0 {
			config.MaxVersion, config.CipherSuites = tls.VersionTLS12, []uint16{test.suite}
		}
		c := dial(t, s)
		c.toTLS()
		if leaf := c.handshake(config); !same(leaf.SerialNumber, test.want) {
			t.Errorf("%s: serial %s, want %s", test.what, leaf.SerialNumber, test.want)
		}
	}
	if err := os.Remove(pairs[1].Certificate); err != nil {
		t.Fatal(err)
	}
	if got := served(t, s); got != nil {
		t.Errorf("serial %s is served while the other pair is missing", got)
	}
}

// The port of a closed server stays closed: no other server of this machine gets it, however many ports are taken. The same server may
// come back.
func TestClosedServerKeepsItsPort(t *testing.T) {
	t.Parallel()
	s, err := smtpd.Start(smtpd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	address := s.Address()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range 500 {
		other, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if other.Addr().String() == address {
			t.Fatal("another server got the port")
		}
	}
	if _, err := new(net.Dialer).DialContext(t.Context(), "tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the closed server answers: %v", err)
	}
	again, err := smtpd.Start(smtpd.Options{Listen: address})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	_ = s.Close() // and keeps the port up to here
}
