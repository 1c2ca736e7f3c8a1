// Package resolve asks DNS questions for mxcert: through recursive resolvers, whose answers carry their DNSSEC status
// (AD bit, RFC 4035 section 3.2.3), and directly at every authoritative server of a zone.
//
// A question goes out over UDP with EDNS (payload 1232) and is repeated over TCP when the answer is truncated, lost or
// about something else (RFC 5452 section 9.1).
// A name server's silence is an error, never "no such record": zones are taken from the SOA of an answer or its
// authority section, so that one lost packet cannot move a record into the parent zone.
//
// Not supported: own DNSSEC validation (the AD bit of a local validating resolver is believed), DoT and DoH.
package resolve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	udpTimeout = 2 * time.Second
	tcpTimeout = 4 * time.Second
	udpPayload = 1232
	noAnswer   = "no answer (timeout)"
)

// Resolver asks recursive resolvers.
type Resolver struct {
	servers []string
	ports   map[string]string // authoritative address -> port, where it is not 53
	first   atomic.Int32      // index of the server that is asked first: the next one after a server gave no answer
}

// New makes a resolver that asks the given servers ("address:port") in order; none: those of /etc/resolv.conf.
//
// An authoritative server whose address is among servers or extra (other known name servers, such as the one that
// takes updates) is asked on the port given there instead of 53.
func New(servers []string, extra ...string) *Resolver {
	if len(servers) == 0 {
		servers = systemServers("/etc/resolv.conf")
	}
	ports := map[string]string{}
	for _, s := range append(append([]string(nil), servers...), extra...) {
		if host, port, err := net.SplitHostPort(s); err == nil && port != "53" {
			ports[host] = port
		}
	}
	return &Resolver{servers: servers, ports: ports}
}

// systemServers reads the nameserver lines; without any, the local host is asked, as the C library does.
func systemServers(path string) []string {
	config, err := dns.ClientConfigFromFile(path)
	if err != nil || len(config.Servers) == 0 {
		return []string{"127.0.0.1:53"}
	}
	servers := make([]string, 0, len(config.Servers))
	for _, s := range config.Servers {
		servers = append(servers, net.JoinHostPort(s, config.Port))
	}
	return servers
}

// Servers are the recursive resolvers, "address:port".
func (r *Resolver) Servers() []string { return r.servers }

// current is the resolver that is asked first.
func (r *Resolver) current() string { return r.servers[r.first.Load()] }

// Error is a question that got no usable answer.
type Error struct {
	Name, Type string // the question
	Server     string // who was asked last
	Reason     string
	temporary  bool
}

// Error says which question failed at which server and why.
func (e *Error) Error() string {
	return fmt.Sprintf("DNS: %s %s at %s: %s", strings.TrimSuffix(e.Name, "."), e.Type, e.Server, e.Reason)
}

// Kind is "dns-unreachable" when no server answered, "dns" otherwise.
func (e *Error) Kind() string {
	if e.temporary {
		return "dns-unreachable"
	}
	return "dns"
}

// Temporary is true when trying again later may help.
func (e *Error) Temporary() bool { return e.temporary }

// Hint says what to do.
func (e *Error) Hint() string {
	if e.temporary {
		return fmt.Sprintf("is the name server %s running and reachable from here? (dig @%s %s %s)", e.Server, hostOf(e.Server), e.Name, e.Type)
	}
	return fmt.Sprintf("look at the answer: dig @%s %s %s", hostOf(e.Server), e.Name, e.Type)
}

func hostOf(server string) string {
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		return server
	}
	if port != "53" {
		return host + " -p " + port
	}
	return host
}

// Ask sends one question to the recursive resolvers in order and gives the first answer that is NOERROR or NXDOMAIN.
// A resolver that gave no answer at all is asked last from then on. The error is an *Error about the last server, or
// the context's.
func (r *Resolver) Ask(ctx context.Context, name string, qtype uint16) (*dns.Msg, error) {
	question := new(dns.Msg).SetQuestion(dns.CanonicalName(name), qtype)
	question.SetEdns0(udpPayload, true)
	question.AuthenticatedData = true
	var last error = &Error{Name: name, Type: dns.TypeToString[qtype], Server: "-", Reason: "no resolver is configured"}
	n := int32(len(r.servers))
	for i, first := int32(0), r.first.Load(); i < n; i++ {
		current := (first + i) % n
		answer, err := exchange(ctx, question, r.servers[current])
		switch {
		case err == nil && (answer.Rcode == dns.RcodeSuccess || answer.Rcode == dns.RcodeNameError):
			return answer, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			r.first.CompareAndSwap(current, (current+1)%n)
		}
		last = questionError(question, r.servers[current], answer, err)
	}
	return nil, last
}

func questionError(question *dns.Msg, server string, answer *dns.Msg, err error) *Error {
	e := &Error{Name: question.Question[0].Name, Type: dns.TypeToString[question.Question[0].Qtype], Server: server, temporary: true}
	switch {
	case err != nil:
		e.Reason = plain(err)
	default:
		e.Reason = "it answered " + dns.RcodeToString[answer.Rcode]
		e.temporary = answer.Rcode == dns.RcodeServerFailure
	}
	return e
}

// plain says a network error in the words a person uses.
func plain(err error) string {
	if netErr, ok := errors.AsType[net.Error](err); ok && netErr.Timeout() {
		return noAnswer
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err.Error()
	}
	return err.Error()
}

// exchange asks one server over UDP, and over TCP when the answer is truncated, lost, or not about the question.
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
		return nil, err // what UDP said is the better reason
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
		return nil, ctx.Err() // not that the connection was closed because of it
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

// Addresses looks up the IPv4 and IPv6 addresses of a host. A host without any is an error.
func (r *Resolver) Addresses(ctx context.Context, host string) ([]string, error) {
	var addresses []string
	var problem error
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		answer, err := r.Ask(ctx, host, qtype)
		if err != nil {
			problem = err
			continue
		}
		for _, rr := range answer.Answer {
			switch rr := rr.(type) {
			case *dns.A:
				addresses = append(addresses, rr.A.String())
			case *dns.AAAA:
				addresses = append(addresses, rr.AAAA.String())
			}
		}
	}
	if len(addresses) == 0 && problem == nil {
		problem = &Error{Name: host, Type: "A/AAAA", Server: strings.Join(r.servers, ", "), Reason: "the host has no address"}
	}
	if len(addresses) > 0 {
		problem = nil
	}
	return addresses, problem
}
