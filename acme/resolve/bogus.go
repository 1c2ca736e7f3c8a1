package resolve

import (
	"context"
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

// BogusError is that a validating resolver refuses data whose DNSSEC signatures are missing or wrong (RFC 4035 section
// 5.5). A CA has to validate too, and cannot use them either.
type BogusError struct {
	Name, Type string // the question
	Zone       string // that holds the name, fully qualified; "" where it is not known
	Server     string // the resolver
	Reason     string // the resolver's own (RFC 8914); "" where it gave none
}

// Error says who refuses what.
func (e *BogusError) Error() string {
	text := fmt.Sprintf("DNSSEC: %s %s is bogus for the resolver %s: it answers SERVFAIL%s, and gives an answer when told not to validate",
		plainName(e.Name), e.Type, e.Server, e.Reason)
	if e.Zone != "" {
		text += "; zone " + plainName(e.Zone)
	}
	return text
}

// Kind is "dnssec".
func (e *BogusError) Kind() string { return "dnssec" }

// Hint says what to do.
func (e *BogusError) Hint() string {
	return fmt.Sprintf("mend the zone's signatures or its DS record at the parent; delv @%s %s %s shows what is wrong", hostOf(e.Server), plainName(e.Name), e.Type)
}

// Bogus asks for the SOA of a zone and reports whether a resolver finds it bogus: a *BogusError, or nil where none does
// and where the question fails for another reason.
func (r *Resolver) Bogus(ctx context.Context, zone string) *BogusError {
	_, failed, _ := r.ask(ctx, zone, dns.TypeSOA)
	return r.confirmBogus(ctx, zone, dns.TypeSOA, failed)
}

// confirmBogus asks the resolvers that said SERVFAIL once more, without validation (CD, RFC 4035 section 3.2.2) and with
// it: only what fails, works, and fails again is bogus. The rest is a server that is ill.
func (r *Resolver) confirmBogus(ctx context.Context, name string, qtype uint16, failed []string) *BogusError {
	for _, server := range failed {
		unchecked := recursive(name, qtype)
		unchecked.CheckingDisabled = true
		answer, err := r.exchange(ctx, unchecked, server)
		if err != nil || (answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError) {
			continue
		}
		again, err := r.exchange(ctx, recursive(name, qtype), server)
		if err != nil || again.Rcode != dns.RcodeServerFailure {
			continue
		}
		e := &BogusError{Name: name, Type: dns.TypeToString[qtype], Server: server, Reason: explained(again)}
		if place, found := placeIn(answer, dns.CanonicalName(name)); found {
			e.Zone = place.Zone
		}
		return e
	}
	return nil
}

// mostExplained bounds the words of a peer that are repeated.
const mostExplained = 100

// explained gives the extended errors of an answer (RFC 8914) in words: " (DNSSEC Bogus: \"no DS\")".
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
			word += fmt.Sprintf(": %q", text[:min(len(text), mostExplained)])
		}
		words = append(words, word)
	}
	if len(words) == 0 {
		return ""
	}
	return " (" + strings.Join(words, ", ") + ")"
}
