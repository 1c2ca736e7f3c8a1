// Package dane proves on real servers that a change of keys costs no mail: BIND, Knot and PowerDNS hold the TLSA records, a mail host with
// Exim, systemd and mxcert changes its keys, and Postfix (dane-only), Exim and posttls-finger deliver to it all the time, from a network of
// their own, through Unbound. A recorder keeps what every server gave and what was served; a checker that knows nothing of mxcert looks for
// moments at which some sender may have been refused.
package dane

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os/exec"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
	"mxcert/packaging/e2e/world"
)

// Resolvers on the sender.
const (
	resolver     = "127.0.0.1" // Unbound
	slowResolver = "127.0.0.3" // Unbound with a minimum TTL of three seconds, which answers with expired data for two more
	leastTTL     = 5 * time.Second
)

// A town is a mail host with the zones of all sites, and senders of mail.
type town struct {
	*world.World
	DNS   *world.DNS
	Mail  *mailhost.Host
	Zones *servers

	t     testing.TB
	sites []*site           // with mail hosts
	ds    map[string]string // DS records, by zone

	sending *senders // that were started last
}

// newTown builds it. Nothing is published, and the mail host has no certificate yet.
func newTown(t testing.TB, sites ...*site) *town {
	t.Helper()
	mailhost.Require(t)
	began := time.Now()
	for i, s := range sites {
		s.fill(i + 1)
	}
	w := &town{World: world.Start(t, ""), t: t}
	var zoned []*site
	for _, s := range sites {
		if !s.zoneOnly {
			w.sites = append(w.sites, s)
		}
		if s.like == nil {
			zoned = append(zoned, s)
		}
	}
	var err error
	w.Zones, w.ds, err = serveZones(t.Context(), w.Receiver, zoned)
	w.check(err)
	var zones []world.Zone
	for _, s := range zoned {
		zones = append(zones, s.delegation())
	}
	w.DNS, err = w.ServeDNS(t.Context(), zones...)
	w.check(err)
	w.check(w.DNS.BePatient(t.Context()))
	w.check(w.Sender.Write("/etc/resolv.conf", fmt.Sprintf(resolvConf, resolver), 0o644))
	w.check(w.DNS.SetDS(t.Context(), w.ds))
	w.check(w.startSlowResolver())
	w.boot()
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(w.Zones.logs(), w.DNS.Logs())
		}
	})
	t.Logf("a town of %d sites: %v", len(sites), time.Since(began).Round(time.Millisecond))
	return w
}

func (w *town) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// startSlowResolver starts the resolver that is as careless with TTLs as operators may make it.
func (w *town) startSlowResolver() error {
	conf := w.DNS.UnboundConf(slowResolver) + world.Patience + "server:\n  cache-min-ttl: 3\n  serve-expired: yes\n  serve-expired-ttl: 2\n  serve-expired-reply-ttl: 1\n"
	if err := w.Sender.Write("/etc/world/slow.conf", conf, 0o644); err != nil {
		return err
	}
	p, err := w.Sender.Start("unbound", "-d", "-c", "/etc/world/slow.conf")
	if err != nil {
		return err
	}
	if err := w.Sender.AwaitPort(w.t.Context(), slowResolver+":53"); err != nil {
		return fmt.Errorf("unbound: %w\n%s", err, p.Output())
	}
	return nil
}

const validator = `options {
	directory "/var/cache/bind"; listen-on { 127.0.0.1; }; listen-on-v6 { ::1; };
	recursion yes; allow-query { any; }; dnssec-validation yes; empty-zones-enable no; max-cache-ttl 1; max-ncache-ttl 0; synth-from-dnssec no; qname-minimization off;
};
zone "." { type hint; file "/etc/bind/hints"; };
`

const exim = `primary_hostname = mx.receiver.example
local_interfaces = 0.0.0.0
daemon_smtp_ports = 25 : 587
smtp_accept_max = 200
smtp_accept_max_per_host = 200
smtp_accept_max_nonmail_hosts =
host_lookup =
rfc1413_hosts =
log_selector = +incoming_interface
acl_smtp_rcpt = accept
acl_smtp_data = discard
tls_advertise_hosts = *
# A site's map of mxcert, or before that the files of the test.
MAP = /var/lib/mxcert-keys/${lookup{$received_ip_address}lsearch{/etc/exim4/sites}{$value}{none}}.map
NAME = ${lookup{$received_ip_address}lsearch{/etc/exim4/names}{$value}{none}}
OTHER = lookup{$received_ip_address}lsearch{/etc/exim4/tls-map}{$value}
tls_certificate = ${if exists{MAP}{${lookup{NAME}lsearch{MAP}{$value}}}{${OTHER{/etc/exim4/exim.crt}}}}
tls_privatekey = ${if exists{MAP}{${lookup{NAME}lsearch{MAP}{$value}}}{${OTHER{/etc/exim4/exim.key}}}}
begin routers
begin transports
`

// boot starts the mail host and lays cables from it to the sender and to the name servers.
func (w *town) boot() {
	w.t.Helper()
	anchors, err := w.Sender.Read(w.DNS.AnchorConf)
	w.check(err)
	hints, err := w.Sender.Read(w.DNS.Hints)
	w.check(err)
	var certificates, names, maps strings.Builder
	for _, s := range w.sites {
		var files []string
		for _, kind := range s.kinds {
			files = append(files, s.file(kind))
		}
		fmt.Fprintf(&certificates, "%s: %s\n", s.address(), strings.Join(files, " : "))
		fmt.Fprintf(&names, "%s: %s\n", s.address(), s.names()[0])
		fmt.Fprintf(&maps, "%s: %s\n", s.address(), s.name)
	}
	w.Mail, err = mailhost.Boot(w.t.Context(), mailhost.Options{Release: w.Release, Files: []mailhost.File{
		{Path: "/etc/bind/named.conf", Content: []byte(validator + anchors), Mode: 0o644},
		{Path: "/etc/bind/hints", Content: []byte(hints), Mode: 0o644},
		{Path: "/etc/exim4/exim4.conf", Content: []byte(exim), Mode: 0o644},
		{Path: "/etc/exim4/tls-map", Content: []byte(certificates.String()), Mode: 0o644},
		{Path: "/etc/exim4/names", Content: []byte(names.String()), Mode: 0o644},
		{Path: "/etc/exim4/sites", Content: []byte(maps.String()), Mode: 0o644},
	}})
	w.check(err)
	w.t.Cleanup(w.Mail.Kill)
	w.check(w.connect())
	_, err = w.Mail.Must(w.t.Context(), "systemctl", "restart", "named")
	w.check(err)
	w.check(w.Mail.AwaitPort(w.t.Context(), "127.0.0.1:53"))
}

// connect gives the mail host its addresses, and a cable to each of the two other hosts.
func (w *town) connect() error {
	const network = "198.51.100.96/27"
	var script strings.Builder
	fmt.Fprintf(&script, "ip link add name mail0 netns %d type veth peer name mail0 netns %d\n", w.Sender.PID(), w.Mail.PID())
	fmt.Fprintf(&script, "ip link add name mail1 netns %d type veth peer name dns0 netns %d\n", w.Receiver.PID(), w.Mail.PID())
	in := func(pid int, command string, arguments ...any) {
		fmt.Fprintf(&script, "nsenter --target %d --net -- ip %s\n", pid, fmt.Sprintf(command, arguments...))
	}
	in(w.Sender.PID(), "link set mail0 up")
	in(w.Sender.PID(), "route add %s dev mail0", network)
	in(w.Receiver.PID(), "link set mail1 up")
	in(w.Receiver.PID(), "route add %s dev mail1", network)
	in(w.Mail.PID(), "link set mail0 up")
	in(w.Mail.PID(), "link set dns0 up")
	for _, s := range w.sites {
		in(w.Mail.PID(), "address add %s/32 dev mail0", s.address())
	}
	in(w.Mail.PID(), "route add %s dev mail0", world.SenderIPv4)
	in(w.Mail.PID(), "route add default dev dns0")
	out, err := exec.CommandContext(w.t.Context(), "sh", "-ec", script.String()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("the cables of the mail host: %w: %s", err, out)
	}
	return nil
}

// A pair is a key with a certificate of the test's own.
type pair struct {
	pem    []byte
	record string
}

// makePair makes a self-signed one: senders with DANE want no more.
func makePair(kind string, names ...string) (p pair, err error) {
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	var key interface{}
	var public interface{}
	if kind == "rsa2048" {
		k, failed := rsa.GenerateKey(rand.Reader, 2048)
		if failed != nil {
			return p, failed
		}
		key, public = k, &k.PublicKey
	} else {
		k, failed := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if failed != nil {
			return p, failed
		}
		key, public = k, &k.PublicKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		return p, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	spki, err2 := x509.MarshalPKIXPublicKey(public)
	p.pem = append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	p.record = fmt.Sprintf("3 1 1 %x", sha256.Sum256(spki))
	return p, errors.Join(err, err2)
}

// deploy puts a pair where Exim reads it at the next connection.
func (w *town) deploy(s *site, kind string, p pair) error {
	return w.Mail.PutFile(mailhost.File{Path: s.file(kind), Content: p.pem, Mode: 0o640, Owner: "root:Debian-exim"})
}

// publish adds a record by hand, and returns when every server gives it.
func (w *town) publish(ctx context.Context, s *site, record string) error {
	var lines []string
	for _, owner := range s.owners() {
		lines = append(lines, fmt.Sprintf("update add %s. %d TLSA %s", owner, s.ttl, record))
	}
	if err := w.Zones.update(ctx, s, lines...); err != nil {
		return err
	}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		missing, err := w.missing(s, record)
		if err == nil && missing == "" {
			return nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("%s does not give %s: %v\n%s", missing, record, err, w.Zones.logs())
		}
	}
}

// missing names a server that does not give a record of a site with a signature.
func (w *town) missing(s *site, record string) (server string, err error) {
	for _, address := range s.servers() {
		for _, owner := range s.owners() {
			g, err := w.give(address, owner)
			if err != nil || !g.signed || !strings.Contains(g.set, record) {
				return address, err
			}
		}
	}
	return "", nil
}

// give asks a server once.
func (w *town) give(address, owner string) (g given, err error) {
	conn, err := w.dialUDP(address)
	if err != nil {
		return g, err
	}
	defer conn.Close()
	return ask(conn, owner, false)
}

// withdraw removes a record by hand.
func (w *town) withdraw(ctx context.Context, s *site, record string) error {
	var lines []string
	for _, owner := range s.owners() {
		lines = append(lines, fmt.Sprintf("update delete %s. TLSA %s", owner, record))
	}
	return w.Zones.update(ctx, s, lines...)
}
