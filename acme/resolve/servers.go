package resolve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// mostHosts limits how many name servers of one zone are looked at. The root has 13.
	mostHosts = 32
	// parentPatience limits the time for the question to the parent's servers, which may be out of reach; parentTries limits
	// how many of them are asked.
	parentPatience = 4 * time.Second
	parentTries    = 3
	noParent       = "the parent zone does not exist, as this resolver sees it"
)

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
		return d, longestMemory, nil
	})
}

// hosts are name servers with their addresses, in the order of the NS records.
type hosts struct {
	names     []string
	addresses map[string][]string
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
		if h.addresses, problem = r.addressesOf(ctx, h.names); len(h.addresses) == 0 {
			return h, 0, problem
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

// addressesOf looks up all hosts at once. It leaves out hosts without an address; the error says why for the last one.
func (r *Resolver) addressesOf(ctx context.Context, names []string) (found map[string][]string, problem error) {
	found = map[string][]string{}
	var wait sync.WaitGroup
	var mu sync.Mutex
	for _, name := range names {
		wait.Go(func() {
			addresses, err := r.Addresses(ctx, name)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				problem = err
				return
			}
			found[name] = addresses
		})
	}
	wait.Wait()
	return found, problem
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
	addresses, _ := r.addressesOf(ctx, more)
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

// delegated is what the parent zone says about a zone.
type delegated struct {
	parent string
	hosts  []string            // of its NS records
	glue   map[string][]string // addresses that came along
	err    error               // why the parent could not be asked
	absent bool                // there is no parent zone
}

// above asks the servers of the parent zone for the delegation.
func (r *Resolver) above(ctx context.Context, zone string) delegated {
	ctx, cancel := context.WithTimeout(ctx, parentPatience)
	defer cancel()
	parent, hosts, err := r.parentOf(ctx, zone)
	out := delegated{parent: parent, err: err}
	if e, ok := errors.AsType[*Error](err); ok {
		out.absent = e.Reason == noParent
	}
	for _, host := range hosts[:min(len(hosts), parentTries)] {
		address, err := r.oneAddress(ctx, host)
		if err != nil {
			out.err = err
			continue
		}
		question := direct(zone, dns.TypeNS)
		answer, err := r.exchange(ctx, question, address)
		if err == nil && (answer.Rcode == dns.RcodeSuccess || answer.Rcode == dns.RcodeNameError) {
			out.hosts, out.glue, out.err = hostsIn(append(slices.Clone(answer.Answer), answer.Ns...), zone), glueIn(answer), nil
			if len(out.hosts) > 0 || answer.Authoritative {
				return out
			}
			out.err = &Error{Name: zone, Type: "NS", Server: address, Reason: "it does not answer for the parent zone"}
			continue
		}
		out.err = questionError(question, address, answer, err)
	}
	return out
}

// parentOf finds the parent zone and its name servers.
func (r *Resolver) parentOf(ctx context.Context, zone string) (parent string, hosts []string, err error) {
	if zone == "." {
		return "", nil, &Error{Name: zone, Type: "NS", Server: r.current(), Reason: "the root has no parent"}
	}
	for name := parentName(zone); ; {
		answer, err := r.recallAsk(ctx, name, dns.TypeNS)
		if err != nil {
			return "", nil, err
		}
		if hosts := hostsIn(answer.Answer, name); len(hosts) > 0 {
			return name, hosts, nil
		}
		place, found := placeIn(answer, name)
		switch {
		case found && place.Zone == "." && answer.Rcode == dns.RcodeNameError:
			return "", nil, &Error{Name: name, Type: "NS", Server: r.current(), Reason: noParent}
		case !found || place.Zone == name || name == ".":
			return "", nil, &Error{Name: name, Type: "NS", Server: r.current(), Reason: "the parent zone has no name servers"}
		}
		name = place.Zone
	}
}

// parentName returns the name without its first label.
func parentName(name string) string {
	_, rest, _ := strings.Cut(name, ".")
	return cmp.Or(rest, ".")
}

// oneAddress returns an address of a host, an IPv4 address if it has one.
func (r *Resolver) oneAddress(ctx context.Context, host string) (string, error) {
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		answer, err := r.recallAsk(ctx, host, qtype)
		if err != nil {
			return "", err
		}
		if found := addressesIn(answer.Answer); len(found) > 0 {
			return r.withPort(found[0]), nil
		}
	}
	return "", &Error{Name: host, Type: "A/AAAA", Server: r.current(), Reason: "the host has no address"}
}

// glueIn returns the addresses of name servers that a referral contains.
func glueIn(answer *dns.Msg) map[string][]string {
	glue := map[string][]string{}
	if answer.Authoritative {
		return glue // it is not a referral
	}
	for _, rr := range answer.Extra {
		if addresses := addressesIn([]dns.RR{rr}); len(addresses) > 0 && len(glue) < mostHosts {
			host := dns.CanonicalName(rr.Header().Name)
			glue[host] = append(glue[host], addresses...)
		}
	}
	return glue
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
