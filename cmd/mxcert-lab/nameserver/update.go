package nameserver

import (
	"slices"
	"time"

	"github.com/miekg/dns"
)

// update carries out an UPDATE message (RFC 2136 section 3) whose signature by a known key was checked, and returns the
// response code.
func (w *World) update(request *dns.Msg, keyName string, served map[string]bool) int {
	if len(request.Question) != 1 || request.Question[0].Qtype != dns.TypeSOA {
		return dns.RcodeFormatError
	}
	apex := dns.CanonicalName(request.Question[0].Name)
	w.mu.Lock()
	defer w.mu.Unlock()
	z := w.zones[apex]
	if z == nil || request.Question[0].Qclass != dns.ClassINET || (served != nil && !served[apex]) {
		return dns.RcodeNotAuth
	}
	if allowed := w.keys[keyName].zones; len(allowed) > 0 && !slices.Contains(allowed, apex) {
		return dns.RcodeRefused
	}
	if rcode := z.newest().prerequisites(request.Answer); rcode != dns.RcodeSuccess {
		return rcode
	}
	if rcode := prescan(apex, request.Ns); rcode != dns.RcodeSuccess {
		return rcode
	}
	draft := z.draft()
	for _, rr := range request.Ns {
		draft.apply(rr)
	}
	z.commit(draft, time.Now())
	return dns.RcodeSuccess
}

// prerequisites checks the conditions of an update (RFC 2136 section 3.2).
func (s *state) prerequisites(conditions []dns.RR) int {
	wanted := map[string]node{} // RRsets that must be as given
	for _, rr := range conditions {
		name := dns.CanonicalName(rr.Header().Name)
		switch {
		case rr.Header().Ttl != 0:
			return dns.RcodeFormatError
		case !dns.IsSubDomain(s.apex, name):
			return dns.RcodeNotZone
		case rr.Header().Class == dns.ClassINET:
			if wanted[name] == nil {
				wanted[name] = node{}
			}
			wanted[name][rr.Header().Rrtype] = append(wanted[name][rr.Header().Rrtype], rr)
		default:
			if rcode := s.presence(name, rr.Header()); rcode != dns.RcodeSuccess {
				return rcode
			}
		}
	}
	for name, sets := range wanted {
		for rrtype, set := range sets {
			if !sameSet(set, s.names[name][rrtype]) {
				return dns.RcodeNXRrset
			}
		}
	}
	return dns.RcodeSuccess
}

// presence checks that a name or an RRset is there (class ANY) or is not (class NONE), whatever its data.
func (s *state) presence(name string, h *dns.RR_Header) int {
	there := s.has(name, h.Rrtype)
	switch {
	case h.Class != dns.ClassANY && h.Class != dns.ClassNONE:
		return dns.RcodeFormatError
	case there == (h.Class == dns.ClassANY):
		return dns.RcodeSuccess
	case there && h.Rrtype == dns.TypeANY:
		return dns.RcodeYXDomain
	case there:
		return dns.RcodeYXRrset
	case h.Rrtype == dns.TypeANY:
		return dns.RcodeNameError
	}
	return dns.RcodeNXRrset
}

// has reports whether a name has records of a type, or any records for the type ANY.
func (s *state) has(name string, rrtype uint16) bool {
	if rrtype == dns.TypeANY {
		return len(s.names[name]) > 0
	}
	return len(s.names[name][rrtype]) > 0
}

func sameSet(a, b []dns.RR) bool {
	within := func(set []dns.RR, rr dns.RR) bool {
		return slices.ContainsFunc(set, func(other dns.RR) bool { return dns.IsDuplicate(other, rr) })
	}
	for _, rr := range a {
		if !within(b, rr) {
			return false
		}
	}
	for _, rr := range b {
		if !within(a, rr) {
			return false
		}
	}
	return true
}

// prescan refuses an update before anything is done (RFC 2136 section 3.4.1.3).
func prescan(apex string, changes []dns.RR) int {
	for _, rr := range changes {
		h := rr.Header()
		if !dns.IsSubDomain(apex, dns.CanonicalName(h.Name)) {
			return dns.RcodeNotZone
		}
		meta := h.Rrtype >= 128 && h.Rrtype <= 255 || h.Rrtype == dns.TypeOPT
		var bad bool
		switch h.Class {
		case dns.ClassINET:
			bad = meta
		case dns.ClassANY:
			bad = h.Ttl != 0 || h.Rdlength != 0 || (meta && h.Rrtype != dns.TypeANY)
		case dns.ClassNONE:
			bad = h.Ttl != 0 || meta
		default:
			bad = true
		}
		if bad {
			return dns.RcodeFormatError
		}
	}
	return dns.RcodeSuccess
}

// apply makes one change (RFC 2136 section 3.4.2).
func (d *draft) apply(rr dns.RR) {
	h := rr.Header()
	name := dns.CanonicalName(h.Name)
	protected := name == d.state.apex && (h.Rrtype == dns.TypeSOA || h.Rrtype == dns.TypeNS)
	switch h.Class {
	case dns.ClassINET:
		d.insert(name, rr)
	case dns.ClassANY:
		switch {
		case h.Rrtype == dns.TypeANY:
			d.removeName(name)
		case !protected:
			d.remove(name, h.Rrtype)
		}
	case dns.ClassNONE:
		if protected && len(d.state.names[name][h.Rrtype]) == 1 {
			return // the last NS and the only SOA stay
		}
		rr = dns.Copy(rr)
		rr.Header().Class = dns.ClassINET
		d.removeRecord(rr)
	}
}

// insert adds a record unless it would stand beside a CNAME, or bring an old SOA (RFC 2136 section 3.4.2.2).
func (d *draft) insert(name string, rr dns.RR) {
	present := d.state.names[name]
	_, alias := present[dns.TypeCNAME]
	switch record := rr.(type) {
	case *dns.CNAME:
		if len(present) > 0 && !alias {
			return
		}
	case *dns.SOA:
		if name != d.state.apex || int32(record.Serial-d.state.soa().Serial) <= 0 { // RFC 1982 section 3.2
			return
		}
	default:
		if alias {
			return
		}
	}
	d.add(rr)
}
