package resolve_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/resolve"
)

// authority signs certificates of resolvers.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	roots       *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{roots: x509.NewCertPool()}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	a.certificate, a.key = a.issue(t, template)
	a.roots.AddCert(a.certificate)
	return a
}

func (a *authority) issue(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := template, key
	if a.key != nil {
		parent, signer = a.certificate, a.key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

// server issues a certificate for a resolver.
func (a *authority) server(t *testing.T, name string, until time.Duration) (*x509.Certificate, *ecdsa.PrivateKey) {
	return a.issue(t, &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{name}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(until)})
}

// TestUnboundOverTLS: the word of a resolver that proves its name counts, and one that does not is not asked.
func TestUnboundOverTLS(t *testing.T) {
	t.Parallel()
	w := realWorld(t, "Knot")
	a := newAuthority(t)
	right, expired := w.unboundTLS(t, a, time.Hour), w.unboundTLS(t, a, -time.Hour)
	for _, tt := range []struct {
		what, server string
		roots        *x509.CertPool
		says         string
	}{
		{"the right name", "tls://dns.example.net@" + right, a.roots, ""},
		{"another name", "tls://dns.example.org@" + right, a.roots, "certificate is valid for dns.example.net, not dns.example.org"},
		{"an expired certificate", "tls://dns.example.net@" + expired, a.roots, "expired"},
		{"an unknown authority", "tls://dns.example.net@" + right, nil, "unknown authority"},
		{"no TLS there", "tls://dns.example.net@" + w.unbound, a.roots, "no answer"},
		{"nobody there", "tls://dns.example.net@127.0.0.1:1", a.roots, "connection refused"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			got := resolve.New([]string{tt.server}).Roots(tt.roots).LookIPv4(t.Context(), "mx.signed")
			if tt.says == "" {
				if got.State != resolve.Secure || got.Validator != tt.server || got.Until.IsZero() {
					t.Errorf("%+v", got)
				}
				return
			}
			if got.State != resolve.Failed || got.Validator != "" || got.Err == nil || !strings.Contains(got.Err.Error(), tt.says) || !strings.Contains(got.Err.Error(), tt.server) {
				t.Errorf("%+v", got)
			}
			beside := resolve.New([]string{tt.server, w.unbound}).Roots(tt.roots).LookIPv4(t.Context(), "mx.signed")
			if beside.State != resolve.Secure || beside.Validator != w.unbound {
				t.Errorf("with another resolver: %+v", beside)
			}
		})
	}
}

// unboundTLS starts another Unbound that takes questions over TLS.
func (w *real) unboundTLS(t *testing.T, a *authority, until time.Duration) (address string) {
	t.Helper()
	certificate, key := a.server(t, "dns.example.net", until)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	port, plain := freePort(t), w.unbound
	w.write(t, "key-"+port, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	w.write(t, "cert-"+port, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})))
	w.startUnbound(t, "  interface: 127.0.0.1@"+port+"\n  tls-port: "+port+"\n  tls-service-key: "+filepath.Join(w.dir, "key-"+port)+"\n  tls-service-pem: "+filepath.Join(w.dir, "cert-"+port)+"\n")
	w.unbound = plain
	return "127.0.0.1:" + port
}

// slowTLS is a resolver over TLS that counts connections, and closes each after some answers.
func slowTLS(t *testing.T, a *authority, answers int, handle func(net.Conn, *dns.Msg)) (server string, connections *atomic.Int32) {
	t.Helper()
	certificate, key := a.server(t, "dns.example.net", time.Hour)
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate.Raw}, PrivateKey: key}}}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	connections = new(atomic.Int32)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			go func() {
				defer conn.Close()
				framed := &dns.Conn{Conn: conn}
				for range answers {
					question, err := framed.ReadMsg()
					if err != nil {
						return
					}
					handle(conn, question)
				}
			}()
		}
	}()
	return "tls://dns.example.net@" + listener.Addr().String(), connections
}

// TestConnectionsOverTLS are used again, and made anew when the server has closed them; a server that takes its time does not hold anybody.
func TestConnectionsOverTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	answer := func(conn net.Conn, question *dns.Msg) {
		reply := new(dns.Msg).SetReply(question)
		reply.AuthenticatedData, reply.Answer = true, records(question.Question[0].Name+" 60 IN A 192.0.2.1")
		_ = (&dns.Conn{Conn: conn}).WriteMsg(reply)
	}
	server, connections := slowTLS(t, a, 1000, answer)
	r := resolve.New([]string{server}).Roots(a.roots)
	for i := range 10 {
		if got := r.LookIPv4(t.Context(), strings.Repeat("x", i+1)+".example"); got.State != resolve.Secure {
			t.Fatalf("%+v", got)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections for ten questions, one after another", n)
	}
	var wait sync.WaitGroup
	for i := range 100 {
		wait.Go(func() {
			if got := r.LookIPv4(t.Context(), strings.Repeat("y.", i+1)+"example"); got.State != resolve.Secure {
				t.Errorf("%+v", got)
			}
		})
	}
	wait.Wait()
	if n := connections.Load(); n > 8 {
		t.Errorf("%d connections for many questions at once", n)
	}
	curt, _ := slowTLS(t, a, 1, answer)
	r = resolve.New([]string{curt}).Roots(a.roots)
	for i := range 5 {
		if got := r.LookIPv4(t.Context(), strings.Repeat("x", i+1)+".example"); got.State != resolve.Secure {
			t.Errorf("the server closes connections: %+v", got)
		}
		time.Sleep(5 * time.Millisecond)
	}
	deaf, _ := slowTLS(t, a, 1, func(net.Conn, *dns.Msg) { time.Sleep(time.Minute) })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	if got := resolve.New([]string{deaf}).Roots(a.roots).LookIPv4(ctx, "mx.example"); got.Err == nil || time.Since(start) > 5*time.Second { // a question has six
		t.Errorf("after %s: %+v", time.Since(start), got)
	}
	if got := resolve.New([]string{deaf}).Roots(a.roots).LookIPv4(t.Context(), "mx.example"); got.State != resolve.Failed || !strings.Contains(got.Err.Error(), "no answer") || time.Since(start) > 30*time.Second {
		t.Errorf("after %s: %+v", time.Since(start), got)
	}
}
