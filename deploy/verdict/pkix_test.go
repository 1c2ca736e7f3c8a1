package verdict

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"mxcert/deploy/starttls"
)

func critical(id asn1.ObjectIdentifier, value []byte) change {
	return func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: id, Critical: true, Value: value})
	}
}

// directoryConstraint permits only names of an organization, in a critical extension: crypto/x509 does not process these.
var directoryConstraint = must(asn1.Marshal(struct {
	Permitted []asn1.RawValue `asn1:"tag:0"`
}{[]asn1.RawValue{{FullBytes: must(asn1.Marshal(struct {
	Base asn1.RawValue
}{asn1.RawValue{Class: 2, Tag: 4, IsCompound: true, Bytes: must(asn1.Marshal(pkix.Name{Organization: []string{"Example"}}.ToRDNSequence()))}}))}}}))

func trusts(list ...*entity) edit { return func(f *Facts) { f.Roots = pool(list...) } }

func at(days int) edit { return func(f *Facts) { f.At = now.AddDate(0, 0, days) } }

func subjectIs(name pkix.Name) change { return func(c *x509.Certificate) { c.Subject = name } }

func noBasicConstraints(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA = false, false }

func TestPKIX(t *testing.T) { checkRows(t, PKIX, pkixRows()) }

// everyRoot lists the CAs that rows trust.
var everyRoot []*entity

func pkixRows() []row {
	oldInter := authority("Old Intermediate", root, until(now.Add(-day)))
	newInter := authority("New Intermediate", root, from(now.Add(day)))
	sub := authority("Sub", inter)
	noCA := server("ecdsa", inter, subjectIs(pkix.Name{CommonName: "no CA"}))
	short := authority("Short", root, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
	deep := authority("Deep", short)
	client := authority("Client CA", root, uses(x509.ExtKeyUsageClientAuth))
	limited := authority("Limited", root, func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"example.com"}
	})
	named := authority("Named", root, critical(asn1.ObjectIdentifier{2, 5, 29, 30}, directoryConstraint))
	alien := authority("Alien", root, critical(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, []byte{5, 0}))
	noSign := authority("No Sign", root, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })
	sha1 := sign(&x509.Certificate{Subject: pkix.Name{CommonName: "SHA-1"}, IsCA: true, BasicConstraintsValid: true}, nil, keyOf("rsa"))
	oldRoot := authority("Old Root", nil, until(now.Add(-day)))
	futureRoot := authority("Future Root", nil, from(now.Add(day)))
	oldRootsCA := authority("Old Root's", oldRoot)
	cross := sign(&x509.Certificate{Subject: private.Subject, IsCA: true, BasicConstraintsValid: true}, root, private.key)
	oldCross := sign(&x509.Certificate{Subject: private.Subject, IsCA: true, BasicConstraintsValid: true}, oldRoot, private.key)
	// The same name in another encoding, as other libraries compare it.
	printable := pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "TEST INTERMEDIATE"}}}
	shouting := sign(&x509.Certificate{Subject: printable, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, root, inter.key)
	foreignInter := sign(&x509.Certificate{Subject: inter.Subject, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: inter.SubjectKeyId}, private, inter.key)
	mustStapleIt := func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{48, 3, 2, 1, 5}}}
	}
	selfMade := server("ecdsa", nil)
	isRoot := server("ecdsa", inter)
	many := []*entity{good}
	for range 25 {
		many = append(many, inter)
	}
	const mismatch, untrusted, expired = "fail skip certificate-host-mismatch", "fail skip certificate-not-trusted", "fail skip certificate-expired"
	everyRoot = []*entity{root, inter, private, sha1, oldRoot, futureRoot}
	return []row{
		{"right", nil, "pass deliver", []string{"-not-judged"}},
		{"RSA", []edit{serves(goodRSA, inter)}, "pass deliver", nil},
		{"Ed25519", []edit{serves(server("ed25519", inter), inter)}, "pass deliver", nil},
		{"three certificates", []edit{serves(server("ecdsa", sub), sub, inter)}, "pass deliver", nil},
		{"wrong order", []edit{serves(server("ecdsa", sub), inter, sub)}, "pass deliver", nil},
		{"root sent", []edit{serves(good, inter, root)}, "pass deliver", nil},
		{"duplicates", []edit{serves(good, good, inter, inter)}, "pass deliver", nil},
		{"unrelated sent", []edit{serves(good, privateCA, inter)}, "pass deliver", nil},
		{"wildcard", []edit{serves(server("ecdsa", inter, withNames("*.example.org")), inter)}, "pass deliver", nil},
		{"upper case", []edit{serves(server("ecdsa", inter, withNames("MX.Example.ORG")), inter)}, "pass deliver", nil},
		{"several names", []edit{serves(server("ecdsa", inter, withNames("a.example.net", "mx.example.org")), inter)}, "pass deliver", nil},
		{"trusted intermediate", []edit{serves(good), trusts(inter)}, "pass deliver", nil},
		{"cross-signed", []edit{serves(mine, privateCA, cross)}, "pass deliver", nil},
		{"cross-signed by an expired root, but trusted", []edit{serves(mine, privateCA, oldCross), trusts(private)}, "pass deliver", nil},
		{"cross-signed by another first", []edit{serves(good, foreignInter, inter)}, "pass deliver", []string{"senders-differ: Postfix and Exim stop there"}},
		{"cross-signed by another last", []edit{serves(good, inter, foreignInter)}, "pass deliver", nil},
		{"must staple, and does not", []edit{serves(server("ecdsa", inter, mustStapleIt), inter)}, "pass deliver", []string{"senders-differ: Exim with GnuTLS refuses"}},
		{"must staple, and does", []edit{serves(server("ecdsa", inter, mustStapleIt), inter), func(f *Facts) { f.Handshakes[0].Shown.Staple = []byte{1} }}, "pass deliver", nil},
		{"no forward secrecy", []edit{staticRSA}, "pass deliver", []string{"senders-differ: Exim with GnuTLS and mox do no TLS", "senders-differ: allow ECDHE"}},
		{"old TLS", []edit{old}, "pass deliver", []string{"senders-differ: Postfix (secure) and mox defer"}},
		{"injection", []edit{fails("injection")}, "fail skip validation-failure", []string{"senders-differ: Postfix drops them"}},
		{"expired unrelated member", []edit{serves(good, inter, oldInter)}, "pass deliver", nil},

		{"another name", []edit{serves(server("ecdsa", inter, withNames("www.example.org")), inter)}, mismatch, []string{"senders-differ: enough for Postfix at level secure"}},
		{"wildcard elsewhere", []edit{serves(server("ecdsa", inter, withNames("*.example.com")), inter)}, mismatch, nil},
		{"wildcard for two labels", []edit{serves(server("ecdsa", inter, withNames("*.example.org")), inter), host("a.mx.example.org")}, mismatch, []string{"senders-differ: enough for Postfix at level secure"}},
		{"wildcard in a label", []edit{serves(server("ecdsa", inter, withNames("m*.example.org")), inter)}, mismatch, []string{"senders-differ: enough for Postfix at level secure"}},
		{"wildcard does not match its parent", []edit{serves(server("ecdsa", inter, withNames("*.mx.example.org")), inter)}, mismatch, []string{"senders-differ: enough for Postfix at level secure"}},
		{"CN only", []edit{serves(server("ecdsa", inter, cn("mx.example.org")), inter)}, mismatch, []string{"senders-differ: Postfix and Exim accept that"}},
		{"wildcard below the domain that is its own host", []edit{serves(server("ecdsa", inter, withNames("*.example.org")), inter), host("example.org")}, mismatch, []string{"senders-differ: enough for Postfix at level secure"}},
		{"CN beside SAN", []edit{serves(server("ecdsa", inter, withNames("a.example.net")), inter)}, mismatch, nil},
		{"no name", []edit{serves(server("ecdsa", inter, cn("")), inter)}, mismatch, nil},
		{"mail domain only", []edit{serves(server("ecdsa", inter, withNames("example.org")), inter)}, mismatch, []string{"senders-differ: enough for Postfix at level secure"}},
		{"mail domain only, untrusted", []edit{serves(server("ecdsa", privateCA, withNames("example.org")), privateCA)}, untrusted, nil},

		{"expired", []edit{serves(server("ecdsa", inter, until(now.Add(-day))), inter)}, expired, nil},
		{"not yet valid", []edit{serves(server("ecdsa", inter, from(now.Add(day))), inter)}, "fail skip validation-failure", nil},
		{"expired intermediate", []edit{serves(server("ecdsa", oldInter), oldInter)}, expired, nil},
		{"future intermediate", []edit{serves(server("ecdsa", newInter), newInter)}, "fail skip validation-failure", nil},
		{"later", []edit{at(90)}, expired, nil},
		{"earlier", []edit{at(-30)}, "fail skip validation-failure", nil},
		{"just before it expires", []edit{at(59)}, "pass deliver", nil},

		{"no intermediate", []edit{serves(good)}, untrusted, nil},
		{"another intermediate", []edit{serves(good, privateCA)}, untrusted, nil},
		{"missing in the middle", []edit{serves(server("ecdsa", sub), inter)}, untrusted, nil},
		{"self-signed", []edit{serves(selfMade)}, untrusted, nil},
		{"private CA", []edit{serves(mine, privateCA)}, untrusted, nil},
		{"private CA with root", []edit{serves(mine, privateCA, private)}, untrusted, nil},
		{"same name, another key", []edit{serves(good, authority("Test Intermediate", private))}, untrusted, nil},
		{"issuer first", []edit{serves(inter, good)}, untrusted, nil},
		{"issuer is no CA", []edit{serves(server("ecdsa", noCA), noCA, inter)}, untrusted, nil},
		{"issuer without basic constraints", []edit{serves(server("ecdsa", inter), authority("x", root, noBasicConstraints))}, untrusted, nil},
		{"issuer may not sign", []edit{serves(server("ecdsa", noSign), noSign)}, untrusted, nil},
		{"path too long", []edit{serves(server("ecdsa", deep), deep, short)}, untrusted, nil},
		{"clientAuth only", []edit{serves(server("ecdsa", inter, uses(x509.ExtKeyUsageClientAuth)), inter)}, untrusted, []string{"senders-differ: Exim with GnuTLS accepts"}},
		{"CA for clients only", []edit{serves(server("ecdsa", client), client)}, untrusted, []string{"senders-differ: Exim with GnuTLS accepts"}},
		{"no extended key usage", []edit{serves(server("ecdsa", inter, uses()), inter)}, "pass deliver", nil},
		{"any usage", []edit{serves(server("ecdsa", inter, uses(x509.ExtKeyUsageAny)), inter)}, "pass deliver", []string{"senders-differ: Postfix refuses it, Exim with GnuTLS and mox accept"}},
		{"key usage for CAs only", []edit{serves(server("ecdsa", inter, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }), inter)}, untrusted, nil},
		{"name constraints", []edit{serves(server("ecdsa", limited), limited)}, untrusted, nil},
		{"unknown critical extension", []edit{serves(server("ecdsa", inter, critical(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, []byte{5, 0})), inter)}, untrusted, nil},
		{"unknown critical extension of the issuer", []edit{serves(server("ecdsa", alien), alien)}, untrusted, nil},
		{"SHA-1", []edit{serves(sign(&x509.Certificate{DNSNames: []string{"mx.example.org"}, SignatureAlgorithm: x509.SHA1WithRSA}, sha1, keyOf("ecdsa"))), trusts(sha1)}, untrusted, nil},

		{"directory name constraint", []edit{serves(server("ecdsa", named), named)}, "?", []string{"not-judged: openssl s_client"}},
		{"expired root", []edit{serves(server("ecdsa", oldRootsCA), oldRootsCA), trusts(oldRoot)}, "?", []string{"not-judged: out of its dates"}},
		{"future root", []edit{serves(server("ecdsa", futureRoot)), trusts(futureRoot)}, "?", []string{"not-judged: out of its dates"}},
		{"expired root and another name", []edit{serves(server("ecdsa", oldRootsCA, withNames("x.example.net")), oldRootsCA), trusts(oldRoot)}, mismatch, nil},
		{"leaf is a root", []edit{serves(isRoot, inter), trusts(isRoot)}, "?", []string{"not-judged: one of the trusted roots"}},
		{"self-signed and trusted", []edit{serves(selfMade), trusts(selfMade)}, "?", []string{"not-judged"}},
		{"name in another case", []edit{serves(good, shouting)}, "?", []string{"not-judged: encoded in two ways"}},
		{"25 certificates", []edit{serves(many...)}, "?", []string{"not-judged: 26 certificates"}},
		{"RSA 1024", []edit{serves(server("rsa1024", inter), inter)}, "pass deliver", nil},

		{"no STARTTLS", []edit{fails("no STARTTLS")}, "fail skip starttls-not-supported", nil},
		{"454", []edit{fails("454")}, "fail skip starttls-not-supported", nil},
		{"TLS error", []edit{fails("TLS error")}, "fail skip validation-failure", nil},
		{"nothing common", []edit{fails("nothing common")}, "?", []string{"not-judged"}},
		{"refused", []edit{fails("refused")}, "?", nil},
		{"right, and what crypto/tls cannot speak", []edit{alsoFails("nothing common")}, "?", []string{"not-judged"}},
		{"works with less than senders offer", []edit{fails("TLS error"), also("mx.example.org", starttls.RSA, goodRSA, inter)}, "fail skip validation-failure", nil},
		{"both keys right", []edit{also("mx.example.org", starttls.RSA, goodRSA, inter)}, "pass deliver", nil},
		{"RSA wrong", []edit{also("mx.example.org", starttls.RSA, server("rsa", inter, until(now.Add(-day))), inter)}, expired, []string{"senders-differ: Postfix prefers ECDSA", "senders-differ: replace the certificate that fails"}},
		{"ECDSA wrong", []edit{serves(server("ecdsa", privateCA), privateCA), also("mx.example.org", starttls.RSA, goodRSA, inter)}, untrusted, []string{"senders-differ: Exim with GnuTLS may get RSA"}},
		{"wrong is worse than odd", []edit{serves(many...), also("mx.example.org", starttls.RSA, server("rsa", privateCA), privateCA)}, untrusted, nil},
		{"SNI needed", []edit{also("", starttls.Any, mine, privateCA)}, "pass deliver", []string{"senders-differ: SNI"}},
		{"SNI not needed", []edit{also("", starttls.Any, good, inter)}, "pass deliver", nil},
		{"unknown SNI", []edit{also("unknown.invalid", starttls.Any, mine, privateCA)}, "pass deliver", nil},
		{"name not asked with", []edit{func(f *Facts) { f.Handshakes[0].ServerName = "" }}, "?", nil},
	}
}

// TestReasonsNameTheKey: if a server has two certificates, the reason says which one is wrong.
func TestReasonsNameTheKey(t *testing.T) {
	verdicts, _ := Judge(facts(also("mx.example.org", starttls.RSA, server("rsa", inter, until(now.Add(-day))), inter)))
	if got, want := verdicts[PKIX].Reason, "a sender that checks certificates refuses the RSA certificate of mx.example.org (192.0.2.1): it expired at 2026-10-31T12:00:00Z"; got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if got, want := verdicts[DANE].Reason, "the RSA certificate of mx.example.org (192.0.2.1) does not fit the TLSA records of mx.example.org: no record matches its key"; got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
}
