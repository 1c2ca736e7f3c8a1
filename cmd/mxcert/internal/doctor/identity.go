package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/report"
)

// mostReverse limits how many addresses are looked up.
const mostReverse = 8

// addresses checks what other servers check when this host sends: each address has a name that leads back to it (RFC 1912 section 2.1), and
// the name in EHLO has an address of this host (RFC 5321 section 4.1.4).
func (m *mail) addresses(ctx context.Context) (found []finding.Finding) {
	own, names := m.own(), m.hosts(ctx)
	hello := m.hello()
	for _, name := range hello {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	var seen []netip.Addr
	for _, name := range names {
		ours := false
		list, _ := m.addressesOf(ctx, name) // the test of port 25 reports a host without one
		for _, address := range list {
			address = address.Unmap()
			if !slices.Contains(own, address) || address.IsPrivate() {
				continue
			}
			if ours = true; !slices.Contains(seen, address) && len(seen) < mostReverse {
				seen = append(seen, address)
			}
		}
		if slices.Contains(hello, name) {
			found = append(found, m.greeting(name, ours, len(list))...)
		}
	}
	for _, address := range seen {
		found = append(found, called("ptr", m.reverse(ctx, address)))
	}
	if len(seen) == 0 {
		found = append(found, called("ptr", well("the names of this host's addresses were not judged: none of %s has a public address of this host", strings.Join(names, ", "))))
	}
	return found
}

// hello lists the names that the mail servers of this host say in EHLO.
func (m *mail) hello() (names []string) {
	for _, s := range m.Servers {
		for _, name := range append(slices.Clone(s.HELO), s.Name) {
			if name = strings.ToLower(strings.TrimSuffix(name, ".")); name != "" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// greeting judges a name that a mail server says in EHLO, or in its greeting.
func (m *mail) greeting(name string, ours bool, addresses int) []finding.Finding {
	f := well("the mail server calls itself %s, which is a name of this host", name)
	hint := "set the name to one that DNS knows: Exim primary_hostname, Postfix myhostname, or the host name (hostnamectl)"
	switch {
	case !strings.Contains(name, "."):
		f = doubtful("the mail server calls itself %s, which is no full name: many servers refuse mail from it", finding.Quoted(name, 100)).Next(hint)
	case addresses == 0:
		f = doubtful("the mail server calls itself %s, which has no address in DNS: some servers refuse mail from it", finding.Quoted(name, 100)).Next(hint)
	case !ours:
		f = well("the mail server calls itself %s; its addresses are not public ones of this host, so it was not judged", name)
	}
	return []finding.Finding{called("ehlo", f).About(name)}
}

// reverse checks that the name of an address leads back to it.
func (m *mail) reverse(ctx context.Context, address netip.Addr) finding.Finding {
	subject := address.String()
	set := m.resolver.LookPTR(ctx, address)
	if set.Err != nil {
		return well("%s: its name was not judged: %s", address, report.OneLine(set.Err.Error())).About(subject)
	}
	hint := fmt.Sprintf("have the provider of %s set its PTR record to the name that the mail server says in EHLO", address)
	if len(set.Records) == 0 {
		return doubtful("%s has no name in DNS (PTR): many servers refuse mail from it", address).About(subject).Next(hint)
	}
	for _, name := range set.Records[:min(len(set.Records), mostReverse)] {
		if list, _ := m.addressesOf(ctx, name); slices.Contains(list, address) {
			return well("%s is %s, and back (PTR)", address, name).About(subject)
		}
	}
	return doubtful("%s has the name %s (PTR), which does not lead back to it: many servers refuse mail from it", address, finding.Quoted(set.Records[0], 200)).About(subject).Next(hint)
}
