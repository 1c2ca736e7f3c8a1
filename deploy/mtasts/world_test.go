package mtasts

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/nameserver"
)

const (
	good   = "version: STSv1\r\nmode: enforce\r\nmx: mx.example.org\r\nmx: *.mail.example.org\r\nmax_age: 1209600\r\n"
	record = `_mta-sts TXT "v=STSv1; id=20261129;"`
)

// world is the zone example.org, a CA, and a web server for its policy host.
type world struct {
	t      *testing.T
	zones  *nameserver.World
	dns    *nameserver.Server
	ca     *x509.Certificate
	caKey  *ecdsa.PrivateKey
	client Client
	ports  map[string]string // where connections to an address go
}

func newWorld(t *testing.T, records ...string) *world {
	t.Helper()
	w := &world{t: t, zones: nameserver.New(), ports: map[string]string{}}
	if err := w.zones.AddZone("example.org.", append([]string{"@ NS ns1", "ns1 A 127.0.0.1"}, records...)...); err != nil {
		t.Fatal(err)
	}
	server, err := w.zones.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	w.dns = server
	w.caKey = newKey(t)
	w.ca = w.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, w.caKey)
	roots := x509.NewCertPool()
	roots.AddCert(w.ca)
	w.client = Client{Resolver: resolve.New([]string{server.Address()}), Roots: roots, Dialer: func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, _ := net.SplitHostPort(address)
		return (&net.Dialer{}).DialContext(ctx, network, w.ports[host])
	}}
	return w
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign makes a certificate, by default valid from an hour ago for 90 days.
func (w *world) sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	w.t.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(90*24*time.Hour)
	}
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), w.caKey)
	if err != nil {
		w.t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		w.t.Fatal(err)
	}
	return certificate
}

// pair is a certificate of the CA, by default for the policy host.
func (w *world) pair(template *x509.Certificate) tls.Certificate {
	w.t.Helper()
	if template == nil {
		template = &x509.Certificate{DNSNames: []string{"mta-sts.example.org"}}
	}
	key := newKey(w.t)
	return tls.Certificate{Certificate: [][]byte{w.sign(template, w.ca, key).Raw}, PrivateKey: key}
}

// serve starts a web server at an address of the policy host.
func (w *world) serve(address string, pair tls.Certificate, handler http.HandlerFunc) *httptest.Server {
	w.t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.StartTLS()
	w.t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	w.ports[address] = server.Listener.Addr().String()
	return server
}

// policy answers as a good policy host does.
func policy(text string) http.HandlerFunc {
	return func(out http.ResponseWriter, request *http.Request) {
		if request.Host != "mta-sts.example.org" || request.URL.Path != path || request.Method != http.MethodGet {
			http.NotFound(out, request)
			return
		}
		out.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(out, text)
	}
}

func (w *world) look() Found {
	w.t.Helper()
	return w.client.Look(w.t.Context(), "example.org")
}

// ids lists the findings as severity and id.
func ids(list []finding.Finding) (all []string) {
	for _, f := range list {
		all = append(all, string(f.Severity)+" "+f.ID)
	}
	return all
}

// expect checks type, findings and that whatever is not well says what to do, on one line.
func (f Found) expect(t *testing.T, what, kind string, findings ...string) {
	t.Helper()
	if f.Type != kind || !slices.Equal(ids(f.Findings), findings) {
		t.Errorf("%s: type %q with %q, want %q with %q: %s", what, f.Type, ids(f.Findings), kind, findings, show(f))
	}
	if f.Policy == nil && f.Reason == "" {
		t.Errorf("%s: no policy, and no reason", what)
	}
	for _, found := range f.Findings {
		if found.Severity != finding.OK && found.Hint == "" || strings.ContainsAny(found.Message+found.Hint, "\n\x1b") || len(found.Message) > 1000 {
			t.Errorf("%s: %+v", what, found)
		}
	}
}

func show(f Found) string { return fmt.Sprintf("%+v, policy %+v", f, f.Policy) }
