package verdict

import (
	"fmt"
	"slices"
	"strings"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
)

// dane judges RFC 7672, with the updates of RFC 7671: first what DNS says, then what the server shows.
func (j *judge) dane() Verdict {
	if j.Host == "" {
		return *j.unreached()
	}
	if v := j.brokenDNS(); v != nil {
		return *v
	}
	if !j.Address.IsValid() {
		return *j.unreached()
	}
	if v := j.unvalidated(); v != nil {
		return *v
	}
	j.static(DANE)
	base, v := j.base()
	if v != nil {
		if v.Result == Fail && !j.secureMX() {
			j.differ(DANE, "the MX records of %s are not signed, and the TLSA records of %s cannot be asked for: Postfix defers the mail, Exim and mox do not ask and deliver it", j.subject(), j.Host)
		}
		return *v
	}
	verdict := j.below(*base)
	if j.secureMX() {
		return verdict
	}
	return j.insecureMX(verdict)
}

// brokenDNS is the verdict if a question failed, or its answer does not validate: the sender skips the host (RFC 7672 section 2.1).
func (j *judge) brokenDNS() *Verdict {
	var v Verdict
	switch failed, alias := j.failedAddress(), j.Alias; {
	case j.MX != nil && broken(j.MX.At(j.At)):
		v = fail(Skip, typeDNS, "the MX records of %s cannot be relied on: %s", j.subject(), j.trouble(j.MX.Answer))
	case failed != nil:
		v = fail(Skip, typeDNS, "the address of %s cannot be relied on: %s", j.Host, j.trouble(*failed))
	case alias != nil && broken(alias.At(j.At)):
		v = fail(Skip, typeDNS, "the alias of %s cannot be relied on: %s", j.Host, j.trouble(alias.Answer))
	default:
		return nil
	}
	return &v
}

func broken(s resolve.State) bool { return s == resolve.Failed || s == resolve.Bogus }

// unvalidated is the verdict if nobody validated: then nobody knows whether the host has secure TLSA records.
func (j *judge) unvalidated() *Verdict {
	var answers []resolve.Answer
	if j.MX != nil {
		answers = append(answers, j.MX.Answer)
	}
	answers = append(answers, j.Addresses...)
	for _, b := range j.Bases {
		answers = append(answers, b.TLSA.Answer)
	}
	for _, a := range answers {
		if a.State == resolve.Insecure && a.Validator == "" {
			j.add(finding.New("no-validator", finding.Warning, "no resolver whose validation counts has answered, so mxcert cannot judge DANE").
				About(string(DANE)).Next(resolve.ValidatorHint))
			v := notJudged("no resolver whose validation counts has answered for %s, so nobody knows whether DANE applies to %s", a.Name, j.Host)
			return &v
		}
	}
	return nil
}

// base returns the first base domain with secure TLSA records, or the verdict if there is none (RFC 7672 section 2.2.2).
func (j *judge) base() (*Base, *Verdict) {
	for i, b := range j.Bases {
		if port := fmt.Sprintf("_%d._tcp.", j.port()); strings.HasPrefix(b.TLSA.Name, "_") && !strings.HasPrefix(b.TLSA.Name, port) {
			v := notApplicable(j.fallback(DANE), "senders of mail use port 25, and mxcert did not look for TLSA records of port %d", j.port())
			return nil, &v
		}
		switch state := b.TLSA.At(j.At); {
		case broken(state):
			v := fail(Skip, typeDNS, "the TLSA records of %s cannot be relied on: %s", b.Domain, j.trouble(b.TLSA.Answer))
			return nil, &v
		case state == resolve.Secure && len(b.TLSA.Records) > 0:
			return &j.Bases[i], nil
		}
	}
	v := notApplicable(j.fallback(DANE), "%s, so DANE asks for nothing", j.noTLSA())
	return nil, &v
}

// noTLSA says why there are no secure TLSA records.
func (j *judge) noTLSA() string {
	if len(j.Bases) == 0 {
		if !j.secureMX() {
			return "the MX records of " + j.subject() + " are not signed"
		}
		return "the address of " + j.Host + " is not signed"
	}
	for _, b := range j.Bases {
		if len(b.TLSA.Records) > 0 {
			return "the TLSA records of " + b.Domain + " are not signed"
		}
	}
	return j.Host + " has no TLSA records"
}

// secureMX reports whether the name of the host can be relied on: it was named, or its MX records are secure.
func (j *judge) secureMX() bool { return j.MX == nil || j.MX.At(j.At) == resolve.Secure }

// insecureMX turns the verdict of a host with secure TLSA records around if the MX records are insecure. RFC 7672 section 2.2.1 then does
// not apply DANE; Postfix does (smtp_tls_dane_insecure_mx_policy).
func (j *judge) insecureMX(v Verdict) Verdict {
	switch v.Result {
	case Fail:
		j.differ(DANE, "the MX records of %s are not signed, but %s has signed TLSA records that do not fit: Postfix defers the mail, Exim and mox deliver it", j.subject(), j.Host)
		v.Reason += "; Postfix judges this although the MX records are not signed"
		return v
	case Pass:
		j.differ(DANE, "the MX records of %s are not signed, but %s has signed TLSA records that fit: Postfix checks them, Exim and mox deliver without a check", j.subject(), j.Host)
		return notApplicable(Unauthenticated, "the MX records of %s are not signed, so DANE asks for nothing; Postfix checks the TLSA records of %s, and they fit", j.subject(), j.Host)
	}
	return v
}

// below judges what the server shows against the TLSA records of a base domain.
func (j *judge) below(b Base) Verdict {
	var records []resolve.TLSA
	for _, r := range b.TLSA.Records {
		if why := useless(r); why == "" {
			records = append(records, r)
		} else {
			j.add(finding.New("tlsa-unusable", finding.Warning, "senders cannot use the TLSA record %s of %s: %s", combination(r), b.Domain, why).
				About(b.Domain).Next("remove the record, or publish 3 1 1 with the digest of the server's key"))
		}
	}
	s := j.with(b.Domain)
	if !s.made && len(j.Handshakes) > 0 {
		return notJudged("mxcert made no handshake in which it sent the TLSA base domain %s", b.Domain)
	}
	// If the MX records are insecure, the name of the host is anybody's word, and Postfix, which alone judges then, asks for none.
	rule := tlsaRule{names: j.references(b), anyName: !j.secureMX(), at: j.At}
	t := tlsaCheck{tlsaRule: rule, j: j, base: b.Domain, all: records}
	if h := s.unclear(); h != nil && len(s.shown) == 0 && len(records) > 0 {
		return j.oddTLSA(t, h.ServerName, why(h))
	}
	if v := j.noTLS(DANE, s); v != nil {
		return *v
	}
	if len(records) == 0 {
		j.differ(DANE, "%s has no usable TLSA record: Postfix (dane), Exim and mox deliver over TLS without a check, Postfix at level dane-only defers the mail", b.Domain)
		if slices.ContainsFunc(b.TLSA.Records, func(r resolve.TLSA) bool {
			return r.Usage == usageTA && r.Selector <= publicKey && r.MatchingType == full && len(r.Data) > 0
		}) {
			j.differ(DANE, "a usage 2 record of %s holds neither a certificate nor a key: Postfix and mox ignore it, Exim with GnuTLS defers the mail", b.Domain)
		}
		v := notApplicable(Unauthenticated, "senders can use none of the TLSA records of %s, so they require TLS of %s and check nothing", b.Domain, j.Host)
		v.Type = typeUnusable
		return v
	}
	j.alias(b.Domain)
	return j.fit(s, t)
}

// references are the names that a certificate may have with usage 2 (RFC 7672 section 3.2.2): the base domain, and the next hop, as it was
// named and where its aliases lead, if secure MX records led to the host, or if it is the host itself.
func (j *judge) references(b Base) []string {
	names, more := []string{b.Domain}, []string{j.Host}
	if j.MX != nil && len(j.MX.Records) > 0 {
		if more = nil; j.secureMX() {
			more = []string{j.Domain, j.MX.Final}
		}
	}
	for _, name := range more {
		if name != "" && !slices.ContainsFunc(names, func(known string) bool { return sameName(name, known) }) {
			names = append(names, name)
		}
	}
	return names
}

// fit judges each chain that the server shows, because senders negotiate different ones.
func (j *judge) fit(s session, t tlsaCheck) Verdict {
	var odd check
	var oddly string
	for _, h := range s.shown {
		chain := h.Shown.Chain
		c := t.chain(chain, strongest(t.all))
		t.combinations(s.which(h), chain)
		t.others(chain, c)
		switch {
		case c.reason != "":
			j.severalChains(DANE, s, func(h Handshake) bool { return t.chain(h.Shown.Chain, strongest(t.all)).ok() })
			return fail(Skip, c.kind, "%s of %s does not fit the TLSA records of %s: %s", s.which(h), j.who(), t.base, c.reason)
		case c.odd != "" && odd.odd == "":
			odd, oddly = c, h.ServerName
		}
	}
	switch {
	case odd.odd != "":
		return j.oddTLSA(t, oddly, odd.odd)
	case s.unclear() != nil:
		return j.oddTLSA(t, s.unclear().ServerName, why(s.unclear()))
	}
	if s.old {
		j.differUntil(newTLS, DANE, "%s offers only TLS 1.1 or older: Postfix and mox defer the mail, Exim with GnuTLS delivers it", j.who())
	}
	return pass(Deliver, "%s fits the TLSA records of %s", j.who(), t.base)
}

// oddTLSA is odd, with a command that checks the TLSA records too.
func (j *judge) oddTLSA(t tlsaCheck, name, reason string) Verdict {
	tail := " -dane_tlsa_domain " + finding.Word(t.base)
	for _, r := range t.all {
		tail += fmt.Sprintf(" -dane_tlsa_rrdata '%s %x'", combination(r), r.Data)
	}
	const end = " </dev/null"
	command := strings.TrimSuffix(j.openssl(name), end) + tail + end
	j.add(finding.New("not-judged", finding.Warning, "mxcert cannot judge DANE for %s as other senders do: %s", j.who(), reason).
		About(string(DANE)).Next("see what a sender with OpenSSL decides: " + command))
	return notJudged("mxcert cannot judge DANE for %s as other senders do: %s", j.who(), reason)
}
