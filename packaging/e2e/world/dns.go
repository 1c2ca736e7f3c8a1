package world

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Addresses of the name servers on the receiver. What a Zone's Servers may name beside them: addresses of fronts (Front), or of nobody.
const (
	RootServer = "203.0.113.1" // BIND: the root
	TLDServer  = "203.0.113.2" // Knot: test and example
	BINDServer = "203.0.113.3"
	KnotServer = "203.0.113.4"
)

// Resolver is Unbound on the sender.
const Resolver = "127.0.0.1:53"

// Nameserver is a program that serves a zone.
type Nameserver string

// The name servers.
const (
	BIND Nameserver = ""
	Knot Nameserver = "knot"
)

// Signing is how a zone denies existence, or that it is not signed.
type Signing string

// The ways to sign.
const (
	NSEC     Signing = ""
	NSEC3    Signing = "nsec3"
	OptOut   Signing = "opt-out" // NSEC3 that skips insecure delegations (RFC 5155 section 6)
	Unsigned Signing = "unsigned"
)

// DS is what the parent says of the zone's key.
type DS string

// The DS records. An unsigned zone has none unless it says Wrong.
const (
	Right   DS = ""
	None    DS = "none"    // an island: signed, but the parent proves that it is insecure
	Wrong   DS = "wrong"   // of another key
	Unknown DS = "unknown" // of an algorithm that nobody has: insecure (RFC 4035 section 5.2)
)

// A Zone is one zone of the DNS world. The delegation in its parent is made from it.
type Zone struct {
	Name    string // "good.test"; the parent is the nearest zone above it, or test, example or the root
	Server  Nameserver
	Sign    Signing
	DS      DS
	Records string // lines of a master file without SOA and NS; names are relative to the zone
	// Servers are the addresses that the delegation names; nil stands for those of Server.
	Servers []string
	// Elsewhere says that the test itself serves the zone, at Servers: the world only delegates it, and says nothing of its keys until SetDS.
	Elsewhere bool
	// Since and Until are the validity of the signatures; zero is from an hour ago, for a month. Unbound forgives a tenth of that time, and at
	// least an hour, on both sides (val-sig-skew-min, val-sig-skew-max); delv nothing.
	Since, Until time.Time
	// Lapsed is a type whose signatures expired five days ago, though all others are valid.
	Lapsed string
	// Change, if set, is given each line of the signed zone (NAME TTL CLASS TYPE DATA) and returns what is served instead; "" is nothing.
	Change func(line string) string
}

// DNS is a DNS world: name servers on the receiver, and Unbound on the sender, which validates with the key of the world's root.
type DNS struct {
	// Anchor is the path, in every root tree of the sender, of the root's DS record; AnchorConf of the same for delv -a; Hints of the root's
	// servers for unbound.
	Anchor, AnchorConf, Hints string

	world  *World
	mu     sync.Mutex // of zones, serial and the programs' files
	zones  map[string]Zone
	ds     map[string]string
	serial int
	logs   map[string]*Process
}

// paths of the receiver.
const (
	zoneDirectory = "/srv/dns/zones"
	keyDirectory  = "/srv/dns/keys"
)

// ServeDNS signs the zones, and the root, test and example above them, and starts the servers and Unbound. A zone named "", "test" or
// "example" replaces the one that is made.
func (w *World) ServeDNS(ctx context.Context, zones ...Zone) (*DNS, error) {
	d := &DNS{Anchor: "/etc/world/root.ds", AnchorConf: "/etc/world/root.conf", Hints: "/etc/world/root.hints", world: w,
		zones: map[string]Zone{"": {}, "test": {Server: Knot, Name: "test"}, "example": {Server: Knot, Name: "example", Sign: NSEC3}},
		ds:    map[string]string{}, serial: 1, logs: map[string]*Process{}}
	for _, z := range zones {
		d.zones[z.Name] = z
	}
	for i, address := range []string{RootServer, TLDServer, BINDServer, KnotServer} {
		for _, prefix := range []string{address + "/24", fmt.Sprintf("2001:db8:53::%d/64", i+1)} {
			if err := w.Receiver.AddAddress(prefix); err != nil {
				return nil, err
			}
		}
	}
	if err := d.sign(ctx, slices.Collect(maps.Keys(d.zones))...); err != nil {
		return nil, err
	}
	if err := d.startServers(ctx); err != nil {
		return nil, err
	}
	return d, d.startUnbound(ctx)
}

// Edit replaces zones, or adds new ones, and returns when the servers serve them and Unbound has forgotten the old.
func (d *DNS) Edit(ctx context.Context, zones ...Zone) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.serial++
	names := map[string]bool{}
	for _, z := range zones {
		d.zones[z.Name] = z
		names[z.Name], names[d.parent(z.Name)] = true, true // the delegation may be another
	}
	if err := d.sign(ctx, slices.Collect(maps.Keys(names))...); err != nil {
		return err
	}
	return d.reload(ctx, slices.Collect(maps.Keys(names)))
}

// SetDS has the parents say the DS records of zones that are served elsewhere, as dnssec-dsfromkey prints them: "TAG ALGORITHM TYPE DIGEST",
// by the name of the zone.
func (d *DNS) SetDS(ctx context.Context, ds map[string]string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.serial++
	parents := map[string]bool{}
	for name, text := range ds {
		d.ds[name] = text
		parents[d.parent(name)] = true
	}
	if err := d.sign(ctx, slices.Collect(maps.Keys(parents))...); err != nil {
		return err
	}
	return d.reload(ctx, slices.Collect(maps.Keys(parents)))
}

// instance is the server program that has a zone; "" if the world serves it not.
func (z Zone) instance() string {
	switch {
	case z.Elsewhere:
		return ""
	case z.Name == "":
		return "root"
	case !strings.Contains(z.Name, "."):
		return "tld"
	case z.Server == Knot:
		return "knot"
	}
	return "bind"
}

var addressOf = map[string]string{"root": RootServer, "tld": TLDServer, "bind": BINDServer, "knot": KnotServer}

// servers are the addresses in the delegation.
func (z Zone) servers() []string {
	if z.Servers != nil {
		return z.Servers
	}
	v4 := addressOf[z.instance()]
	return []string{v4, "2001:db8:53::" + v4[strings.LastIndex(v4, ".")+1:]}
}

// fqdn is the name in a master file.
func (z Zone) fqdn() string { return z.Name + "." }

// below is a name below the zone in a master file.
func (z Zone) below(label string) string { return strings.TrimSuffix(label+"."+z.Name, ".") + "." }

// file is the base of the names of the zone's files.
func (z Zone) file() string {
	if z.Name == "" {
		return "root"
	}
	return z.Name
}

// parent is the zone that delegates a name.
func (d *DNS) parent(name string) string {
	for {
		_, above, found := strings.Cut(name, ".")
		if !found {
			return ""
		}
		if _, is := d.zones[above]; is {
			return above
		}
		name = above
	}
}
