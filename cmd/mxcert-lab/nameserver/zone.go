package nameserver

import (
	"maps"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// keptStates bounds how far back in its history a zone can be seen by a server that lags.
const keptStates = 1024

// zone is a history of states; World.mu guards it.
type zone struct {
	apex   string
	trust  Trust
	key    *zoneKey // nil: it is not signed
	states []*state // oldest first
}

// state is what a zone holds from an instant on. It does not change once it is in a zone.
type state struct {
	since    time.Time
	names    map[string]node
	interior map[string]bool // names that exist only because something is below them (RFC 4592 section 2.2.2)
	apex     string
}

// node holds the RRsets of one name.
type node map[uint16][]dns.RR

func (z *zone) newest() *state { return z.states[len(z.states)-1] }

// at returns the state that the zone had at an instant.
func (z *zone) at(t time.Time) *state {
	for i := len(z.states) - 1; i > 0; i-- {
		if !z.states[i].since.After(t) {
			return z.states[i]
		}
	}
	return z.states[0]
}

func (s *state) soa() *dns.SOA {
	soa, _ := s.names[s.apex][dns.TypeSOA][0].(*dns.SOA)
	return soa
}

// exists reports whether a name exists, with records or as an empty non-terminal.
func (s *state) exists(name string) bool { return s.names[name] != nil || s.interior[name] }

// draft is a state in the making.
type draft struct {
	state   *state
	changed bool
}

// draft starts with a copy of the newest state.
func (z *zone) draft() *draft {
	d := &draft{state: &state{names: map[string]node{}, apex: z.apex}}
	if len(z.states) > 0 {
		maps.Copy(d.state.names, z.newest().names)
	}
	return d
}

// commit puts a draft in force, with a new serial unless the draft brought one or changed nothing.
func (z *zone) commit(d *draft, now time.Time) {
	if len(z.states) > 0 {
		if !d.changed {
			return
		}
		if old := z.newest().soa(); d.state.soa().Serial == old.Serial {
			next := *old
			if next.Serial++; next.Serial == 0 {
				next.Serial = 1 // RFC 2136 section 7.11
			}
			d.put(z.apex, dns.TypeSOA, []dns.RR{&next})
		}
	}
	d.state.since = now
	d.state.interior = map[string]bool{}
	for name := range d.state.names {
		for off, end := dns.NextLabel(name, 0); !end && dns.IsSubDomain(z.apex, name[off:]); off, end = dns.NextLabel(name, off) {
			d.state.interior[name[off:]] = true
		}
	}
	if len(z.states) == keptStates {
		z.states = slices.Delete(z.states, 0, keptStates/2)
	}
	z.states = append(z.states, d.state)
}

// put sets an RRset without touching the node that older states share.
func (d *draft) put(name string, rrtype uint16, set []dns.RR) {
	next := maps.Clone(d.state.names[name])
	if next == nil {
		next = node{}
	}
	if len(set) == 0 {
		delete(next, rrtype)
	} else {
		next[rrtype] = set
	}
	if len(next) == 0 {
		delete(d.state.names, name)
	} else {
		d.state.names[name] = next
	}
	d.changed = true
}

// add adds a record, or replaces it when only the TTL differs or there can be only one.
func (d *draft) add(rr dns.RR) {
	rr = dns.Copy(rr)
	rr.Header().Name = dns.CanonicalName(rr.Header().Name)
	name, rrtype := rr.Header().Name, rr.Header().Rrtype
	set := slices.Clone(d.state.names[name][rrtype])
	if rrtype == dns.TypeSOA || rrtype == dns.TypeCNAME {
		set = nil
	}
	for i, old := range set {
		if dns.IsDuplicate(old, rr) {
			if old.Header().Ttl != rr.Header().Ttl {
				set[i] = rr
				d.put(name, rrtype, set)
			}
			return
		}
	}
	d.put(name, rrtype, append(set, rr))
}

// remove removes an RRset.
func (d *draft) remove(name string, rrtype uint16) {
	if d.state.names[name][rrtype] != nil {
		d.put(name, rrtype, nil)
	}
}

// removeName removes all of a name, but not the SOA and NS of the zone itself (RFC 2136 section 3.4.2.3).
func (d *draft) removeName(name string) {
	for rrtype := range d.state.names[name] {
		if name != d.state.apex || (rrtype != dns.TypeSOA && rrtype != dns.TypeNS) {
			d.remove(name, rrtype)
		}
	}
}

// removeRecord removes one record, whatever its TTL.
func (d *draft) removeRecord(rr dns.RR) {
	name, rrtype := dns.CanonicalName(rr.Header().Name), rr.Header().Rrtype
	set := d.state.names[name][rrtype]
	rest := slices.DeleteFunc(slices.Clone(set), func(old dns.RR) bool { return dns.IsDuplicate(old, rr) })
	if len(rest) < len(set) {
		d.put(name, rrtype, rest)
	}
}
