package resolve

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// State is the DNSSEC state of an answer (RFC 4033 section 5). A question that failed has the state Failed: an error is never a denial.
type State string

// The states.
const (
	Secure   State = "secure"   // validated, with a chain of trust from the root
	Insecure State = "insecure" // not signed, or nobody validated it; see Answer.Validator
	Bogus    State = "bogus"    // a validating resolver refuses the data
	Failed   State = "error"    // SERVFAIL, REFUSED, a timeout, a malformed answer, or a loop of aliases
)

// Answer says how a question about one RRset was answered.
type Answer struct {
	Name  string // that was asked for, as people write it: lower case, without the final dot
	Type  string // of the records: "MX", "TLSA", …
	State State  // of everything that led to the records or to their denial, including aliases
	Final string // the owner of the records: Name, or where CNAME and DNAME records lead from it
	// Aliases are the CNAME records on the way from Name to Final, in order; one that follows from a DNAME record is among them.
	Aliases []Alias
	// Missing says that Final does not exist (NXDOMAIN), and not only that it has no such record.
	Missing bool
	// Validator is the validating resolver that answered, or that failed to, as people write it; "" if none that counts was heard. Then nobody
	// knows whether an answer with the state Insecure is signed, and senders that look for TLSA records cannot be judged from here.
	Validator string
	TTL       time.Duration // the shortest of the records, or of the denial
	// Since and Until are when the signatures on the records become valid and expire; zero if the state is not Secure, or the answer came
	// without them. The moment of the answer is always between them, because a resolver may forgive dates that have just passed.
	Since, Until time.Time
	Err          *Error // why there is no answer, if the state is Bogus or Failed
}

// Alias is one CNAME record.
type Alias struct{ Owner, Target string } // lower case, without the final dot

// Set is an answer with the records of its RRset.
type Set[T any] struct {
	Answer
	Records []T // nil if there is none
}

// Denied reports whether there certainly is no record of the type: an answer came, and says so.
func (s Set[T]) Denied() bool { return s.Err == nil && len(s.Records) == 0 }

// MX is one MX record (RFC 5321 section 5).
type MX struct {
	Host       string // lower case, without the final dot; "" is a null MX (RFC 7505)
	Preference uint16
}

// TLSA is one TLSA record (RFC 6698 section 2.1).
type TLSA struct {
	Usage, Selector, MatchingType uint8
	Data                          []byte // the certificate association data
}

// At returns the state at another time: what is secure now is bogus at a time at which its signatures are not valid (RFC 4035 section 5.3.1).
func (a Answer) At(t time.Time) State {
	if a.State == Secure && (!a.Until.IsZero() && t.After(a.Until) || !a.Since.IsZero() && t.Before(a.Since)) {
		return Bogus
	}
	return a.State
}

// LookMX asks for the MX records of a domain, the most preferred first. It keeps a null MX beside others, because that is a fault to report.
func (r *Resolver) LookMX(ctx context.Context, domain string) Set[MX] {
	set := look(ctx, r, domain, dns.TypeMX, func(rr *dns.MX) (MX, bool) {
		return MX{Host: strings.TrimSuffix(dns.CanonicalName(rr.Mx), "."), Preference: rr.Preference}, true
	})
	slices.SortStableFunc(set.Records, func(a, b MX) int { return cmp.Compare(a.Preference, b.Preference) })
	return set
}

// LookIPv4 asks for the A records of a host.
func (r *Resolver) LookIPv4(ctx context.Context, host string) Set[netip.Addr] {
	return look(ctx, r, host, dns.TypeA, func(rr *dns.A) (netip.Addr, bool) { a, ok := netip.AddrFromSlice(rr.A); return a.Unmap(), ok })
}

// LookIPv6 asks for the AAAA records of a host.
func (r *Resolver) LookIPv6(ctx context.Context, host string) Set[netip.Addr] {
	return look(ctx, r, host, dns.TypeAAAA, func(rr *dns.AAAA) (netip.Addr, bool) { return netip.AddrFromSlice(rr.AAAA) })
}

// LookTLSA asks for the TLSA records of a name such as _25._tcp.mx.example.org (RFC 7672 section 2.2).
func (r *Resolver) LookTLSA(ctx context.Context, name string) Set[TLSA] {
	return look(ctx, r, name, dns.TypeTLSA, readTLSA)
}

// FreshTLSA is [Resolver.LookTLSA] without the memory of this program: records change, and a change that was just made must be seen. The
// resolver that is asked may have the answer in its own cache.
func (r *Resolver) FreshTLSA(ctx context.Context, name string) Set[TLSA] {
	r.memory.drop("look/" + dns.CanonicalName(name) + "/TLSA")
	return r.LookTLSA(ctx, name)
}

// LookTXT asks for the TXT records of a name. The strings of one record are joined.
func (r *Resolver) LookTXT(ctx context.Context, name string) Set[string] {
	return look(ctx, r, name, dns.TypeTXT, func(rr *dns.TXT) (string, bool) { return unescape(strings.Join(rr.Txt, "")), true })
}

// unescape returns the bytes of a text that the library has made printable: \" and \\, and \DDD for other bytes.
func unescape(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '\\' && i+1 < len(text) {
			i++
			c = text[i]
			if value, err := strconv.ParseUint(text[i:min(i+3, len(text))], 10, 8); err == nil && i+3 <= len(text) {
				c, i = byte(value), i+2
			}
		}
		b.WriteByte(c)
	}
	return b.String()
}

// LookPTR asks for the names of an address.
func (r *Resolver) LookPTR(ctx context.Context, address netip.Addr) Set[string] {
	name, err := dns.ReverseAddr(address.String())
	if err != nil {
		return Set[string]{Answer: Answer{Name: address.String(), Type: "PTR", State: Failed, Err: &Error{Name: address.String(), Type: "PTR", Server: "-", Reason: err.Error()}}}
	}
	return look(ctx, r, name, dns.TypePTR, func(rr *dns.PTR) (string, bool) { return PlainName(dns.CanonicalName(rr.Ptr)), true })
}
