package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// zonesConfig has an account for each of three zones: two TSIG keys at BIND, and a program. There is none for other names.
const zonesConfig = `dns:
  zones:
    example.org: {provider: rfc2136, env: {DNSUPDATE_NAMESERVER: "127.0.0.1:53", DNSUPDATE_TSIG_KEY: "mxcert.", DNSUPDATE_TSIG_SECRET: "cred:tsig"}}
    Example.COM.: {provider: rfc2136, env: {DNSUPDATE_NAMESERVER: "127.0.0.1:53", DNSUPDATE_TSIG_KEY: "com.", DNSUPDATE_TSIG_SECRET: "cred:com"}}
    example.net: {provider: exec, env: {EXEC_PATH: /usr/local/bin/dns-record}}
`

// dnsRecord is a script for the provider exec, as an administrator writes it.
const dnsRecord = `#!/bin/sh
echo "$1 $2" >>/tmp/dns-record.log
case $1 in present) verb=add ttl=60;; cleanup) verb=delete ttl=;; esac
printf 'server 127.0.0.1\nzone example.net\nupdate %s %s %s TXT "%s"\nsend\n' $verb "$2" "$ttl" "$3" | nsupdate -k /etc/mxcert/net.key
`

// bindZones gives each zone of BIND a key of its own, and makes the zone example.net, of which example.org has an alias.
func (s *story) bindZones() {
	s.t.Helper()
	must(s.t, s.Host, "sh", "-ec", `
		for key in com net; do (umask 027; tsig-keygen $key. >/etc/bind/$key.key; chgrp bind /etc/bind/$key.key); done
		sed -n 's/.*secret "\(.*\)";/\1/p' /etc/bind/com.key >/etc/mxcert/credentials/com
		install -m 0640 -g mxcert /etc/bind/net.key /etc/mxcert/net.key
		chgrp mxcert /etc/mxcert/credentials/com; chmod 0640 /etc/mxcert/credentials/com
		printf 'include "/etc/bind/com.key";\ninclude "/etc/bind/net.key";\n' >>/etc/bind/named.conf
		sed -i 's/recursion no/recursion yes/' /etc/bind/named.conf # a server that has no recursion does not follow a CNAME into another zone
		sed -i '/^zone "example.com"/,/^};/s/grant mxcert\./grant com./' /etc/bind/named.conf
		sed 's/example.com/example.net/; s/hostmaster.example.org/hostmaster.example.net/' /var/lib/bind/db.example.com >/var/lib/bind/db.example.net
		chown bind:bind /var/lib/bind/db.example.net
		echo 'example.net. NS ns1.example.org.' >>/etc/bind/db.root
		printf 'zone "example.net" { type primary; file "/var/lib/bind/db.example.net"; update-policy { grant net. zonesub TXT; }; };\n' >>/etc/bind/named.conf
		named-checkconf`)
	must(s.t, s.Host, "systemctl", "restart", "named")
	s.check(s.AwaitPort(s.t.Context(), "127.0.0.1:53"))
	if r, err := s.RunInput(s.t.Context(), "update add _acme-challenge.alias.example.org 60 CNAME alias.acme.example.net\nsend\n", "nsupdate", "-l"); err != nil || r.Code != 0 {
		s.t.Fatalf("nsupdate: %v %+v", err, r)
	}
}

// One certificate over three zones of real name servers: two TSIG keys, each with the right to its own zone only, and a program.
func TestZonesOfSeveralAccounts(t *testing.T) {
	t.Parallel()
	before, rest, _ := strings.Cut(hostConfig, "dns:\n")
	_, after, _ := strings.Cut(rest, "  resolvers:")
	config := strings.Replace(before+zonesConfig+"  resolvers:"+after, "domains: [mx.example.org, host7.example.org]",
		"domains: [mx.example.org, host7.example.org, mail.example.com, mx.example.net, alias.example.org, '*.lists.example.com', lists.example.com]", 1)
	s := begin(t, options{config: config, service: true})
	s.check(s.Put("/usr/local/bin/dns-record", []byte(dnsRecord), 0o755))
	s.bindZones()
	must(t, s.Host, "mxcert", "polkit", "--install")

	doctor := s.mxcert("doctor")
	for _, want := range []string{
		"rfc2136 (dns.zones: example.org) accepts the key, and lets it change the records of every name; it proves mx.example.org, host7.example.org",
		"rfc2136 (dns.zones: example.com) accepts the key, and lets it change the records of every name; it proves mail.example.com, lists.example.com",
		"exec (dns.zones: example.net) is set up; the first order will show whether it can create records; it proves mx.example.net, alias.example.org",
	} {
		if !strings.Contains(strings.Join(strings.Fields(doctor.Stdout), " "), want) {
			t.Errorf("doctor does not say %q", want)
		}
	}
	first := s.report(0, "renew").Certificates[0]
	if first.Stage != "served" {
		t.Errorf("%+v", first)
	}
	serial := first.Keys[0].Serial
	s.served(serial)
	names := must(t, s.Host, "openssl", "x509", "-in", certificateFile, "-noout", "-ext", "subjectAltName")
	for _, name := range []string{"mail.example.com", "mx.example.net", "alias.example.org", "*.lists.example.com"} {
		if !strings.Contains(names, "DNS:"+name) {
			t.Errorf("the certificate lacks %s: %s", name, names)
		}
	}
	s.signedBy(map[string]string{"example.org": "mxcert", "example.com": "com", "example.net": "net"})
	calls := must(t, s.Host, "sort", "/tmp/dns-record.log")
	if want := "cleanup _acme-challenge.mx.example.net.\ncleanup alias.acme.example.net.\npresent _acme-challenge.mx.example.net.\npresent alias.acme.example.net.\n"; calls != want {
		t.Errorf("the program ran with\n%s", calls)
	}
	s.noZoneTXT()

	// The same by the daemon: the service's user reads the secrets of all accounts, and runs the program in its sandbox.
	must(t, s.Host, "systemctl", "start", "mxcert")
	second := s.report(0, "renew", "--now").Certificates[0]
	if serial = second.Keys[0].Serial; !second.Changed || serial == first.Keys[0].Serial {
		t.Errorf("by the daemon: %+v", second)
	}
	s.served(serial)
	s.noZoneTXT()

	// The key of example.com is not allowed any more: the error says which account, and the records of the others are removed.
	must(t, s.Host, "sh", "-ec", `sed -i 's/grant com\./grant nobody./' /etc/bind/named.conf; systemctl restart named`)
	s.check(s.AwaitPort(t.Context(), "127.0.0.1:53"))
	failed := s.report(1, "renew", "--now").Certificates[0]
	if failed.Error == nil || failed.Error.Kind != "dns-update" || !strings.Contains(failed.Error.Message, "rfc2136 (dns.zones: example.com): cannot create TXT records for") || !strings.Contains(failed.Error.Message, "REFUSED") {
		t.Errorf("the error is %+v", failed.Error)
	}
	s.served(serial)
	s.noZoneTXT()
}

// signedBy looks up in BIND's journal which key has updated which zone.
func (s *story) signedBy(keys map[string]string) {
	s.t.Helper()
	log := must(s.t, s.Host, "journalctl", "--no-pager", "-u", "named", "-o", "cat")
	for zone, key := range keys {
		if !strings.Contains(log, fmt.Sprintf("/key %s: updating zone '%s/IN': adding an RR", key, zone)) {
			s.t.Errorf("the key %s has not added a record to %s", key, zone)
		}
		for _, other := range keys {
			if other != key && strings.Contains(log, fmt.Sprintf("/key %s: updating zone '%s/IN'", other, zone)) {
				s.t.Errorf("the key %s was used for %s", other, zone)
			}
		}
	}
}

// noZoneTXT asks BIND for the records of the challenges in all three zones.
func (s *story) noZoneTXT() {
	s.t.Helper()
	s.noTXT()
	for _, name := range []string{"_acme-challenge.mail.example.com", "_acme-challenge.lists.example.com", "_acme-challenge.mx.example.net", "alias.acme.example.net"} {
		if out := must(s.t, s.Host, "dig", "@127.0.0.1", "+short", name, "TXT"); strings.TrimSpace(out) != "" {
			s.t.Errorf("a TXT record is left at %s: %s", name, out)
		}
	}
}
