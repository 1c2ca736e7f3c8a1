package resolve

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// maxAliases limits a CNAME chain; recursive resolvers stop at about the same length.
	maxAliases = 10
	// maxCuts limits the zone cuts below a known zone on the way to one name.
	maxCuts = 10
	// authorityPatience is how long the authoritative servers have for their answer. After the time nextServer without an
	// answer, another one is asked as well.
	authorityPatience = 3 * time.Second
	nextServer        = 300 * time.Millisecond
)

// Place is where a record has to be created so that a question for a name finds it.
type Place struct {
	Name    string // owner name after all CNAMEs, fully qualified, lower case
	Zone    string // zone that holds it, fully qualified
	Primary string // MNAME of the zone's SOA: the server that takes updates (RFC 2136 section 1)
}

// Locate follows the CNAMEs of a name, across zone cuts, and finds the zone in which they end: the owner of the SOA that comes
// with the answer (RFC 2308 section 3). The name itself need not exist. Locate does not follow a CNAME that the server made from
// a wildcard (RFC 4592): a record at the name itself takes its place.
//
// It asks the zone's own servers, and a recursive resolver only if none of them answers. A recursive resolver may have cached
// that the name does not exist (RFC 2308 section 5), although a CNAME was created since; and a CA that shares the resolver
// would get the same answer after the record is created.
func (r *Resolver) Locate(ctx context.Context, name string) (Place, error) {
	owner := dns.CanonicalName(name)
	seen := map[string]bool{}
	for range maxAliases {
		answer, bailiwick, err := r.askAbout(ctx, owner)
		if err != nil {
			return Place{}, err
		}
		aliases, end := aliasesIn(answer, owner, bailiwick, seen)
		for _, a := range aliases {
			fromWildcard, err := r.fromWildcard(ctx, a)
			if err != nil {
				return Place{}, err
			}
			if fromWildcard {
				// The name does not exist, so no zone starts there. A resolver must not be asked for it: it would remember the CNAME.
				place, err := r.zoneAbove(ctx, parentName(a.owner))
				return Place{Name: a.owner, Zone: place.Zone, Primary: place.Primary}, err
			}
		}
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

// Zone finds the zone that holds a name, without following its CNAMEs.
func (r *Resolver) Zone(ctx context.Context, name string) (string, error) {
	place, err := r.zoneAbove(ctx, dns.CanonicalName(name))
	return place.Zone, err
}

// zoneAbove finds the zone that holds a name, and its primary.
func (r *Resolver) zoneAbove(ctx context.Context, owner string) (Place, error) {
	answer, err := r.recallAsk(ctx, owner, dns.TypeSOA)
	for err == nil && aliasOf(answer, owner) != "" && owner != "." {
		// The answer is about the zone of the target. The zone of the name is that of the name above, or starts between the
		// two, where a CNAME cannot be (RFC 1034 section 3.6.2).
		owner = parentName(owner)
		answer, err = r.recallAsk(ctx, owner, dns.TypeSOA)
	}
	if err != nil {
		return Place{}, err
	}
	return r.zoneOf(ctx, owner, answer)
}

// askAbout returns an answer about a name, and the zone below which its CNAME records can be trusted: the zone of the server
// that answered, or the root.
func (r *Resolver) askAbout(ctx context.Context, owner string) (answer *dns.Msg, bailiwick string, err error) {
	zone, err := r.enclosing(ctx, owner)
	if err != nil {
		return nil, "", err
	}
	for range maxCuts {
		answer := r.askAuthority(ctx, zone, owner)
		if ended := endOf(ctx); ended != nil {
			return nil, "", ended
		}
		if answer == nil {
			break
		}
		cut := referral(answer, zone, owner)
		if cut == "" {
			return answer, zone, nil
		}
		r.memory.put("zone/"+cut, true, longestMemory)
		zone = cut
	}
	answer, _, err = r.ask(ctx, owner, dns.TypeSOA)
	return answer, ".", err
}

// enclosing finds a zone that holds a name or a name above it: the deepest known, or that of the name above. It does not ask
// for the challenge's own name.
func (r *Resolver) enclosing(ctx context.Context, owner string) (string, error) {
	if zone := r.deepestKnown(owner); zone != "" {
		return zone, nil
	}
	above := parentName(owner)
	if dns.CountLabel(above) < 2 {
		above = owner // a whole domain: it is not the name of a challenge, and a top-level domain has many servers
	}
	// Names of the same domain wait for the first of them: most often they are in or below the same zone.
	labels := dns.SplitDomainName(owner)
	unlock, err := r.memory.lock(ctx, strings.Join(labels[max(0, len(labels)-2):], "."))
	if err != nil {
		return "", err
	}
	defer unlock()
	if zone := r.deepestKnown(owner); zone != "" {
		return zone, nil
	}
	zone, err := r.Zone(ctx, above)
	if err == nil {
		r.memory.put("zone/"+zone, true, longestMemory)
	}
	return zone, err
}

// deepestKnown returns the deepest known zone at or above a name; "" if no such zone is known.
func (r *Resolver) deepestKnown(owner string) string {
	for name := owner; name != "."; name = parentName(name) {
		if _, known := r.memory.get("zone/" + name); known {
			return name
		}
	}
	return ""
}

// referral returns the zone cut to which a server of a zone refers; "" if the server has answered itself.
func referral(answer *dns.Msg, zone, owner string) string {
	if answer.Authoritative || len(answer.Answer) > 0 {
		return ""
	}
	for _, rr := range answer.Ns {
		cut := dns.CanonicalName(rr.Header().Name)
		if rr.Header().Rrtype == dns.TypeNS && cut != zone && dns.IsSubDomain(zone, cut) && dns.IsSubDomain(cut, owner) {
			return cut
		}
	}
	return ""
}

// askAuthority asks the servers of a zone about a name, one after another, and returns the first answer that is their own or a
// referral. It returns nil if none of them answers in that way, or is known not to.
func (r *Resolver) askAuthority(ctx context.Context, zone, owner string) *dns.Msg {
	ctx, cancel := context.WithTimeout(ctx, authorityPatience)
	defer cancel()
	if _, mute := r.memory.get("mute/" + zone); mute {
		return nil
	}
	servers := r.speakersFirst(ctx, zone)
	type reply struct {
		server string
		answer *dns.Msg
	}
	replies := make(chan reply, len(servers))
	next := time.NewTimer(0)
	defer next.Stop()
	for asked, open := 0, 0; ; {
		select {
		case <-next.C:
			if asked < len(servers) {
				server := servers[asked]
				asked, open = asked+1, open+1
				go func() {
					answer, err := r.exchange(ctx, direct(owner, dns.TypeSOA), server)
					if err != nil || !ownAnswer(answer, zone, owner) {
						answer = nil
					}
					replies <- reply{server: server, answer: answer}
				}()
				next.Reset(nextServer)
			}
		case got := <-replies:
			open--
			if got.answer != nil {
				r.memory.put("speaks/"+zone, got.server, longestMemory)
				return got.answer
			}
			next.Reset(0)
		case <-ctx.Done():
		}
		if ctx.Err() != nil || (asked == len(servers) && open == 0) {
			r.memory.put("mute/"+zone, true, longestMemory)
			return nil
		}
	}
}

// ownAnswer reports whether an answer is about a name in the server's own zone, or refers to a zone below.
func ownAnswer(answer *dns.Msg, zone, owner string) bool {
	if answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError {
		return false
	}
	if place, found := placeIn(answer, owner); found && !dns.IsSubDomain(zone, place.Zone) {
		return false // it answers for a zone above, as servers of parked domains do
	}
	return answer.Authoritative || referral(answer, zone, owner) != ""
}

// speakersFirst lists the addresses of a zone's servers, the one that answered last first.
func (r *Resolver) speakersFirst(ctx context.Context, zone string) []string {
	found, err := r.zoneServers(ctx, zone)
	if err != nil {
		return nil
	}
	var list []string
	if last, ok := r.memory.get("speaks/" + zone); ok {
		list = append(list, last.(string))
	}
	for _, name := range found.names {
		for _, address := range found.addresses[name] {
			if server := r.withPort(address); !slices.Contains(list, server) {
				list = append(list, server)
			}
		}
	}
	return list
}

// zoneOf reads the zone from the SOA in the answer or the authority section. Some servers leave it out of an empty
// answer; only after such a definite answer is the parent asked.
func (r *Resolver) zoneOf(ctx context.Context, owner string, answer *dns.Msg) (Place, error) {
	for name := owner; ; {
		place, found := placeIn(answer, owner)
		switch {
		case place.Zone == ".":
			return Place{}, &Error{Name: owner, Type: "SOA", Server: r.current(), Reason: "the name is not in any zone: its top-level domain is not in DNS, as this resolver sees it"}
		case found:
			return place, nil
		}
		if slices.ContainsFunc(answer.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeNS }) {
			return Place{}, &Error{Name: name, Type: "SOA", Server: r.current(), Reason: "it refers to other name servers instead of answering: it is not a recursive resolver for this name"}
		}
		_, parent, _ := strings.Cut(name, ".")
		if parent == "" {
			return Place{}, &Error{Name: owner, Type: "SOA", Server: r.current(), Reason: "no zone was found that holds this name"}
		}
		name = parent
		var err error
		if answer, err = r.recallAsk(ctx, name, dns.TypeSOA); err != nil {
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
