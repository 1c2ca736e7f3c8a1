package survey

import (
	"slices"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/deploy/mx"
)

// mostHosts limits how many MX hosts of a domain are looked at. Senders try far fewer.
const mostHosts = 250

// hostsOf returns the hosts to which the MX records of a domain lead, in order and each once. Without MX records it is the domain itself
// (RFC 5321 section 5.1), but only if it certainly has none: after an error senders wait, and ask again.
func hostsOf(domain string, set resolve.Set[resolve.MX]) (names []string, found []finding.Finding) {
	add := func(id string, severity finding.Severity, hint, format string, values ...any) {
		found = append(found, finding.New(id, severity, format, values...).About(domain).Next(hint))
	}
	switch {
	case set.Err != nil:
		add("mx-unresolvable", finding.Error, "check the name servers of the domain and its DNSSEC signatures", "the MX records of %s cannot be found: %v; senders keep the mail, and do not try the address of %s itself", domain, set.Err, domain)
		return nil, found
	case set.Denied() && set.Missing:
		add("mail-domain-missing", finding.Error, "check its spelling and its delegation", "%s does not exist in DNS, so nobody can send mail to it", domain)
		return nil, found
	case set.Denied():
		add("mx-implicit", finding.Warning, "publish an MX record", "%s has no MX record; senders try its own address", domain)
		return []string{domain}, found
	}
	null := slices.ContainsFunc(set.Records, func(r resolve.MX) bool { return r.Host == "" })
	switch {
	case null && len(set.Records) == 1:
		add("mx-null", finding.OK, "", "%s accepts no mail: it has a null MX (RFC 7505)", domain)
		return nil, found
	case null:
		add("mx-null-beside", finding.Error, "remove the null MX (0 .)", "%s has a null MX beside others, which RFC 7505 forbids: some senders return the mail", domain)
	}
	for _, r := range set.Records {
		if r.Host != "" && !slices.Contains(names, r.Host) {
			names = append(names, r.Host)
		}
	}
	if len(names) > mostHosts {
		add("mx-many", finding.Warning, "remove MX records", "%s has %d MX hosts; mxcert looks at the first %d", domain, len(names), mostHosts)
		names = names[:mostHosts]
	}
	return names, found
}

// aboutMX says what is wrong with a host as an MX host of a domain.
func (h *host) aboutMX(domain string) (found []finding.Finding) {
	add := func(id string, severity finding.Severity, hint, format string, values ...any) {
		found = append(found, finding.New(id, severity, format, values...).About(domain).Next(hint))
	}
	name := quote(h.route.Host)
	switch failed := firstError(h.route.Addresses); {
	case h.literal:
		add("mx-address", finding.Error, "give the host a name with address records, and put the name into the MX record",
			"an MX record of %s has the address %s instead of a name (RFC 5321 section 5.1): senders find no such host", domain, name)
		return found
	case failed != nil:
		severity := finding.Error
		if len(h.addresses) > 0 { // senders without DANE deliver to the others
			severity = finding.Warning
		}
		add("mx-host-unresolvable", severity, "check the name servers of the host and its DNSSEC signatures", "addresses of %s, an MX host of %s, cannot be found: %v", name, domain, failed)
	case len(h.addresses) == 0:
		add("mx-host-missing", finding.Error, "add its address records, or remove it from the MX records", "%s, an MX host of %s, has no address", name, domain)
	}
	if h.more > 0 {
		add("mx-many-addresses", finding.Warning, "remove addresses; mxcert verify --host "+finding.Word(h.route.Host)+" looks at all of them",
			"%s, an MX host of %s, has %d addresses; mxcert looks at %d of them", name, domain, len(h.addresses)+h.more, len(h.addresses))
	}
	if alias := h.alias(); alias != "" && h.route.Host != domain {
		add("mx-alias", finding.Warning, "put the name with the address records into the MX record",
			"%s, an MX host of %s, is an alias (CNAME) of %s, which RFC 2181 section 10.3 forbids: some senders refuse it", name, domain, quote(alias))
	}
	if why := mx.Uncertifiable(h.route.Host); why != "" {
		add("mx-uncertifiable", finding.Warning, "put another name of the host into the MX record; until then, strict senders cannot verify it",
			"no public CA certifies the name %s, an MX host of %s: %s", name, domain, why)
	}
	return found
}

func firstError(answers []resolve.Answer) *resolve.Error {
	for _, a := range answers {
		if a.Err != nil {
			return a.Err
		}
	}
	return nil
}

// quote makes a name from DNS safe to print.
func quote(name string) string { return finding.Quote(name, 255) }
