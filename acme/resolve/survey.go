package resolve

import (
	"context"
	"fmt"
	"sync"

	"github.com/miekg/dns"
)

// ServerState is the answer of one server to the question for the SOA of its zone.
type ServerState struct {
	Server     Server
	Serial     uint32
	Fault      string // why a resolver would ask another server; "" if this one answers for the zone
	OutOfReach bool   // this host has no route to it (it may lack IPv6, for example), so its state is not known
	Silent     bool   // no answer came
}

// CutOff returns the family of addresses, IPv6 or IPv4, of which none answers, although addresses of the other do: most probably this
// host is cut off from it. It is "" if there is none.
func CutOff(states []ServerState) string {
	var addresses []familiar
	for _, s := range states {
		if !s.OutOfReach {
			addresses = append(addresses, familiar{s.Server, s.Silent, !s.Silent})
		}
	}
	return cutOff(addresses)
}

// Survey asks every server of a delegation for the SOA record, once.
func (r *Resolver) Survey(ctx context.Context, d Delegation) []ServerState {
	states := make([]ServerState, len(d.Servers))
	var wait sync.WaitGroup
	for i, server := range d.Servers {
		wait.Go(func() { states[i] = r.survey(ctx, server, d.Zone) })
	}
	wait.Wait()
	return states
}

func (r *Resolver) survey(ctx context.Context, server Server, zone string) ServerState {
	s := ServerState{Server: server}
	answer, err := r.exchange(ctx, direct(zone, dns.TypeSOA), server.Address)
	switch {
	case unreachable(err):
		s.OutOfReach = true
	case err != nil:
		s.Fault, s.Silent = plain(err), standingOf(err) == silent
	case answer.Rcode != dns.RcodeSuccess:
		s.Fault = "it answers " + dns.RcodeToString[answer.Rcode] + explained(answer)
	case !answer.Authoritative:
		s.Fault = "it is not a server of this zone (lame delegation)"
	default:
		s.Fault = "its answer has no SOA record of the zone"
		for _, rr := range answer.Answer {
			if soa, ok := rr.(*dns.SOA); ok && dns.CanonicalName(soa.Hdr.Name) == zone {
				s.Serial, s.Fault = soa.Serial, ""
			}
		}
	}
	return s
}

// String returns the state in words.
func (s ServerState) String() string {
	switch {
	case s.OutOfReach:
		return fmt.Sprintf("%s is out of reach of this host", s.Server)
	case s.Fault != "":
		return fmt.Sprintf("%s: %s", s.Server, s.Fault)
	}
	return fmt.Sprintf("%s has SOA serial %d", s.Server, s.Serial)
}
