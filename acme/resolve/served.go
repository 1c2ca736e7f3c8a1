package resolve

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Served is what all authoritative servers of a zone answer about one RRset.
type Served[T any] struct {
	Delegation
	// Keys says how a recursive resolver answered about the DNSKEY records of the zone. It vouches for them only if the state is [Secure].
	Keys    Answer
	Answers []Authoritative[T] // one for each of Servers, in the same order
}

// Authoritative is what one authoritative server answers about one RRset.
type Authoritative[T any] struct {
	Server     Server
	Fault      string // why it did not answer for the zone, in words; "" if it did
	Silent     bool   // no answer came
	OutOfReach bool   // this host has no route to it, but others may have one
	Records    []T
	Missing    bool          // it says that the name does not exist
	Alias      string        // target of a CNAME record at the name, instead of the records
	Wildcard   bool          // the records, or the alias, are those of a wildcard, as their signature says
	TTL        time.Duration // of the records, the alias, or the denial: never that of a cache
	Signature  Signature     // on the records, or on what denies them
	// Since and Until are when the signature is valid; zero if there is none that the zone's keys have made.
	Since, Until time.Time
}

// ServedTLSA asks every address of every authoritative server of the zone that holds a name for its TLSA records, and verifies what they
// answer with the keys of the zone. The error is an *Error if the zone or its servers are not found, or the context's.
func (r *Resolver) ServedTLSA(ctx context.Context, name string) (Served[TLSA], error) {
	return served(ctx, r, name, dns.TypeTLSA, readTLSA)
}

func readTLSA(rr *dns.TLSA) (TLSA, bool) {
	data, err := hex.DecodeString(rr.Certificate)
	return TLSA{Usage: rr.Usage, Selector: rr.Selector, MatchingType: rr.MatchingType, Data: data}, err == nil
}

func served[R dns.RR, T any](ctx context.Context, r *Resolver, name string, qtype uint16, read func(R) (T, bool)) (Served[T], error) {
	owner := dns.CanonicalName(name)
	zone, err := r.Zone(ctx, owner)
	if err != nil {
		return Served[T]{}, r.orBogus(ctx, owner, err)
	}
	var out Served[T]
	var keys keyring
	var wait sync.WaitGroup
	wait.Go(func() { out.Keys, keys = r.keysOf(ctx, zone) })
	d, err := r.sharedDelegation(ctx, zone)
	wait.Wait()
	if err != nil {
		return out, r.orBogus(ctx, zone, err)
	}
	out.Delegation, out.Answers = d, make([]Authoritative[T], len(d.Servers))
	for i, server := range d.Servers {
		wait.Go(func() {
			out.Answers[i] = authoritative(ctx, r, server, owner, qtype, keys, read)
		})
	}
	wait.Wait()
	return out, endOf(ctx)
}

// orBogus returns the error of a question, or a better one: that a validating resolver refuses the data of the zone.
func (r *Resolver) orBogus(ctx context.Context, name string, err error) error {
	if e, ok := errors.AsType[*Error](err); ok && e.kind == unreached && !e.Silent() {
		if refused := r.Bogus(ctx, name); refused != nil {
			return refused
		}
	}
	return err
}

// askServer asks one authoritative server, and once more, over UDP, if it does not answer in time: one lost answer says nothing about the
// server. The second question does not wait for the end of the first one, which goes on over TCP.
func (r *Resolver) askServer(ctx context.Context, question *dns.Msg, server string) (*dns.Msg, error) {
	select {
	case r.crowd <- struct{}{}:
		defer func() { <-r.crowd }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	type reply struct {
		answer *dns.Msg
		err    error
	}
	replies, second := make(chan reply, 2), time.NewTimer(udpTimeout)
	defer second.Stop()
	go func() {
		answer, err := exchange(ctx, question, server)
		replies <- reply{answer, err}
	}()
	var first error
	for asked, open := 1, 1; ; {
		select {
		case <-second.C:
			asked, open = asked+1, open+1
			go func() {
				answer, err := datagram(ctx, question, server)
				replies <- reply{answer, err}
			}()
		case got := <-replies:
			switch open--; {
			case got.err == nil, unreachable(got.err), endOf(ctx) != nil, asked == 1 && standingOf(got.err) != silent:
				return got.answer, got.err
			case first == nil:
				first = got.err
			}
			switch {
			case asked == 1:
				second.Reset(0)
			case open == 0:
				return nil, first
			}
		}
	}
}

// authoritative asks one server.
func authoritative[R dns.RR, T any](ctx context.Context, r *Resolver, server Server, owner string, qtype uint16, keys keyring, read func(R) (T, bool)) Authoritative[T] {
	a := Authoritative[T]{Server: server}
	question := direct(owner, qtype)
	question.IsEdns0().SetDo()
	answer, err := r.askServer(ctx, question, server.Address)
	switch {
	case unreachable(err):
		a.OutOfReach, a.Fault = true, "this host has no route to it"
		return a
	case err != nil:
		a.Fault, a.Silent = plain(err), standingOf(err) == silent
		return a
	case answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError:
		a.Fault = "it answers " + dns.RcodeToString[answer.Rcode] + explained(answer)
		return a
	case !answer.Authoritative:
		a.Fault = "it is not a server of this zone (lame delegation)"
		return a
	}
	a.Missing, a.TTL = answer.Rcode == dns.RcodeNameError, lifeAt(answer, owner, qtype)
	if target := aliasOf(answer, owner); target != "" && qtype != dns.TypeCNAME {
		a.Alias, a.Missing = PlainName(target), false
		a.Wildcard = synthesized(answer.Answer, owner, dns.TypeCNAME)
		a.sign(keys.checkAlias(answer.Answer, owner, target))
		return a
	}
	for _, rr := range rrset(answer.Answer, owner, qtype) {
		record, ok := rr.(R)
		if !ok {
			continue
		}
		value, ok := read(record)
		if !ok {
			a.Fault = "its answer has a malformed record"
			return a
		}
		a.Records = append(a.Records, value)
	}
	switch {
	case len(a.Records) > 0:
		a.Wildcard = synthesized(answer.Answer, owner, qtype)
		a.sign(keys.check(answer.Answer, owner, qtype))
	case !denies(answer, owner):
		a.Fault = "it answers without the records, and without the SOA record that says that there are none"
	default:
		a.sign(keys.checkDenial(answer))
	}
	return a
}

// synthesized reports whether the signature on an RRset says that it is that of a wildcard (RFC 4034 section 3.1.3).
func synthesized(section []dns.RR, owner string, qtype uint16) bool {
	return slices.ContainsFunc(section, func(rr dns.RR) bool {
		sig, ok := rr.(*dns.RRSIG)
		return ok && sig.TypeCovered == qtype && dns.CanonicalName(sig.Hdr.Name) == owner && int(sig.Labels) < dns.CountLabel(owner)
	})
}

func (a *Authoritative[T]) sign(p proof) {
	a.Signature, a.Since, a.Until = p.signature, p.since, p.until
}

// lifeAt returns for how long a resolver may keep what an authoritative server answers about a name itself: the longest TTL of its records, or
// of its alias, without those to which the alias leads, or else that of the denial.
func lifeAt(answer *dns.Msg, owner string, qtype uint16) time.Duration {
	own, longest := false, uint32(0)
	for _, rr := range answer.Answer {
		h := rr.Header()
		name := dns.CanonicalName(h.Name)
		here := name == owner && (h.Rrtype == qtype || h.Rrtype == dns.TypeCNAME)
		if tree := h.Rrtype == dns.TypeDNAME && name != owner && dns.IsSubDomain(name, owner); here || tree {
			own, longest = true, max(longest, h.Ttl)
		}
	}
	if !own {
		return ttlOf(answer)
	}
	return time.Duration(min(longest, 1<<31-1)) * time.Second // RFC 2181 section 8
}

// rrset returns the records of an owner and a type in a section.
func rrset(section []dns.RR, owner string, qtype uint16) []dns.RR {
	var set []dns.RR
	for _, rr := range section {
		if h := rr.Header(); h.Rrtype == qtype && h.Class == dns.ClassINET && dns.CanonicalName(h.Name) == owner {
			set = append(set, rr)
		}
	}
	return set
}
