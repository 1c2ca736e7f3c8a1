package alarm

import (
	"fmt"
	"strings"
	"time"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/report"
)

const (
	// fewResponseLives is the part of a response's life from which people are told that no newer one comes. mxcert asks for one from half of it on.
	fewResponseLives = 4
	// firstResponse is how long a certificate may be without any response: some CAs publish it only after a while.
	firstResponse = time.Hour
)

// The IDs of matters about OCSP responses.
const (
	ocspRevoked  = "ocsp-revoked"
	ocspResponse = "ocsp-response"
	ocspNotSent  = "ocsp-not-sent"
	ocspWaits    = "ocsp-waits"
	ocspUseless  = "ocsp-no-responder"
)

// aboutStaple reports whether an error is only about an OCSP response, and the certificates are in service.
func aboutStaple(e *report.Error) bool { return e.Stage == "ocsp" && e.Kind != "drift" }

// waitsForStaple reports whether an error keeps a new certificate from being deployed before it has an OCSP response.
func waitsForStaple(e *report.Error) bool {
	return e.Stage == "deploy" && strings.HasPrefix(e.Kind, "ocsp-")
}

// staples says what is wrong with the OCSP responses that servers send along.
func staples(r report.Certificate, now time.Time) (list []Matter) {
	for _, k := range r.Keys {
		if m, wrong := staple(k, now); wrong && (r.Error == nil || !waitsForStaple(r.Error)) {
			m.Subject, m.Next = k.Key, finding.Quote(k.OCSP.Hint, mostText)
			m.Cause = k.OCSP.Kind + " " + pattern(k.OCSP.Error, append([]string{r.Name}, r.Names...))
			list = append(list, m)
		}
	}
	for _, e := range r.Endpoints {
		if e.OCSP == "" || e.OCSP == "good" {
			continue
		}
		m := Matter{ID: ocspNotSent, Subject: e.Address + " " + e.Key, Cause: e.OCSP, Severity: finding.Warning, age: secondLook,
			What: e.Address + " sends no OCSP response, although mxcert has written one", Senders: "the certificate without its OCSP response, which mail servers accept",
			Next: fmt.Sprintf("does Exim's tls_ocsp_file name the file? mxcert doctor %s compares them", finding.Word(r.Name))}
		if e.OCSP != "none" {
			m.What = fmt.Sprintf("the OCSP response that %s sends is not that of the certificate, or not valid (%s)", e.Address, finding.Quote(e.OCSP, 20))
			m.Senders = "a bad OCSP response: those who read it refuse the certificate"
		}
		list = append(list, m)
	}
	return list
}

// staple says what is wrong with the OCSP response of one certificate, but for what to do.
func staple(k report.Key, now time.Time) (m Matter, wrong bool) {
	o := k.OCSP
	if o == nil || o.Error == "" {
		return m, false
	}
	problem := finding.Quote(report.OneLine(o.Error), mostText)
	switch {
	case o.Kind == ocspRevoked:
		m = Matter{ID: ocspRevoked, What: problem, Senders: "a revoked certificate: those who check revocation refuse it"}
		if o.NextUpdate != nil && now.Before(*o.NextUpdate) {
			m.Senders += ", at the latest when the response in place expires at " + report.Minute(*o.NextUpdate)
		}
		return m, true
	case o.Kind == ocspUseless:
		return Matter{ID: ocspUseless, Severity: finding.Warning, What: problem}, true
	case o.NextUpdate == nil || o.ThisUpdate == nil:
		m = Matter{ID: ocspResponse, age: firstResponse, What: "there is no OCSP response of the certificate: " + problem, Senders: withoutStaple(o)}
	case !now.Before(*o.NextUpdate):
		m = Matter{ID: ocspResponse, What: fmt.Sprintf("the OCSP response expired at %s, and there is no newer one: %s", report.Minute(*o.NextUpdate), problem), Senders: withoutStaple(o)}
	case o.NextUpdate.Sub(now)*fewResponseLives < o.NextUpdate.Sub(*o.ThisUpdate):
		m = Matter{ID: ocspResponse, What: fmt.Sprintf("the OCSP response expires at %s, and there is no newer one: %s", report.Minute(*o.NextUpdate), problem),
			Senders: "the old OCSP response; shortly before it expires, mxcert takes it away, and mail servers accept the certificate without one"}
		if o.Needed {
			m.Senders = "the old OCSP response; when it has expired: " + withoutStaple(o)
		}
	default:
		return m, false
	}
	m.Severity = finding.Warning
	if o.Needed {
		m.Severity = finding.Error
	}
	return m, true
}

// withoutStaple says what senders meet when there is no valid response.
func withoutStaple(o *report.OCSP) string {
	if o.Needed {
		return "what they saw before, until Exim starts or reads its files again: then it refuses TLS for everybody (454), because its tls_ocsp_file has no condition (OCSP RESPONSES in mxcert(7))"
	}
	return "the certificate without an OCSP response, which mail servers accept"
}
