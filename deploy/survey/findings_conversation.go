package survey

import (
	"errors"
	"slices"
	"strings"

	"mxcert/acme/finding"
	"mxcert/deploy/mx"
	"mxcert/deploy/starttls"
)

// conversation says what is wrong before and after TLS, from the first handshake.
func (v *view) conversation() {
	first := v.Handshakes[0]
	if e, ok := errors.AsType[*starttls.Error](first.Err); ok {
		v.failed(e)
	}
	for _, h := range v.Handshakes {
		if e, ok := errors.AsType[*starttls.Error](h.Err); ok && slices.Contains([]string{starttls.KindNotJudged, starttls.KindTLSUnavailable, starttls.KindInjection}, e.Kind()) {
			v.failed(e)
		}
		if h.Shown != nil {
			v.list = append(v.list, h.Shown.Findings...)
		}
	}
	if first.Shown != nil && first.Err == nil && len(first.Shown.Plain) > 0 {
		v.sameOffer(first.Shown)
	}
	if first.Shown != nil && first.Shown.EHLO != "" {
		v.ownNames(first.Shown)
	}
}

// failed says why a handshake failed. Refusing this address, silence and a closed port are no faults of TLS.
func (v *view) failed(e *starttls.Error) {
	id, severity := e.Kind(), finding.Error
	switch {
	case e.Stripped:
		id = "starttls-stripped"
	case e.Kind() == starttls.KindTLSVersion:
		return // see versions
	case e.Kind() == starttls.KindNotJudged:
		severity = finding.Warning
	case slices.Contains([]string{starttls.KindSTARTTLSNotSupported, starttls.KindTLSUnavailable, starttls.KindInjection, starttls.KindValidationFailure}, e.Kind()):
	case e.Step == starttls.StepTLS || e.Step == starttls.StepEHLOAfterTLS:
		id = starttls.KindValidationFailure
	default:
		severity = finding.Warning
	}
	if slices.ContainsFunc(v.list, func(f finding.Finding) bool { return f.ID == id }) {
		return
	}
	v.add(id, severity, e.Hint(), "%s", e.Error())
}

// changing are extensions that may be offered on one side of STARTTLS only: by their definition, or because a server accepts passwords
// under TLS only.
func changing(extension string) bool {
	name, _, _ := strings.Cut(extension, " ")
	name, _, _ = strings.Cut(name, "=")
	return slices.Contains([]string{"STARTTLS", "AUTH", "REQUIRETLS", "PIPECONNECT", "PIPE_CONNECT", "X_PIPE_CONNECT", "XCLIENT", "XFORWARD", "TLS"}, name)
}

// sameOffer compares the offers before and under TLS. If something is lost under TLS, something other than the mail server answers one of
// them.
func (v *view) sameOffer(r *starttls.Result) {
	missing := func(from, in []string) (list []string) {
		for _, extension := range from {
			if !changing(extension) && !slices.Contains(in, extension) {
				list = append(list, extension)
			}
		}
		return list
	}
	if r.PlainEHLO != "" && r.EHLO != "" && !strings.EqualFold(r.PlainEHLO, r.EHLO) {
		v.add("ehlo-differs", finding.Warning, "look for a proxy or filter in front of the mail server, or for two servers behind one address",
			"the server calls itself %s before TLS and %s under TLS", quote(r.PlainEHLO), quote(r.EHLO))
	}
	before, after := missing(r.Plain, r.Extensions), missing(r.Extensions, r.Plain)
	if len(before)+len(after) == 0 {
		return
	}
	v.add("ehlo-differs", finding.Warning, "look for a proxy or filter in front of the mail server; senders use what is offered under TLS",
		"EHLO answers differently before and under TLS: only before %s, only under TLS %s", few(before), few(after))
}

// ownNames compares the names that the server gives itself with its certificate. Senders do not, but it often shows a wrong certificate.
func (v *view) ownNames(r *starttls.Result) {
	greeting, _, _ := strings.Cut(r.Greeting, " ")
	for _, name := range []string{greeting, r.EHLO} {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		if name == v.Host || mx.Uncertifiable(name) != "" || r.Chain[0].VerifyHostname(name) == nil {
			continue
		}
		v.add("greeting-name-not-in-certificate", finding.Warning, "harmless if the certificate has the MX name; otherwise add the name, or correct the server's host name",
			"the server calls itself %s, and its certificate does not have that name", quote(name))
	}
}

// few lists words in a message.
func few(words []string) string {
	if len(words) == 0 {
		return "nothing"
	}
	text := finding.Quote(strings.Join(words[:min(len(words), 5)], ", "), finding.MostQuoted)
	if len(words) > 5 {
		text += ", …"
	}
	return text
}
