package nameserver

import (
	"crypto"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// signedFor is how long signatures are valid if nobody says otherwise: as if the zone were signed again all the time.
	signedFor = 14 * 24 * time.Hour
	// signedSince is how long ago signatures became valid, at the least.
	signedSince = time.Hour
)

// Signing says how a zone is signed.
type Signing struct {
	Until time.Time // when all signatures expire; zero: two weeks after each answer
}

// zoneKey is the only key of a zone (ECDSA P-256). It signs everything when it is asked for.
type zoneKey struct {
	public  *dns.DNSKEY
	private crypto.Signer
	until   time.Time
}

// Sign signs a zone from now on, and makes it Secure. Another call changes how it is signed, and keeps the key.
//
// Servers then give signatures (RFC 4035 section 3.1) and proofs by NSEC records to those who ask with DO. With SetTrust, a signed zone can be
// an island without a DS record (Insecure), or have signatures on all its servers that fit nothing (Bogus). After the signatures have
// expired, a resolver takes the zone for bogus.
func (w *World) Sign(apex string, s Signing) error {
	apex = dns.CanonicalName(apex)
	w.mu.Lock()
	defer w.mu.Unlock()
	z := w.zones[apex]
	if z == nil {
		return fmt.Errorf("zone %s: there is no such zone", apex)
	}
	z.trust = Secure
	if z.key != nil {
		z.key = &zoneKey{public: z.key.public, private: z.key.private, until: s.Until}
		return nil
	}
	public := &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: apex, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 60},
		Flags: dns.ZONE | dns.SEP, Protocol: 3, Algorithm: dns.ECDSAP256SHA256,
	}
	private, err := public.Generate(256)
	if err != nil {
		return fmt.Errorf("zone %s: make a key: %w", apex, err)
	}
	z.key = &zoneKey{public: public, private: private.(crypto.Signer), until: s.Until}
	return nil
}

// distrust says why a validating resolver refuses a zone, as an extended error (RFC 8914); 0 if it does not.
func (z *zone) distrust(now time.Time) uint16 {
	switch {
	case z.trust == Bogus:
		return dns.ExtendedErrorCodeDNSBogus
	case z.trust == Secure && z.key != nil && !z.key.until.IsZero() && now.After(z.key.until):
		return dns.ExtendedErrorCodeSignatureExpired
	}
	return 0
}

// signs reports whether the answers of the present zone have signatures.
func (q *question) signs() bool {
	return q.wantsProof && q.zone != nil && q.zone.key != nil && (q.recursive || !q.faults.Unsigned)
}

// signature makes the signature on an RRset; nil if there is none.
func (q *question) signature(set []dns.RR) *dns.RRSIG {
	if len(set) == 0 || !q.signs() {
		return nil
	}
	key, now := q.zone.key, time.Now()
	until := key.until
	if !q.recursive && !q.faults.SignedUntil.IsZero() {
		until = q.faults.SignedUntil
	}
	if until.IsZero() {
		until = now.Add(signedFor)
	}
	since := now.Add(-signedSince)
	if !since.Before(until) {
		since = until.Add(-signedFor)
	}
	sig := &dns.RRSIG{
		Algorithm: key.public.Algorithm, KeyTag: key.public.KeyTag(), SignerName: q.zone.apex,
		Inception: uint32(since.Unix()), Expiration: uint32(until.Unix()), //nolint:gosec // serial arithmetic wraps around
	}
	if sig.Sign(key.private, set) != nil {
		return nil
	}
	sig.Hdr.Ttl = set[0].Header().Ttl
	if q.zone.trust == Bogus || !q.recursive && q.faults.BadSignatures {
		sig.Signature = base64.StdEncoding.EncodeToString(make([]byte, 64))
	}
	return sig
}

// withKey is what a name has, the key of the zone included.
func (q *question) withKey(s *state, name string, found node) node {
	if q.zone.key == nil || name != s.apex || !q.recursive && q.faults.Unsigned {
		return found
	}
	found = maps.Clone(found)
	found[dns.TypeDNSKEY] = []dns.RR{q.zone.key.public}
	return found
}

// delegationSigner answers for the DS record of a zone that is signed here (RFC 4034 section 5); nil if there is none.
func (q *question) delegationSigner(name string) []dns.RR {
	child := q.world.zones[name]
	if child == nil || child == q.zone || child.key == nil || child.trust == Insecure {
		return nil
	}
	ds := child.key.public.ToDS(dns.SHA256)
	ds.Hdr.Ttl = 60
	return []dns.RR{ds}
}

// prove adds the NSEC records that prove that a name, or its type, does not exist (RFC 4035 section 3.1.3), with their signatures.
func (q *question) prove(s *state, name string, rcode int) {
	if !q.signs() {
		return
	}
	names := slices.SortedFunc(maps.Keys(s.names), canonicalOrder)
	proofs := []string{name}
	if rcode == dns.RcodeNameError {
		encloser := name
		for !s.exists(encloser) && encloser != s.apex {
			off, _ := dns.NextLabel(encloser, 0)
			encloser = dns.Fqdn(encloser[off:])
		}
		proofs = append(proofs, "*."+strings.TrimPrefix(encloser, "."))
	}
	seen := map[string]bool{}
	for _, denied := range proofs {
		nsec := q.nsecAt(s, names, denied)
		if !seen[nsec.Hdr.Name] {
			seen[nsec.Hdr.Name] = true
			q.append(&q.reply.Ns, []dns.RR{nsec}, "")
		}
	}
}

// nsecAt is the NSEC record of a name, or of the last one before it.
func (q *question) nsecAt(s *state, names []string, name string) *dns.NSEC {
	at, found := slices.BinarySearchFunc(names, name, canonicalOrder)
	if !found {
		at = (at + len(names) - 1) % len(names)
	}
	types := []uint16{dns.TypeRRSIG, dns.TypeNSEC}
	for rrtype := range q.withKey(s, names[at], s.names[names[at]]) {
		types = append(types, rrtype)
	}
	slices.Sort(types)
	return &dns.NSEC{
		Hdr:        dns.RR_Header{Name: names[at], Rrtype: dns.TypeNSEC, Class: dns.ClassINET, Ttl: s.soa().Minttl},
		NextDomain: names[(at+1)%len(names)], TypeBitMap: types,
	}
}

// canonicalOrder compares names as RFC 4034 section 6.1 does.
func canonicalOrder(a, b string) int {
	left, right := dns.SplitDomainName(a), dns.SplitDomainName(b)
	slices.Reverse(left)
	slices.Reverse(right)
	return slices.Compare(left, right)
}
