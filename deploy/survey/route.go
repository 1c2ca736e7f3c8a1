package survey

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"mxcert/acme/resolve"
	"mxcert/deploy/verdict"
)

// host is one MX host with its endpoints.
type host struct {
	route     verdict.Route
	literal   bool // the name is an address
	own       bool // the configuration names the address, whatever DNS says
	addresses []netip.Addr
	most      int // addresses of each family that are looked at
	more      int // addresses that are not
	endpoints []*endpoint
	bases     chan struct{} // closed when route.Bases is complete
}

// patience is how long the connections to a host wait for the addresses of the other hosts, which may be the same.
const patience = 2 * time.Second

// mostAddresses limits the addresses of each family at which one look looks, over all hosts; fewAddresses of a host are looked at in any case.
// A hostile domain may name many hosts with many addresses each.
const (
	mostAddresses = 1000
	fewAddresses  = 4
)

// hosts looks at hosts in parallel. It returns them in the order of their names, with everything that was seen.
func (s *survey) hosts(ctx context.Context, names []string) []*host {
	hosts := make([]*host, len(names))
	known := make(chan struct{})
	var addresses, all sync.WaitGroup
	for i, name := range names {
		h := &host{route: verdict.Route{Host: name}, most: max(fewAddresses, mostAddresses/len(names)), bases: make(chan struct{})}
		hosts[i] = h
		addresses.Add(1)
		all.Go(func() {
			s.resolve(ctx, h)
			s.announce(h)
			addresses.Done()
			all.Go(func() {
				defer close(h.bases)
				h.route.Bases = s.tlsa(ctx, h)
			})
			select {
			case <-known:
			case <-time.After(patience):
			case <-ctx.Done():
			}
			for _, e := range h.endpoints {
				all.Go(func() { s.look(ctx, h, e) })
			}
		})
	}
	all.Go(func() {
		addresses.Wait()
		close(known)
	})
	all.Wait()
	return hosts
}

// resolve asks for the addresses of a host, and lists its endpoints. IPv6 comes first, as RFC 6724 prefers it.
func (s *survey) resolve(ctx context.Context, h *host) {
	address, ok := literal(h.route.Host)
	if h.literal = ok; ok && !s.byMX {
		h.addresses = []netip.Addr{address}
	} else { // senders look for an address in an MX record as for any name
		var v4, v6 resolve.Set[netip.Addr]
		var both sync.WaitGroup
		both.Go(func() { v6 = s.Resolver.LookIPv6(ctx, h.route.Host) })
		both.Go(func() { v4 = s.Resolver.LookIPv4(ctx, h.route.Host) })
		both.Wait()
		h.route.Addresses = []resolve.Answer{v4.Answer, v6.Answer}
		for _, address := range slices.Concat(h.first(v6.Records), h.first(v4.Records)) {
			if address = address.Unmap(); !slices.Contains(h.addresses, address) {
				h.addresses = append(h.addresses, address)
			}
		}
	}
	for _, address := range h.addresses {
		h.endpoints = append(h.endpoints, &endpoint{address: address, port: s.Port})
		if s.ours(address) {
			for _, port := range s.Ports {
				if port != s.Port {
					h.endpoints = append(h.endpoints, &endpoint{address: address, port: port})
				}
			}
		}
	}
	if len(h.endpoints) == 0 {
		h.endpoints = []*endpoint{{port: s.Port}}
	}
}

// first returns as many addresses as are looked at.
func (h *host) first(list []netip.Addr) []netip.Addr {
	n := min(len(list), h.most)
	h.more += len(list) - n
	return list[:n]
}

// sni is the name that senders without DANE send for a host in SNI: none for an address (RFC 6066 section 3).
func sni(host string) string {
	if _, ok := literal(host); ok {
		return ""
	}
	return host
}

// alias returns the name to which the CNAME records of the host lead; "" if there is none.
func (h *host) alias() string {
	for _, a := range h.route.Addresses {
		if a.Err == nil && a.Final != a.Name {
			return a.Final
		}
	}
	return ""
}

// tlsa looks for TLSA records below each base domain in order, until one decides (RFC 7672 section 2.2): below the name to which secure
// aliases lead, and then below the name itself. Whether the MX record is secure does not matter here: Postfix asks anyway.
func (s *survey) tlsa(ctx context.Context, h *host) (bases []verdict.Base) {
	for _, domain := range s.baseDomains(ctx, h) {
		base := verdict.Base{Domain: domain, TLSA: s.Resolver.LookTLSA(ctx, fmt.Sprintf("_%d._tcp.%s", s.Port, domain))}
		bases = append(bases, base)
		if base.TLSA.Err != nil || len(base.TLSA.Records) > 0 && base.TLSA.State == resolve.Secure {
			break
		}
	}
	return bases
}

// baseDomains returns where TLSA records may be. There is none if the addresses are insecure, because then senders do not ask (RFC 7672
// section 2.2.2), and some name servers do not even answer. If only what an alias leads to is insecure, the alias itself may be secure.
func (s *survey) baseDomains(ctx context.Context, h *host) []string {
	for _, a := range h.route.Addresses {
		if a.Err != nil || len(h.addresses) == 0 {
			continue
		}
		switch alias := a.Final != a.Name; {
		case a.State == resolve.Secure && alias:
			return []string{a.Final, a.Name}
		case a.State == resolve.Secure:
			return []string{a.Name}
		case a.State == resolve.Insecure && a.Validator != "" && alias && h.route.Alias == nil:
			set := s.Resolver.LookAlias(ctx, a.Name)
			if h.route.Alias = &set; set.State == resolve.Secure {
				return []string{a.Name}
			}
		}
	}
	return nil
}
