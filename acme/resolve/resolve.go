// Package resolve asks DNS questions for mxcert: through recursive resolvers, whose answers carry their DNSSEC status
// (AD bit, RFC 4035 section 3.2.3), and directly at the authoritative servers of a zone.
//
// It sends a question over UDP with EDNS (payload 1232), and repeats it over TCP if the answer is truncated, lost or about
// something else (RFC 5452 section 9.1). A name server's silence is an error, never "no such record": the package takes zones
// from the SOA of an answer or its authority section, so that one lost packet cannot move a record into the parent zone. It
// asks the zone's own servers where the record of a challenge belongs (see [Resolver.Locate]), and all servers that the zone or
// its parent names whether it is there (see [Delegation]). It uses answers about zones, servers and addresses again for their
// TTL, but for a minute at most, and never those about the challenge's names.
//
// Not supported: DNSSEC validation of its own (it trusts a validating resolver), DoT and DoH.
package resolve

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
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
	ports   map[string]string // authoritative address -> port, if it is not 53
	first   atomic.Int32      // index of the server to ask first; it advances if a server does not answer
	turns   chan struct{}     // limits the questions under way
	memory  memory
}

// New makes a resolver that asks the given servers ("address:port") in order, or those of /etc/resolv.conf if servers is empty.
//
// It asks an authoritative server whose address is among servers or extra (other known name servers, such as the one that takes
// updates) on the port given there instead of 53.
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
	return &Resolver{servers: servers, ports: ports, turns: make(chan struct{}, mostQuestions)}
}

// systemServers reads the nameserver lines. If there is none, it returns the local host, as the C library does.
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

// Servers returns the recursive resolvers, "address:port".
func (r *Resolver) Servers() []string { return r.servers }

// current returns the resolver that is asked first.
func (r *Resolver) current() string { return r.servers[r.first.Load()] }

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

// Ask sends one question to the recursive resolvers in order and returns the first answer that is NOERROR or NXDOMAIN. If a
// resolver does not answer at all, Ask asks it last from then on. The error is an *Error about the last server, or the
// context's.
func (r *Resolver) Ask(ctx context.Context, name string, qtype uint16) (*dns.Msg, error) {
	answer, _, err := r.ask(ctx, name, qtype)
	return answer, err
}

// recursive returns a question for a recursive resolver.
func recursive(name string, qtype uint16) *dns.Msg {
	question := new(dns.Msg).SetQuestion(dns.CanonicalName(name), qtype)
	question.SetEdns0(udpPayload, true)
	question.AuthenticatedData = true
	return question
}

// ask is Ask, but also returns the resolvers that answered SERVFAIL.
func (r *Resolver) ask(ctx context.Context, name string, qtype uint16) (answer *dns.Msg, failed []string, err error) {
	question := recursive(name, qtype)
	var last error = &Error{Name: name, Type: dns.TypeToString[qtype], Server: "-", Reason: "no resolver is configured"}
	n := int32(len(r.servers))
	for i, first := int32(0), r.first.Load(); i < n; i++ {
		current := (first + i) % n
		answer, err := r.exchange(ctx, question, r.servers[current])
		switch {
		case err == nil && (answer.Rcode == dns.RcodeSuccess || answer.Rcode == dns.RcodeNameError):
			return answer, failed, nil
		case ctx.Err() != nil:
			return nil, failed, ctx.Err()
		case err == nil && answer.Rcode == dns.RcodeServerFailure:
			failed = append(failed, r.servers[current])
		case err != nil:
			r.first.CompareAndSwap(current, (current+1)%n)
		}
		last = questionError(question, r.servers[current], answer, err)
	}
	return nil, failed, last
}

func questionError(question *dns.Msg, server string, answer *dns.Msg, err error) *Error {
	e := &Error{Name: question.Question[0].Name, Type: dns.TypeToString[question.Question[0].Qtype], Server: server, kind: unreached}
	switch {
	case err != nil:
		e.Reason = plain(err)
	default:
		e.Reason = "it answered " + dns.RcodeToString[answer.Rcode] + explained(answer)
		if answer.Rcode != dns.RcodeServerFailure {
			e.kind = unusable
		}
	}
	return e
}

// plain returns a network error in plain words.
func plain(err error) string {
	if netErr, ok := errors.AsType[net.Error](err); ok && netErr.Timeout() {
		return noAnswer
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err.Error()
	}
	return err.Error()
}

// Addresses looks up the IPv4 and IPv6 addresses of a host. If a host has no address, that is an error.
func (r *Resolver) Addresses(ctx context.Context, host string) ([]string, error) {
	qtypes := []uint16{dns.TypeA, dns.TypeAAAA}
	found, problems := make([][]string, len(qtypes)), make([]error, len(qtypes))
	var wait sync.WaitGroup
	for i, qtype := range qtypes {
		wait.Go(func() {
			answer, err := r.recallAsk(ctx, host, qtype)
			if err != nil {
				problems[i] = err
				return
			}
			found[i] = addressesIn(answer.Answer)
		})
	}
	wait.Wait()
	addresses := slices.Concat(found...)
	switch {
	case len(addresses) > 0:
		return addresses, nil
	case problems[0] != nil || problems[1] != nil:
		return nil, cmp.Or(problems...)
	}
	return nil, &Error{Name: host, Type: "A/AAAA", Server: strings.Join(r.servers, ", "), Reason: "the host has no address"}
}
