package survey

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// peer is a mail server whose words and TLS a test sets.
type peer struct {
	config   *tls.Config
	greeting string        // "220 mx.example.org ESMTP\r\n"
	plain    string        // the answer to EHLO before TLS
	secure   string        // the answer to EHLO under TLS
	starttls string        // the answer to STARTTLS
	delay    time.Duration // before the greeting

	mu       sync.Mutex
	now      int // connections that are open
	most     int // at the same time
	total    int
	quits    int
	commands []string
}

func (p *peer) listen(t testing.TB, address string, port int) *peer {
	t.Helper()
	set := func(text *string, usual string) {
		if *text == "" {
			*text = usual
		}
	}
	set(&p.greeting, "220 mx.example.org ESMTP\r\n")
	set(&p.plain, "250-mx.example.org\r\n250-SIZE 1000\r\n250 STARTTLS\r\n")
	set(&p.secure, "250-mx.example.org\r\n250-SIZE 1000\r\n250 AUTH PLAIN\r\n")
	set(&p.starttls, "220 go ahead\r\n")
	listener, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(port)))
	check(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.count(1)
			go func() {
				left := sync.OnceFunc(func() { p.count(-1) })
				defer left()
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
				p.talk(conn, left)
			}()
		}
	}()
	return p
}

func (p *peer) count(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now += n; n > 0 {
		p.total++
	}
	p.most = max(p.most, p.now)
}

// talk holds one conversation. It calls left before the client can know that it is over.
func (p *peer) talk(conn net.Conn, left func()) {
	in, ehlo := bufio.NewReader(conn), p.plain
	time.Sleep(p.delay)
	_, _ = io.WriteString(conn, p.greeting)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		p.mu.Lock()
		p.commands = append(p.commands, verb)
		p.mu.Unlock()
		switch verb {
		case "EHLO":
			_, _ = io.WriteString(conn, ehlo)
		case "STARTTLS":
			_, _ = io.WriteString(conn, p.starttls)
			if !strings.HasPrefix(p.starttls, "220") {
				continue
			}
			server := tls.Server(alerting{conn, left}, p.config)
			if server.Handshake() != nil {
				return
			}
			conn, in, ehlo = server, bufio.NewReader(server), p.secure
		case "QUIT":
			p.mu.Lock()
			p.quits++
			p.mu.Unlock()
			left()
			_, _ = io.WriteString(conn, "221 bye\r\n")
			return
		default:
			_, _ = io.WriteString(conn, "502 no\r\n")
		}
	}
}

// alerting is a connection that calls left before it sends an alert in clear text (RFC 8446 section 6), which ends a handshake.
type alerting struct {
	net.Conn
	left func()
}

func (c alerting) Write(b []byte) (int, error) {
	const alert = 21
	if len(b) > 0 && b[0] == alert {
		c.left()
	}
	return c.Conn.Write(b)
}

// pki is a root with a certificate of every kind.
type pki struct {
	t    testing.TB
	root *x509.Certificate
	key  crypto.Signer
}

func newPKI(t testing.TB) *pki {
	t.Helper()
	p := &pki{t: t, key: ecKey(t)}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Root"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(1000 * 24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, p.key.Public(), p.key)
	check(t, err)
	p.root, err = x509.ParseCertificate(der)
	check(t, err)
	return p
}

func ecKey(t testing.TB) crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return key
}

func rsaKey(t testing.TB, bits int) crypto.Signer {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	check(t, err)
	return key
}

// leaf makes a certificate for mx.example.org with 90 days left, and changes it.
func (p *pki) leaf(key crypto.Signer, change ...func(*x509.Certificate)) tls.Certificate {
	p.t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	check(p.t, err)
	template := &x509.Certificate{SerialNumber: serial, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		DNSNames: []string{"mx.example.org"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, f := range change {
		f(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, p.root, key.Public(), p.key)
	check(p.t, err)
	leaf, err := x509.ParseCertificate(der)
	check(p.t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func (p *pki) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(p.root)
	return pool
}
