package verdict

import (
	"slices"

	"mxcert/acme/resolve"
	"mxcert/deploy/starttls"
)

// opportunistic judges RFC 3207 without a look at the certificate. Postfix (may) and Exim (tls_tempfail_tryclear, its default) send the mail
// in the clear if the server refuses STARTTLS or if the handshake fails.
func (j *judge) opportunistic() Verdict {
	if v := j.unreached(); v != nil {
		return *v
	}
	j.nullBeside()
	return j.encryption(Opportunistic)
}

// encryption is the verdict of senders of a kind that have nothing to check, and so are opportunistic. They differ as such.
func (j *judge) encryption(kind Kind) Verdict {
	s := j.ordinary()
	switch failed := s.failed(); {
	case failed != nil:
		j.othersEncrypt(kind, failed)
		return fail(ClearText, typeOf(failed), "mail goes to %s in the clear: %s", j.who(), why(failed))
	case len(s.shown) > 0:
		return j.encrypts(kind, s)
	case s.unclear() != nil:
		return j.foreign(s.unclear())
	}
	return j.unknown(s.missed)
}

// encrypts is the verdict if TLS was established, at least for senders that send the host's name. Postfix and Exim send none.
func (j *judge) encrypts(kind Kind, s session) Verdict {
	if bare := j.with(""); sni(j.Host) != "" && j.with(j.Host).whole && len(bare.shown) == 0 && bare.failed() != nil {
		j.differUntil(defaultCert, kind, "%s does no TLS with senders that do not send its name (SNI): Postfix and Exim send none and go on in the clear, mox and senders that use DANE encrypt", j.who())
		return fail(ClearText, typeOf(bare.failed()), "mail goes to %s in the clear, unless the sender sends its name (SNI): %s", j.who(), why(bare.failed()))
	}
	j.static(kind)
	if s.old {
		j.differ(kind, "%s offers only TLS 1.1 or older: Postfix and Exim still encrypt, mox and other senders that follow RFC 8996 send in the clear", j.who())
	}
	return pass(Deliver, "%s encrypts", j.who())
}

// othersEncrypt names the senders that do otherwise if the handshake fails.
func (j *judge) othersEncrypt(kind Kind, failed *Handshake) {
	switch kindOf(failed.Err) {
	case starttls.KindTLSVersion:
		j.differ(kind, "%s accepts neither TLS 1.2 nor TLS 1.3: Postfix and Exim still speak older versions and may encrypt, mox sends in the clear", j.who())
	case starttls.KindValidationFailure:
		j.differUntil("make TLS work: the server's log says why the handshake fails", kind, "the handshake with %s fails: Exim goes on in the clear at once, Postfix first waits (minimal_backoff_time, 5 minutes)", j.who())
	case starttls.KindInjection:
		j.differUntil(noClearText, kind, "%s sends bytes in clear text behind its reply to STARTTLS: Postfix drops them and encrypts, Exim goes on in the clear", j.who())
	}
}

// nullBeside says what senders do with a null MX beside other MX records, which RFC 7505 section 3 forbids.
func (j *judge) nullBeside() {
	if j.MX != nil && len(j.MX.Records) > 1 && slices.ContainsFunc(j.MX.Records, func(r resolve.MX) bool { return r.Host == "" }) {
		j.everyKind("remove the null MX record, or the others", "%s has a null MX record beside others: Postfix returns its mail, Exim delivers it to the others", j.subject())
	}
}

// ordinary is what the senders meet that send the MX name as SNI, or no SNI. If there was no such handshake, any other has to do.
func (j *judge) ordinary() session {
	if s := j.with(j.Host, ""); s.made {
		return s
	}
	var s session
	for _, h := range j.Handshakes {
		s.take(h)
	}
	return s
}

// fallback is what senders do that have nothing to check; "" if that is not known.
func (j *judge) fallback(kind Kind) Action {
	if v := j.encryption(kind); v.Action != Deliver {
		return v.Action
	}
	return Unauthenticated
}

// typeOf is the RFC 8460 type of a failed handshake. A refused STARTTLS counts as not supported, as senders report it.
func typeOf(h *Handshake) string {
	switch kindOf(h.Err) {
	case starttls.KindSTARTTLSNotSupported, starttls.KindTLSUnavailable, starttls.KindRejected:
		return typeNoTLS
	}
	return typeOther
}

// noTLS is the verdict of kinds that do not deliver without TLS, if the handshake of an ordinary sender fails. It is nil if it succeeds.
func (j *judge) noTLS(kind Kind, s session) *Verdict {
	var v Verdict
	switch failed := s.failed(); {
	case failed == nil && len(s.shown) > 0:
		return nil
	case failed != nil:
		if kindOf(failed.Err) == starttls.KindInjection {
			j.differUntil(noClearText, kind, "%s sends bytes in clear text behind its reply to STARTTLS: Postfix drops them and goes on, Exim defers the mail", j.who())
		}
		v = fail(Skip, typeOf(failed), "%s cannot do TLS, which this sender requires: %s", j.who(), why(failed))
	case s.unclear() != nil:
		v = j.foreign(s.unclear())
	default:
		v = j.unknown(s.missed)
	}
	return &v
}
