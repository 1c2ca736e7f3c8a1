package verdict

import (
	"testing"

	"mxcert/acme/resolve"
	"mxcert/deploy/mtasts"
	"mxcert/deploy/starttls"
)

func unusable(kind, reason string) edit {
	return func(f *Facts) { f.Policy = &mtasts.Found{Domain: "example.org", ID: "1", Type: kind, Reason: reason} }
}

// policyUnknown is a look that says nothing about what senders find, because this host has no route to the policy host or no answer.
func policyUnknown(f *Facts) {
	f.Policy = &mtasts.Found{Domain: "example.org", ID: "1", Type: mtasts.FetchError, Reason: "no route", NotJudged: true}
}

func unoffered(f *Facts) {
	for _, h := range f.Handshakes {
		h.Shown.Extensions = []string{"SIZE 1000"}
	}
}

func TestMTASTS(t *testing.T) {
	wrongName := server("ecdsa", inter, withNames("www.example.org"))
	const mismatch, untrusted = "fail skip certificate-host-mismatch", "fail skip certificate-not-trusted"
	testing := policy(mtasts.Testing, "mx.example.org")
	checkRows(t, MTASTS, []row{
		{"right", nil, "pass deliver", []string{"-sts-testing"}},
		{"wildcard pattern", []edit{policy(mtasts.Enforce, "*.example.org")}, "pass deliver", nil},
		{"second pattern", []edit{policy(mtasts.Enforce, "a.example.net", "mx.example.org")}, "pass deliver", nil},
		{"pattern for two labels", []edit{policy(mtasts.Enforce, "*.example.org"), host("a.mx.example.org"), serves2("a.mx.example.org")}, "fail skip validation-failure", []string{"senders-differ: postfix-mta-sts-resolver"}},
		{"pattern is the parent", []edit{policy(mtasts.Enforce, "example.org")}, "fail skip validation-failure", nil},
		{"not listed", []edit{policy(mtasts.Enforce, "mx2.example.org")}, "fail skip validation-failure", nil},
		{"not listed, and refuses connections", []edit{policy(mtasts.Enforce, "mx2.example.org"), fails("refused")}, "fail skip validation-failure", nil},
		{"not listed, but the certificate has a listed name", []edit{policy(mtasts.Enforce, "mx2.example.org"), serves(server("ecdsa", inter, withNames("mx2.example.org")), inter)}, "fail skip validation-failure", []string{"senders-differ: postfix-mta-sts-resolver or postfix-tlspol"}},
		{"another name", []edit{serves(wrongName, inter)}, mismatch, nil},
		{"another name that the pattern matches", []edit{policy(mtasts.Enforce, "*.example.org"), serves(wrongName, inter)}, mismatch, []string{"senders-differ: postfix-mta-sts-resolver"}},
		{"mail domain only", []edit{serves(server("ecdsa", inter, withNames("example.org")), inter)}, mismatch, nil},
		{"CN only", []edit{serves(server("ecdsa", inter, cn("mx.example.org")), inter)}, mismatch, []string{"senders-differ: postfix-mta-sts-resolver"}},
		{"expired", []edit{serves(server("ecdsa", inter, until(now.Add(-day))), inter)}, "fail skip certificate-expired", nil},
		{"private CA", []edit{serves(mine, privateCA)}, untrusted, nil},
		{"no intermediate", []edit{serves(good)}, untrusted, nil},
		{"self-signed", []edit{serves(server("ecdsa", nil))}, untrusted, nil},
		{"no STARTTLS", []edit{fails("no STARTTLS")}, "fail skip starttls-not-supported", nil},
		{"454", []edit{fails("454")}, "fail skip starttls-not-supported", nil},
		{"refused", []edit{fails("refused")}, "?", nil},
		{"nothing common", []edit{fails("nothing common")}, "?", []string{"not-judged"}},
		{"leaf is a root", []edit{trusts(good)}, "?", []string{"not-judged"}},
		{"RSA wrong", []edit{also("mx.example.org", starttls.RSA, server("rsa", privateCA), privateCA)}, untrusted, []string{"senders-differ: Postfix prefers ECDSA"}},
		{"no patterns", []edit{policy(mtasts.Enforce)}, "fail skip validation-failure", nil},

		{"no text in the greeting", []edit{greets("")}, "pass deliver", []string{"senders-differ: and defers the mail"}},
		{"testing", []edit{testing}, "pass deliver", []string{"-sts-testing"}},
		{"testing, no text in the greeting", []edit{testing, greets("")}, "pass deliver", nil},
		{"testing, another name", []edit{testing, serves(wrongName, inter)}, "pass unauthenticated certificate-host-mismatch", []string{"sts-testing: www.example.org"}},
		{"testing, not listed", []edit{policy(mtasts.Testing, "x.example.org")}, "pass unauthenticated validation-failure", []string{"sts-testing: does not list"}},
		{"testing, no STARTTLS", []edit{testing, fails("no STARTTLS")}, "pass clear-text starttls-not-supported", []string{"sts-testing"}},
		{"testing, not listed, refused", []edit{policy(mtasts.Testing, "x.example.org"), fails("refused")}, "?", nil},
		{"testing, refused", []edit{testing, fails("refused")}, "?", nil},
		{"none", []edit{policy(mtasts.None)}, "n/a unauthenticated", nil},
		{"none, and a private CA", []edit{policy(mtasts.None), serves(mine, privateCA)}, "n/a unauthenticated", nil},
		{"no policy", []edit{noPolicy}, "n/a unauthenticated", []string{"-sts-cached"}},
		{"no policy, no STARTTLS", []edit{noPolicy, fails("no STARTTLS")}, "n/a clear-text", nil},
		{"policy cannot be fetched", []edit{unusable("sts-policy-fetch-error", "HTTP 404")}, "n/a unauthenticated sts-policy-fetch-error", []string{"sts-cached: max_age"}},
		{"policy is invalid", []edit{unusable("sts-policy-invalid", "no version")}, "n/a unauthenticated sts-policy-invalid", []string{"sts-cached"}},
		{"policy host has a wrong certificate", []edit{unusable("sts-webpki-invalid", "expired")}, "n/a unauthenticated sts-webpki-invalid", []string{"sts-cached"}},
		{"policy cannot be asked for from here", []edit{policyUnknown}, "?", []string{"-sts-cached"}},
		{"policy cannot be asked for from here, no STARTTLS", []edit{policyUnknown, fails("no STARTTLS")}, "?", nil},
		{"nobody looked", []edit{func(f *Facts) { f.Policy = nil }}, "?", nil},
		{"host named", []edit{func(f *Facts) { f.Policy, f.Domain, f.MX = nil, "", nil }}, "n/a unauthenticated", nil},

		{"right, and DANE fails", []edit{publishes(stale(3, 1, 1))}, "pass deliver", []string{"dane-before-sts: RFC 8461 section 2", "senders-differ: postfix-mta-sts-resolver", "senders-differ: fix what the verdict dane says"}},
		{"right, and TLSA cannot be asked for", []edit{bases(base("mx.example.org", resolve.Failed))}, "pass deliver", []string{"dane-before-sts", "senders-differ"}},
		{"right, and DANE passes", nil, "pass deliver", []string{"-dane-before-sts"}},
		{"wrong, and DANE passes", []edit{serves(mine, privateCA), publishes(tlsa(3, 1, 1, mine))}, untrusted, []string{"-dane-before-sts"}},
		{"insecure MX", []edit{mxIs(resolve.Insecure), noTLSA}, "pass deliver", nil},
	})
}

func serves2(name string) edit {
	return func(f *Facts) {
		f.Handshakes = []Handshake{handshake(name, starttls.Any, server("ecdsa", inter, withNames(name)), inter)}
	}
}

func TestRequireTLS(t *testing.T) {
	checkRows(t, RequireTLS, []row{
		{"right", nil, "pass deliver", nil},
		{"not offered", []edit{unoffered}, "n/a bounce", nil},
		{"not offered, insecure", []edit{unoffered, mxIs(resolve.Insecure), noPolicy}, "n/a bounce", nil},
		{"offered with one key only", []edit{also("mx.example.org", starttls.RSA, goodRSA, inter), func(f *Facts) { f.Handshakes[1].Shown.Extensions = nil }}, "n/a bounce", nil},
		{"the conversation ends early", []edit{func(f *Facts) { f.Handshakes[0].Err = failures["TLS lost"].Err }}, "?", nil},
		{"DNSSEC and DANE, private CA", []edit{noPolicy, serves(mine, privateCA), publishes(tlsa(3, 1, 1, mine))}, "pass deliver", nil},
		{"DNSSEC and PKIX", []edit{noPolicy, noTLSA}, "pass deliver", []string{"senders-differ: mox returns it"}},
		{"MTA-STS and PKIX", []edit{mxIs(resolve.Insecure), noTLSA}, "pass deliver", nil},
		{"MTA-STS, no validator", []edit{unvalidated}, "pass deliver", nil},
		{"testing and insecure", []edit{mxIs(resolve.Insecure), noTLSA, policy(mtasts.Testing, "mx.example.org")}, "fail bounce validation-failure", nil},
		{"not listed and insecure", []edit{mxIs(resolve.Insecure), noTLSA, policy(mtasts.Enforce, "x.example.org")}, "fail bounce validation-failure", nil},
		{"insecure", []edit{mxIs(resolve.Insecure), noTLSA, noPolicy}, "fail bounce validation-failure", nil},
		{"no validator", []edit{unvalidated, noPolicy}, "?", nil},
		{"insecure, and the policy cannot be asked for from here", []edit{mxIs(resolve.Insecure), noTLSA, policyUnknown}, "?", nil},
		{"MTA-STS, private CA, no validator", []edit{unvalidated, serves(mine, privateCA)}, "?", nil},
		{"failed MX", []edit{mxIs(resolve.Failed), noPolicy}, "fail skip dnssec-invalid", nil},
		{"bogus MX", []edit{mxIs(resolve.Bogus), noPolicy}, "fail skip dnssec-invalid", nil},
		{"secure, private CA", []edit{noTLSA, noPolicy, serves(mine, privateCA)}, "fail bounce certificate-not-trusted", nil},
		{"secure, another name", []edit{noTLSA, noPolicy, serves(server("ecdsa", inter, withNames("x.example.net")), inter)}, "fail bounce certificate-host-mismatch", nil},
		{"DANE fails, PKIX passes", []edit{publishes(stale(3, 1, 1))}, "pass deliver", []string{"senders-differ: mox and other senders that use DANE skip", "senders-differ: fix what the verdict dane says"}},
		{"DANE and PKIX fail", []edit{publishes(stale(3, 1, 1)), serves(mine, privateCA)}, "fail bounce validation-failure", nil},
		{"no STARTTLS", []edit{fails("no STARTTLS")}, "fail bounce starttls-not-supported", nil},
		{"454", []edit{fails("454")}, "fail bounce starttls-not-supported", nil},
		{"refused", []edit{fails("refused")}, "?", nil},
		{"certificate not judged", []edit{noTLSA, noPolicy, trusts(good)}, "?", nil},
		{"certificate not judged by PKIX, but by DANE", []edit{trusts(good)}, "pass deliver", nil},
		{"host named", []edit{func(f *Facts) { f.MX, f.Domain, f.Policy = nil, "", nil }}, "pass deliver", nil},
		{"host named, no TLSA", []edit{noTLSA, func(f *Facts) { f.MX, f.Domain, f.Policy = nil, "", nil }}, "pass deliver", []string{"senders-differ: given to the sender"}},
		{"host named, no validator", []edit{unvalidated, func(f *Facts) { f.MX, f.Domain, f.Policy = nil, "", nil }}, "pass deliver", nil},
		{"host named, private CA, no validator", []edit{unvalidated, nextHop, serves(mine, privateCA)}, "?", nil},
	})
}

// nextHop is a host that was named itself.
func nextHop(f *Facts) { f.MX, f.Domain, f.Policy = nil, "", nil }
