package resolve

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// silence is how long a resolver that did not answer is asked after the others.
const silence = 30 * time.Second

// Trust names resolvers whose validation counts although they are not on loopback and not asked over TLS, because the operator trusts the
// network between. They are asked before the others. It is called before the first question, with servers as [ParseServer] reads them.
func (r *Resolver) Trust(servers ...string) *Resolver {
	servers = complete(servers)
	r.trusted = append(r.trusted, servers...)
	var more []string
	for _, s := range servers {
		if !slices.Contains(r.servers, s) {
			more = append(more, s)
		}
	}
	r.servers = append(more, r.servers...)
	r.notePorts(more)
	return r
}

// trusts reports whether the AD bit of a server counts: nobody on the way can have set it, or the operator says so.
func (r *Resolver) trusts(server string) bool {
	if _, _, encrypted := splitTLS(server); encrypted {
		return true
	}
	host, _, err := net.SplitHostPort(server)
	if err != nil {
		return false
	}
	if address, err := netip.ParseAddr(host); err == nil && address.Unmap().IsLoopback() {
		return true
	}
	return slices.Contains(r.trusted, server)
}

// byTrust lists the resolvers in the order in which they are asked: those whose word counts first, those that are silent last.
func (r *Resolver) byTrust() []string {
	rank := func(server string) int {
		if _, silent := r.memory.get("silent/" + server); silent {
			return 2
		}
		if !r.trusts(server) {
			return 1
		}
		return 0
	}
	list := slices.Clone(r.servers)
	ranks := map[string]int{}
	for _, s := range list {
		ranks[s] = rank(s)
	}
	slices.SortStableFunc(list, func(a, b string) int { return ranks[a] - ranks[b] })
	return list
}

// validates reports whether a resolver is a validator: its word counts, and it has the AD bit in an answer from a signed zone. If no
// answer had it so far, it is asked for the name servers of the root, as Postfix does (dnssec_probe). known is false if it does not answer.
func (r *Resolver) validates(ctx context.Context, server string) (validates, known bool) {
	if !r.trusts(server) {
		return false, true
	}
	validates, err := recall(ctx, &r.memory, "validates/"+server, func() (bool, time.Duration, error) {
		question := recursive(".", dns.TypeNS)
		answer, err := r.consult(ctx, question, server)
		if err == nil && answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError {
			err = questionError(question, server, answer, nil)
		}
		return err == nil && answer.AuthenticatedData, longestMemory, err
	})
	return validates, err == nil
}

// consult asks one recursive resolver. Devices on the way that drop or refuse EDNS (RFC 6891 section 7) get the question without it.
func (r *Resolver) consult(ctx context.Context, question *dns.Msg, server string) (*dns.Msg, error) {
	bare := question.Copy()
	bare.Extra = nil
	if _, plain := r.memory.get("no EDNS/" + server); plain {
		return r.exchange(ctx, bare, server)
	}
	answer, err := r.exchange(ctx, question, server)
	_, _, encrypted := splitTLS(server) // no device on the way sees what is in there
	if endOf(ctx) != nil || encrypted || !refusesEDNS(answer, err) {
		return answer, err
	}
	second, secondErr := r.exchange(ctx, bare, server)
	if secondErr != nil || second.Rcode != dns.RcodeSuccess && second.Rcode != dns.RcodeNameError {
		return answer, err
	}
	r.memory.put("no EDNS/"+server, true, longestMemory)
	return second, nil
}

func refusesEDNS(answer *dns.Msg, err error) bool {
	if err != nil {
		return plain(err) == noAnswer
	}
	return slices.Contains([]int{dns.RcodeFormatError, dns.RcodeNotImplemented, dns.RcodeBadVers}, answer.Rcode)
}
