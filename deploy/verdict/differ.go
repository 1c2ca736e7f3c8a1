package verdict

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/deploy/mtasts"
	"mxcert/deploy/starttls"
)

// This file knows what real senders do otherwise than the RFCs: Postfix 3.7 and 3.10 (OpenSSL), Exim 4.96 and 4.98 (GnuTLS) as they were
// seen to deliver in the tests of packaging/e2e/judges, and mox 0.0.15 by its source.

// others names the senders that decide otherwise than the RFC about this chain.
func (t tlsaCheck) others(sent []*certificate, c check) {
	if c.odd == "" && c.ok() {
		if !slices.ContainsFunc(t.all, func(r resolve.TLSA) bool { return r.Usage == usageEE && matches(r, sent[0]) }) { // by its key alone everybody delivers
			t.othersRefuse(sent)
		}
	} else if c.odd == "" {
		t.othersAccept(sent, c)
	}
}

// othersAccept is about a chain that fails.
func (t tlsaCheck) othersAccept(sent []*certificate, c check) {
	j, who := t.j, t.j.who()
	if t.chain(sent, t.all).ok() {
		j.differ(DANE, "a TLSA record of %s with the stronger digest is stale and one with a weaker digest fits: Postfix 3.7 defers the mail (RFC 7671 section 9), Postfix 3.10, Exim with GnuTLS and mox deliver it", t.base)
	}
	if t.leafAsIssuer(sent) {
		j.differ(DANE, "a usage 2 record of %s names the certificate of %s itself, which is no issuer: mox delivers, Postfix and Exim defer the mail", t.base, who)
	}
	if c.kind == typeName && j.toRoot(sent).ok() {
		j.differ(DANE, "the certificate of %s has another name, which usage 2 asks for: Postfix and mox defer the mail, Exim with GnuTLS delivers it without proof", who)
	}
	if c.purpose {
		j.differUntil(rightUsage, DANE, "the certificate of %s, or an issuer of it, is not for TLS servers: Postfix and mox defer the mail, Exim with GnuTLS delivers it", who)
	}
}

// leafAsIssuer reports whether the only match of usage 2 is the leaf, for which mox then checks names and dates.
func (t tlsaCheck) leafAsIssuer(sent []*certificate) bool {
	leaf := sent[0]
	return !t.at.After(leaf.NotAfter) && !t.at.Before(leaf.NotBefore) && named(leaf, t.names...) &&
		slices.ContainsFunc(t.all, func(r resolve.TLSA) bool { return r.Usage == usageTA && matches(r, leaf) })
}

// othersRefuse is about a chain that passes by usage 2.
func (t tlsaCheck) othersRefuse(sent []*certificate) {
	j, who, leaf := t.j, t.j.who(), sent[0]
	switch {
	case !j.secureMX():
	case !named(leaf, t.names...):
		j.differ(DANE, "%s has its name only as the common name, which counts for usage 2 if there is no DNS name: Postfix and Exim accept it, mox defers the mail", who)
	case !named(leaf, t.base):
		exim := "takes it for no proof and delivers, because a trusted root issued it"
		if !j.toRoot(sent).ok() {
			exim = "defers the mail"
		}
		j.differ(DANE, "the certificate of %s has a name of the next hop and not %s, which is enough for usage 2: Postfix and mox accept it, Exim with GnuTLS %s", who, t.base, exim)
	}
	var list []*certificate
	anySent, bare := false, false
	for _, r := range t.all {
		if r.Usage != usageTA {
			continue
		}
		more, _, sentOne := anchors(r, sent)
		list = append(list, more...)
		anySent, bare = anySent || sentOne, bare || r.Selector == publicKey
		t.othersAboutDates(r, sent)
	}
	if !anySent {
		also := ""
		if bare {
			also = " and mox"
		}
		j.differ(DANE, "%s does not send the issuer that a usage 2 record of %s holds whole: Postfix delivers, Exim with GnuTLS%s defers the mail", who, t.base, also)
	}
	if !first(sent, anchorPool(list), j.At) {
		j.differUntil(oneIssuer, DANE, crossed, who)
	}
}

// othersAboutDates is about an anchor that is out of its dates. OpenSSL asks for those of a self-signed one alone, GnuTLS for the others.
func (t tlsaCheck) othersAboutDates(r resolve.TLSA, sent []*certificate) {
	for _, c := range sent[1:] {
		if !matches(r, c) || !t.at.After(c.NotAfter) && !t.at.Before(c.NotBefore) {
			continue
		}
		who := "Postfix delivers, Exim with GnuTLS and mox defer the mail"
		if issued(c, c) {
			who = "Exim with GnuTLS delivers, Postfix and mox defer the mail"
		}
		t.j.differ(DANE, "the issuer that a usage 2 record of %s names is out of its dates, which the RFC does not ask: %s", t.base, who)
	}
}

// alias says that Exim looks for TLSA records only where the aliases of a host end.
func (j *judge) alias(base string) {
	if sameName(base, j.Host) && slices.ContainsFunc(j.Addresses, func(a resolve.Answer) bool { return a.Err == nil && a.Final != "" && !sameName(a.Final, a.Name) }) {
		j.differ(DANE, "%s is an alias, and only the alias itself has secure TLSA records: Postfix judges them, Exim looks where the alias leads and delivers without a check", j.Host)
	}
}

// severalChains says that senders choose among the certificates of a server, if one of them fails and another does not.
func (j *judge) severalChains(kind Kind, s session, right func(h Handshake) bool) {
	var good, bad string
	for _, h := range s.shown {
		if right(h) {
			good = s.which(h)
		} else {
			bad = s.which(h)
		}
	}
	if good != "" && bad != "" && good != bad {
		hint := "replace the certificate that fails, or remove it"
		if kind == DANE {
			hint = "publish a 3 1 1 record of each key that the server uses"
		}
		j.differUntil(hint, kind, "%s passes and %s fails at %s: Postfix prefers ECDSA, Exim with GnuTLS may get RSA, and each decides about what it gets", good, bad, j.who())
	}
}

// crossed is about a chain with two certificates of the same issuer.
const crossed = "%s sends two certificates of one issuer, and the first leads to no trusted root: Postfix and Exim stop there and refuse it, mox and other senders try the second"

// first reports whether a library that takes the first issuer it is sent, and never another, finds a root. It asks the roots before.
func first(sent []*certificate, roots *x509.CertPool, at time.Time) bool {
	current := sent[0]
	for range sent {
		if _, err := verify([]*certificate{current}, roots, at); err == nil {
			return true
		}
		next := slices.IndexFunc(sent[1:], func(c *certificate) bool {
			return c != current && string(c.RawSubject) == string(current.RawIssuer) && !at.After(c.NotAfter) && !at.Before(c.NotBefore) &&
				(len(current.AuthorityKeyId) == 0 || len(c.SubjectKeyId) == 0 || string(current.AuthorityKeyId) == string(c.SubjectKeyId))
		})
		if next < 0 {
			return false
		}
		current = sent[1+next]
	}
	return false
}

// static says that the server offers only key exchange without forward secrecy, which GnuTLS does not offer.
func (j *judge) static(kind Kind) {
	s := j.ordinary()
	if len(s.shown) > 0 && !slices.ContainsFunc(s.shown, func(h Handshake) bool { return !strings.HasPrefix(tls.CipherSuiteName(h.Shown.Cipher), "TLS_RSA_") }) {
		j.differUntil(forwardOnly, kind, "%s offers only RSA key exchange, without forward secrecy: Postfix uses it, Exim with GnuTLS and mox do no TLS with this server", j.who())
	}
}

// bareGreeting says that Postfix speaks no ESMTP with a server that greets with 220 and no text, because it takes it for a Cisco PIX
// (smtp_pix_workarounds, disable_esmtp). RFC 5321 section 4.2 wants the server's name there.
func (j *judge) bareGreeting(verdicts map[Kind]Verdict) {
	bare := func(h Handshake) bool {
		return h.Shown != nil && h.Shown.EHLO != "" && strings.Trim(h.Shown.Greeting, "20* \t") == ""
	}
	if starttls.ProtocolOf(j.endpoint()) != starttls.SMTP || !slices.ContainsFunc(j.Handshakes, bare) {
		return
	}
	for _, kind := range Kinds[:4] { // Postfix knows REQUIRETLS only of late
		v, does := verdicts[kind], "defers the mail"
		if kind == Opportunistic {
			does = "sends the mail in the clear"
		}
		if v.Result == Pass && (kind != MTASTS || j.Policy.Policy.Mode == mtasts.Enforce) {
			j.add(finding.New("senders-differ", finding.Warning, "the greeting of %s has no text: Postfix takes the server for a Cisco PIX, does not ask for TLS, and %s; other senders go on with TLS", j.who(), does).
				About(string(kind)).Next("let the server greet with its name: 220 " + j.greetingName() + " ESMTP (RFC 5321 section 4.2)"))
		}
	}
}

func (j *judge) greetingName() string {
	if sni(j.Host) == "" {
		return "NAME"
	}
	return j.Host
}

// everyKind says what senders do whatever they ask for.
func (j *judge) everyKind(hint, format string, a ...any) {
	for _, kind := range []Kind{Opportunistic, PKIX, DANE} {
		j.differUntil(hint, kind, format, a...)
	}
}
