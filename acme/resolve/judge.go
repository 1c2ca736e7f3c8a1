package resolve

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/miekg/dns"
)

const (
	// mostRecords limits an RRset; one that is larger is an error. The largest that senders use have a few dozen records.
	mostRecords = 1000
	// shortMemory is how long an answer with a shorter TTL is used again: one look at a host asks once.
	shortMemory = 5 * time.Second
)

// looked is an answer with the records of the type at its end.
type looked struct {
	Answer
	records []dns.RR
}

// look asks one question, and reads its records with read.
func look[R dns.RR, T any](ctx context.Context, r *Resolver, name string, qtype uint16, read func(R) (T, bool)) Set[T] {
	found := r.judge(ctx, name, qtype)
	set := Set[T]{Answer: found.Answer}
	for _, rr := range found.records {
		record, ok := rr.(R)
		if !ok {
			continue
		}
		value, ok := read(record)
		if !ok {
			set.State, set.Records, set.Since, set.Until = Failed, nil, time.Time{}, time.Time{}
			set.Err = &Error{Name: set.Name, Type: set.Type, Server: found.Validator, Reason: "its answer has a malformed record"}
			return set
		}
		set.Records = append(set.Records, value)
	}
	return set
}

// judge asks one question and finds the state of its answer. Callers that want it at the same time wait for one question, and an answer
// is used again; an error is not.
func (r *Resolver) judge(ctx context.Context, name string, qtype uint16) looked {
	owner := dns.CanonicalName(name)
	start := Answer{Name: PlainName(owner), Type: dns.TypeToString[qtype], State: Failed, Final: PlainName(owner)}
	if _, valid := dns.IsDomainName(owner); !valid || len(owner) > 254 {
		start.Err = &Error{Name: cut(start.Name), Type: start.Type, Server: "-", Reason: "this is not a domain name"}
		return looked{Answer: start}
	}
	found, err := recall(ctx, &r.memory, "look/"+owner+"/"+start.Type, func() (looked, time.Duration, error) {
		found, err := r.seek(ctx, owner, qtype, start)
		life := max(found.TTL, shortMemory)
		if found.Err != nil {
			life = 0
		}
		return found, life, err
	})
	if err != nil {
		start.Err = &Error{Name: start.Name, Type: start.Type, Server: "-", Reason: plain(err), kind: unreached}
		return looked{Answer: start}
	}
	return found
}

// seek asks one resolver after another, those whose word counts first. What a validator has found to be bogus, or has failed to answer, no
// answer of another kind of resolver replaces. The error is the context's.
func (r *Resolver) seek(ctx context.Context, owner string, qtype uint16, start Answer) (looked, error) {
	question := recursive(owner, qtype)
	var held *looked // the failure of a validator
	last := looked{Answer: start}
	last.Err = noResolver(owner, start.Type)
	for _, server := range r.byTrust() {
		if held != nil && !r.trusts(server) {
			break
		}
		answer, err := r.consult(ctx, question, server)
		if ended := endOf(ctx); ended != nil {
			return last, ended
		}
		if err != nil {
			r.memory.put("silent/"+server, true, silence)
			last.Err = questionError(question, server, nil, err)
			continue
		}
		found := r.read(ctx, answer, question, server, start)
		switch {
		case found.Err == nil && (held == nil || found.State == Secure || held.State != Bogus && found.Validator != ""):
			return found, nil
		case found.Err != nil && r.fails(ctx, server) && (held == nil || found.State == Bogus):
			found.Validator = plainServer(server)
			held = &found
		case found.Err != nil:
			last = found
		}
	}
	if ended := endOf(ctx); ended != nil {
		return last, ended
	}
	if held != nil {
		return *held, nil
	}
	return last, nil
}

// endOf returns the context's error, also at its deadline, which a connection notices a moment before the context does.
func endOf(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

func noResolver(owner, qtype string) *Error {
	return &Error{Name: owner, Type: qtype, Server: "-", Reason: "no resolver is configured"}
}

// fails reports whether the failure of a resolver is that of a validator. If it does not even answer about the root, nobody knows.
func (r *Resolver) fails(ctx context.Context, server string) bool {
	validates, known := r.validates(ctx, server)
	return validates || !known
}

// read finds the state of an answer and its records.
func (r *Resolver) read(ctx context.Context, answer, question *dns.Msg, server string, start Answer) looked {
	owner, qtype := dns.CanonicalName(question.Question[0].Name), question.Question[0].Qtype
	found := looked{Answer: start}
	if answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError {
		found.Err = questionError(question, server, answer, nil)
		if answer.Rcode == dns.RcodeServerFailure {
			if refused := r.confirmBogus(ctx, owner, qtype, []string{server}); refused != nil {
				found.State, found.Err = Bogus, refused
			}
		}
		return found
	}
	fault := found.follow(answer, owner, qtype)
	if fault != "" {
		found.records = nil
		found.Err = &Error{Name: found.Name, Type: found.Type, Server: server, Reason: fault}
		return found
	}
	found.State, found.Missing, found.TTL = Insecure, answer.Rcode == dns.RcodeNameError && len(found.records) == 0, ttlOf(answer)
	if answer.AuthenticatedData && r.trusts(server) {
		r.memory.put("validates/"+server, true, longestMemory)
		found.State, found.Validator = Secure, plainServer(server)
		found.Since, found.Until = vouched(answer, time.Now())
	} else if validates, _ := r.validates(ctx, server); validates {
		found.Validator = plainServer(server)
	}
	return found
}

// follow follows the aliases of an answer to the records. It returns why the answer is none, in words; "" if it is one.
func (l *looked) follow(answer *dns.Msg, owner string, qtype uint16) (fault string) {
	end := owner
	if qtype != dns.TypeCNAME && qtype != dns.TypeDNAME {
		var chain []alias
		chain, end = aliasesIn(answer, owner, ".", map[string]bool{})
		switch {
		case end == "":
			return "its CNAME records form a loop"
		case len(chain) > mostAliases:
			return fmt.Sprintf("it follows more than %d CNAME records", mostAliases)
		}
		for _, a := range chain {
			l.Aliases = append(l.Aliases, Alias{Owner: PlainName(a.owner), Target: PlainName(a.target)})
		}
		l.Final = PlainName(end)
	}
	l.records = rrset(answer.Answer, end, qtype)
	switch {
	case len(l.records) > mostRecords:
		return fmt.Sprintf("it answers with %d records", len(l.records))
	case len(l.records) == 0 && answer.Rcode == dns.RcodeSuccess && !denies(answer, end):
		return "it answers without the records, and without the SOA record that says that there are none (RFC 2308 section 2.2): it is no recursive resolver, or the zone is lame"
	}
	return ""
}

// mostAliases limits the CNAME records of one answer; resolvers stop at about a dozen.
const mostAliases = 16

// denies reports whether an answer without records says that there are none, and does not only refer to others.
func denies(answer *dns.Msg, name string) bool {
	return slices.ContainsFunc(answer.Ns, func(rr dns.RR) bool {
		return rr.Header().Rrtype == dns.TypeSOA && dns.IsSubDomain(dns.CanonicalName(rr.Header().Name), name)
	})
}

// ttlOf returns the shortest TTL of the records, or of their denial (RFC 2308 section 5).
func ttlOf(answer *dns.Msg) time.Duration {
	shortest := uint32(1<<31 - 1) // RFC 2181 section 8
	for _, rr := range answer.Answer {
		shortest = min(shortest, rr.Header().Ttl)
	}
	for _, rr := range answer.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			shortest = min(shortest, soa.Hdr.Ttl, soa.Minttl)
		}
	}
	return time.Duration(shortest) * time.Second
}

// onePass is at least as long as a look at a host takes.
const onePass = 10 * time.Minute

// vouched returns from when until when a secure answer is secure: while its signatures are valid, and now, because the resolver says so.
// Unbound forgives signatures that are out of their dates by an hour (val-sig-skew-min), and the clocks of two hosts differ.
func vouched(answer *dns.Msg, now time.Time) (since, until time.Time) {
	since, until = signed(answer, now)
	if soon := now.Add(onePass); !until.IsZero() && until.Before(soon) {
		until = soon
	}
	if recently := now.Add(-onePass); since.After(recently) {
		since = recently
	}
	return since, until
}

// signed returns from when until when all signatures are valid that an answer stands on: those of its records and aliases, and of their
// denial. If several keys have signed one RRset, one that is valid is enough.
func signed(answer *dns.Msg, now time.Time) (since, until time.Time) {
	type set struct {
		owner   string
		covered uint16
	}
	type span struct{ since, until time.Time }
	spans := map[set]span{}
	for _, rr := range slices.Concat(answer.Answer, answer.Ns) {
		sig, ok := rr.(*dns.RRSIG)
		if !ok || sig.TypeCovered == dns.TypeNS && len(answer.Answer) > 0 {
			continue
		}
		key := set{dns.CanonicalName(sig.Hdr.Name), sig.TypeCovered}
		one := span{serialTime(sig.Inception, now), serialTime(sig.Expiration, now)}
		if old, known := spans[key]; known && old.until.After(one.until) {
			one = old
		}
		spans[key] = one
	}
	for _, s := range spans {
		if since.IsZero() || s.since.After(since) {
			since = s.since
		}
		if until.IsZero() || s.until.Before(until) {
			until = s.until
		}
	}
	return since, until
}

// serialTime is the time of a signature, which is counted modulo 2³² seconds (RFC 4034 section 3.1.5).
func serialTime(seconds uint32, now time.Time) time.Time {
	return time.Unix(now.Unix()+int64(int32(seconds-uint32(now.Unix()))), 0).UTC() //nolint:gosec // serial arithmetic wraps around
}
