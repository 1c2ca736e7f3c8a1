package survey

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/port"
	"mxcert/deploy/verdict"
)

// only serves one certificate for a name, and nothing for others.
func only(c tls.Certificate, names ...string) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if !slices.Contains(names, hello.ServerName) {
			return nil, errors.New("no certificate for that name")
		}
		return &c, nil
	}
}

// TestFindings has a server with one fault for each finding, and one without any.
func TestFindings(t *testing.T) {
	t.Parallel()
	w, ca := newWorld(t, "mx A 127.5.4.1"), newPKI(t)
	good, goodRSA := ca.leaf(ecKey(t)), ca.leaf(rsaKey(t, 2048))
	serving := func(c ...tls.Certificate) *tls.Config { return &tls.Config{Certificates: c} }
	changed := func(f func(*x509.Certificate)) *tls.Config { return serving(ca.leaf(ecKey(t), f)) }
	other := ca.leaf(ecKey(t), func(c *x509.Certificate) { c.DNSNames = []string{"other.example.org"} })
	for _, tt := range []struct {
		name  string
		peer  *peer
		found string // IDs; "" for none
		worst finding.Severity
		says  string
	}{
		{"good", &peer{config: serving(good)}, "", finding.OK, ""},
		{"both key types", &peer{config: serving(good, goodRSA)}, "", finding.OK, ""},
		{"no STARTTLS", &peer{config: serving(good), plain: "250-mx.example.org\r\n250 SIZE 1000\r\n"}, "starttls-not-supported", finding.Error, "does not offer"},
		{"stripped", &peer{config: serving(good), plain: "250-mx.example.org\r\n250-SIZE 1000\r\n250 XXXXXXXA\r\n"}, "starttls-stripped", finding.Error, "XXXXXXXA"},
		{"454", &peer{config: serving(good), starttls: "454 TLS currently unavailable\r\n"}, "tls-unavailable", finding.Error, "454"},
		{"injected", &peer{config: serving(good), starttls: "220 go\r\n250 injected\r\n"}, "injection", finding.Error, "injected"},
		{"STARTTLS inside TLS", &peer{config: serving(good), secure: "250-mx.example.org\r\n250-SIZE 1000\r\n250 STARTTLS\r\n"}, "starttls-after-tls", finding.Warning, "again"},
		{"EHLO differs", &peer{config: serving(good), secure: "250-mx.example.org\r\n250 SIZE 2000\r\n"}, "ehlo-differs", finding.Warning, "SIZE 2000"},
		{"EHLO has another name", &peer{config: serving(good), secure: "250-inside\r\n250 SIZE 1000\r\n"}, "ehlo-differs", finding.Warning, "before TLS and inside under TLS"},
		{"something is lost", &peer{config: serving(good), secure: "250 mx.example.org\r\n"}, "ehlo-differs", finding.Warning, "SIZE 1000"},
		{"other name in the greeting", &peer{config: serving(good), greeting: "220 host7.example.org ESMTP\r\n"}, "greeting-name-not-in-certificate", finding.Warning, "host7.example.org"},
		{"other name in EHLO", &peer{config: serving(good), plain: "250-host7.example.org hello\r\n250-SIZE 1000\r\n250 STARTTLS\r\n", secure: "250-host7.example.org hello\r\n250 SIZE 1000\r\n"}, "greeting-name-not-in-certificate", finding.Warning, "host7.example.org"},
		{"greeting without a name", &peer{config: serving(good), greeting: "220 ESMTP\r\n"}, "", finding.OK, ""},
		{"SNI required", &peer{config: &tls.Config{GetCertificate: only(good, "mx.example.org")}}, "sni-required", finding.Error, "no name"},
		{"SNI required, said by handshake_failure", &peer{config: &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			if h.ServerName == "mx.example.org" {
				return serving(good), nil
			}
			return &tls.Config{Certificates: []tls.Certificate{good}, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}, nil
		}}}, "sni-required", finding.Error, "no name"},
		{"SNI known or none", &peer{config: &tls.Config{GetCertificate: only(good, "mx.example.org", "")}}, "sni-required", finding.Warning, "does not know"},
		{"SNI refused", &peer{config: &tls.Config{GetCertificate: only(good, "")}}, "validation-failure sni-decides", finding.Error, "accepts TLS without a name"},
		{"SNI decides", &peer{config: &tls.Config{Certificates: []tls.Certificate{other}, GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if h.ServerName == "mx.example.org" {
				return &good, nil
			}
			return nil, nil
		}}}, "sni-decides", finding.Warning, "other.example.org"},
		{"mismatch", &peer{config: serving(other)}, "certificate-host-mismatch", finding.Error, "other.example.org"},
		{"expired", &peer{config: changed(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })}, "certificate-expired", finding.Error, "expired"},
		{"expires soon", &peer{config: changed(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-70*24*time.Hour), time.Now().Add(20*24*time.Hour+time.Hour)
		})}, "certificate-expires-soon", finding.Warning, "20 days"},
		{"short life", &peer{config: changed(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-80*time.Hour), time.Now().Add(80*time.Hour)
		})}, "", finding.OK, ""},
		{"long life", &peer{config: changed(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-300*24*time.Hour), time.Now().Add(30*24*time.Hour)
		})}, "", finding.OK, ""},
		{"RSA 1024", &peer{config: serving(ca.leaf(rsaKey(t, 1024)))}, "weak-key", finding.Warning, "1024"},
		{"no TLS 1.3", &peer{config: &tls.Config{Certificates: []tls.Certificate{good}, MaxVersion: tls.VersionTLS12}}, "no-tls13", finding.Warning, "1.3"},
		{"TLS 1.1 only", &peer{config: &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}}, "old-tls-only", finding.Error, "TLS 1.1"},
		{"static RSA", &peer{config: &tls.Config{Certificates: []tls.Certificate{goodRSA}, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}}, "no-tls13 no-forward-secrecy", finding.Warning, "forward"},
		{"another TLS feature", &peer{config: changed(func(c *x509.Certificate) { feature(c, 23) })}, "", finding.OK, ""},
		{"must-staple", &peer{config: changed(mustStaple)}, "must-staple", finding.Warning, "stapled"},
		{"must-staple, stapled", &peer{config: func() *tls.Config {
			c := ca.leaf(ecKey(t), mustStaple)
			c.OCSPStaple = []byte("a response")
			return serving(c)
		}()}, "", finding.OK, ""},
		{"refused", &peer{config: serving(good), greeting: "554 5.7.1 you are on a list\r\n"}, "rejected", finding.Warning, "you are on a list"},
		{"too many", &peer{config: serving(good), greeting: "421 4.7.0 too many connections\r\n"}, "rejected", finding.Warning, "421"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := *w
			w.port = port.Reserve(t)
			tt.peer.listen(t, "127.5.4.1", w.port)
			options := w.options()
			options.Roots = ca.pool()
			list := LookAtHost(within(t, 30*time.Second), "mx.example.org", options)
			if len(list) != 1 {
				t.Fatalf("%d entries", len(list))
			}
			ours := slices.DeleteFunc(slices.Clone(list[0].Findings), func(f finding.Finding) bool {
				return slices.Contains([]string{"senders-differ", "no-validator"}, f.ID)
			})
			if got := strings.Join(ids(ours), " "); got != tt.found {
				t.Errorf("findings %s, want %s: %+v", got, tt.found, ours)
			}
			if got := finding.Worst(ours); got != tt.worst {
				t.Errorf("worst %s, want %s", got, tt.worst)
			}
			for _, f := range ours {
				if f.Hint == "" || len(f.Message) > 1500 {
					t.Errorf("%+v", f)
				}
			}
			if !strings.Contains(fmt.Sprint(ours), tt.says) {
				t.Errorf("%s is not in %v", tt.says, ours)
			}
		})
	}
}

// mustStaple demands a stapled response (RFC 7633).
func mustStaple(c *x509.Certificate) { feature(c, 5) }

func feature(c *x509.Certificate, number int) {
	value, _ := asn1.Marshal([]int{number})
	c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: value})
}

func TestDifferentCertificates(t *testing.T) {
	t.Parallel()
	w, ca := newWorld(t, "mx A 127.5.5.1", "mx A 127.5.5.2", "mx A 127.5.5.3"), newPKI(t)
	old := ca.leaf(ecKey(t), func(c *x509.Certificate) { c.NotBefore = time.Now().Add(-2 * time.Hour) })
	now := ca.leaf(ecKey(t))
	(&peer{config: &tls.Config{Certificates: []tls.Certificate{now}}}).listen(t, "127.5.5.1", w.port)
	(&peer{config: &tls.Config{Certificates: []tls.Certificate{now, ca.leaf(rsaKey(t, 2048))}}}).listen(t, "127.5.5.2", w.port)
	(&peer{config: &tls.Config{Certificates: []tls.Certificate{old}}}).listen(t, "127.5.5.3", w.port)
	options := w.options()
	options.Roots, options.Ours = ca.pool(), local
	options.Deployed = func(host string) []*x509.Certificate {
		if host != "mx.example.org" {
			t.Errorf("asked for %s", host)
		}
		return []*x509.Certificate{now.Leaf}
	}
	list := LookAtHost(within(t, 30*time.Second), "mx.example.org", options)
	for _, h := range list {
		different, older := find(h.Findings, "certificates-differ"), find(h.Findings, "older-than-deployed")
		if is := h.Address == netip.MustParseAddr("127.5.5.3"); (different.ID != "") != is || (older.ID != "") != is || is && older.Severity != finding.Error {
			t.Errorf("%s: %v", h.Address, h.Findings)
		}
	}
}

// TestNotJudgedIsNoFault has a server that wants a group that mxcert does not offer.
func TestNotJudgedIsNoFault(t *testing.T) {
	t.Parallel()
	w, ca := newWorld(t, "mx A 127.5.6.1"), newPKI(t)
	config := &tls.Config{Certificates: []tls.Certificate{ca.leaf(ecKey(t))}, CurvePreferences: []tls.CurveID{tls.X25519MLKEM768}, MinVersion: tls.VersionTLS13}
	(&peer{config: config}).listen(t, "127.5.6.1", w.port)
	list := LookAtHost(within(t, 30*time.Second), "mx.example.org", w.options())
	if got := list[0].Verdicts[verdict.Opportunistic]; !got.NotJudged {
		t.Errorf("%+v", got)
	}
	if got := find(list[0].Findings, "not-judged"); got.Severity != finding.Warning || !strings.Contains(got.Hint, "openssl s_client -starttls smtp -connect") {
		t.Errorf("%+v", list[0].Findings)
	}
	if finding.Worst(list[0].Findings) == finding.Error {
		t.Errorf("a false fail: %+v", list[0].Findings)
	}
}

// TestRefusesEverybody has a server whose certificate cannot be used: no sender succeeds, so it is a fault.
func TestRefusesEverybody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "mx A 127.5.6.2")
	serveHostile(t, "127.5.6.2", w.port, func(c net.Conn) {
		in := bufio.NewReader(c)
		for _, text := range []string{"220 mx.example.org\r\n", "250-mx.example.org\r\n250 STARTTLS\r\n", "220 go ahead\r\n"} {
			_, _ = io.WriteString(c, text)
			_, _ = in.ReadString('\n')
		}
		_, _ = io.WriteString(c, "\x15\x03\x03\x00\x02\x02\x28")
		_, _ = io.Copy(io.Discard, in)
	})
	list := LookAtHost(within(t, 30*time.Second), "mx.example.org", w.options())
	if got := list[0].Verdicts[verdict.Opportunistic]; got.Result != verdict.Fail {
		t.Errorf("%+v", got)
	}
	if got := find(list[0].Findings, "validation-failure"); got.Severity != finding.Error || got.Hint == "" || find(list[0].Findings, "not-judged").ID != "" {
		t.Errorf("%+v", list[0].Findings)
	}
	if got := fmt.Sprint(asks(list[0])); got != "[any/mx]" {
		t.Errorf("asked %s", got)
	}
}

// What Go's verifier says of a chain is no error if other libraries may decide otherwise: here the trusted root is out of its dates.
func TestUnjudgedChain(t *testing.T) {
	t.Parallel()
	w, ca := newWorld(t, "mx A 127.5.6.1"), newPKI(t)
	long := ca.leaf(ecKey(t), func(c *x509.Certificate) { c.NotAfter = time.Now().Add(2000 * 24 * time.Hour) })
	(&peer{config: &tls.Config{Certificates: []tls.Certificate{long}}}).listen(t, "127.5.6.1", w.port)
	options := w.options()
	options.Roots, options.At = ca.pool(), time.Now().Add(1500*24*time.Hour)
	list := LookAtHost(within(t, 30*time.Second), "mx.example.org", options)
	if len(list) != 1 || !list[0].Verdicts[verdict.PKIX].NotJudged {
		t.Fatalf("%+v", list)
	}
	if finding.Worst(list[0].Findings) == finding.Error {
		t.Errorf("%+v", list[0].Findings)
	}
}

// A host whose addresses of one family cannot be asked for has the others.
func TestUnresolvableFamily(t *testing.T) {
	t.Parallel()
	failed := resolve.Answer{Name: "mx.example.org", Type: "AAAA", State: resolve.Failed, Err: &resolve.Error{Name: "mx.example.org", Type: "AAAA", Reason: "SERVFAIL"}}
	for want, addresses := range map[finding.Severity][]netip.Addr{finding.Error: nil, finding.Warning: {netip.MustParseAddr("192.0.2.1")}} {
		h := &host{route: verdict.Route{Host: "mx.example.org", Addresses: []resolve.Answer{failed}}, addresses: addresses}
		v := &view{Facts: verdict.Facts{Route: h.route}}
		if v.aboutHost(h); len(v.list) != 1 || v.list[0].ID != "mx-host-unresolvable" || v.list[0].Severity != want {
			t.Errorf("with %v: %+v", addresses, v.list)
		}
	}
}
