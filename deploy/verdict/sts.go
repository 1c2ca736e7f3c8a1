package verdict

import (
	"slices"
	"strings"

	"mxcert/acme/finding"
	"mxcert/deploy/mtasts"
)

// sts judges RFC 8461, for a sender without a cached policy.
func (j *judge) sts(dane Verdict) Verdict {
	if v := j.unreached(); v != nil && !v.NotJudged {
		return *v
	}
	if v := j.noPolicy(); v != nil {
		return *v
	}
	v := j.underPolicy(j.Policy.Policy)
	if v.Result == Pass && dane.Result == Fail && dane.Action == Skip {
		j.add(finding.New("dane-before-sts", finding.Warning, "MTA-STS does not override the failure of DANE for %s (RFC 8461 section 2): senders that know both skip the host", j.who()).
			About(string(MTASTS)).Next(fixDANE))
		if j.Policy.Policy.Mode == mtasts.Enforce {
			j.differUntil(fixDANE, MTASTS, "DANE fails for %s and MTA-STS does not: a Postfix whose policy program answers before DANE is looked up (postfix-mta-sts-resolver) delivers, mox and postfix-tlspol skip the host", j.who())
		}
	}
	return v
}

// noPolicy is the verdict if there is nothing to ask for.
func (j *judge) noPolicy() *Verdict {
	var v Verdict
	found := j.Policy
	switch {
	case j.Domain == "":
		v = notApplicable(j.fallback(""), "a policy belongs to a domain, and no domain was given for %s", j.Host)
	case found == nil:
		v = notJudged("mxcert did not look for the MTA-STS policy of %s", j.Domain)
	case found.NotJudged:
		v = notJudged("mxcert cannot tell which MTA-STS policy of %s senders have: %s", j.Domain, finding.Quote(found.Reason, finding.MostQuoted))
	case found.Policy == nil && found.Type == "":
		v = notApplicable(j.fallback(""), "%s has no MTA-STS policy", j.Domain)
	case found.Policy == nil:
		v = notApplicable(j.fallback(""), "senders without a cached policy ignore the MTA-STS policy of %s: %s", j.Domain, finding.Quote(found.Reason, finding.MostQuoted))
		v.Type = found.Type
		j.add(finding.New("sts-cached", finding.Warning, "senders that cached an older MTA-STS policy of %s still enforce it until its max_age is over; others deliver without a check", j.Domain).
			About(j.Domain).Next("serve a valid policy again, and change the id of the TXT record"))
	case found.Policy.Mode == mtasts.None:
		v = notApplicable(j.fallback(""), "the MTA-STS policy of %s has the mode none", j.Domain)
	default:
		return nil
	}
	return &v
}

// underPolicy judges a policy in mode enforce or testing.
func (j *judge) underPolicy(p *mtasts.Policy) Verdict {
	v := j.enforced(p)
	if p.Mode != mtasts.Testing || v.NotJudged {
		return v
	}
	if v.Result != Fail {
		v.Reason += ", and would in mode enforce"
		return v
	}
	action := j.fallback("")
	if action == "" {
		return notJudged("the MTA-STS policy of %s is in mode testing, and mxcert cannot judge the TLS of %s", j.Domain, j.who())
	}
	j.add(finding.New("sts-testing", finding.Warning, "the MTA-STS policy of %s is in mode testing; in mode enforce senders would skip %s: %s", j.Domain, j.who(), v.Reason).
		About(string(MTASTS)).Next("fix this before you change the mode to enforce"))
	tested := pass(action, "senders deliver to %s whatever they find, because the MTA-STS policy of %s is in mode testing", j.who(), j.Domain)
	tested.Type = v.Type
	return tested
}

// enforced judges the host as if the mode were enforce (RFC 8461 section 4.1).
func (j *judge) enforced(p *mtasts.Policy) Verdict {
	if !p.Permits(j.Host) {
		j.pluginAccepts(p)
		return fail(Skip, typeOther, "the MTA-STS policy of %s does not list %s, but %s", j.Domain, j.Host, patterns(p))
	}
	if v := j.unreached(); v != nil {
		return *v
	}
	s := j.with(j.Host)
	if !s.made {
		return notJudged("mxcert made no handshake in which it sent the name %s", j.Host)
	}
	if v := j.noTLS(MTASTS, s); v != nil {
		return *v
	}
	switch bad, h := j.worst(s); {
	case bad.reason != "":
		if bad.kind == typeName {
			j.pluginAccepts(p)
		}
		j.severalChains(MTASTS, s, func(h Handshake) bool { return j.trusted(h.Shown.Chain).ok() })
		return fail(Skip, bad.kind, "%s of %s does not satisfy the MTA-STS policy of %s: %s", s.which(h), j.who(), j.Domain, bad.reason)
	case bad.odd != "":
		return j.odd(h.ServerName, bad.odd)
	case s.unclear() != nil:
		return j.foreign(s.unclear())
	}
	return pass(Deliver, "%s satisfies the MTA-STS policy of %s", j.who(), j.Domain)
}

// pluginAccepts says that the programs that translate a policy for Postfix compare the certificate with the patterns, not with the host.
func (j *judge) pluginAccepts(p *mtasts.Policy) {
	if p.Mode != mtasts.Enforce || j.unreached() != nil {
		return
	}
	s := j.with(j.Host)
	for _, h := range s.shown {
		if leaf := h.Shown.Chain[0]; !j.toRoot(h.Shown.Chain).ok() || !matchesPattern(leaf, p) {
			return
		}
	}
	if len(s.shown) > 0 {
		j.differ(MTASTS, "the certificate of %s has a name that the policy of %s lists: Postfix with postfix-mta-sts-resolver or postfix-tlspol compares only that and delivers, mox and the RFC refuse the host", j.who(), j.Domain)
	}
}

// matchesPattern compares as Postfix does with the level secure: .example.org is any name below it, and the common name counts if there is no
// DNS name.
func matchesPattern(leaf *certificate, p *mtasts.Policy) bool {
	names := leaf.DNSNames
	if len(names) == 0 {
		names = []string{leaf.Subject.CommonName}
	}
	return slices.ContainsFunc(p.MX, func(pattern string) bool {
		suffix, wild := strings.CutPrefix(pattern, "*")
		return wild && slices.ContainsFunc(names, func(name string) bool { return strings.HasSuffix(strings.ToLower(name), suffix) }) ||
			!wild && (named(leaf, pattern) || namedByCN(leaf, pattern))
	})
}

func patterns(p *mtasts.Policy) string {
	const most = 5
	list := p.MX
	if len(list) > most {
		list = append(append([]string(nil), list[:most]...), "…")
	}
	if len(list) == 0 {
		return "no host at all"
	}
	return finding.Quote(strings.Join(list, ", "), finding.MostQuoted)
}
