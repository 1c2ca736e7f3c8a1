// Package nameserver is a small world of DNS zones with any number of servers that answer for them.
//
// All servers share the zones of one World; each has an address of its own and faults of its own, so that one can lag behind,
// refuse updates or be dead while the others work. They answer authoritatively (RFC 1034 section 4.3.2, with wildcards of RFC
// 4592, delegations and negative answers of RFC 2308), act as a resolver for a question with RD, and take dynamic updates (RFC
// 2136) that are signed with TSIG (RFC 8945). Questions and updates are logged.
//
// A server acts as a validating resolver (see Trust), and zones can be signed (see World.Sign): by one key, when a question comes, with
// denials by NSEC.
//
// Not supported: zone transfers, NOTIFY, classes other than IN, NSEC3, proofs beside answers from wildcards and beside referrals.
package nameserver

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Trust is what a validating resolver would say about a zone's data.
type Trust int

// The zones of a new world are insecure. Answers from secure zones carry the AD bit (RFC 4035 section 3.2.3), questions
// into bogus ones end in SERVFAIL unless they set CD; both only for questions with RD.
const (
	Insecure Trust = iota
	Secure
	Bogus
)

// World holds zones, keys and the log. Its methods may be called at any time from any goroutine.
type World struct {
	mu    sync.RWMutex
	zones map[string]*zone // by apex
	keys  map[string]key   // by name
	log   journal
}

// New makes a world without zones.
func New() *World {
	return &World{zones: map[string]*zone{}, keys: map[string]key{}}
}

// AddZone adds a zone. The records are lines of a zone file (RFC 1035 section 5.1) whose names are relative to the apex;
// without a SOA one is made. The TTL is 60 s unless a record says otherwise.
func (w *World) AddZone(apex string, records ...string) error {
	apex = dns.CanonicalName(apex)
	rrs, err := parse(apex, records)
	if err != nil {
		return fmt.Errorf("zone %s: %w", apex, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, exists := w.zones[apex]; exists {
		return fmt.Errorf("zone %s: it exists already", apex)
	}
	z := &zone{apex: apex}
	draft := z.draft()
	draft.add(startOfAuthority(apex))
	for _, rr := range rrs {
		if !dns.IsSubDomain(apex, dns.CanonicalName(rr.Header().Name)) {
			return fmt.Errorf("zone %s: %s is outside", apex, rr.Header().Name)
		}
		draft.add(rr)
	}
	z.commit(draft, time.Time{}) // it counts as old, whatever the lag
	w.zones[apex] = z
	return nil
}

func startOfAuthority(apex string) *dns.SOA {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: apex, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 60},
		Ns:  "ns1." + strings.TrimPrefix(apex, "."), Mbox: "hostmaster." + strings.TrimPrefix(apex, "."),
		Serial: 1, Refresh: 60, Retry: 10, Expire: 3600, Minttl: 5,
	}
}

func parse(origin string, records []string) ([]dns.RR, error) {
	parser := dns.NewZoneParser(strings.NewReader(strings.Join(records, "\n")+"\n"), origin, "")
	parser.SetDefaultTTL(60)
	var rrs []dns.RR
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		rrs = append(rrs, rr)
	}
	return rrs, parser.Err()
}

// SetTrust says how a validating resolver sees the zone.
func (w *World) SetTrust(apex string, trust Trust) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	z := w.zones[dns.CanonicalName(apex)]
	if z == nil {
		return fmt.Errorf("zone %s: there is no such zone", apex)
	}
	z.trust = trust
	return nil
}

// Add adds records, given as lines with full names, as the owner of the zones would do by hand.
func (w *World) Add(records ...string) error {
	return w.edit(records, func(d *draft, rr dns.RR) { d.add(rr) })
}

// Replace removes the RRsets of the records' names and types and adds the records.
func (w *World) Replace(records ...string) error {
	seen := map[string]bool{}
	return w.edit(records, func(d *draft, rr dns.RR) {
		name, rrtype := dns.CanonicalName(rr.Header().Name), rr.Header().Rrtype
		if id := fmt.Sprint(name, rrtype); !seen[id] {
			seen[id] = true
			d.remove(name, rrtype)
		}
		d.add(rr)
	})
}

// Remove removes the RRsets of these types at a name, everything there when no type is given.
func (w *World) Remove(name string, types ...uint16) error {
	name = dns.CanonicalName(name)
	w.mu.Lock()
	defer w.mu.Unlock()
	z := w.zoneOf(name, nil)
	if z == nil {
		return fmt.Errorf("remove %s: it is in no zone", name)
	}
	draft := z.draft()
	if len(types) == 0 {
		draft.removeName(name)
	}
	for _, rrtype := range types {
		draft.remove(name, rrtype)
	}
	z.commit(draft, time.Now())
	return nil
}

func (w *World) edit(records []string, change func(*draft, dns.RR)) error {
	rrs, err := parse(".", records)
	if err != nil {
		return fmt.Errorf("change records: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	drafts := map[*zone]*draft{}
	var missing []error
	for _, rr := range rrs {
		z := w.zoneOf(dns.CanonicalName(rr.Header().Name), nil)
		if z == nil {
			missing = append(missing, fmt.Errorf("change records: %s is in no zone", rr.Header().Name))
			continue
		}
		if drafts[z] == nil {
			drafts[z] = z.draft()
		}
		change(drafts[z], rr)
	}
	if len(missing) > 0 {
		return errors.Join(missing...)
	}
	for z, draft := range drafts {
		z.commit(draft, time.Now())
	}
	return nil
}

// zoneOf finds the zone with the longest apex that holds a name, among those served (nil: all).
func (w *World) zoneOf(name string, served map[string]bool) *zone {
	for off, end := 0, false; !end; off, end = dns.NextLabel(name, off) {
		if z := w.zones[name[off:]]; z != nil && (served == nil || served[z.apex]) {
			return z
		}
	}
	if served == nil || served["."] {
		return w.zones["."]
	}
	return nil
}

// Serial returns the SOA serial of a zone's newest state; 0 if there is no such zone.
func (w *World) Serial(apex string) uint32 {
	w.mu.RLock()
	defer w.mu.RUnlock()
	z := w.zones[dns.CanonicalName(apex)]
	if z == nil {
		return 0
	}
	return z.newest().soa().Serial
}
