package verdict

import (
	"fmt"
	"strings"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/deploy/starttls"
)

// unreached returns the verdict that all kinds share if no handshake tells more: there is no host, no address, or no answer. It is nil if
// the handshakes decide.
func (j *judge) unreached() *Verdict {
	v := Verdict{}
	switch failed := j.failedAddress(); {
	case j.Host == "":
		v = notApplicable(Bounce, "%s has a null MX record, so senders return mail for it at once (RFC 7505)", j.subject())
	case !j.Address.IsValid() && j.MX != nil && sni(j.Host) == "":
		v = fail(Skip, "", "the MX record of %s names the address %s and not a host, which RFC 5321 section 5.1 does not permit", j.subject(), j.Host)
		j.everyKind("write the name of a host into the MX record", "the MX record of %s names the address %s: Postfix connects to it, Exim returns the mail", j.subject(), j.Host)
	case len(j.Handshakes) == 0 && j.NotAsked != "":
		v = notJudged("mxcert did not connect to %s: %s", j.Host, j.NotAsked)
	case !j.Address.IsValid() && failed != nil:
		v = fail(Skip, "", "nobody can find the address of %s: %s", j.Host, trouble(*failed))
	case !j.Address.IsValid() && len(j.Addresses) > 0:
		v = fail(Skip, "", "%s has no address, so senders skip it", j.Host)
	case len(j.Handshakes) == 0:
		v = notJudged("mxcert did not connect to %s", j.Host)
	default:
		return nil
	}
	return &v
}

// failedAddress returns the answer about addresses that failed, if the address that was tried does not come from another one.
func (j *judge) failedAddress() *resolve.Answer {
	for i, answer := range j.Addresses {
		mine := !j.Address.IsValid() || answer.Type == "A" && j.Address.Unmap().Is4() || answer.Type == "AAAA" && !j.Address.Unmap().Is4()
		if state := answer.At(j.At); mine && (state == resolve.Failed || state == resolve.Bogus) {
			return &j.Addresses[i]
		}
	}
	return nil
}

// trouble says why there is no usable answer.
func (j *judge) trouble(a resolve.Answer) string {
	if a.Err == nil && a.At(j.At) == resolve.Bogus {
		return fmt.Sprintf("the signatures of its %s record are not valid at %s", a.Type, stamp(j.At))
	}
	return trouble(a)
}

func trouble(a resolve.Answer) string {
	switch {
	case a.Err != nil && a.Err.Reason != "":
		return finding.Quote(a.Err.Reason, finding.MostQuoted)
	case a.State == resolve.Bogus:
		return "the answer does not validate"
	}
	return "the question for " + a.Type + " failed"
}

// unknown is the verdict if the network or the server keeps mxcert out.
func (j *judge) unknown(h *Handshake) Verdict {
	if h == nil {
		return notJudged("mxcert made no handshake with %s", j.Host)
	}
	switch kind := kindOf(h.Err); kind {
	case starttls.KindConnectionRefused:
		return notJudged("%s refuses connections from here on port %d, so mxcert cannot judge its TLS", j.who(), j.port())
	case starttls.KindRejected:
		return notJudged("%s refuses this client (%s), which says nothing about its TLS", j.who(), why(h))
	case starttls.KindTimeout, "unreachable":
		return notJudged("mxcert gets no answer from %s on port %d (%s), so it cannot judge its TLS", j.who(), j.port(), why(h))
	case "":
		return notJudged("mxcert has no result of a handshake with %s", j.who())
	}
	return notJudged("mxcert cannot judge the TLS of %s: %s", j.who(), why(h))
}

// foreign is the verdict if other senders may speak or read what mxcert cannot.
func (j *judge) foreign(h *Handshake) Verdict {
	reason := why(h)
	if lost(*h) {
		reason += " during the TLS handshake, which may be because of what mxcert offers"
	}
	return j.odd(h.ServerName, reason)
}

// odd is the verdict about something that only other libraries judge right. The finding has the command that shows it.
func (j *judge) odd(name, reason string) Verdict {
	j.add(finding.New("not-judged", finding.Warning, "mxcert cannot judge what %s serves as other senders do: %s", j.who(), reason).
		About(j.endpoint()).Next("see what a sender with OpenSSL decides: " + j.openssl(name)))
	return notJudged("mxcert cannot judge what %s serves as other senders do: %s", j.who(), reason)
}

// openssl is the command that makes the same handshake with OpenSSL, and prints how it verifies the certificate.
func (j *judge) openssl(name string) string {
	words := []string{"openssl s_client"}
	if protocol := starttls.ProtocolOf(j.endpoint()); protocol != starttls.TLS && protocol != starttls.SMTPS {
		words = append(words, "-starttls", string(protocol))
	}
	words = append(words, "-connect", j.endpoint())
	if name == "" {
		words = append(words, "-noservername")
	} else {
		words = append(words, "-servername", finding.Word(name))
	}
	if j.Host != "" && sni(j.Host) != "" {
		words = append(words, "-verify_hostname", finding.Word(j.Host))
	}
	return strings.Join(append(words, "-showcerts </dev/null"), " ")
}

// who names the host in sentences, with the address that was tried.
func (j *judge) who() string {
	if j.Address.IsValid() && j.Host != "" && sni(j.Host) != "" {
		return j.Host + " (" + j.Address.String() + ")"
	}
	if j.Host == "" && j.Address.IsValid() {
		return j.Address.String()
	}
	return j.Host
}

func (j *judge) port() int {
	if j.Port == 0 {
		return 25
	}
	return j.Port
}

// subject is the domain, or the host if it was named.
func (j *judge) subject() string {
	if j.Domain == "" {
		return j.Host
	}
	return j.Domain
}
