package nameserver

import (
	"slices"
	"time"

	"github.com/miekg/dns"
)

// maxAliases is how many CNAMEs one answer follows.
const maxAliases = 16

// question is one question on its way through the zones.
type question struct {
	world     *World
	served    map[string]bool // apexes of this server; nil: all
	seenAt    time.Time       // which state of the zones the server has
	recursive bool
	qtype     uint16
	checkOff  bool // CD
	faults    Faults

	wantsProof bool  // DO
	zone       *zone // in which the question has arrived
	reply      *dns.Msg
	secure     bool
}

// answer fills the reply to a question (RFC 1034 section 4.3.2). The caller holds World.mu.
func (q *question) answer(name string) {
	q.secure = true
	for range maxAliases {
		z := q.zoneFor(name)
		if z == nil {
			q.outside()
			break
		}
		q.zone = z
		if why := z.distrust(time.Now()); q.recursive && why != 0 && !q.checkOff {
			q.fail(dns.RcodeServerFailure)
			q.explain(why)
			break
		}
		q.secure = q.secure && z.trust == Secure
		alias := q.inZone(z.at(q.seenAt), name)
		if alias == "" {
			break
		}
		name = alias
	}
	q.reply.AuthenticatedData = q.secure && q.recursive && len(q.reply.Answer)+len(q.reply.Ns) > 0
}

func (q *question) fail(rcode int) {
	q.reply.Rcode = rcode
	q.reply.Answer, q.reply.Ns, q.secure = nil, nil, false
}

// explain adds an extended error (RFC 8914) if the client speaks EDNS.
func (q *question) explain(code uint16) {
	if opt := q.reply.IsEdns0(); opt != nil {
		opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: code})
	}
}

// deny turns an answer into the one that was cached when the name did not exist.
func (q *question) deny(name string) {
	q.fail(dns.RcodeNameError)
	q.reply.AuthenticatedData = false
	if z := q.zoneFor(name); z != nil {
		q.zone = z
		q.negative(z.newest(), name, dns.RcodeNameError)
	}
}

// zoneFor finds the zone of a name; a DS record is the parent's (RFC 4035 section 3.1.4.1).
func (q *question) zoneFor(name string) *zone {
	served := q.served
	if q.recursive {
		served = nil
	}
	z := q.world.zoneOf(name, served)
	if z == nil || q.qtype != dns.TypeDS || z.apex != name || name == "." {
		return z
	}
	off, _ := dns.NextLabel(name, 0)
	if parent := q.world.zoneOf(dns.Fqdn(name[off:]), served); parent != nil {
		return parent
	}
	return z
}

// outside answers for names in no zone: a resolver knows that they do not exist, an authoritative server does not.
func (q *question) outside() {
	q.secure = false
	switch {
	case q.recursive:
		q.reply.Rcode = dns.RcodeNameError
		q.reply.Ns = append(q.reply.Ns, startOfAuthority("."))
	case len(q.reply.Answer) == 0:
		q.reply.Rcode = dns.RcodeRefused
	}
}

// inZone answers from one zone, and returns the name at which to continue if it found a CNAME.
func (q *question) inZone(s *state, name string) (alias string) {
	if cut := s.cutAbove(name); cut != "" && (q.qtype != dns.TypeDS || cut != name) {
		q.refer(s, cut)
		return ""
	}
	q.reply.Authoritative = true
	found, owner := q.withKey(s, name, s.names[name]), ""
	if ds := q.delegationSigner(name); ds != nil && q.qtype == dns.TypeDS {
		q.append(&q.reply.Answer, ds, "")
		return ""
	}
	if !s.exists(name) {
		found, owner = s.wildcard(name), name
		if found == nil {
			q.negative(s, name, dns.RcodeNameError)
			return ""
		}
	}
	if cname := found[dns.TypeCNAME]; cname != nil && q.qtype != dns.TypeCNAME && q.qtype != dns.TypeANY {
		q.append(&q.reply.Answer, cname, owner)
		return dns.CanonicalName(cname[0].(*dns.CNAME).Target)
	}
	if q.qtype == dns.TypeANY {
		for _, set := range found {
			q.append(&q.reply.Answer, set, owner)
		}
	} else {
		q.append(&q.reply.Answer, found[q.qtype], owner)
	}
	if len(found[q.qtype]) == 0 && (q.qtype != dns.TypeANY || len(found) == 0) {
		q.negative(s, name, dns.RcodeSuccess)
	}
	return ""
}

// append adds an RRset to a section, with its signature, under another owner name when a wildcard matched.
func (q *question) append(section *[]dns.RR, set []dns.RR, owner string) {
	all := slices.Clone(set)
	if sig := q.signature(set); sig != nil {
		all = append(all, sig)
	}
	for _, rr := range all {
		rr = dns.Copy(rr)
		if owner != "" {
			rr.Header().Name = owner
		}
		*section = append(*section, rr)
	}
}

// negative says NXDOMAIN or "no such type", with the SOA whose TTL says for how long (RFC 2308 section 3).
func (q *question) negative(s *state, name string, rcode int) {
	soa := *s.soa()
	soa.Hdr.Ttl = min(soa.Hdr.Ttl, soa.Minttl)
	q.reply.Rcode = rcode
	q.append(&q.reply.Ns, []dns.RR{&soa}, "")
	q.prove(s, name, rcode)
}

// refer points to the servers of a child zone that is not served here; a resolver would fail to reach them.
func (q *question) refer(s *state, cut string) {
	if q.recursive {
		q.fail(dns.RcodeServerFailure)
		return
	}
	for _, rr := range s.names[cut][dns.TypeNS] {
		q.reply.Ns = append(q.reply.Ns, dns.Copy(rr))
		host := dns.CanonicalName(rr.(*dns.NS).Ns)
		for _, rrtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
			for _, glue := range s.names[host][rrtype] {
				q.reply.Extra = append(q.reply.Extra, dns.Copy(glue))
			}
		}
	}
}

// cutAbove is the highest delegation at or above a name, below the apex.
func (s *state) cutAbove(name string) (cut string) {
	for off, end := 0, false; !end && name[off:] != s.apex; off, end = dns.NextLabel(name, off) {
		if s.names[name[off:]][dns.TypeNS] != nil {
			cut = name[off:]
		}
	}
	return cut
}

// wildcard is the source of synthesis for a name that does not exist (RFC 4592 section 3.3.1).
func (s *state) wildcard(name string) node {
	for off, end := dns.NextLabel(name, 0); !end; off, end = dns.NextLabel(name, off) {
		if encloser := name[off:]; encloser == s.apex || s.exists(encloser) {
			return s.names["*."+encloser]
		}
	}
	return nil
}

// texts are the values of the TXT records in a set, each as one string.
func texts(set []dns.RR) []string {
	var values []string
	for _, rr := range set {
		if txt, ok := rr.(*dns.TXT); ok {
			values = append(values, joinText(txt))
		}
	}
	return slices.Clip(values)
}
