package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/acme/issued"
	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/mtasts"
	"mxcert/deploy/mx"
	"mxcert/deploy/survey"
	"mxcert/deploy/verdict"
)

// tlsa reports what DNS says to senders with DANE (RFC 7672) about each name that senders use.
func (m *mail) tlsa(ctx context.Context) (found []finding.Finding) {
	for _, host := range m.hosts(ctx) {
		found = append(found, m.tlsaOf(ctx, host).About(host))
	}
	return found
}

func (m *mail) tlsaOf(ctx context.Context, host string) finding.Finding {
	address := m.resolver.LookIPv4(ctx, host).Answer
	if address.State == resolve.Insecure && address.Missing {
		address = m.resolver.LookIPv6(ctx, host).Answer
	}
	switch {
	case address.State == resolve.Bogus:
		return bad("%s: its addresses are bogus (DNSSEC), so many senders do not find it: %s", host, report.OneLine(address.Err.Error())).Next(address.Err.Hint())
	case address.Err != nil:
		return doubtful("%s: DNSSEC was not judged: %s", host, report.OneLine(address.Err.Error())).Next(address.Err.Hint())
	case address.State == resolve.Insecure && address.Validator == "":
		return well("%s: DNSSEC and DANE were not judged, because no resolver validates for this host", host).Next(strings.Join(strings.Fields(strings.ReplaceAll(resolve.ValidatorHint, "\n", "; ")), " "))
	}
	bases, alias := []string{host}, address.Final != address.Name
	switch {
	case address.State == resolve.Insecure && !(alias && m.resolver.LookAlias(ctx, host).State == resolve.Secure): // what a signed alias leads to need not be signed
		return well("%s is not signed (DNSSEC), so senders use no DANE", host)
	case address.State == resolve.Secure && alias:
		bases = []string{address.Final, host}
	}
	said := well("%s is signed (DNSSEC) and has no TLSA record: senders use no DANE", host)
	for _, base := range bases {
		f, decides := m.tlsaAt(ctx, base)
		if decides {
			return f
		}
		if f.Message != "" {
			said = f
		}
	}
	return said
}

// tlsaAt looks for TLSA records below one base domain. If they do not decide, senders go on to the next (RFC 7672 section 2.2).
func (m *mail) tlsaAt(ctx context.Context, base string) (f finding.Finding, decides bool) {
	name := "_25._tcp." + base
	set := m.resolver.LookTLSA(ctx, name)
	switch {
	case set.Err != nil:
		return bad("%s TLSA cannot be found although the zone is signed: senders with DANE keep the mail: %s", name, report.OneLine(set.Err.Error())).Next(set.Err.Hint()), true
	case len(set.Records) == 0:
		return f, false
	case set.State != resolve.Secure:
		return doubtful("%s TLSA is not signed, so senders ignore it", name).Next("sign the zone of " + name), false
	}
	return well("%s has %d signed TLSA %s; whether the certificate matches, see senders", name, len(set.Records), report.Plural(len(set.Records), "record")), true
}

// sts reports the MTA-STS policy of each mail domain.
func (m *mail) sts(ctx context.Context) []finding.Finding {
	return each(m.looked(ctx), func(looked mx.Found) []finding.Finding {
		policy := m.policy(ctx, looked.Domain)
		found := slices.Clone(stsFindings(policy))
		for _, name := range looked.Names {
			if p := policy.Policy; p != nil && p.Mode != mtasts.None && !p.Permits(name.Name) {
				f := bad("the MTA-STS policy of %s does not permit %s, its MX host: senders with MTA-STS do not deliver there", looked.Domain, name.Name)
				if p.Mode == mtasts.Testing {
					f = doubtful("the MTA-STS policy of %s does not permit %s, its MX host: with mode enforce senders would not deliver there", looked.Domain, name.Name)
				}
				found = append(found, f.About(looked.Domain).Next(fmt.Sprintf("add mx: %s to the policy, and change the id", name.Name)))
			}
		}
		return found
	})
}

// policy looks for the MTA-STS policy of a domain, once.
func (m *mail) policy(ctx context.Context, domain string) mtasts.Found {
	look, _ := m.policies.LoadOrStore(domain, sync.OnceValue(func() mtasts.Found {
		return mtasts.Client{Resolver: m.resolver, Stray: true, Also: m.Runner.Host.Roots}.Look(ctx, domain) // a private world may certify its policy hosts, too
	}))
	return look.(func() mtasts.Found)()
}

// stsFindings are those of a look, or one that says that all is well.
func stsFindings(policy mtasts.Found) []finding.Finding {
	if len(policy.Findings) > 0 {
		return policy.Findings
	}
	if p := policy.Policy; p != nil {
		return []finding.Finding{well("%s has an MTA-STS policy: mode %s, mx %s, max_age %d s, id %s", policy.Domain, p.Mode, finding.Quote(strings.Join(p.MX, ", "), 200), int64(p.MaxAge.Seconds()), policy.ID).About(policy.Domain)}
	}
	return []finding.Finding{well("%s", policy.Reason).About(policy.Domain)}
}

// senders looks at each name as senders do, and reports what each kind of sender decides about what is served now.
func (m *mail) senders(ctx context.Context) (found []finding.Finding) {
	own := m.own()
	options := survey.Options{Turns: new(survey.Turns), Resolver: m.resolver, Port: m.port, Roots: m.Runner.Host.Roots, Ours: func(a netip.Addr) bool { return slices.Contains(own, a.Unmap()) }}
	have, err := issued.Look(m.Runner.Store.Lineage(m.want.Name), m.want.Keys)
	first := err == nil && !slices.ContainsFunc(have.Bundles, func(b *bundle.Bundle) bool { return b != nil })
	all := each(m.hosts(ctx), func(host string) (list []finding.Finding) {
		for _, h := range survey.LookAtHost(ctx, host, options) {
			m.asMX(ctx, &h)
			list = append(list, judged(h, first)...)
		}
		return list
	})
	for _, f := range all {
		if !slices.Contains(found, f) {
			found = append(found, f)
		}
	}
	return found
}

// asMX judges a host again as senders do that have found it by the MX records of a mail domain: the state of these records and the policy of
// the domain count, too.
func (m *mail) asMX(ctx context.Context, h *survey.Host) {
	for _, looked := range m.looked(ctx) {
		if !slices.ContainsFunc(looked.Names, func(name mx.Name) bool { return name.Name == h.Host }) {
			continue
		}
		records, policy := m.resolver.LookMX(ctx, looked.Domain), m.policy(ctx, looked.Domain)
		facts := h.Facts
		facts.Domain, facts.MX, facts.Policy = looked.Domain, &records, &policy
		verdicts, findings := verdict.Judge(facts)
		h.Verdicts = verdicts
		for _, f := range findings {
			if !slices.ContainsFunc(h.Findings, func(have finding.Finding) bool { return have.ID == f.ID }) {
				h.Findings = append(h.Findings, f)
			}
		}
		return
	}
}

// judged sums up one address in a line, and adds what is wrong with it. first says that no certificate is issued yet: then what is served
// waits for it. What is wrong with the certificate that is served until then is said, and is no fault, unless DANE refuses it.
func judged(h survey.Host, first bool) (found []finding.Finding) {
	where := h.Host
	if h.Address.IsValid() {
		where = fmt.Sprintf("%s [%s]:%d", h.Host, h.Address, h.Port)
	}
	var words []string
	for _, kind := range verdict.Kinds {
		v, ok := h.Verdicts[kind]
		if !ok {
			continue
		}
		words = append(words, fmt.Sprintf("%s %s", kind, v.Result))
		if v.Result != verdict.Fail {
			continue
		}
		f := doubtful("%s: a sender with %s fails: %s", where, kind, report.OneLine(v.Reason))
		switch {
		case first && kind != verdict.DANE && aboutCertificate(v.Type):
			found = append(found, well("%s: until the first certificate is served, a sender with %s fails: %s", where, kind, report.OneLine(v.Reason)).About(h.Host))
			continue
		case kind == verdict.DANE:
			f = bad("%s: a sender with %s keeps the mail: %s", where, kind, report.OneLine(v.Reason))
		}
		found = append(found, f.About(h.Host).Next(fmt.Sprintf("mxcert verify --host %s shows what was served", h.Host)))
	}
	if len(words) > 0 && len(found) == 0 {
		found = append(found, well("%s: %s", where, strings.Join(words, ", ")).About(h.Host))
	}
	for _, f := range h.Findings {
		if f.Severity == finding.OK || f.ID == "no-validator" { // the test of TLSA says so
			continue
		}
		if first {
			if aboutCertificate(f.ID) {
				continue // the first certificate replaces it
			}
			f.Severity = finding.Warning
		}
		f.Subject = h.Host
		found = append(found, f)
	}
	return found
}

// aboutCertificate reports whether a finding or the type of a failure is about the certificate or its chain.
func aboutCertificate(id string) bool {
	return strings.HasPrefix(id, "certificate-") || strings.HasPrefix(id, "chain-")
}
