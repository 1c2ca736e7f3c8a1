package resolve

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// Bogus asks for the SOA of a zone. It returns an error of kind dnssec if a validating resolver refuses the answer because
// its DNSSEC signatures are missing or wrong: a CA has to validate too, and cannot use it either. It returns nil if no resolver
// does, even if the question fails for another reason.
func (r *Resolver) Bogus(ctx context.Context, zone string) *Error {
	_, failed, _ := r.ask(ctx, zone, dns.TypeSOA)
	return r.confirmBogus(ctx, zone, dns.TypeSOA, failed)
}

// confirmBogus asks the resolvers that answered SERVFAIL once more, without validation (CD, RFC 4035 section 3.2.2) and with
// it. Data are bogus only if the question fails, works without validation, and fails again, or if the server validates nevertheless and says
// what it has found wrong (RFC 8914). In all other cases the server has a fault.
func (r *Resolver) confirmBogus(ctx context.Context, name string, qtype uint16, failed []string) *Error {
	for _, server := range failed {
		unchecked := recursive(name, qtype)
		unchecked.CheckingDisabled = true
		answer, err := r.exchange(ctx, unchecked, server)
		if err == nil && answer.Rcode == dns.RcodeServerFailure && foundWrong(answer) {
			return &Error{Name: name, Type: dns.TypeToString[qtype], Server: server, kind: bogus, Reason: "it answers SERVFAIL" + explained(answer)}
		}
		if err != nil || (answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError) {
			continue
		}
		again, err := r.exchange(ctx, recursive(name, qtype), server)
		if err != nil || again.Rcode != dns.RcodeServerFailure {
			continue
		}
		e := &Error{Name: name, Type: dns.TypeToString[qtype], Server: server, kind: bogus,
			Reason: "it answers SERVFAIL" + explained(again) + ", but answers when asked not to validate"}
		if place, found := placeIn(answer, dns.CanonicalName(name)); found {
			e.Zone = place.Zone
		}
		return e
	}
	return nil
}

// foundWrong reports whether a resolver says that it has seen signatures that are no good. That it found none may also be a fault of the
// servers that it asked.
func foundWrong(answer *dns.Msg) bool {
	opt := answer.IsEdns0()
	return opt != nil && slices.ContainsFunc(opt.Option, func(option dns.EDNS0) bool {
		ede, ok := option.(*dns.EDNS0_EDE)
		return ok && slices.Contains([]uint16{dns.ExtendedErrorCodeDNSBogus, dns.ExtendedErrorCodeSignatureExpired, dns.ExtendedErrorCodeSignatureNotYetValid}, ede.InfoCode)
	})
}

// mostExplained limits the text of a peer that is repeated.
const mostExplained = 100

// cut shortens the text of a peer.
func cut(text string) string { return text[:min(len(text), mostExplained)] }

// explained returns the extended errors of an answer (RFC 8914) in words: " (DNSSEC Bogus: \"no DS\")".
func explained(answer *dns.Msg) string {
	opt := answer.IsEdns0()
	if opt == nil {
		return ""
	}
	var words []string
	for _, option := range opt.Option {
		ede, ok := option.(*dns.EDNS0_EDE)
		if !ok || len(words) == 3 {
			continue
		}
		word, known := dns.ExtendedErrorCodeToString[ede.InfoCode]
		if !known {
			word = fmt.Sprintf("extended error %d", ede.InfoCode)
		}
		if text := ede.ExtraText; text != "" {
			word += fmt.Sprintf(": %q", cut(text))
		}
		words = append(words, word)
	}
	if len(words) == 0 {
		return ""
	}
	return " (" + strings.Join(words, ", ") + ")"
}
