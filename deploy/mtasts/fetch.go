package mtasts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
)

// path of a policy below its host (RFC 8461 section 3.2).
const path = "/.well-known/mta-sts.txt"

// mostAddresses limits how many addresses of a policy host are asked.
const mostAddresses = 8

// host returns the name of a domain's policy host.
func host(domain string) string { return "mta-sts." + domain }

// attempt is what one address of the policy host answered.
type attempt struct {
	address netip.Addr
	policy  *Policy
	notes   []finding.Finding
	leaf    *x509.Certificate // nil if there was no valid one
	fault   *fault            // nil if there is a policy
	noRoute bool              // this host cannot reach the address family
}

// fetch gets the policy from every address of the policy host, and compares the answers.
func (c Client) fetch(ctx context.Context, found *Found) {
	addresses, notes, f := c.addresses(ctx, host(found.Domain))
	found.add(notes...)
	if f != nil {
		found.fail(*f)
		return
	}
	attempts := make([]attempt, len(addresses))
	var wait sync.WaitGroup
	for i, address := range addresses {
		wait.Go(func() { attempts[i] = c.ask(ctx, found.Domain, address) })
	}
	wait.Wait()
	routed := slices.DeleteFunc(slices.Clone(attempts), func(a attempt) bool { return a.noRoute })
	good := slices.IndexFunc(routed, func(a attempt) bool { return a.fault == nil })
	switch {
	case len(routed) == 0:
		found.fail(*attempts[0].fault)
	case good < 0:
		found.fail(*routed[0].fault)
	default:
		found.Policy = routed[good].policy
		found.add(routed[good].notes...)
		found.add(found.Policy.advise()...)
		found.add(c.expiring(host(found.Domain), routed[good].leaf)...)
		for _, other := range routed {
			found.add(other.beside(host(found.Domain), routed[good])...)
		}
	}
}

// addresses asks for the addresses of the policy host. An error of one type does not matter if the other has some.
func (c Client) addresses(ctx context.Context, host string) (list []netip.Addr, notes []finding.Finding, f *fault) {
	var v4, v6 resolve.Set[netip.Addr]
	var wait sync.WaitGroup
	wait.Go(func() { v4 = c.Resolver.LookIPv4(ctx, host) })
	wait.Go(func() { v6 = c.Resolver.LookIPv6(ctx, host) })
	wait.Wait()
	list = slices.Concat(v4.Records, v6.Records)
	for _, answer := range []resolve.Answer{v4.Answer, v6.Answer} {
		if answer.Err == nil {
			continue
		}
		if len(list) == 0 {
			return nil, nil, &fault{kind: FetchError, id: FetchError, reason: fmt.Sprintf("the policy host %s cannot be resolved: %s; %s", host, answer.Err.Error(), olderPolicy),
				hint: answer.Err.Hint(), notJudged: answer.State != resolve.Bogus}
		}
		notes = append(notes, finding.New("sts-policy-host-address", finding.Warning, "%s", answer.Err.Error()).Next(answer.Err.Hint()))
	}
	if len(list) == 0 {
		return nil, nil, &fault{kind: FetchError, id: FetchError, reason: fmt.Sprintf("the policy host %s has no address, so senders have no policy; %s", host, olderPolicy),
			hint: fmt.Sprintf("give %s an address and serve the policy there, or remove the TXT record if the domain is to have no MTA-STS", host)}
	}
	return list[:min(len(list), mostAddresses)], notes, nil
}

// beside says how the answer of an address differs from the good one.
func (a attempt) beside(host string, good attempt) []finding.Finding {
	switch {
	case a.fault != nil:
		severity, effect := finding.Error, "senders that use it get no policy"
		if a.leaf == nil && a.fault.kind == FetchError { // those with both families go on with the other address
			severity, effect = finding.Warning, "senders that have only "+family(a.address)+" get no policy"
		}
		return []finding.Finding{finding.New("sts-policy-host-address", severity, "%s answers at %s, but not at %s: %s; %s", host, good.address, a.address, a.fault.reason, effect).
			Next(fmt.Sprintf("serve the policy at %s too, or remove the %s record of %s", a.address, recordOf(a.address), host))}
	case !reflect.DeepEqual(a.policy, good.policy):
		return []finding.Finding{finding.New("sts-policy-differs", finding.Error, "%s serves one policy at %s and another at %s", host, good.address, a.address).Next("serve the same policy at every address")}
	}
	return nil
}

func family(address netip.Addr) string {
	if address.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

func recordOf(address netip.Addr) string {
	if address.Is4() {
		return "A"
	}
	return "AAAA"
}

// expiring warns of a certificate of the policy host that nobody has renewed in time.
func (c Client) expiring(host string, leaf *x509.Certificate) []finding.Finding {
	left := leaf.NotAfter.Sub(c.now())
	if left > min(14*24*time.Hour, leaf.NotAfter.Sub(leaf.NotBefore)/4) {
		return nil
	}
	return []finding.Finding{finding.New("sts-certificate-expiring", finding.Warning, "the certificate of %s expires at %s; from then on senders get no new policy", host, leaf.NotAfter.UTC().Format(time.RFC3339)).
		Next("renew the certificate of the policy host's web server")}
}

func (c Client) now() time.Time {
	if c.At.IsZero() {
		return time.Now()
	}
	return c.At
}

// tlsConfig demands what RFC 8461 section 3.3 demands: a certificate with the policy host as DNS-ID, valid now, to a trusted root.
func (c Client) tlsConfig(host string) *tls.Config {
	return &tls.Config{ServerName: host, RootCAs: c.Roots, Time: c.now, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
}
