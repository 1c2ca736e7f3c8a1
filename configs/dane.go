package configs

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	daneOff     = "off"
	daneCheck   = "check"
	daneGate    = "gate"
	danePublish = "publish"

	// mostHold is far above what any cache keeps: resolvers cap TTLs at a week (RFC 8767 section 4).
	mostHold = 30 * 24 * time.Hour
	// mostTTL is the cap of resolvers. A record with a higher one could be gone sooner than mxcert expects.
	mostTTL = 7 * 24 * time.Hour
)

// checkDANE checks what a certificate says about TLSA records, and fills in the publisher.
func (l *loader) checkDANE(p string, cert *Certificate) {
	d, p := &cert.DANE, join(p, "dane")
	l.checkPorts(join(p, "ports"), d.Ports)
	l.checkTimes(p, d)
	l.checkIgnored(join(p, "ignore_servers"), d.IgnoreServers)
	l.checkPublisher(join(p, "publisher"), &d.Publisher)
	if slices.Contains([]string{daneCheck, daneGate, danePublish}, d.Mode) && !cert.ReuseKey {
		l.bad(join(p, "mode"), "write reuse_key: true, and mxcert changes keys with their records; or mode: \"off\"",
			"%s needs reuse_key: true: a new key at each renewal would have no TLSA record, and every renewal would be refused", d.Mode)
	}
	l.checkHosts(p, cert)
	l.checkProof(p, cert)
	l.checkBackend(p, cert)
}

func (l *loader) checkPorts(p string, ports []int) {
	if len(ports) == 0 {
		l.bad(p, "write [25], or remove the line", "the list is empty")
	}
	seen := map[int]bool{}
	for i, port := range ports {
		switch {
		case port < 1 || port > 65535:
			l.bad(at(p, i), "write a number from 1 to 65535; mail between servers uses 25", "%d is not a port", port)
		case seen[port]:
			l.bad(at(p, i), "remove one of the two", "%d is listed twice", port)
		}
		seen[port] = true
	}
}

// checkTimes checks hold, TTL and the life of keys, which depend on each other.
func (l *loader) checkTimes(p string, d *DANE) {
	if d.Hold > mostHold {
		l.bad(join(p, "hold"), "24h is enough for nearly every resolver", "%s is too long: it may be at most %s", inDays(d.Hold), inDays(mostHold))
	}
	switch {
	case d.TTL < time.Second || d.TTL%time.Second != 0:
		l.bad(join(p, "ttl"), "write for example 1h", "%s is not a TTL: it needs whole seconds", shortDuration(d.TTL))
	case d.TTL >= mostTTL:
		l.bad(join(p, "ttl"), "write for example 1h: a change of keys waits for more than twice the TTL", "%s is too long: it must be less than 7d, because resolvers keep no record for longer", inDays(d.TTL))
	}
	if least := 2 * max(d.Hold, 2*d.TTL); d.KeyLifetime > 0 && d.KeyLifetime < least && !l.touched[join(p, "hold")] && !l.touched[join(p, "ttl")] {
		l.bad(join(p, "key_lifetime"), "write for example 365d, or 0 to change keys only by command",
			"%s is too short: with this hold and ttl it must be at least %s, because each new record is held before its key is used", inDays(d.KeyLifetime), inDays(least))
	}
}

// inDays writes whole days as a person writes them.
func inDays(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return shortDuration(d)
}

// checkIgnored checks and normalises names and addresses of name servers.
func (l *loader) checkIgnored(p string, list []string) {
	for i, s := range list {
		server, err := nameServer(s)
		if err != nil {
			l.bad(at(p, i), `write for example "ns3.example.net" or "192.0.2.53"`, "%s: %v", quote(s), err)
			continue
		}
		list[i] = server
	}
	l.unique(p, list)
}

func nameServer(s string) (string, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return a.Unmap().String(), nil
	}
	if host, err := hostOf(s); err == nil && isAddress(host) {
		return "", errors.New("an address is written without a port")
	}
	name, err := domainName(s)
	if err == nil && strings.HasPrefix(name, "*.") {
		return "", errors.New("a name server has no wildcard")
	}
	return name, err
}

// checkHosts wants a name that can have records. Those of mail_domains are found later.
func (l *loader) checkHosts(p string, cert *Certificate) {
	if cert.DANE.Mode != daneGate && cert.DANE.Mode != danePublish || len(cert.MailDomains) > 0 ||
		slices.ContainsFunc(slices.Concat(cert.Domains, cert.Optional), func(name string) bool { return !strings.HasPrefix(name, "*.") }) {
		return
	}
	l.bad(join(p, "mode"), "add the MX host name to another certificate, name mail_domains, or write mode: check",
		"%s needs a host name: this certificate has only wildcards, and TLSA records belong to the names that MX records have", cert.DANE.Mode)
}

// checkProof wants a place that proves which key is served, because old records are removed only when no server has their key.
func (l *loader) checkProof(p string, cert *Certificate) {
	if !cert.Verify.EndpointsSet || len(cert.Verify.Endpoints) > 0 {
		return
	}
	const why = "but verify.endpoints is empty: nothing proves which key is served"
	switch cert.DANE.Mode {
	case danePublish:
		l.bad(join(p, "mode"), `name the endpoints that serve the certificate, such as "127.0.0.1:25", or write mode: gate`, "mxcert would publish and remove TLSA records, %s", why)
	case daneGate:
		l.warn(join(p, "mode"), `name the endpoints that serve the certificate, such as "127.0.0.1:25"`, "mxcert cannot say when an old record can go, %s", why)
	}
}

// apiURL checks the beginning of an API's address.
func apiURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("this is not an https URL")
	case u.User != nil:
		return errors.New("the URL contains a user name")
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("the URL must end with its path")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return errors.New("plain http would show the secret to the network; it is accepted for a server on this host only")
	}
	return nil
}
