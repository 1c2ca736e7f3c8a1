package survey

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/issuer"
	"mxcert/cmd/mxcert-lab/nameserver"
	"mxcert/cmd/mxcert-lab/port"
	"mxcert/cmd/mxcert-lab/smtpd"
)

// world has a name server and mail servers on loopback addresses, all at one port.
type world struct {
	t      testing.TB
	dns    *nameserver.World
	server *nameserver.Server
	issuer *issuer.Issuer
	port   int
}

func newWorld(t testing.TB, records ...string) *world {
	t.Helper()
	w := &world{t: t, dns: nameserver.New(), issuer: issuer.New(t), port: port.Reserve(t)}
	check(t, w.dns.AddZone(".", "@ NS ns1.example.org.")) // a signed root shows that the resolver validates
	check(t, w.dns.SetTrust(".", nameserver.Secure))
	check(t, w.dns.AddZone("example.org.", append([]string{"@ NS ns1", "ns1 A 127.0.0.1"}, records...)...))
	check(t, w.dns.SetTrust("example.org.", nameserver.Secure))
	server, err := w.dns.Listen("127.0.0.1:0")
	check(t, err)
	w.server = server
	t.Cleanup(func() { _ = server.Close() })
	return w
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) options() Options {
	return Options{Resolver: resolve.New([]string{w.server.Address()}), Roots: w.roots(), Port: w.port, BannerTimeout: 5 * time.Second, StepTimeout: 5 * time.Second}
}

func (w *world) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(w.issue("root.invalid").Chain()[1])
	return pool
}

func (w *world) issue(names ...string) *bundle.Bundle {
	w.t.Helper()
	return w.issuer.Issue(w.t, 90*24*time.Hour, names...)
}

// mail starts a mail server at an address, with certificates.
func (w *world) mail(address, hostname string, faults smtpd.Faults, bundles ...*bundle.Bundle) *smtpd.Server {
	w.t.Helper()
	return w.mailAt(address, w.port, hostname, faults, bundles...)
}

func (w *world) mailAt(address string, port int, hostname string, faults smtpd.Faults, bundles ...*bundle.Bundle) *smtpd.Server {
	w.t.Helper()
	options := smtpd.Options{Listen: net.JoinHostPort(address, strconv.Itoa(port)), Hostname: hostname}
	for i, b := range bundles {
		file := filepath.Join(w.t.TempDir(), fmt.Sprintf("%d.pem", i))
		check(w.t, os.WriteFile(file, b.CombinedPEM(), 0o600))
		options.Pairs = append(options.Pairs, smtpd.Pair{Certificate: file})
	}
	server, err := smtpd.Start(options)
	check(w.t, err)
	w.t.Cleanup(func() { _ = server.Close() })
	server.SetFaults(faults)
	return server
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// find returns the finding with an ID, or the zero value.
func find(list []finding.Finding, id string) finding.Finding {
	for _, f := range list {
		if f.ID == id {
			return f
		}
	}
	return finding.Finding{}
}

func ids(list []finding.Finding) (names []string) {
	for _, f := range list {
		names = append(names, f.ID)
	}
	return names
}

// places lists host and address of entries.
func placesOf(hosts []Host) (list []string) {
	for _, h := range hosts {
		text := h.Host
		if h.Address.IsValid() {
			text += "=" + h.Address.String()
		}
		list = append(list, text)
	}
	return list
}

func local(address netip.Addr) bool { return address.IsLoopback() }
