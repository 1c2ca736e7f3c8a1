package fleet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

// namedConf serves example.org, signed, with its root.
const namedConf = `options {
	directory "/var/cache/bind"; key-directory "/var/lib/bind"; listen-on { ` + townAddress + `; 127.0.0.1; }; listen-on-v6 { none; };
	recursion no; dnssec-validation no; notify no; pid-file none; session-keyfile none;
};
controls { };
key "mxcert." { algorithm hmac-sha256; secret "` + tsigSecret + `"; };
zone "." { type primary; file "/etc/bind/db.root"; };
zone "example.org" {
	type primary; file "/var/lib/bind/db.example.org"; dnssec-policy default; inline-signing yes;
	update-policy { grant mxcert. zonesub TXT TLSA; };
};
`

const rootZone = `$TTL 60
.                SOA ns1.example.org. hostmaster.example.org. 1 3600 600 86400 5
                 NS  ns1.example.org.
example.org.     NS  ns1.example.org.
ns1.example.org. A   ` + townAddress + `
`

const zone = `$TTL 60
@   SOA ns1 hostmaster 1 3600 600 86400 5
    NS  ns1
    MX  10 mx1
    MX  10 mx2
    MX  10 mx3
ns1 A   ` + townAddress + `
mx1 A   10.15.0.21
mx2 A   10.15.0.22
mx3 A   10.15.0.23
`

const tsigSecret = "Zm9yIHRlc3RzIG9ubHkgYW5kIGZvciBub3RoaW5nIGVsc2U="

// serveZone starts the name server.
func (w *town) serveZone() {
	w.t.Helper()
	ctx, c := w.t.Context(), w.center
	w.check(c.Write("/etc/bind/named.conf", namedConf, 0o644))
	w.check(c.Write("/etc/bind/db.root", rootZone, 0o644))
	w.check(c.WriteFile(mailhost.File{Path: "/var/lib/bind/db.example.org", Content: []byte(zone), Mode: 0o644, Owner: "bind:bind"}))
	p, err := c.Start("named", "-f", "-u", "bind", "-c", "/etc/bind/named.conf")
	w.check(err)
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Logf("named: %s", tail(p.Output(), 20))
		}
	})
	w.within(20*time.Second, "example.org is signed", func() error {
		out, err := c.Must(ctx, "dig", "+short", "+norec", "@"+townAddress, "example.org", "DNSKEY")
		var b strings.Builder
		for line := range strings.Lines(out) {
			if f := strings.Fields(line); len(f) > 3 {
				fmt.Fprintf(&b, "\texample.org. static-key %s %s %s %q;\n", f[0], f[1], f[2], strings.Join(f[3:], ""))
			}
		}
		if w.anchors = b.String(); err == nil && w.anchors == "" {
			err = errors.New(out + p.Output())
		}
		return err
	})
}

// A request is one to the authority, as the recorder before it saw it.
type request struct {
	at, answered time.Time
	from         string // address of the host
	what         string // order-plz, finalize-order, my-order, certZ, …: how Pebble calls its resources
	id           string // of the order
	status       int
	serial       string // of the certificate that was fetched
	notAfter     time.Time
	record       string // the SHA-256 of its public key
}

// A recorder stands before the authority.
type recorder struct {
	mu       sync.Mutex
	requests []request
	of       map[string]string // the order of a certificate's URL

	transport *http.Transport // to Pebble
}

// serveAuthority starts Pebble, and before it the recorder that hosts talk to.
func (w *town) serveAuthority() {
	w.t.Helper()
	ctx, c := w.t.Context(), w.center
	program, err := mailhost.Build(ctx, "github.com/letsencrypt/pebble/v2/cmd/pebble")
	w.check(err)
	w.check(c.Write("/usr/local/bin/pebble", string(program), 0o755))
	inner := w.ca.issue("pebble", 24*time.Hour, "127.0.0.1")
	w.check(c.Write("/etc/pebble/pebble.pem", string(inner.certificate), 0o644))
	w.check(c.Write("/etc/pebble/pebble.key", string(inner.key), 0o600))
	settings, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": "127.0.0.1:14000", "managementListenAddress": "127.0.0.1:15000", "certificate": "/etc/pebble/pebble.pem", "privateKey": "/etc/pebble/pebble.key",
		"keyAlgorithm": "ecdsa", "retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles": map[string]any{"default": map[string]any{"description": "default", "validityPeriod": 90 * 86400}},
	}})
	w.check(err)
	w.check(c.Write("/etc/pebble/pebble.json", string(settings), 0o644))
	p, err := c.Start("env", "PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0", "pebble", "-config", "/etc/pebble/pebble.json", "-dnsserver", townAddress+":53")
	w.check(err)
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Logf("Pebble: %s", tail(p.Output(), 20))
		}
	})
	w.check(c.AwaitPort(ctx, "127.0.0.1:14000"))
	w.orders = &recorder{of: map[string]string{}}
	w.check(w.orders.serve(w))
}

// serve listens where the town is.
func (r *recorder) serve(w *town) error {
	roots := x509.NewCertPool()
	roots.AddCert(w.ca.certificate)
	r.transport = &http.Transport{DialContext: w.dialCenter, TLSClientConfig: &tls.Config{RootCAs: roots}}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "https", Host: "127.0.0.1:14000"})
			p.Out.Host = p.In.Host // the authority makes its URLs of it
			p.SetXForwarded()
		},
		Transport:      r.transport,
		ModifyResponse: r.note,
		ErrorLog:       log.New(io.Discard, "", 0), // a host that dies in the middle
	}
	var listener net.Listener
	var failed error
	if err := w.center.Do(func() { listener, failed = net.Listen("tcp", townAddress+":14000") }); err != nil || failed != nil {
		return errors.Join(err, failed)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		in = in.WithContext(context.WithValue(in.Context(), beganKey{}, time.Now()))
		proxy.ServeHTTP(out, in)
	}), TLSConfig: &tls.Config{Certificates: []tls.Certificate{w.ca.server(townAddress)}}, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
	w.t.Cleanup(func() { server.Close() })
	go func() { _ = server.ServeTLS(listener, "", "") }() // until Close
	return nil
}

type beganKey struct{}

// dialCenter connects from the town's center.
func (w *town) dialCenter(_ context.Context, network, address string) (conn net.Conn, err error) {
	var dialed error
	err = w.center.Do(func() { conn, dialed = net.DialTimeout(network, address, 10*time.Second) })
	return conn, errors.Join(err, dialed)
}

// note records an answer.
func (r *recorder) note(a *http.Response) error {
	began, _ := a.Request.Context().Value(beganKey{}).(time.Time)
	from, _, _ := net.SplitHostPort(a.Request.Header.Get("X-Forwarded-For") + ":0")
	what, id, _ := strings.Cut(strings.TrimPrefix(a.Request.URL.Path, "/"), "/")
	q := request{at: began, answered: time.Now(), from: from, what: what, id: id, status: a.StatusCode}
	body, err := io.ReadAll(a.Body)
	if err != nil {
		return err
	}
	a.Body.Close()
	a.Body = io.NopCloser(bytes.NewReader(body))
	r.mu.Lock()
	defer r.mu.Unlock()
	switch what {
	case "order-plz":
		_, q.id, _ = strings.Cut(a.Header.Get("Location"), "/my-order/")
	case "my-order", "finalize-order":
		var order struct{ Certificate string }
		if json.Unmarshal(body, &order) == nil && order.Certificate != "" {
			_, certificate, _ := strings.Cut(order.Certificate, "/certZ/")
			r.of[certificate] = id
		}
	case "certZ":
		q.id = r.of[id]
		if block, _ := pem.Decode(body); block != nil {
			if c, err := x509.ParseCertificate(block.Bytes); err == nil {
				q.serial, q.notAfter, q.record = fmt.Sprintf("%x", c.SerialNumber.Bytes()), c.NotAfter, fmt.Sprintf("%x", sha256.Sum256(c.RawSubjectPublicKeyInfo))
			}
		}
	}
	r.requests = append(r.requests, q)
	return nil
}
