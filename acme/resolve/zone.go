package resolve

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// maxAliases bounds a CNAME chain; recursive resolvers stop at about the same length.
const maxAliases = 10

// Place is where a record has to be made so that a question for a name finds it.
type Place struct {
	Name    string // owner name after all CNAMEs, fully qualified, lower case
	Zone    string // zone that holds it, fully qualified
	Primary string // MNAME of the zone's SOA: the server that takes updates (RFC 2136 section 1)
}

// Locate follows the CNAMEs of a name, over zone cuts, and finds the zone of the end: the owner of the SOA that comes
// with the answer (RFC 2308 section 3). The name itself need not exist.
func (r *Resolver) Locate(ctx context.Context, name string) (Place, error) {
	owner := dns.CanonicalName(name)
	seen := map[string]bool{}
	for range maxAliases {
		answer, err := r.Ask(ctx, owner, dns.TypeSOA)
		if err != nil {
			return Place{}, err
		}
		end := followAliases(answer, owner, seen)
		if end == owner {
			return r.zoneOf(ctx, owner, answer)
		}
		if end == "" {
			return Place{}, &Error{Name: name, Type: "CNAME", Server: r.current(), Reason: "the CNAME records form a loop"}
		}
		owner = end
	}
	return Place{}, &Error{Name: name, Type: "CNAME", Server: r.current(), Reason: fmt.Sprintf("more than %d CNAME records in a row", maxAliases)}
}

// followAliases walks the CNAME records of one answer; "" means a loop.
func followAliases(answer *dns.Msg, owner string, seen map[string]bool) string {
	for {
		next := ""
		for _, rr := range answer.Answer {
			if alias, ok := rr.(*dns.CNAME); ok && dns.CanonicalName(alias.Hdr.Name) == owner {
				next = dns.CanonicalName(alias.Target)
			}
		}
		if next == "" {
			return owner
		}
		if seen[next] {
			return ""
		}
		seen[owner], seen[next] = true, true
		owner = next
	}
}

// zoneOf reads the zone from the SOA in the answer or the authority section. Some servers leave it out of an empty
// answer; only after such a definite answer is the parent asked.
func (r *Resolver) zoneOf(ctx context.Context, owner string, answer *dns.Msg) (Place, error) {
	for name := owner; ; {
		place, found := placeIn(answer, owner)
		switch {
		case place.Zone == ".":
			return Place{}, &Error{Name: owner, Type: "SOA", Server: r.current(), Reason: "the name lies in no zone: its top-level domain is not in DNS, as this resolver sees it"}
		case found:
			return place, nil
		}
		if slices.ContainsFunc(answer.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeNS }) {
			return Place{}, &Error{Name: name, Type: "SOA", Server: r.current(), Reason: "it refers to other name servers instead of answering: it is no recursive resolver for this name"}
		}
		_, parent, _ := strings.Cut(name, ".")
		if parent == "" {
			return Place{}, &Error{Name: owner, Type: "SOA", Server: r.current(), Reason: "no zone is found that holds this name"}
		}
		name = parent
		var err error
		if answer, err = r.Ask(ctx, name, dns.TypeSOA); err != nil {
			return Place{}, err
		}
	}
}

// placeIn finds the SOA of the zone that holds a name.
func placeIn(answer *dns.Msg, owner string) (Place, bool) {
	for _, rr := range append(append([]dns.RR(nil), answer.Answer...), answer.Ns...) {
		if soa, ok := rr.(*dns.SOA); ok && dns.IsSubDomain(dns.CanonicalName(soa.Hdr.Name), owner) {
			return Place{Name: owner, Zone: dns.CanonicalName(soa.Hdr.Name), Primary: dns.CanonicalName(soa.Ns)}, true
		}
	}
	return Place{}, false
}

// Server is one address of one authoritative server.
type Server struct {
	Host    string // host name from the NS record, without the final dot
	Address string // "address:port"
}

// String is what progress and errors show.
func (s Server) String() string { return s.Host + " [" + s.Address + "]" }

// Authoritative lists every address of every name server of a zone.
func (r *Resolver) Authoritative(ctx context.Context, zone string) ([]Server, error) {
	answer, err := r.Ask(ctx, zone, dns.TypeNS)
	if err != nil {
		return nil, err
	}
	var servers []Server
	var problem error
	for _, rr := range answer.Answer {
		ns, ok := rr.(*dns.NS)
		if !ok || dns.CanonicalName(ns.Hdr.Name) != dns.CanonicalName(zone) {
			continue
		}
		addresses, err := r.Addresses(ctx, ns.Ns)
		if err != nil {
			problem = err
			continue
		}
		for _, address := range addresses {
			servers = append(servers, Server{Host: strings.TrimSuffix(ns.Ns, "."), Address: r.withPort(address)})
		}
	}
	switch {
	case len(servers) > 0:
		return servers, nil
	case problem != nil:
		return nil, problem
	}
	return nil, &Error{Name: zone, Type: "NS", Server: r.current(), Reason: "the zone has no name server"}
}
