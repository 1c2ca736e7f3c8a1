package doctor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"mxcert/acme/finding"
	"mxcert/acme/issued"
	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy/mx"
)

// mail looks at what senders of mail meet: which names they use, what DNS says about these, and what this host answers them. Nothing of that
// prevents a renewal, so most findings are warnings. An error is what makes senders keep or return mail although the certificate is good.
type mail struct {
	*Doctor
	want     wanted.Certificate
	resolver *resolve.Resolver
	port     int // of the mail server

	mu    sync.Mutex
	found []mx.Found
	asked bool

	policies sync.Map // of functions that look, by mail domain
}

// isMail reports whether senders of mail get the certificate.
func isMail(want wanted.Certificate) bool {
	return len(want.MailDomains) > 0 || want.Has("exim", "postfix") || slices.ContainsFunc(want.Endpoints(), func(endpoint string) bool { return strings.HasSuffix(endpoint, ":25") })
}

// mailTests returns the tests of what senders meet; none if the certificate is not for them.
func (d *Doctor) mailTests(want wanted.Certificate) []test {
	if !isMail(want) {
		return nil
	}
	m := &mail{Doctor: d, want: want, resolver: want.Resolver(), port: 25}
	return []test{
		{id: "mx", run: m.names},
		{id: "port-25-in", run: m.ports},
		{id: "address", run: m.addresses},
		{id: "tlsa", run: m.tlsa},
		{id: "mta-sts", run: m.sts},
		{id: "senders", run: m.senders},
	}
}

// own lists the addresses of this host.
func (m *mail) own() []netip.Addr {
	own, _ := mx.Own(m.want.PublicAddresses) // what could not be read is not ours: then less is judged
	return own
}

// looked asks for the MX hosts of all mail domains, once.
func (m *mail) looked(ctx context.Context) []mx.Found {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.asked {
		return m.found
	}
	m.asked, m.found = true, make([]mx.Found, len(m.want.MailDomains))
	own := m.own()
	var all sync.WaitGroup
	for i, domain := range m.want.MailDomains {
		all.Go(func() { m.found[i] = mx.Look(ctx, m.resolver, domain, own) })
	}
	all.Wait()
	return m.found
}

// hosts lists the names that senders use for this host: MX hosts with an address of it or, if there are none, the first of the certificate.
func (m *mail) hosts(ctx context.Context) (hosts []string) {
	for _, found := range m.looked(ctx) {
		for _, name := range found.Names {
			if !slices.Contains(hosts, name.Name) {
				hosts = append(hosts, name.Name)
			}
		}
	}
	if len(hosts) == 0 {
		hosts = []string{m.want.ServerName()}
	}
	return hosts
}

// names checks that the certificate covers the names that senders use.
func (m *mail) names(ctx context.Context) (found []finding.Finding) {
	if len(m.want.MailDomains) == 0 {
		return []finding.Finding{well("mail_domains is not set, so mxcert does not look which names senders use; they should use %s", m.want.ServerName())}
	}
	covered := m.covered()
	for _, look := range m.looked(ctx) {
		for _, f := range look.Findings {
			if f.Severity == finding.Error { // a renewal does not fail because of it
				f.Severity = finding.Warning
			}
			found = append(found, f)
		}
		for _, name := range look.Names {
			if covers(covered, name.Name) {
				found = append(found, well("%s, an MX host of %s, is this host, and the certificate covers it", name.Name, name.Domain).About(name.Name))
			} else {
				found = append(found, doubtful("%s, an MX host of %s, is this host, but the certificate does not cover it", name.Name, name.Domain).About(name.Name).
					Next(fmt.Sprintf("wait for the daemon to take it in after a second look, or run mxcert renew %s --now", m.want.Name)))
			}
		}
	}
	return found
}

// covered lists the names of the certificate: those that each issued one has, or those that are wanted before the first.
func (m *mail) covered() []string {
	have, err := issued.Look(m.Runner.Store.Lineage(m.want.Name), m.want.Keys)
	if err != nil || slices.Contains(have.Bundles, nil) {
		with, _, _ := pass.WithFound(m.want, m.Runner.Store.Lineage(m.want.Name))
		return with.Names
	}
	names := have.Bundles[0].Leaf().DNSNames
	for _, b := range have.Bundles[1:] {
		names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !slices.Contains(b.Leaf().DNSNames, name) })
	}
	return names
}

// covers reports whether one of a certificate's names is a host, or a wildcard for it.
func covers(names []string, host string) bool {
	_, parent, _ := strings.Cut(host, ".")
	return slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, host) || strings.EqualFold(name, "*."+parent) })
}

// addressesOf returns all addresses of a host, and a finding if they cannot be found.
func (m *mail) addressesOf(ctx context.Context, host string) ([]netip.Addr, []finding.Finding) {
	v4, v6 := m.resolver.LookIPv4(ctx, host), m.resolver.LookIPv6(ctx, host)
	list := slices.Concat(v4.Records, v6.Records)
	if len(list) > 0 {
		return list, nil
	}
	for _, answer := range []resolve.Answer{v4.Answer, v6.Answer} {
		if answer.Err != nil {
			return nil, []finding.Finding{doubtful("%s: its addresses cannot be found: %s", host, report.OneLine(answer.Err.Error())).About(host).Next(answer.Err.Hint())}
		}
	}
	return nil, []finding.Finding{doubtful("%s has no address in DNS, so no sender finds it", host).About(host).Next("add an A or AAAA record for " + host)}
}

// atOnce limits how many addresses or domains of one test are looked at at once.
const atOnce = 8

// each looks at all elements, several at once because each may take long to answer, and returns what was found in their order.
func each[T any](list []T, look func(T) []finding.Finding) []finding.Finding {
	found := make([][]finding.Finding, len(list))
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i, element := range list {
		group.Go(func() error {
			found[i] = look(element)
			return nil
		})
	}
	_ = group.Wait() // what failed is in what was found
	return slices.Concat(found...)
}

// ports checks that the mail server takes connections at the addresses to which DNS sends senders.
func (m *mail) ports(ctx context.Context) []finding.Finding {
	own := m.own()
	return each(m.hosts(ctx), func(host string) []finding.Finding {
		list, problem := m.addressesOf(ctx, host)
		return append(problem, each(list, func(address netip.Addr) []finding.Finding {
			return []finding.Finding{m.portAt(ctx, host, address, own).About(host)}
		})...)
	})
}

// portAt checks one address of a host.
func (m *mail) portAt(ctx context.Context, host string, address netip.Addr, own []netip.Addr) finding.Finding {
	if !slices.Contains(own, address.Unmap()) {
		return well("%s [%s]: not judged, because it is no address of this host (behind NAT, list it in public_addresses)", host, address)
	}
	err := greeted(ctx, net.JoinHostPort(address.String(), strconv.Itoa(m.port)))
	switch {
	case err == nil:
		return well("%s [%s] answers at port 25; from here nobody can see a firewall before this host", host, address)
	case slices.Contains(m.want.PublicAddresses, address):
		return well("%s [%s]: not judged, because the way from here to the outer address of a NAT may be closed: %s", host, address, report.OneLine(err.Error()))
	}
	return doubtful("%s [%s] does not answer at port 25: %s", host, address, report.OneLine(err.Error())).
		Next("make the mail server listen at this address (ss -ltn 'sport = :25'; Exim: dc_local_interfaces or local_interfaces, Postfix: inet_interfaces)")
}
