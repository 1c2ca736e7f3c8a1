package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

// "DANE in ten minutes" of mxcert-dane(7), for each name server that one can have here: its commands and settings are taken from the page
// and used as they are written, on a host with the name server as Debian's unit starts it. What the registrar does with the DS record, a
// trust anchor does here: it is made of the record that the page's command prints, so that a wrong one would make the zone bogus.
func TestDANEInTenMinutes(t *testing.T) {
	for _, tt := range []struct {
		service string // a section of the page
		server  nameServer
		publish string // which settings of step 3
		then    func(*minutes)
	}{
		{"BIND", bindServer, "rfc2136", (*minutes).emergency},
		{"Knot", knotServer, "rfc2136", (*minutes).turnOff},
		{"PowerDNS", pdnsServer, "powerdns", (*minutes).turnOff},
		{"BIND", bindServer, "", (*minutes).byHand},
	} {
		name := tt.service
		if tt.publish == "" {
			name += " by hand"
		}
		t.Run(name, func(t *testing.T) {
			m := beginMinutes(t, tt.server)
			m.nameServer(tt.service, tt.server)
			m.firstCertificate(tt.server)
			if tt.publish != "" {
				m.publish(tt.publish)
			}
			tt.then(m)
		})
	}
}

// minutes is a reader of the page at a host.
type minutes struct {
	*walk
	page string
}

// nameServer is the name server of a host before its operator has read the page.
type nameServer struct {
	unit, file string
	before     string // the file as it was: where %s stands, the page's settings go
	script     string // what else is there before
	account    string // the account of mxcert, in the section dns
}

const account2136 = `  provider: rfc2136
  env: {DNSUPDATE_NAMESERVER: "192.0.2.53:53", DNSUPDATE_TSIG_KEY: "mxcert.", DNSUPDATE_TSIG_ALGORITHM: "hmac-sha256.", DNSUPDATE_TSIG_SECRET: "cred:tsig"}
`

//nolint:gochecknoglobals // tables of this test
var (
	bindServer = nameServer{unit: "named", file: "/etc/bind/named.conf", account: account2136, before: `options {
	directory "/var/cache/bind"; listen-on { 192.0.2.53; }; listen-on-v6 { none; };
	recursion no; dnssec-validation no; allow-transfer { none; };
};
include "/etc/bind/mxcert.key";
zone "example.org" {
	type primary;
	file "/var/lib/bind/db.example.org";
%s};
`, script: "chown bind:bind /var/lib/bind/db.example.org"}
	knotServer = nameServer{unit: "knot", file: "/etc/knot/knot.conf", account: account2136, before: `server:
    rundir: "/run/knot"
    user: knot:knot
    listen: 192.0.2.53@53
log:
  - target: syslog
    any: info
database:
    storage: "/var/lib/knot"
key:
  - id: mxcert.
    algorithm: hmac-sha256
    secret: SECRET
template:
  - id: default
    storage: "/var/lib/knot"
    file: "%%s.zone"
%s`, script: "cp /var/lib/bind/db.example.org /var/lib/knot/example.org.zone; chown knot:knot /var/lib/knot/example.org.zone"}
	pdnsServer = nameServer{unit: "pdns", file: "/etc/powerdns/pdns.d/mxcert.conf", before: "%s",
		account: "  provider: pdns\n  env: {PDNS_API_URL: \"http://127.0.0.1:8081\", PDNS_API_KEY: \"cred:pdns\"}\n", script: `
cat >/etc/powerdns/pdns.conf <<END
include-dir=/etc/powerdns/pdns.d
launch=gsqlite3
gsqlite3-database=/var/lib/powerdns/pdns.sqlite3
gsqlite3-dnssec=yes
local-address=192.0.2.53
security-poll-suffix=
END
rm -f /etc/powerdns/pdns.d/*; cd /var/lib/powerdns
python3 -c 'import sqlite3; sqlite3.connect("pdns.sqlite3").executescript(open("/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql").read())'
chown pdns:pdns . pdns.sqlite3
pdnsutil load-zone example.org /var/lib/bind/db.example.org`}
)

const (
	minutesZone = "$TTL 60\n@ SOA ns1 hostmaster 1 3600 600 86400 5\n  NS ns1\n  MX 10 mx\nns1 A 192.0.2.53\nmx A 127.0.0.1\n"
	minutesRoot = "$TTL 60\n. SOA ns. hostmaster. 1 3600 600 86400 5\n. NS ns.\nns. A 192.0.2.1\nexample.org. NS ns1.example.org.\nns1.example.org. A 192.0.2.53\n"
	// Two more servers: that of the root, and the resolver that the page's step 1 gets. Unbound would need a root of its own, so BIND plays it.
	rootServer = `options { directory "/var/cache/bind"; listen-on { 192.0.2.1; }; listen-on-v6 { none; }; recursion no; dnssec-validation no; pid-file none; session-keyfile none; };
controls { };
zone "." { type primary; file "/etc/bind/minutes.root"; };
`
	// The CA asks the name server itself: it does not share a cache with the host.
	pebbleAsks = "[Service]\nExecStart=\nExecStart=/usr/local/bin/pebble -config /etc/pebble/pebble.json -dnsserver 192.0.2.53:53\n"

	resolverServer = `options { directory "/var/cache/bind"; listen-on { 127.0.0.1; }; listen-on-v6 { ::1; }; recursion yes; allow-query { any; }; empty-zones-enable no;
	dnssec-validation yes; synth-from-dnssec no; max-ncache-ttl 0; max-cache-ttl 1; pid-file none; session-keyfile none; };
controls { };
zone "." { type hint; file "/etc/bind/minutes.hints"; };
trust-anchors { example.org. static-ds %s %s "%s"; };
`
)

// beginMinutes boots a host on which no name server runs yet.
func beginMinutes(t *testing.T, server nameServer) *minutes {
	t.Helper()
	mailhost.Require(t)
	page, err := os.ReadFile("../man/mxcert-dane.7.md")
	if err != nil {
		t.Fatal(err)
	}
	files := []mailhost.File{
		{Path: "/var/lib/bind/db.example.org", Content: []byte(minutesZone), Mode: 0o644},
		{Path: "/etc/bind/minutes.root", Content: []byte(minutesRoot), Mode: 0o644},
		{Path: "/etc/bind/minutes.hints", Content: []byte(". 60 NS ns.\nns. 60 A 192.0.2.1\n"), Mode: 0o644},
		{Path: "/etc/bind/minutes.conf", Content: []byte(rootServer), Mode: 0o644},
		{Path: "/etc/systemd/system/pebble.service.d/servers.conf", Content: []byte(pebbleAsks), Mode: 0o644},
		{Path: "/usr/local/bin/sudo", Content: []byte(sudo), Mode: 0o755},
	}
	for _, unit := range []string{"named", "knot", "pdns", "unbound", "dnsmasq"} { // an empty file masks a unit
		files = append(files, mailhost.File{Path: "/etc/systemd/system/" + unit + ".service", Mode: 0o644})
	}
	h, err := mailhost.Boot(t.Context(), mailhost.Options{Server: mailhost.Postfix, Judges: true, Files: files})
	if err != nil {
		t.Fatal(err)
	}
	s := &story{Host: h, t: t}
	t.Cleanup(func() {
		s.secretsKept()
		if t.Failed() {
			t.Log(h.Diagnose())
		}
		h.Kill()
	})
	must(t, h, "sh", "-ec", `ip address add 192.0.2.53/32 dev lo; ip address add 192.0.2.1/32 dev lo
rm /etc/systemd/system/`+server.unit+`.service; systemctl daemon-reload
systemd-run -q --unit=minutes-root named -f -u bind -c /etc/bind/minutes.conf`)
	s.check(h.StartPebble(t.Context(), 90*24*time.Hour))
	s.check(h.InstallMxcert(t.Context(), mailhost.Install{Service: true}))
	return &minutes{walk: &walk{story: s}, page: string(page)}
}

// section returns the text below a heading.
func (m *minutes) section(heading string) string {
	m.t.Helper()
	_, text, found := strings.Cut(m.page, "\n"+heading+"\n")
	if !found {
		m.t.Fatalf("the page has no %s", heading)
	}
	end := strings.Repeat("#", strings.IndexByte(heading, ' '))
	for _, next := range []string{"\n# ", "\n## ", "\n### "} {
		if len(next)-2 <= len(end) {
			text, _, _ = strings.Cut(text, next)
		}
	}
	return text
}

// blocks returns the blocks of a kind in a text.
func (m *minutes) blocks(text, kind string) (blocks []string) {
	m.t.Helper()
	for _, b := range regexp.MustCompile("(?s)```"+kind+"\n(.*?)```").FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, b[1])
	}
	if len(blocks) == 0 {
		m.t.Fatalf("no block of %s in %s", kind, text)
	}
	return blocks
}

// commands runs the lines of a block, one after the other, and returns all that they said.
func (m *minutes) commands(block string) (said string) {
	m.t.Helper()
	for line := range strings.Lines(block) {
		stdin := ""
		switch {
		case strings.Contains(line, "paste the key"):
			stdin = "CHANGE-THIS\n"
		}
		if strings.Contains(line, "dnssec-dsfromkey") || strings.Contains(line, "keymgr") { // who is too fast for the name server does it again
			within(m.t, 20*time.Second, "the zone has a key", func() bool {
				r, err := m.Run(m.t.Context(), "sh", "-c", line)
				return err == nil && strings.Contains(r.Stdout, " DS ")
			})
		}
		said += m.does(strings.TrimSpace(line), stdin, 0)
	}
	return said
}

// nameServer is step 2.
func (m *minutes) nameServer(service string, server nameServer) {
	m.t.Helper()
	must(m.t, m.Host, "sh", "-ec", server.script)
	text := m.section("### " + service)
	kind := map[string]string{"named": "named", "knot": "knot", "pdns": "pdns"}[server.unit]
	settings := m.blocks(text, kind)[0]
	file := strings.ReplaceAll(fmt.Sprintf(server.before, settings), "SECRET", m.TSIGSecret)
	bare := fmt.Sprintf(server.before, "")
	if server.unit == "knot" {
		bare += "zone:\n  - domain: example.org\n"
	}
	m.check(m.Put(server.file, []byte(strings.ReplaceAll(bare, "SECRET", m.TSIGSecret)), 0o644))
	must(m.t, m.Host, "sh", "-ec", "chmod 0755 "+server.file[:strings.LastIndex(server.file, "/")]+"; systemctl restart "+server.unit)
	m.check(m.Put(server.file, []byte(file), 0o644))
	said := ""
	for _, block := range m.blocks(text, "sh") {
		if said += m.commands(block); !m.resolving() && regexp.MustCompile(`\bDS\b`).MatchString(said) {
			m.resolver(said)
		}
	}
	within(m.t, 20*time.Second, "the zone is signed, and the DS record fits", func() bool {
		r, err := m.Run(m.t.Context(), "dig", "+adflag", "@127.0.0.1", "mx.example.org", "A")
		return err == nil && strings.Contains(r.Stdout, "status: NOERROR") && regexp.MustCompile(`flags: [a-z ]*\bad\b`).MatchString(r.Stdout)
	})
}

// resolving reports whether there is a resolver.
func (m *minutes) resolving() bool {
	r, err := m.Run(m.t.Context(), "systemctl", "is-active", "minutes-resolver")
	return err == nil && r.Code == 0
}

// resolver starts one that trusts the DS record of digest type 2 in what a command has said.
func (m *minutes) resolver(said string) {
	m.t.Helper()
	ds := regexp.MustCompile(`(?i)\bDS\s+(\d+)\s+(\d+\s+2)\s+([0-9a-f ]+)`).FindStringSubmatch(said)
	if ds == nil {
		m.t.Fatalf("no DS record in: %s", said)
	}
	m.check(m.Put("/etc/bind/minutes-resolver.conf", fmt.Appendf(nil, resolverServer, ds[1], ds[2], strings.ReplaceAll(strings.TrimSpace(ds[3]), " ", "")), 0o644))
	must(m.t, m.Host, "systemd-run", "-q", "--unit=minutes-resolver", "named", "-f", "-u", "bind", "-c", "/etc/bind/minutes-resolver.conf")
	m.check(m.AwaitPort(m.t.Context(), "127.0.0.1:53"))
}

// firstCertificate is what the reader has before: a certificate in service. The account at the name server, and the resolver, are in the file.
func (m *minutes) firstCertificate(server nameServer) {
	m.t.Helper()
	resolvers := m.blocks(m.section("## 1. A resolver that validates"), "dns")[0]
	config := `acme:
  email: postmaster@example.org
  agree_tos: true
  directory: https://127.0.0.1:14000/dir
  ca_file: /etc/pebble/ca.pem
  roots_file: /etc/pebble/roots.pem
dns:
` + server.account + resolvers + `certificates:
  - name: mx
    domains: [mx.example.org]
    deploy:
      - postfix: {certificate: /etc/postfix/tls/mx.crt, private_key: /etc/postfix/tls/mx.key}
    verify: {endpoints: ["127.0.0.1:25"], timeout: 60s}
`
	m.check(m.Put("/etc/mxcert/mxcert.yaml", []byte(config), 0o644))
	if server.unit != "pdns" {
		m.check(m.Put("/etc/mxcert/credentials/tsig", []byte(m.TSIGSecret+"\n"), 0o640))
		must(m.t, m.Host, "chgrp", "mxcert", "/etc/mxcert/credentials/tsig")
	}
	m.does("mxcert polkit --install", "", 0)
	m.does("mxcert renew", "", 0)
}

// configure adds a line of the page to the certificate.
func (m *minutes) configure(line string) {
	m.t.Helper()
	text, err := m.Get("/etc/mxcert/mxcert.yaml")
	m.check(err)
	without := regexp.MustCompile(`(?m)^    dane: .*\n`).ReplaceAllString(string(text), "")
	m.check(m.Put("/etc/mxcert/mxcert.yaml", []byte(strings.Replace(without, "    deploy:\n", line+"    deploy:\n", 1)), 0o644))
}

// served lists the TLSA records that the name server gives.
func (m *minutes) served() []string {
	m.t.Helper()
	r, err := m.Run(m.t.Context(), "dig", "+short", "+norecurse", "+nosplit", "@192.0.2.53", "_25._tcp.mx.example.org", "TLSA")
	m.check(err)
	list := strings.Fields(strings.ReplaceAll(strings.TrimSpace(r.Stdout), " ", "_"))
	slices.Sort(list)
	return list
}

// tlsa is the part of status --json.
func (m *minutes) tlsa() (state struct {
	Mode, State string
	Until       *time.Time
}) {
	m.t.Helper()
	r := m.mxcert("status", "--json", "mx")
	var doc struct {
		Certificates []struct{ TLSA json.RawMessage }
	}
	if err := json.Unmarshal([]byte(r.Stdout), &doc); err != nil || len(doc.Certificates) != 1 {
		m.t.Fatalf("status: %v: %s", err, r.Stdout)
	}
	if err := json.Unmarshal(doc.Certificates[0].TLSA, &state); err != nil {
		m.t.Fatalf("status: %v: %s", err, r.Stdout)
	}
	return state
}

// publish is steps 3 and 4, and the first look at a change of the key.
func (m *minutes) publish(which string) {
	m.t.Helper()
	m.configure(m.blocks(m.section("## 3. Tell mxcert"), "yaml "+which)[0])
	blocks := m.blocks(m.section("## 4. Check, publish, look"), "sh")
	m.commands(blocks[0])
	if got := m.served(); len(got) != 2 || !strings.HasPrefix(got[0], "3_1_1_") || !strings.HasPrefix(got[1], "3_1_1_") {
		m.t.Fatalf("the records are %q", got)
	}
	for _, check := range m.doctor(0, "--online", "mx").Checks {
		if strings.HasPrefix(check.ID, "tlsa-") && check.Severity != "ok" {
			m.t.Errorf("doctor: %+v", check)
		}
	}
	if state := m.tlsa(); state.Mode != "publish" || state.State != "steady" { // nobody has held other records
		m.t.Errorf("status says %+v", state)
	}
	before, serial := m.served(), m.serial()
	m.does(strings.TrimSpace(blocks[1]), "", 0)
	if state := m.tlsa(); state.State != "retiring" || state.Until == nil || time.Until(*state.Until) < 20*time.Hour || m.serial() == serial {
		m.t.Errorf("after the change of the key status says %+v", state)
	}
	if got := m.served(); strings.Join(got, " ") != strings.Join(before, " ") {
		m.t.Errorf("the records are %q, and were %q", got, before)
	}
}

// serial is that of the current certificate.
func (m *minutes) serial() string {
	m.t.Helper()
	return m.report(0, "status").Certificates[0].Keys[0].Serial
}

// emergency is the first command of that section. The next key is new, so it says that mail is deferred, and needs a yes.
func (m *minutes) emergency() {
	m.t.Helper()
	before := m.serial()
	command := strings.TrimSpace(m.blocks(m.section("# EMERGENCY"), "sh")[0])
	if out := m.does(command, "", 2); !strings.Contains(out, "defer mail") {
		m.t.Errorf("%s does not say that mail is deferred: %s", command, out)
	}
	m.does(command+" --yes", "", 0)
	// Some senders still hold records without the new key: status says so, too.
	if m.report(3, "status").Certificates[0].Keys[0].Serial == before {
		m.t.Error("the certificate with the leaked key is in service")
	}
	check := strings.TrimSpace(m.blocks(m.section("# EMERGENCY"), "sh")[2])
	if out := m.does(check, "", 3); !strings.Contains(out, "defer mail") { // as the command before has said
		m.t.Errorf("%s says %s", check, out)
	}
	m.turnOff()
}

// turnOff is that section: the records of mxcert go.
func (m *minutes) turnOff() {
	m.t.Helper()
	text := regexp.MustCompile(`\*\*(dane: \{mode: "off"\})\*\*`).FindStringSubmatch(m.section("# TURNING IT OFF"))
	if text == nil {
		m.t.Fatal("the page does not say how to turn it off")
	}
	config, err := m.Get("/etc/mxcert/mxcert.yaml")
	m.check(err)
	publisher := regexp.MustCompile(`, publisher: .*\}`).FindString(string(config)) // "keep the setting publisher"
	m.configure("    " + strings.TrimSuffix(text[1], "}") + strings.TrimSuffix(publisher, "}") + "}\n")
	m.does("mxcert renew mx", "", 0)
	within(m.t, 20*time.Second, "the records are gone", func() bool { return len(m.served()) == 0 })
}

// byHand is that section, with nsupdate.
func (m *minutes) byHand() {
	m.t.Helper()
	m.configure("    dane: {mode: gate}\n")
	blocks := m.blocks(m.section("# BY HAND"), "sh")
	if out := m.does(strings.TrimSpace(blocks[0]), "", 0); strings.Count(out, "IN TLSA 3 1 1 ") != 2 {
		m.t.Errorf("tlsa show prints %s", out)
	}
	m.does(strings.TrimSpace(blocks[1]), "", 0)
	if got := m.served(); len(got) != 2 {
		m.t.Fatalf("the records are %q", got)
	}
	m.does("mxcert renew mx", "", 0)
	if state := m.tlsa(); state.Mode != "gate" || state.State != "steady" {
		m.t.Errorf("status says %+v", state)
	}
	for _, command := range strings.Split(strings.TrimSpace(m.blocks(m.section("# MONITORING"), "sh")[0]), "\n") {
		if out := m.does(command, "", 0); out != "0\n" {
			m.t.Errorf("%s prints %q", command, out)
		}
	}
}
