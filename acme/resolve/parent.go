package resolve

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// parentPatience limits the time for the question to the parent's servers, which may be out of reach; parentTries limits
	// how many of them are asked.
	parentPatience = 4 * time.Second
	parentTries    = 3
	noParent       = "the parent zone does not exist, as this resolver sees it"
)

// delegated is what the parent zone says about a zone.
type delegated struct {
	parent string
	hosts  []string            // of its NS records
	glue   map[string][]string // addresses that came along
	err    error               // why the parent could not be asked
	absent bool                // there is no parent zone
}

// above asks the servers of the parent zone for the delegation.
func (r *Resolver) above(ctx context.Context, zone string) delegated {
	ctx, cancel := context.WithTimeout(ctx, parentPatience)
	defer cancel()
	parent, hosts, err := r.parentOf(ctx, zone)
	out := delegated{parent: parent, err: err}
	if e, ok := errors.AsType[*Error](err); ok {
		out.absent = e.Reason == noParent
	}
	for _, host := range hosts[:min(len(hosts), parentTries)] {
		address, err := r.oneAddress(ctx, host)
		if err != nil {
			out.err = err
			continue
		}
		question := direct(zone, dns.TypeNS)
		answer, err := r.exchange(ctx, question, address)
		if err == nil && (answer.Rcode == dns.RcodeSuccess || answer.Rcode == dns.RcodeNameError) {
			out.hosts, out.glue, out.err = hostsIn(append(slices.Clone(answer.Answer), answer.Ns...), zone), glueIn(answer), nil
			if len(out.hosts) > 0 || answer.Authoritative {
				return out
			}
			out.err = &Error{Name: zone, Type: "NS", Server: address, Reason: "it does not answer for the parent zone"}
			continue
		}
		out.err = questionError(question, address, answer, err)
	}
	return out
}

// parentOf finds the parent zone and its name servers.
func (r *Resolver) parentOf(ctx context.Context, zone string) (parent string, hosts []string, err error) {
	if zone == "." {
		return "", nil, &Error{Name: zone, Type: "NS", Server: r.current(), Reason: "the root has no parent"}
	}
	for name := parentName(zone); ; {
		answer, err := r.recallAsk(ctx, name, dns.TypeNS)
		if err != nil {
			return "", nil, err
		}
		if hosts := hostsIn(answer.Answer, name); len(hosts) > 0 {
			return name, hosts, nil
		}
		place, found := placeIn(answer, name)
		switch {
		case found && place.Zone == "." && answer.Rcode == dns.RcodeNameError:
			return "", nil, &Error{Name: name, Type: "NS", Server: r.current(), Reason: noParent}
		case !found || place.Zone == name || name == ".":
			return "", nil, &Error{Name: name, Type: "NS", Server: r.current(), Reason: "the parent zone has no name servers"}
		}
		name = place.Zone
	}
}

// parentName returns the name without its first label.
func parentName(name string) string {
	_, rest, _ := strings.Cut(name, ".")
	return cmp.Or(rest, ".")
}

// oneAddress returns an address of a host, an IPv4 address if it has one.
func (r *Resolver) oneAddress(ctx context.Context, host string) (string, error) {
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		answer, err := r.recallAsk(ctx, host, qtype)
		if err != nil {
			return "", err
		}
		if found := addressesIn(answer.Answer); len(found) > 0 {
			return r.withPort(found[0]), nil
		}
	}
	return "", &Error{Name: host, Type: "A/AAAA", Server: r.current(), Reason: "the host has no address"}
}

// glueIn returns the addresses of name servers that a referral contains.
func glueIn(answer *dns.Msg) map[string][]string {
	glue := map[string][]string{}
	if answer.Authoritative {
		return glue // it is not a referral
	}
	for _, rr := range answer.Extra {
		if addresses := addressesIn([]dns.RR{rr}); len(addresses) > 0 && len(glue) < mostHosts {
			host := dns.CanonicalName(rr.Header().Name)
			glue[host] = append(glue[host], addresses...)
		}
	}
	return glue
}
