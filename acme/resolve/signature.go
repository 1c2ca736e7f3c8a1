package resolve

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Signature says what is known about the signatures on an RRset that an authoritative server has sent (RFC 4035 section 5.3).
type Signature string

// The kinds, the best first: an RRset with several signatures counts as the best of them.
const (
	Signed      Signature = "signed"        // a key of the zone has made it, and it is valid now
	Expired     Signature = "expired"       // a key of the zone has made it, and it was valid until a time ago
	NotYetValid Signature = "not yet valid" // a key of the zone has made it, for a later time
	Broken      Signature = "broken"        // it says that it was made with a key of the zone, and does not fit the records
	WrongKey    Signature = "wrong key"     // it was made with a key that the zone does not have
	Unsigned    Signature = "unsigned"      // there is none
	Unchecked   Signature = "unchecked"     // there is one, but no resolver vouches for keys of the zone with which to check it
)

const (
	// mostChecks limits the signatures of one RRset that are verified, because each costs time and who sends them may have made up many
	// with the same key tag (CVE-2023-50387).
	mostChecks = 16
	// mostSigned limits an RRset that is verified.
	mostSigned = 200
)

// keyring holds the keys of a zone for which a validating resolver vouches; none if it does not.
type keyring struct {
	zone string // fully qualified
	keys []*dns.DNSKEY
}

// proof is what is known about one RRset.
type proof struct {
	signature    Signature
	since, until time.Time
}

// keysOf asks for the keys of a zone.
func (r *Resolver) keysOf(ctx context.Context, zone string) (Answer, keyring) {
	found := r.sharedKeys(ctx, zone)
	ring := keyring{zone: dns.CanonicalName(zone)}
	if found.State != Secure {
		return found.Answer, ring
	}
	for _, rr := range found.records {
		if key, ok := rr.(*dns.DNSKEY); ok && key.Flags&dns.ZONE != 0 && key.Flags&dns.REVOKE == 0 {
			ring.keys = append(ring.keys, key)
		}
	}
	return found.Answer, ring
}

// check verifies one RRset of a section.
func (k keyring) check(section []dns.RR, owner string, qtype uint16) proof {
	records := rrset(section, owner, qtype)
	best, now := proof{signature: Unsigned}, time.Now()
	checks := 0
	for _, rr := range section {
		sig, ok := rr.(*dns.RRSIG)
		if !ok || sig.TypeCovered != qtype || dns.CanonicalName(sig.Hdr.Name) != owner {
			continue
		}
		if len(k.keys) == 0 {
			return proof{signature: Unchecked}
		}
		if p := k.verify(sig, records, now, &checks); rank(p.signature) < rank(best.signature) || p.signature == Signed && p.until.After(best.until) {
			best = p
		}
	}
	return best
}

func rank(s Signature) int {
	return slices.Index([]Signature{Signed, Expired, NotYetValid, Broken, WrongKey, Unsigned, Unchecked}, s)
}

// verify checks one signature with the keys that it may be from.
func (k keyring) verify(sig *dns.RRSIG, records []dns.RR, now time.Time, checks *int) proof {
	result := proof{signature: WrongKey}
	if dns.CanonicalName(sig.SignerName) != k.zone || !dns.IsSubDomain(k.zone, dns.CanonicalName(sig.Hdr.Name)) || len(records) > mostSigned {
		return result
	}
	for _, key := range k.keys {
		if key.KeyTag() != sig.KeyTag || key.Algorithm != sig.Algorithm || *checks == mostChecks {
			continue
		}
		*checks++
		if sig.Verify(key, records) != nil {
			result.signature = Broken
			continue
		}
		p := proof{Signed, serialTime(sig.Inception, now), serialTime(sig.Expiration, now)}
		switch {
		case now.After(p.until):
			p.signature = Expired
		case now.Before(p.since):
			p.signature = NotYetValid
		}
		return p
	}
	return result
}

// checkAlias verifies a CNAME record, or the DNAME record from which it follows: that one has the signature (RFC 6672 section 5.3.1).
func (k keyring) checkAlias(section []dns.RR, owner, target string) proof {
	for _, rr := range section {
		tree, ok := rr.(*dns.DNAME)
		if !ok {
			continue
		}
		if above := dns.CanonicalName(tree.Hdr.Name); above != owner && dns.IsSubDomain(above, owner) && below(owner, above, dns.CanonicalName(tree.Target)) == target {
			return k.check(section, above, dns.TypeDNAME)
		}
	}
	return k.check(section, owner, dns.TypeCNAME)
}

// below returns a name below another one with the end that a DNAME record there gives it (RFC 6672 section 2.2).
func below(name, above, target string) string {
	return strings.TrimSuffix(name, above) + strings.TrimPrefix(target, ".")
}

// checkDenial verifies the SOA, NSEC and NSEC3 records of an answer without records: the worst of them counts, and without NSEC or NSEC3
// records the denial is not signed. It does not ask whether they prove what is denied.
func (k keyring) checkDenial(answer *dns.Msg) proof {
	type set struct {
		owner string
		qtype uint16
	}
	worst, seen, proves := proof{signature: Signed}, map[set]bool{}, false
	for _, rr := range answer.Ns {
		one := set{dns.CanonicalName(rr.Header().Name), rr.Header().Rrtype}
		if seen[one] || !slices.Contains([]uint16{dns.TypeSOA, dns.TypeNSEC, dns.TypeNSEC3}, one.qtype) || len(seen) == mostChecks {
			continue
		}
		seen[one], proves = true, proves || one.qtype != dns.TypeSOA
		p := k.check(answer.Ns, one.owner, one.qtype)
		switch {
		case rank(p.signature) > rank(worst.signature):
			worst = p
		case p.signature == worst.signature && p.signature == Signed:
			if worst.since.Before(p.since) {
				worst.since = p.since
			}
			if worst.until.IsZero() || p.until.Before(worst.until) {
				worst.until = p.until
			}
		}
	}
	if !proves && worst.signature == Signed {
		return proof{signature: Unsigned}
	}
	return worst
}
