package judges

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/packaging/e2e/world"
)

// The addresses of the services on the receiver. Rows have addresses of 203.0.113.0/24.
const (
	nameServer = "198.51.100.53"
	deafServer = "198.51.100.54" // a name server that never answers
	lameServer = "198.51.100.55" // a name server that answers SERVFAIL
	stsServer  = "198.51.100.80"
)

// zone is one zone of the rows' names.
type zone struct {
	name   string // without the final dot; "" is the root
	state  string // signed, plain, bogus, expired
	parent string
	lines  []string
}

// zones distributes the records of all rows: a record belongs to the zone with the longest name that it is below.
type zones []*zone

func newZones(seats []*seat) (zones, error) {
	z := zones{
		{name: "", state: "signed"}, {name: "example", state: "signed"}, {name: "plain.example", state: "plain", parent: "example"},
		{name: "bogus.example", state: "bogus", parent: "example"}, {name: "expired.example", state: "expired", parent: "example"},
	}
	for _, s := range seats {
		for _, cut := range s.cuts {
			state, name, _ := strings.Cut(s.fill(cut), " ")
			z = append(z, &zone{name: name, state: state})
		}
	}
	for _, one := range z[2:] {
		parent := z.of(strings.TrimPrefix(one.name, strings.SplitN(one.name, ".", 2)[0]+".") + ".")
		one.parent = parent.name
		parent.lines = append(parent.lines, one.name+". NS ns.example.")
	}
	z[0].lines = append(z[0].lines, "example. NS ns.example.", "ns.example. A "+nameServer)
	z[1].lines = append(z[1].lines, "ns.example. A "+nameServer, "deaf.example. A "+deafServer, "lame.example. A "+lameServer)
	for _, s := range seats {
		lines, err := s.zoneLines()
		if err != nil {
			return nil, err
		}
		for _, line := range lines {
			owner, _, _ := strings.Cut(line, " ")
			to := z.of(owner)
			to.lines = append(to.lines, line)
		}
	}
	return z, nil
}

// of is the zone to which a name belongs.
func (z zones) of(owner string) *zone {
	best := z[0]
	for _, one := range z {
		if ("."+owner == "."+one.name+"." || strings.HasSuffix(owner, "."+one.name+".")) && len(one.name) >= len(best.name) {
			best = one
		}
	}
	return best
}

func (z *zone) file() string {
	var b strings.Builder
	fmt.Fprintf(&b, "$TTL 300\n%s. SOA ns.example. postmaster.example. 1 3600 600 86400 60\n%[1]s. NS ns.example.\n", z.name)
	for _, line := range z.lines {
		b.WriteString(line + "\n")
	}
	return b.String()
}

// sign writes the zones and signs them, children first, so that a parent gets their DS records.
func (z zones) sign(ctx context.Context, receiver *world.Host) error {
	slices.SortStableFunc(z, func(a, b *zone) int { return depth(b.name) - depth(a.name) })
	script := "set -e; cd /etc/bind/judges\n"
	for i, one := range z {
		file := fmt.Sprintf("zone%d", i)
		if err := receiver.Write("/etc/bind/judges/"+file, one.file(), 0o644); err != nil {
			return err
		}
		if one.state == "plain" {
			script += fmt.Sprintf("cp %s %[1]s.signed\n", file)
			continue
		}
		dates := "-s now-10d -e now+40d"
		if one.state == "expired" {
			dates = "-s now-20d -e now-2d"
		}
		script += fmt.Sprintf("dnssec-keygen -q -a ECDSAP256SHA256 -f KSK -P now-30d -A now-30d %s. >/dev/null\n", one.name)
		script += fmt.Sprintf("dnssec-signzone -q -P -S -z -g %s -o %s. -f %s.signed %[3]s >/dev/null\n", dates, one.name, file)
		if one.state == "bogus" {
			script += fmt.Sprintf("echo '%s. DS 4711 13 2 %s' > dsset-%[1]s.\n", one.name, strings.Repeat("ab", 32))
		}
	}
	if r, err := receiver.Run(ctx, "sh", "-c", script); err != nil || r.Code != 0 {
		return fmt.Errorf("the zones could not be signed: %w\n%s%s", err, r.Stdout, r.Stderr)
	}
	return receiver.Write("/etc/bind/judges.conf", z.configuration(), 0o644)
}

func depth(name string) int {
	if name == "" {
		return 0
	}
	return 1 + strings.Count(name, ".")
}

func (z zones) configuration() string {
	c := "options { directory \"/etc/bind/judges\"; recursion no; listen-on { " + nameServer + "; }; listen-on-v6 { none; }; pid-file none; minimal-responses yes; };\n" +
		"controls {};\n"
	for i, one := range z {
		c += fmt.Sprintf("zone \"%s.\" { type primary; file \"zone%d.signed\"; check-names ignore; };\n", one.name, i)
	}
	return c
}

// serve starts BIND with the zones on the receiver, and validating Unbounds on the sender: on 127.0.0.1 with the time of now, and one on
// 127.0.0.2, … for each other time at which rows are judged.
func (z zones) serve(ctx context.Context, w *world.World, later []time.Duration) error {
	if err := z.sign(ctx, w.Receiver); err != nil {
		return err
	}
	if _, err := w.Receiver.Start("named", "-g", "-c", "/etc/bind/judges.conf"); err != nil {
		return err
	}
	anchor, err := w.Receiver.Read("/etc/bind/judges/dsset-.")
	if err != nil {
		return err
	}
	hints := ". 3600 NS ns.example.\nns.example. 3600 A " + nameServer + "\n"
	// danetool reads the anchor of the system.
	for path, content := range map[string]string{"/etc/judges/root.key": anchor, "/usr/share/dns/root.key": anchor, "/etc/unbound/root.key": anchor, "/etc/judges/root.hints": hints} {
		if err := w.Sender.Write(path, content, 0o644); err != nil {
			return err
		}
	}
	if err := w.Receiver.AwaitPort(ctx, nameServer+":53"); err != nil {
		return err
	}
	for _, d := range append([]time.Duration{0}, later...) {
		if err := startUnbound(ctx, w.Sender, resolverAt(d), d); err != nil {
			return err
		}
	}
	return nil
}

// timesOf are the other times at which rows are judged.
func timesOf(seats []*seat) []time.Duration {
	var all []time.Duration
	for _, s := range seats {
		if s.later != 0 && !slices.Contains(all, s.later) {
			all = append(all, s.later)
		}
	}
	return all
}

// resolverAt is the address of the Unbound that has the time of now and so much more.
func resolverAt(later time.Duration) string {
	return fmt.Sprintf("127.0.%d.1", (later/day+256)%256)
}

func startUnbound(ctx context.Context, sender *world.Host, address string, later time.Duration) error {

	c := "server:\n  interface: " + address + "\n  access-control: 127.0.0.0/8 allow\n  username: \"\"\n  chroot: \"\"\n  directory: /etc/judges\n" +
		"  pidfile: \"\"\n  use-syslog: no\n  logfile: \"\"\n  val-log-level: 2\n  root-hints: /etc/judges/root.hints\n  trust-anchor-file: /etc/judges/root.key\n" +
		"  do-ip6: no\n  qname-minimisation: yes\n"
	if later != 0 {
		c += "  val-override-date: " + time.Now().Add(later).UTC().Format("20060102150405") + "\n"
	}
	if err := sender.Write("/etc/judges/resolv-"+address, "nameserver "+address+"\n", 0o644); err != nil {
		return err
	}
	file := "/etc/judges/unbound-" + address + ".conf"
	if err := sender.Write(file, c+"remote-control:\n  control-enable: no\n", 0o644); err != nil {
		return err
	}
	if _, err := sender.Start("unbound", "-d", "-c", file); err != nil {
		return err
	}
	return sender.AwaitPort(ctx, address+":53")
}
