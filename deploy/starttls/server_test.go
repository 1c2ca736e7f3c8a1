package starttls

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
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// authority is a certificate with its key, which can sign others.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// ca makes a CA certificate, signed by parent or by itself.
func ca(name string, parent *authority, change ...func(*x509.Certificate)) *authority {
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	return sign(template, parent, newKey(ECDSA), change...)
}

// leaf makes a server certificate for mx.example.org.
func leaf(kind KeyType, parent *authority, change ...func(*x509.Certificate)) *authority {
	template := &x509.Certificate{DNSNames: []string{"mx.example.org"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	return sign(template, parent, newKey(kind), change...)
}

func newKey(kind KeyType) crypto.Signer {
	var key crypto.Signer
	var err error
	if kind == RSA {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		panic(err)
	}
	return key
}

func sign(template *x509.Certificate, parent *authority, key crypto.Signer, change ...func(*x509.Certificate)) *authority {
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(90*24*time.Hour)
	if template.IsCA {
		template.NotAfter = time.Now().Add(1000 * 24 * time.Hour)
	}
	for _, f := range change {
		f(template)
	}
	if parent == nil {
		parent = &authority{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.certificate, key.Public(), parent.key)
	if err != nil {
		panic(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return &authority{certificate, key}
}

// world is a small CA with a certificate of each kind for mx.example.org.
type world struct {
	root, intermediate, ec, rsa *authority
}

var theWorld = sync.OnceValue(func() *world {
	w := &world{root: ca("Root", nil)}
	w.intermediate = ca("Intermediate", w.root)
	w.ec, w.rsa = leaf(ECDSA, w.intermediate), leaf(RSA, w.intermediate)
	return w
})

// pair is what a TLS server wants: the chain leaf, intermediate.
func (w *world) pair(a *authority) tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{a.certificate.Raw, w.intermediate.certificate.Raw}, PrivateKey: a.key}
}

// peer is the server's side of one conversation; a script drives it.
type peer struct {
	net.Conn
	in     *bufio.Reader
	config *tls.Config
}

// play runs a script, one line an action:
//
//	> text     send text; \r \n \x00 as in Go
//	< PREFIX   read a line that must begin with PREFIX
//	read       wait for a byte
//	tls        TLS handshake
//	wait       until the client goes away
//	close      now
//
// It returns what was unexpected. Everything that follows the script is read until the client closes.
func (p *peer) play(script string) error {
	for line := range strings.Lines(script) {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch verb {
		case "":
		case ">":
			text := strings.NewReplacer(`\r`, "\r", `\n`, "\n", `\x00`, "\x00").Replace(rest)
			if _, err := io.WriteString(p.Conn, text); err != nil {
				return fmt.Errorf("%s: %w", line, err)
			}
		case "<":
			got, err := p.in.ReadString('\n')
			if err != nil || !strings.HasPrefix(got, rest) || !strings.HasSuffix(got, "\r\n") {
				return fmt.Errorf("%s: got %q, %v", line, got, err)
			}
		case "read":
			_, _ = p.in.Peek(1)
		case "tls":
			server := tls.Server(p.Conn, p.config)
			if err := server.Handshake(); err != nil {
				return fmt.Errorf("%s: %w", line, err)
			}
			p.Conn, p.in = server, bufio.NewReader(server)
		case "wait":
			_, _ = io.Copy(io.Discard, p.in)
		case "close":
			return nil
		default:
			return fmt.Errorf("unknown action %q", line)
		}
	}
	return nil
}

// serve plays script to every client and returns the address. What the script did not expect is logged: the client's
// error shows it as well, and may be the point of the test.
func serve(t *testing.T, config *tls.Config, script string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			done.Go(func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
				p := &peer{conn, bufio.NewReader(conn), config}
				if err := p.play(script); err != nil {
					t.Log("server:", err)
				}
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		done.Wait()
	})
	return listener.Addr().String()
}
