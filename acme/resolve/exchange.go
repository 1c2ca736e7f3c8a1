package resolve

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// mostQuestions limits the questions of one resolver that are under way at once; those of AwaitTXT do not count.
const mostQuestions = 8

// exchange asks a question when its turn comes.
func (r *Resolver) exchange(ctx context.Context, question *dns.Msg, server string) (*dns.Msg, error) {
	select {
	case r.turns <- struct{}{}:
		defer func() { <-r.turns }()
	case <-ctx.Done():
		return nil, ctx.Err()
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
func exchange(ctx context.Context, question *dns.Msg, server string) (*dns.Msg, error) {
	message := question.Copy()
	message.Id = dns.Id()
	answer, err := exchangeOver(ctx, message, server, "udp", udpTimeout)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err == nil && !answer.Truncated {
		return answer, nil
	}
	byTCP, tcpErr := exchangeOver(ctx, message, server, "tcp", tcpTimeout)
	if tcpErr != nil && err != nil {
		return nil, err // the error of UDP is the better reason
	}
	return byTCP, tcpErr
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
	if err == nil && !answersTo(message, answer) {
		err = errors.New("the answer is not about the question")
	}
	return answer, err
}

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
