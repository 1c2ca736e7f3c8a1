// Package mx finds out which names senders use for this host: the MX hosts of its mail domains that have an address of this machine
// (RFC 5321 section 5.1).
//
// One look believes one set of DNS answers. Whoever changes a certificate because of names compares looks first: see state.Names. An
// error is never a denial: a host that could not be asked about is in Found.Unsure, and Found.Err says that nothing is known at all.
//
// Not supported: hosts that a load balancer or a NAT hides, unless Own is told their addresses.
package mx

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
)

// Name is a name that senders use for this host.
type Name struct {
	Name   string // lower case, an A-label
	Domain string // whose MX record has it; of several, the first
}

// Found is what one look at a mail domain has found.
type Found struct {
	Domain   string
	Names    []Name   // in the order in which senders try them
	Unsure   []string // MX hosts about which the look says nothing, because their addresses could not be asked
	Implicit bool     // the domain has no MX record, and senders try its own address
	Findings []finding.Finding
	Err      error // why the look says nothing about which names there are
}

// mostHosts limits how many MX hosts of a domain are looked at. Senders try far fewer.
const mostHosts = 50

// Look asks for the MX hosts of a mail domain and which of them are this host, by its addresses. own are those of [Own].
func Look(ctx context.Context, resolver *resolve.Resolver, domain string, own []netip.Addr) Found {
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	f := &Found{Domain: domain}
	records := resolver.LookMX(ctx, domain)
	switch {
	case records.Err != nil:
		f.Err = records.Err
		f.add("mx-unresolvable", finding.Error, "check the name servers of the domain; mxcert changes no name because of an error", "the MX records of %s cannot be found: %v", domain, records.Err)
	case records.Denied() && records.Missing:
		f.add("mail-domain-missing", finding.Error, "check its spelling in mail_domains, and its delegation", "%s does not exist in DNS, so nobody can send mail to it", domain)
	case records.Denied():
		f.implicit(ctx, resolver, own)
	default:
		f.explicit(ctx, resolver, own, records.Records)
	}
	return *f
}

func (f *Found) add(id string, severity finding.Severity, hint, format string, values ...any) {
	f.Findings = append(f.Findings, finding.New(id, severity, format, values...).About(f.Domain).Next(hint))
}

// implicit looks at a domain without MX records: senders try its own addresses (RFC 5321 section 5.1).
func (f *Found) implicit(ctx context.Context, resolver *resolve.Resolver, own []netip.Addr) {
	h := lookAtHost(ctx, resolver, f.Domain)
	if h.denied() {
		f.add("mx-none", finding.Error, "publish an MX record, or remove the domain from mail_domains", "%s has neither an MX record nor an address, so nobody can send mail to it", f.Domain)
		return
	}
	f.Implicit = true
	f.add("mx-implicit", finding.Warning, "publish an MX record that names this host", "%s has no MX record; senders try its own address", f.Domain)
	f.judge(h, own)
}

// explicit looks at the hosts of MX records.
func (f *Found) explicit(ctx context.Context, resolver *resolve.Resolver, own []netip.Addr, records []resolve.MX) {
	hosts := f.hostsOf(records)
	if len(hosts) == 0 {
		return
	}
	found := make([]host, len(hosts))
	var all sync.WaitGroup
	for i, name := range hosts {
		all.Go(func() { found[i] = lookAtHost(ctx, resolver, name) })
	}
	all.Wait()
	for _, h := range found {
		f.judge(h, own)
	}
	ours := slices.ContainsFunc(found, func(h host) bool { return h.has(own) })
	if !ours && len(f.Unsure) == 0 {
		f.add("mx-not-ours", finding.Warning, "correct the MX or address records; if this host is behind NAT, list its outer addresses in public_addresses",
			"no MX host of %s has an address of this host: %s", f.Domain, list(hosts))
	}
}

// hostsOf returns the hosts of MX records, each once, without what is no host.
func (f *Found) hostsOf(records []resolve.MX) (hosts []string) {
	null := slices.ContainsFunc(records, func(r resolve.MX) bool { return r.Host == "" })
	switch {
	case null && len(records) == 1:
		f.add("mx-null", finding.Warning, "publish an MX record that names this host, or remove the domain from mail_domains", "%s accepts no mail: it has a null MX (RFC 7505)", f.Domain)
		return nil
	case null:
		f.add("mx-null-beside", finding.Error, "remove the null MX (0 .)", "%s has a null MX beside others, which RFC 7505 forbids: some senders return the mail", f.Domain)
	}
	for _, r := range records {
		switch {
		case r.Host == "" || slices.Contains(hosts, r.Host):
		case isAddress(r.Host):
			f.add("mx-address", finding.Error, "give the host a name with address records, and put the name into the MX record",
				"an MX record of %s has the address %s instead of a name (RFC 5321 section 5.1): senders find no such host", f.Domain, r.Host)
		default:
			hosts = append(hosts, r.Host)
		}
	}
	if more := len(hosts) - mostHosts; more > 0 {
		f.add("mx-many", finding.Warning, "remove MX records", "%s has %d MX hosts; mxcert looks at the first %d", f.Domain, len(hosts), mostHosts)
		hosts = hosts[:mostHosts]
	}
	return hosts
}

// judge adds what was found about one host.
func (f *Found) judge(h host, own []netip.Addr) {
	ours := h.has(own)
	switch {
	case !ours && h.err() != nil:
		f.Unsure = append(f.Unsure, h.name)
		f.add("mx-host-unresolvable", finding.Warning, "check the name servers of the host; mxcert changes no name because of an error", "the addresses of %s, an MX host of %s, cannot be found: %v", quote(h.name), f.Domain, h.err())
	case h.denied():
		f.add("mx-host-missing", finding.Error, "add its address records, or remove it from the MX records", "%s, an MX host of %s, has no address", quote(h.name), f.Domain)
	case !ours:
		f.add("mx-elsewhere", finding.OK, "", "%s, an MX host of %s, is another host: %s", quote(h.name), f.Domain, list(h.addresses()))
	default:
		f.judgeOurs(h)
	}
}

// judgeOurs adds the name of an MX host that is this host.
func (f *Found) judgeOurs(h host) {
	if h.alias != "" {
		f.add("mx-alias", finding.Warning, "put the name with the address records into the MX record",
			"%s, an MX host of %s, is an alias (CNAME) of %s, which RFC 2181 section 10.3 forbids: some senders refuse it", quote(h.name), f.Domain, quote(h.alias))
	}
	if why := Uncertifiable(h.name); why != "" {
		f.add("mx-uncertifiable", finding.Error, "put another name of this host into the MX record; until then, strict senders cannot verify it",
			"%s, an MX host of %s, is this host, but no CA certifies the name: %s", quote(h.name), f.Domain, why)
		return
	}
	f.Names = append(f.Names, Name{Name: h.name, Domain: f.Domain})
}

// quote makes a name from DNS safe to print.
func quote(name string) string { return finding.Quote(name, 255) }

// mostListed limits the names in a message.
const mostListed = 5

func list(names []string) string {
	text := finding.Quote(strings.Join(names[:min(len(names), mostListed)], ", "), finding.MostQuoted)
	if len(names) > mostListed {
		text += ", …"
	}
	return text
}
