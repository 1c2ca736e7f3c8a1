package resolve

import (
	"context"
	"errors"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// mostQuestions limits the questions of one resolver that are under way at once; those of AwaitTXT and ServedTLSA do not count. mostServed
// limits those of ServedTLSA: each server gets one, so that a slow one holds up nobody.
const (
	mostQuestions = 8
	mostServed    = 64
)

// exchange asks a question when its turn comes, over TLS if the server is one for that.
func (r *Resolver) exchange(ctx context.Context, question *dns.Msg, server string) (*dns.Msg, error) {
	select {
	case r.turns <- struct{}{}:
		defer func() { <-r.turns }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if name, address, encrypted := splitTLS(server); encrypted {
		return r.tunnels.exchange(ctx, question, name, address)
	}
	return exchange(ctx, question, server)
}

// direct returns a question for an authoritative server.
func direct(name string, qtype uint16) *dns.Msg {
	question := new(dns.Msg).SetQuestion(dns.CanonicalName(name), qtype)
	question.RecursionDesired = false
	question.SetEdns0(udpPayload, false)
	return question
}

// exchange asks one server over UDP, and over TCP if the answer is truncated, lost, or not about the question.
//
// Over UDP the answer has to repeat the name as it was written, in a random mixture of upper and lower case: who cannot read the question
// cannot guess it (draft-vixie-dnsext-dns0x20). A server that changes the case is asked over TCP.
func exchange(ctx context.Context, question *dns.Msg, server string) (*dns.Msg, error) {
	message := spelled(question)
	answer, err := exchangeOver(ctx, message, server, "udp", udpTimeout)
	if ended := endOf(ctx); ended != nil {
		return nil, ended
	}
	if err == nil && !answer.Truncated {
		return answer, nil
	}
	byTCP, tcpErr := exchangeOver(ctx, message, server, "tcp", tcpTimeout)
	if ended := endOf(ctx); tcpErr != nil && ended != nil {
		return nil, ended
	}
	if tcpErr != nil && err != nil {
		return nil, err // the error of UDP is the better reason
	}
	return byTCP, tcpErr
}

// datagram asks one server over UDP only.
func datagram(ctx context.Context, question *dns.Msg, server string) (*dns.Msg, error) {
	answer, err := exchangeOver(ctx, spelled(question), server, "udp", udpTimeout)
	if err == nil && answer.Truncated {
		err = errTruncated
	}
	return answer, err
}

// spelled is a question with a number and a spelling of its own.
func spelled(question *dns.Msg) *dns.Msg {
	message := question.Copy()
	message.Id = dns.Id()
	for i := range message.Question {
		message.Question[i].Name = mixedCase(message.Question[i].Name)
	}
	return message
}

// mixedCase writes the letters of a name in upper or lower case, at random.
func mixedCase(name string) string {
	mixed, bits := []byte(name), uint64(0)
	for i, c := range mixed {
		if i%64 == 0 {
			bits = rand.Uint64()
		}
		if c |= 0x20; 'a' <= c && c <= 'z' && bits>>(i%64)&1 == 1 {
			mixed[i] ^= 0x20
		}
	}
	return string(mixed)
}

func exchangeOver(ctx context.Context, message *dns.Msg, server, network string, timeout time.Duration) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	client := dns.Client{Net: network, Timeout: timeout, UDPSize: udpPayload}
	conn, err := client.DialContext(ctx, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// miekg/dns honours the deadline of a context but not its cancellation.
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	answer, _, err := client.ExchangeWithConnContext(ctx, message, conn)
	if ctx.Err() != nil {
		return nil, ctx.Err() // the reason, rather than the closed connection that follows from it
	}
	if err == nil && network == "udp" && len(answer.Question) == 1 && answer.Question[0].Name != message.Question[0].Name {
		return nil, errNotAbout
	}
	if err == nil && !answersTo(message, answer) {
		err = errNotAbout
	}
	return answer, err
}

var (
	errNotAbout  = errors.New("the answer is not about the question")
	errTruncated = errors.New("the answer does not fit into a datagram")
)

// answersTo reports whether a message answers the question. Servers that fail may leave the question out.
func answersTo(question, answer *dns.Msg) bool {
	if !answer.Response || answer.Opcode != dns.OpcodeQuery || len(answer.Question) > 1 {
		return false
	}
	if len(answer.Question) == 0 {
		return answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError
	}
	asked, about := question.Question[0], answer.Question[0]
	return dns.CanonicalName(about.Name) == dns.CanonicalName(asked.Name) && about.Qtype == asked.Qtype && about.Qclass == asked.Qclass
}

// unreachable reports whether this host has no route to an address: to IPv6 addresses, for example, if it has no IPv6.
func unreachable(err error) bool {
	return errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)
}
