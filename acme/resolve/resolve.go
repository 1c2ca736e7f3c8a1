// Package resolve asks DNS questions for mxcert: through recursive resolvers, whose answers carry their DNSSEC status
// (AD bit, RFC 4035 section 3.2.3), and directly at the authoritative servers of a zone.
//
// It sends a question over UDP with EDNS (payload 1232), and repeats it over TCP if the answer is truncated, lost, about something else
// (RFC 5452 section 9.1), or spells the name in another mixture of upper and lower case. A resolver that is written tls://NAME@ADDRESS
// is asked over TLS (RFC 7858), and has to prove that it is NAME.
//
// [Resolver.LookMX] and its sisters return the DNSSEC state of each RRset. Validation is the work of a resolver: its word counts if nobody
// on the way can have changed it (loopback, TLS) or the operator says so (see [Resolver.Trust]), and if it validates at all.
// What authoritative servers answer directly is verified here, with the keys for which such a resolver vouches: see [Resolver.ServedTLSA].
//
// A name server's silence is an error, never "no such record": the package takes zones
// from the SOA of an answer or its authority section, so that one lost packet cannot move a record into the parent zone. It
// asks the zone's own servers where the record of a challenge belongs (see [Resolver.Locate]), and all servers that the zone or
// its parent names whether it is there (see [Delegation]). It uses answers about zones, servers and addresses again for their
// TTL, but for a minute at most, and never those about the challenge's names.
//
// Names to which this host itself connects (the CA, the API of a DNS provider, an endpoint) are found as every program on it finds them,
// with /etc/hosts: see [AsThisHost].
//
// Not supported: a chain of trust of its own from the root down (a validating resolver builds it), proofs of absence from authoritative
// servers, DNS over HTTPS and QUIC, the strict privacy profiles of DNS over TLS (RFC 8310), and client certificates.
package resolve

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
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
	trusted []string          // resolvers whose AD bit counts although they are not on loopback
	ports   map[string]string // authoritative address -> port, if it is not 53
	first   atomic.Int32      // index of the server to ask first; it advances if a server does not answer
	turns   chan struct{}     // limits the questions under way
	crowd   chan struct{}     // limits those of ServedTLSA to authoritative servers, which all are asked at once
	tunnels tunnels           // to resolvers that are asked over TLS
	memory  memory
	zones   *Zones // nil: nothing is shared with other resolvers
}

// New makes a resolver that asks the given servers (see [ParseServer]) in order, or those of /etc/resolv.conf if servers is empty.
//
// It asks an authoritative server whose address is among servers or extra (other known name servers, such as the one that takes
// updates) on the port given there instead of 53.
func New(servers []string, extra ...string) *Resolver {
	if len(servers) == 0 {
		servers = systemServers("/etc/resolv.conf")
	}
	r := &Resolver{servers: complete(servers), ports: map[string]string{}, turns: make(chan struct{}, mostQuestions), crowd: make(chan struct{}, mostServed)}
	r.notePorts(r.servers)
	r.notePorts(extra)
	return r
}

func (r *Resolver) notePorts(servers []string) {
	for _, s := range servers {
		if host, port, err := net.SplitHostPort(s); err == nil && port != "53" {
			r.ports[host] = port
		}
	}
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

// Servers returns the recursive resolvers, as [ParseServer] returns them.
func (r *Resolver) Servers() []string { return r.servers }

// current returns the resolver that is asked first.
func (r *Resolver) current() string { return r.servers[r.first.Load()] }

// Reach asks for the name servers of the root, which every resolver knows. It returns nil if one of the resolvers answers; otherwise the error
// is an *Error about the last of them, or the context's.
func (r *Resolver) Reach(ctx context.Context) error {
	_, _, err := r.ask(ctx, ".", dns.TypeNS)
	return err
}

// recursive returns a question for a recursive resolver.
func recursive(name string, qtype uint16) *dns.Msg {
	question := new(dns.Msg).SetQuestion(dns.CanonicalName(name), qtype)
	question.SetEdns0(udpPayload, true)
	question.AuthenticatedData = true
	return question
}

// ask sends one question to the recursive resolvers in order and returns the first answer that is NOERROR or NXDOMAIN, and the resolvers that
// answered SERVFAIL before. If a resolver does not answer at all, ask asks it last from then on. The error is an *Error about the last
// server, or the context's.
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
		case endOf(ctx) != nil:
			return nil, failed, endOf(ctx)
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
	if refused, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Sprintf("its certificate is refused: %q", cut(refused.Err.Error()))
	}
	if malformed, ok := errors.AsType[*dns.Error](err); ok {
		return fmt.Sprintf("its answer is malformed (%s)", cut(malformed.Error()))
	}
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
	addresses, missed := r.addresses(ctx, host)
	if len(addresses) > 0 {
		return addresses, nil
	}
	return nil, cmp.Or(missed, r.noAddress(host))
}

func (r *Resolver) noAddress(host string) error {
	return &Error{Name: host, Type: "A/AAAA", Server: strings.Join(r.servers, ", "), Reason: "the host has no address"}
}

// addresses looks up the addresses of a host. missed says why some may be missing.
func (r *Resolver) addresses(ctx context.Context, host string) (addresses []string, missed error) {
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
	return slices.Concat(found...), cmp.Or(problems...)
}
