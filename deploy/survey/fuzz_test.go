package survey

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"mxcert/acme/finding"
	"mxcert/deploy/starttls"
	"mxcert/deploy/verdict"
)

// FuzzFindings takes any bytes as the certificates and words of a server. There are findings that are fit to print, or none.
func FuzzFindings(f *testing.F) {
	ca := newPKI(f)
	f.Add(ca.leaf(ecKey(f)).Certificate[0], ca.root.Raw, "mx.example.org ESMTP", "SIZE 1000")
	f.Add(ca.leaf(rsaKey(f, 1024), mustStaple).Certificate[0], ca.root.Raw, "other.example.org", "AUTH PLAIN")
	f.Add(ca.root.Raw, ca.root.Raw, "x\x1b[31m", "")
	f.Fuzz(func(t *testing.T, first, second []byte, greeting, extension string) {
		shown := &starttls.Result{Greeting: greeting, EHLO: greeting, Plain: []string{extension, "STARTTLS"}, Extensions: []string{"SIZE 1"}}
		for _, der := range [][]byte{first, second} {
			if certificate, err := x509.ParseCertificate(der); err == nil {
				shown.Chain = append(shown.Chain, certificate)
			}
		}
		if len(shown.Chain) == 0 {
			return
		}
		facts := verdict.Facts{At: time.Now(), Roots: ca.pool(), Handshakes: []verdict.Handshake{{ServerName: "mx.example.org", Ask: starttls.Any, Shown: shown}, {Ask: starttls.Any, Shown: shown}}}
		facts.Host = "mx.example.org"
		h := &host{route: facts.Route, endpoints: []*endpoint{{}}}
		for _, found := range newSurvey(Options{}).findings(h, h.endpoints[0], facts) {
			if found.ID == "" || found.Severity == finding.OK || found.Hint == "" || len(found.Message) > 4000 || strings.ContainsFunc(found.Message, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Errorf("%+v", found)
			}
		}
	})
}
