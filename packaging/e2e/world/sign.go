package world

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// sign writes the files of zones, with signatures by dnssec-signzone.
func (d *DNS) sign(ctx context.Context, names ...string) error {
	if err := d.makeKeys(ctx); err != nil {
		return err
	}
	var script strings.Builder
	fmt.Fprintf(&script, "cd %s\n", zoneDirectory)
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return d.zones[name].Elsewhere })
	for _, name := range names {
		z := d.zones[name]
		if err := d.world.Receiver.Write(filepath.Join(zoneDirectory, z.file()+".plain"), d.plain(z), 0o644); err != nil {
			return err
		}
		script.WriteString(z.signCommand())
	}
	if _, err := d.world.Receiver.Must(ctx, "sh", "-ec", script.String()); err != nil {
		return err
	}
	for _, name := range names {
		if err := d.finish(d.zones[name]); err != nil {
			return err
		}
	}
	return nil
}

// signCommand makes NAME.signed of NAME.plain.
func (z Zone) signCommand() string {
	if z.Sign == Unsigned {
		return fmt.Sprintf("cp '%[1]s.plain' '%[1]s.signed'\n", z.file())
	}
	since, until := z.Since, z.Until
	if since.IsZero() {
		since = time.Now().Add(-time.Hour)
	}
	if until.IsZero() {
		until = time.Now().Add(30 * 24 * time.Hour)
	}
	command := z.signUntil(since, until, ".signed")
	if z.Lapsed != "" {
		command += z.signUntil(time.Now().Add(-20*24*time.Hour), time.Now().Add(-5*24*time.Hour), ".lapsed")
	}
	return command
}

// signUntil makes a signed file with an ending.
func (z Zone) signUntil(since, until time.Time, ending string) string {
	options := ""
	switch z.Sign {
	case NSEC3:
		options = "-3 - -H 0"
	case OptOut:
		options = "-3 - -H 0 -A"
	}
	const stamp = "20060102150405"
	return fmt.Sprintf("dnssec-signzone -q -n 1 -S -z -P -K %s -d /tmp -O full %s -s %s -e %s -o '%s' -f '%[6]s%s' '%[6]s.plain' >/dev/null\n",
		keyDirectory, options, since.UTC().Format(stamp), until.UTC().Format(stamp), z.fqdn(), z.file(), ending)
}

// finish makes the file that is served of the signed one.
func (d *DNS) finish(z Zone) error {
	text, err := d.world.Receiver.Read(filepath.Join(zoneDirectory, z.file()+".signed"))
	if err == nil && z.Lapsed != "" {
		text, err = d.lapse(z, text)
	}
	if err != nil {
		return err
	}
	if z.Change != nil {
		lines := strings.Split(text, "\n")
		for i, line := range lines {
			if line != "" && !strings.HasPrefix(line, ";") {
				lines[i] = z.Change(line)
			}
		}
		text = strings.Join(lines, "\n")
	}
	return d.world.Receiver.Write(filepath.Join(zoneDirectory, z.file()+".zone"), text, 0o644)
}

// lapse takes the signatures on one type from the file that was signed long ago.
func (d *DNS) lapse(z Zone, text string) (string, error) {
	old, err := d.world.Receiver.Read(filepath.Join(zoneDirectory, z.file()+".lapsed"))
	if err != nil {
		return "", err
	}
	lapsed := func(line string) bool {
		f := strings.Fields(line)
		return len(f) > 4 && f[3] == "RRSIG" && f[4] == z.Lapsed
	}
	lines := slices.DeleteFunc(strings.Split(text, "\n"), lapsed)
	return strings.Join(append(lines, slices.DeleteFunc(strings.Split(old, "\n"), func(line string) bool { return !lapsed(line) })...), "\n") + "\n", nil
}

// makeKeys makes a key for each zone that has none, and reads the DS records of all.
func (d *DNS) makeKeys(ctx context.Context) error {
	var script strings.Builder
	fmt.Fprintf(&script, "mkdir -p %[1]s %[2]s\ncd %[1]s\n", keyDirectory, zoneDirectory)
	for name, z := range d.zones {
		if _, has := d.ds[name]; !has && !z.Elsewhere {
			// The second is a DS that no key of the zone has.
			fmt.Fprintf(&script, "key=$(dnssec-keygen -q -a ECDSAP256SHA256 -f KSK '%[1]s')\ndnssec-dsfromkey -2 $key\n", z.fqdn())
		}
	}
	out, err := d.world.Receiver.Must(ctx, "sh", "-ec", script.String())
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		owner, rest, _ := strings.Cut(strings.TrimSpace(line), " IN DS ")
		d.ds[strings.TrimSuffix(owner, ".")] = rest
	}
	return nil
}

// plain is the zone before it is signed.
func (d *DNS) plain(z Zone) string {
	var b strings.Builder
	fmt.Fprintf(&b, "$ORIGIN %s\n$TTL 300\n@ IN SOA %s %s %d 3600 600 86400 60\n", z.fqdn(), z.below("ns1"), z.below("hostmaster"), d.serial)
	b.WriteString(delegation(z))
	for _, name := range d.names() {
		if child := d.zones[name]; name != z.Name && d.parent(name) == z.Name {
			b.WriteString(delegation(child))
			b.WriteString(d.dsOf(child))
		}
	}
	fmt.Fprintf(&b, "$ORIGIN %s\n%s\n", z.fqdn(), z.Records)
	return b.String()
}

func (d *DNS) names() []string {
	names := make([]string, 0, len(d.zones))
	for name := range d.zones {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// delegation is the NS records of a zone and the addresses of their servers.
func delegation(z Zone) string {
	var b strings.Builder
	for i, address := range z.servers() {
		server := z.below(fmt.Sprintf("ns%d", i+1))
		kind := "A"
		if strings.Contains(address, ":") {
			kind = "AAAA"
		}
		fmt.Fprintf(&b, "%s NS %s\n%s %s %s\n", z.fqdn(), server, server, kind, address)
	}
	return b.String()
}

// dsOf is what the parent says of a zone's key.
func (d *DNS) dsOf(z Zone) string {
	ds := d.ds[z.Name]
	switch {
	case z.Elsewhere && ds == "":
		return ""
	case z.DS == None, z.Sign == Unsigned && z.DS == Right:
		return ""
	case z.DS == Wrong:
		ds = "4711 13 2 " + strings.Repeat("AB", 32)
	case z.DS == Unknown:
		ds = "4711 200 2 " + strings.Repeat("AB", 32)
	}
	return fmt.Sprintf("%s DS %s\n", z.fqdn(), ds)
}
