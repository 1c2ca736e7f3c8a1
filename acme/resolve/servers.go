package resolve

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// mostHosts limits how many name servers of one zone are looked at. The root has 13.
const mostHosts = 32

// Delegation lists the servers that answer for a zone, by its own NS records and by those of its parent.
//
// Every server that either side names counts, because a CA may ask it: resolvers start with the parent's records and some
// stay with them, others prefer the zone's own (RFC 2181 section 5.4.1). A server that only the parent names is easily
// forgotten when a zone moves, and then gives a CA old answers. A primary that neither names is not asked by anyone. A host
// without an address does not count: it cannot be asked.
type Delegation struct {
	Zone    string   // fully qualified
	Servers []Server // every address
	Parent  string   // the parent zone, fully qualified; "" if it is not known
	// NotAsked says why the parent could not be asked; Servers are then those that the zone itself names. It is nil if the
	// parent was asked.
	NotAsked error
	// Private says that the parent zone does not exist, as the resolver sees it: the zone is not part of the public DNS.
	Private bool
	// Undelegated says that the parent was asked and has no NS records for the zone: the public cannot find it.
	Undelegated bool
	Differences []string // between parent and zone, in words
	// Unknown says why the addresses of a host, or some of them, could not be looked up: Servers may lack them.
	Unknown map[string]error
}

// Delegation finds the servers of a zone. The error is an *Error if no server that the zone names has an address, or the
// context's.
func (r *Resolver) Delegation(ctx context.Context, zone string) (Delegation, error) {
	zone = dns.CanonicalName(zone)
	return recall(ctx, &r.memory, "delegation/"+zone, func() (Delegation, time.Duration, error) {
		d := Delegation{Zone: zone}
		var above delegated
		var wait sync.WaitGroup
		wait.Go(func() { above = r.above(ctx, zone) })
		child, err := r.zoneServers(ctx, zone)
		wait.Wait()
		if err != nil {
			return d, 0, err
		}
		d.Private = above.absent
		d.Parent, d.NotAsked, d.Undelegated = above.parent, above.err, above.err == nil && len(above.hosts) == 0
		r.unite(ctx, &d, child, above)
		if ended := endOf(ctx); ended != nil {
			return d, 0, ended // what was not found in that time may be found in more
		}
		if len(d.Unknown) > 0 {
			return d, shortMemory, nil
		}
		return d, longestMemory, nil
	})
}

// hosts are name servers with their addresses, in the order of the NS records.
type hosts struct {
	names     []string
	addresses map[string][]string
	unknown   map[string]error // why addresses of a host could not be looked up
}

// zoneServers looks up the NS records that the zone has itself and the addresses of their hosts.
func (r *Resolver) zoneServers(ctx context.Context, zone string) (hosts, error) {
	return recall(ctx, &r.memory, "servers/"+zone, func() (hosts, time.Duration, error) {
		answer, err := r.recallAsk(ctx, zone, dns.TypeNS)
		if err != nil {
			return hosts{}, 0, err
		}
		h := hosts{names: hostsIn(answer.Answer, zone)}
		if len(h.names) == 0 {
			return h, 0, &Error{Name: zone, Type: "NS", Server: r.current(), Reason: "the zone has no name server"}
		}
		var problem error
		h.addresses, h.unknown, problem = r.addressesOf(ctx, h.names)
		switch ended := endOf(ctx); {
		case ended != nil && len(h.unknown) > 0:
			return hosts{}, 0, ended // what was not found in that time may be found in more
		case len(h.addresses) == 0:
			return h, 0, problem
		}
		if len(h.unknown) > 0 {
			return h, min(shortMemory, lifeOf(answer)), nil
		}
		return h, lifeOf(answer), nil
	})
}

// hostsIn returns the hosts of the NS records of a zone.
func hostsIn(section []dns.RR, zone string) []string {
	var names []string
	for _, rr := range section {
		ns, ok := rr.(*dns.NS)
		if !ok || dns.CanonicalName(ns.Hdr.Name) != zone || len(names) == mostHosts {
			continue
		}
		if host := dns.CanonicalName(ns.Ns); !slices.Contains(names, host) {
			names = append(names, host)
		}
	}
	return names
}

// addressesOf looks up all hosts at once. It leaves out hosts without an address; problem says why for the last one. unknown has the hosts of
// which an address may be missing, because a question about it was not answered.
func (r *Resolver) addressesOf(ctx context.Context, names []string) (found map[string][]string, unknown map[string]error, problem error) {
	found, unknown = map[string][]string{}, map[string]error{}
	var wait sync.WaitGroup
	var mu sync.Mutex
	for _, name := range names {
		wait.Go(func() {
			addresses, missed := r.addresses(ctx, name)
			mu.Lock()
			defer mu.Unlock()
			if missed != nil {
				unknown[name] = missed
			}
			if len(addresses) == 0 {
				problem = cmp.Or(missed, r.noAddress(name))
				return
			}
			found[name] = addresses
		})
	}
	wait.Wait()
	return found, unknown, problem
}

// unite makes one list of the servers that zone and parent name, and reports where they differ.
func (r *Resolver) unite(ctx context.Context, d *Delegation, child hosts, above delegated) {
	known := map[string]bool{}
	add := func(host, address, only string) {
		s := Server{Host: strings.TrimSuffix(host, "."), Address: r.withPort(address), Only: only}
		if !known[s.Address] {
			known[s.Address] = true
			d.Servers = append(d.Servers, s)
		}
	}
	differ := func(format string, args ...any) { d.Differences = append(d.Differences, fmt.Sprintf(format, args...)) }
	d.Unknown = map[string]error{}
	lost := func(unknown map[string]error) {
		for host, err := range unknown {
			d.Unknown[PlainName(host)] = err
		}
	}
	lost(child.unknown)
	asked := above.err == nil && len(above.hosts) > 0
	for _, host := range child.names {
		only := ""
		if asked && !slices.Contains(above.hosts, host) {
			only = "zone"
			differ("%s is named by the zone and not by its parent", PlainName(host))
		}
		if len(child.addresses[host]) == 0 {
			differ("%s has no address", PlainName(host))
		}
		for _, address := range child.addresses[host] {
			add(host, address, only)
		}
	}
	if !asked {
		return
	}
	var more []string
	for _, host := range above.hosts {
		if !slices.Contains(child.names, host) {
			more = append(more, host)
		}
	}
	addresses, unknown, _ := r.addressesOf(ctx, more)
	lost(unknown)
	for _, host := range more {
		if len(addresses[host]) == 0 && len(above.glue[host]) == 0 {
			differ("%s is named by the parent and not by the zone, and has no address: it cannot be asked", PlainName(host))
			continue
		}
		differ("%s is named by the parent and not by the zone", PlainName(host))
		for _, address := range addresses[host] {
			add(host, address, "parent")
		}
	}
	for _, host := range above.hosts {
		for _, address := range above.glue[host] {
			if !slices.Contains(child.addresses[host], address) && !slices.Contains(addresses[host], address) {
				differ("the parent says that %s is at %s, and the host's own zone does not", PlainName(host), address)
				add(host, address, "glue")
			}
		}
	}
}

func addressesIn(section []dns.RR) []string {
	var addresses []string
	for _, rr := range section {
		switch rr := rr.(type) {
		case *dns.A:
			addresses = append(addresses, rr.A.String())
		case *dns.AAAA:
			addresses = append(addresses, rr.AAAA.String())
		}
	}
	return addresses
}

// withPort adds the port to use for an authoritative address.
func (r *Resolver) withPort(address string) string {
	return net.JoinHostPort(address, cmp.Or(r.ports[address], "53"))
}

// PlainName returns a name as people write it: without the dot at its end, except for the root.
func PlainName(name string) string { return cmp.Or(strings.TrimSuffix(name, "."), ".") }
