package world

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// startServers starts the name servers on the receiver.
func (d *DNS) startServers(ctx context.Context) error {
	if err := d.configure(); err != nil {
		return err
	}
	for instance, argv := range map[string][]string{
		"root": {"named", "-f", "-n", "1", "-c", "/srv/dns/root.conf"},
		"bind": {"named", "-f", "-n", "1", "-c", "/srv/dns/bind.conf"},
		"tld":  {"sh", "-c", "mkdir -p /run/tld; exec knotd -c /srv/dns/tld.conf"},
		"knot": {"sh", "-c", "mkdir -p /run/knot; exec knotd -c /srv/dns/knot.conf"},
	} {
		p, err := d.world.Receiver.Start(argv...)
		if err != nil {
			return err
		}
		d.logs[instance] = p
	}
	return d.awaitZones(ctx, d.names())
}

// configure writes the configuration of each name server.
func (d *DNS) configure() error {
	var errs []error
	for instance, address := range addressOf {
		v6 := "2001:db8:53::" + address[strings.LastIndex(address, ".")+1:]
		var zones []Zone
		for _, name := range d.names() {
			if z := d.zones[name]; z.instance() == instance {
				zones = append(zones, z)
			}
		}
		text := bindConf(address, v6, zones)
		if instance == "tld" || instance == "knot" {
			text = knotConf(instance, address, v6, zones)
		}
		errs = append(errs, d.world.Receiver.Write("/srv/dns/"+instance+".conf", text, 0o644))
	}
	return errors.Join(errs...)
}

func bindConf(v4, v6 string, zones []Zone) string {
	var b strings.Builder
	fmt.Fprintf(&b, `options {
	directory "%s"; listen-on { %s; }; listen-on-v6 { %s; };
	recursion no; dnssec-validation no; notify no; allow-transfer { any; }; pid-file none; session-keyfile none;
	check-names primary ignore; check-integrity no; check-mx ignore; check-mx-cname ignore; check-wildcard no;
};
controls { };
logging { channel errors { stderr; severity warning; }; category default { errors; }; };
`, zoneDirectory, v4, v6)
	for _, z := range zones {
		fmt.Fprintf(&b, "zone \"%s\" { type primary; file \"%s.zone\"; };\n", z.fqdn(), z.file())
	}
	return b.String()
}

func knotConf(instance, v4, v6 string, zones []Zone) string {
	var b strings.Builder
	fmt.Fprintf(&b, `server:
    rundir: /run/%[3]s
    user: root:root
    listen: [%[1]s@53, %[2]s@53]
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: /srv/dns
    journal-db: %[3]s.journal
    kasp-db: %[3]s.keys
    timer-db: %[3]s.timer
    catalog-db: %[3]s.catalog
control:
    listen: /run/%[3]s/knot.sock
log:
  - target: stderr
    any: warning
template:
  - id: default
    storage: %[4]s
    zonefile-load: whole
    journal-content: none
    semantic-checks: off
zone:
`, v4, v6, instance, zoneDirectory)
	for _, z := range zones {
		fmt.Fprintf(&b, "  - domain: \"%s\"\n    file: \"%s.zone\"\n", z.fqdn(), z.file())
	}
	return b.String()
}

// reload makes the servers read their files again, and Unbound forget what it knows.
func (d *DNS) reload(ctx context.Context, names []string) error {
	if err := d.configure(); err != nil {
		return err
	}
	const reload = "pkill -HUP -x named; for s in tld knot; do knotc -s /run/$s/knot.sock reload >/dev/null; done"
	if _, err := d.world.Receiver.Must(ctx, "sh", "-ec", reload); err != nil {
		return err
	}
	if err := d.awaitZones(ctx, names); err != nil {
		return err
	}
	return d.Flush(ctx)
}

// awaitZones waits until the servers answer with the present version of zones.
func (d *DNS) awaitZones(ctx context.Context, names []string) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var script strings.Builder
	for _, name := range names {
		z := d.zones[name]
		if z.Elsewhere {
			continue
		}
		fmt.Fprintf(&script, "until dig +short +time=1 +tries=1 +norecurse @%s '%s' SOA | grep -q ' %d '; do echo 'wait %[2]s'; sleep 0.05; done\n",
			addressOf[z.instance()], z.fqdn(), d.serial)
	}
	r, err := d.world.Receiver.Run(ctx, "sh", "-c", script.String())
	if err != nil || r.Code != 0 {
		return fmt.Errorf("the name servers do not serve version %d of a zone: %s\n%s", d.serial, r.Stdout[max(0, len(r.Stdout)-40):], d.Logs())
	}
	return nil
}

// unboundFile is the configuration of the resolver on the sender.
const unboundFile = "/etc/world/unbound.conf"

// startUnbound starts the validating resolver on the sender.
func (d *DNS) startUnbound(ctx context.Context) error {
	s := d.world.Sender
	digest := d.ds[""]
	key, kind, value := cutDS(digest)
	for _, host := range []*Host{s, s.In(Exim)} {
		err := errors.Join(
			host.Write(d.Anchor, ". IN DS "+digest+"\n", 0o644),
			host.Write(d.AnchorConf, fmt.Sprintf("trust-anchors { . static-ds %s %s \"%s\"; };\n", key, kind, value), 0o644),
			host.Write(d.Hints, fmt.Sprintf(". 3600000 NS ns1.\nns1. 3600000 A %s\nns1. 3600000 AAAA 2001:db8:53::1\n", RootServer), 0o644))
		if err != nil {
			return err
		}
	}
	if err := s.Write(unboundFile, d.UnboundConf("127.0.0.1", "::1"), 0o644); err != nil {
		return err
	}
	p, err := s.Start("unbound", "-d", "-c", unboundFile)
	if err != nil {
		return err
	}
	d.logs["unbound"] = p
	if err := s.AwaitPort(ctx, Resolver); err != nil {
		return fmt.Errorf("unbound: %w\n%s", err, p.Output())
	}
	return nil
}

// cutDS cuts "TAG ALGORITHM TYPE DIGEST" into the tag, the two numbers and the digest.
func cutDS(ds string) (tag, numbers, digest string) {
	f := strings.Fields(ds)
	return f[0], f[1] + " " + f[2], strings.Join(f[3:], "")
}

// UnboundConf is the configuration of a validating resolver of the world that listens on port 53 of addresses. It gives up on a dead server
// in about a second, which takes an ordinary one half a minute, and does not answer one question from the proofs that came with another
// (RFC 8198), so that the order of questions changes nothing.
func (d *DNS) UnboundConf(addresses ...string) string {
	var b strings.Builder
	b.WriteString("server:\n")
	for _, address := range addresses {
		fmt.Fprintf(&b, "  interface: %s\n", address)
	}
	for _, zone := range []string{"test.", "2.0.192.in-addr.arpa.", "100.51.198.in-addr.arpa.", "113.0.203.in-addr.arpa.", "8.b.d.0.1.0.0.2.ip6.arpa."} {
		fmt.Fprintf(&b, "  local-zone: %q nodefault\n", zone)
	}
	fmt.Fprintf(&b, `  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  logfile: ""
  verbosity: 0
  num-threads: 1
  access-control: 0.0.0.0/0 allow
  access-control: ::0/0 allow
  do-not-query-localhost: no
  target-fetch-policy: "0 0 0 0 0"
  qname-minimisation: yes
  aggressive-nsec: no
  module-config: "validator iterator"
  trust-anchor-file: %s
  root-hints: %s
  val-log-level: 2
  infra-cache-max-rtt: 600
  unknown-server-time-limit: 100
  outbound-msg-retry: 2
remote-control:
  control-enable: yes
  control-interface: /run/unbound-%s.ctl
`, d.Anchor, d.Hints, strings.Trim(addresses[0], ":"))
	return b.String()
}

// Patience is for UnboundConf: Unbound's own limits for servers that are slow to answer, of which none is given up for good. With those of
// UnboundConf, a server that a busy machine keeps from answering for a second counts as dead for fifteen minutes, and so do soon all of a zone.
const Patience = `server:
  infra-cache-max-rtt: 120000
  unknown-server-time-limit: 376
  outbound-msg-retry: 5
  infra-keep-probing: yes
`

// BePatient gives the resolver on the sender [Patience].
func (d *DNS) BePatient(ctx context.Context) error {
	s := d.world.Sender
	if err := s.Write(unboundFile, d.UnboundConf("127.0.0.1", "::1")+Patience, 0o644); err != nil {
		return err
	}
	if _, err := s.Must(ctx, "unbound-control", "-c", unboundFile, "reload"); err != nil {
		return err
	}
	return s.AwaitPort(ctx, Resolver)
}

// Flush makes Unbound forget all that it knows.
func (d *DNS) Flush(ctx context.Context) error {
	_, err := d.world.Sender.Must(ctx, "sh", "-ec", fmt.Sprintf("unbound-control -c %[1]s flush_zone . && unbound-control -c %[1]s flush_infra all", unboundFile))
	return err
}

// Logs are the last words of every server, for the message of a test that fails.
func (d *DNS) Logs() string {
	var b strings.Builder
	for name, p := range d.logs {
		if text := p.Output(); text != "" {
			fmt.Fprintf(&b, "--- %s:\n%s", name, text[max(0, len(text)-3000):])
		}
	}
	return b.String()
}
