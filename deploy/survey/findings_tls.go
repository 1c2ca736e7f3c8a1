package survey

import (
	"crypto/tls"
	"errors"
	"strings"

	"mxcert/acme/finding"
	"mxcert/deploy/starttls"
	"mxcert/deploy/verdict"
)

// versions says what is old about the server's TLS, from the first handshake, which accepts all that senders use today.
func (v *view) versions() {
	first := v.Handshakes[0]
	switch {
	case kindOf(first.Err) == starttls.KindTLSVersion:
		v.oldOnly()
	case first.Shown == nil:
	case first.Shown.Version < tls.VersionTLS13:
		v.add("no-tls13", finding.Warning, "allow TLS 1.3; TLS 1.2 is still sufficient", "the server has no TLS 1.3")
		if suite := tls.CipherSuiteName(first.Shown.Cipher); strings.HasPrefix(suite, "TLS_RSA_") {
			v.add("no-forward-secrecy", finding.Warning, "allow ECDHE cipher suites", "the server chose %s, which has no forward secrecy", suite)
		}
	}
}

func (v *view) oldOnly() {
	which := "none that mxcert speaks"
	if old := v.with(starttls.OldTLS, sni(v.Host)); old != nil && old.Shown != nil {
		which = tls.VersionName(old.Shown.Version)
	}
	v.add("old-tls-only", finding.Error, "allow TLS 1.2 and TLS 1.3; many senders speak nothing older, and deliver in the clear or not at all",
		"the server has no TLS 1.2 or newer, only old versions (%s)", which)
}

// names says what the name in SNI changes. Most senders send none, unless they use DANE or MTA-STS.
func (v *view) names() {
	named, none := v.with(starttls.Any, v.Host), v.with(starttls.Any, "")
	if named == nil { // or the host is an address
		return
	}
	if named.Shown != nil && !v.required(none, "no name") {
		v.required(v.with(starttls.Any, unknown), "a name that it does not know")
	}
	switch {
	case none == nil || none.Shown == nil:
	case named.Shown == nil && brokenTLS(named.Err):
		v.add("sni-decides", finding.Error, "configure a certificate for that name, or make it the default", "the server accepts TLS without a name in SNI, but not with %s", quote(v.Host))
	case named.Shown != nil && another(named, none) && none.Shown.Chain[0].VerifyHostname(v.Host) != nil:
		v.add("sni-decides", finding.Warning, "make the certificate with the MX name the default: most senders send no name",
			"without a name in SNI the server shows a certificate that does not have %s; it has %s", quote(v.Host), few(none.Shown.Chain[0].DNSNames))
	}
}

// required says that the server refuses TLS without the right name in SNI, and returns whether it does.
func (v *view) required(h *verdict.Handshake, what string) bool {
	if h == nil || h.Shown != nil || !brokenTLS(h.Err) && !alerted(h.Err) {
		return false
	}
	severity := finding.Warning
	if h.ServerName == "" && brokenTLS(h.Err) {
		severity = finding.Error
	}
	v.add("sni-required", severity, "configure a default certificate: many senders send no name in SNI",
		"the server refuses TLS if the sender sends %s in SNI: %s", what, h.Err)
	return true
}

// brokenTLS reports whether the handshake itself failed, and not for a reason of this program.
func brokenTLS(err error) bool {
	e, ok := errors.AsType[*starttls.Error](err)
	return ok && e.Step == starttls.StepTLS && e.Kind() != starttls.KindNotJudged && e.Kind() != starttls.KindTimeout
}

// alerted reports whether the server refused all that Go can do. If it does so for one name only, the name is the likely reason.
func alerted(err error) bool {
	e, ok := errors.AsType[*starttls.Error](err)
	return ok && e.Kind() == starttls.KindNotJudged && e.Alert != 0
}

// another reports whether two handshakes show different certificates for keys of the same type.
func another(a, b *verdict.Handshake) bool {
	x, y := a.Shown.Chain[0], b.Shown.Chain[0]
	return x.PublicKeyAlgorithm == y.PublicKeyAlgorithm && !x.Equal(y)
}
