package verdict

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"slices"
	"testing"
	"time"

	"mxcert/acme/resolve"
	"mxcert/deploy/starttls"
)

func record(usage, selector, matching uint8, data []byte) resolve.TLSA {
	return resolve.TLSA{Usage: usage, Selector: selector, MatchingType: matching, Data: data}
}

func unvalidated(f *Facts) {
	for i := range f.Addresses {
		f.Addresses[i].State, f.Addresses[i].Validator = resolve.Insecure, ""
	}
	f.MX.State, f.MX.Validator, f.Bases = resolve.Insecure, "", nil
}

func mxExpires(t time.Time) edit { return func(f *Facts) { f.MX.Until = t } }

func aliasIs(state resolve.State) edit {
	return func(f *Facts) {
		f.Alias = &resolve.Set[string]{Answer: answer("mx.example.org", "CNAME", state), Records: []string{"host.example.net"}}
	}
}

func staticRSA(f *Facts) { f.Handshakes[0].Shown.Cipher = tls.TLS_RSA_WITH_AES_128_GCM_SHA256 }

func isAlias(f *Facts) {
	for i := range f.Addresses {
		f.Addresses[i].Final = "host.example.net"
	}
}

// daneDNS is about DNS: which records decide, and what if they cannot be asked for.
var daneDNS = []row{
	{"right", nil, "pass deliver", []string{"-tlsa-combination", "-tlsa-unusable", "-not-judged"}},
	{"bogus MX", []edit{mxIs(resolve.Bogus)}, "fail skip dnssec-invalid", nil},
	{"failed MX", []edit{mxIs(resolve.Failed)}, "fail skip dnssec-invalid", nil},
	{"bogus address", []edit{addressIs(resolve.Bogus)}, "fail skip dnssec-invalid", nil},
	{"failed address", []edit{addressIs(resolve.Failed)}, "fail skip dnssec-invalid", nil},
	{"failed address of the other family", []edit{func(f *Facts) { f.Addresses[1] = answer("mx.example.org", "AAAA", resolve.Failed) }}, "pass deliver", nil},
	{"no address can be found", []edit{noAddress(answer("mx.example.org", "A", resolve.Failed), noAAAA)}, "fail skip dnssec-invalid", nil},
	{"bogus alias", []edit{aliasIs(resolve.Bogus)}, "fail skip dnssec-invalid", nil},
	{"failed alias", []edit{aliasIs(resolve.Failed)}, "fail skip dnssec-invalid", nil},
	{"secure alias to insecure address", []edit{aliasIs(resolve.Secure), addressIs(resolve.Insecure), isAlias}, "pass deliver", []string{"senders-differ: Exim looks where the alias leads"}},
	{"bogus TLSA", []edit{bases(base("mx.example.org", resolve.Bogus))}, "fail skip dnssec-invalid", nil},
	{"failed TLSA", []edit{bases(base("mx.example.org", resolve.Failed))}, "fail skip dnssec-invalid", nil},
	{"failed TLSA and nothing to connect to", []edit{bases(base("mx.example.org", resolve.Failed)), fails("refused")}, "fail skip dnssec-invalid", nil},
	{"no TLSA", []edit{noTLSA}, "n/a unauthenticated", nil},
	{"no TLSA and no TLS", []edit{noTLSA, fails("no STARTTLS")}, "n/a clear-text", nil},
	{"no TLSA and a TLS error", []edit{noTLSA, fails("TLS error")}, "n/a clear-text", []string{"senders-differ: Postfix first waits"}},
	{"no TLSA and SNI required", []edit{noTLSA, func(f *Facts) { h := failures["TLS error"]; h.ServerName = ""; f.Handshakes = append(f.Handshakes, h) }}, "n/a clear-text", []string{"senders-differ: Postfix and Exim send none"}},
	{"no TLSA and nothing to connect to", []edit{noTLSA, fails("refused")}, "n/a", nil},
	{"insecure TLSA", []edit{bases(base("mx.example.org", resolve.Insecure, stale(3, 1, 1)))}, "n/a unauthenticated", nil},
	{"insecure address", []edit{addressIs(resolve.Insecure), bases()}, "n/a unauthenticated", nil},
	{"insecure MX and address", []edit{mxIs(resolve.Insecure), addressIs(resolve.Insecure), bases()}, "n/a unauthenticated", nil},
	{"insecure MX, right TLSA", []edit{mxIs(resolve.Insecure)}, "n/a unauthenticated", []string{"senders-differ: Postfix checks them, Exim and mox deliver"}},
	{"insecure MX, wrong TLSA", []edit{mxIs(resolve.Insecure), publishes(stale(3, 1, 1))}, "fail skip validation-failure", []string{"senders-differ: Postfix defers the mail, Exim and mox deliver"}},
	{"insecure MX, TLSA cannot be asked for", []edit{mxIs(resolve.Insecure), bases(base("mx.example.org", resolve.Failed))}, "fail skip dnssec-invalid", []string{"senders-differ: Exim and mox do not ask"}},
	{"insecure MX, no TLSA", []edit{mxIs(resolve.Insecure), noTLSA}, "n/a unauthenticated", nil},
	{"insecure MX, unusable TLSA", []edit{mxIs(resolve.Insecure), publishes(record(1, 1, 1, make([]byte, 32)))}, "n/a unauthenticated tlsa-invalid", []string{"senders-differ: dane-only"}},
	{"no validator", []edit{unvalidated}, "?", []string{"no-validator: unbound"}},
	{"no validator, TLSA", []edit{unvalidated, bases(base("mx.example.org", resolve.Insecure, stale(3, 1, 1))), func(f *Facts) { f.Bases[0].TLSA.Validator = "" }}, "?", []string{"no-validator"}},
	{"no validator, wrong chain", []edit{unvalidated, serves(mine, privateCA)}, "?", nil},
	{"no validator for the MX", []edit{mxIs(resolve.Insecure), func(f *Facts) { f.MX.Validator = "" }}, "?", nil},
	{"bogus without validator", []edit{unvalidated, func(f *Facts) { f.MX = mx(resolve.Bogus) }}, "fail skip dnssec-invalid", nil},
	{"null MX beside", []edit{func(f *Facts) { f.MX = mx(resolve.Secure, "", "mx.example.org") }}, "pass deliver", []string{"senders-differ: Postfix returns its mail"}},
	{"host named", []edit{func(f *Facts) { f.MX, f.Domain, f.Policy = nil, "", nil }}, "pass deliver", nil},
	{"implicit MX", []edit{func(f *Facts) { f.MX = mx(resolve.Secure) }}, "pass deliver", nil},
	{"insecure implicit MX", []edit{func(f *Facts) { f.MX = mx(resolve.Insecure) }}, "n/a unauthenticated", []string{"senders-differ"}},
	{"signatures expire", []edit{mxExpires(now.Add(day)), at(2)}, "fail skip dnssec-invalid", nil},
	{"signatures still valid", []edit{mxExpires(now.Add(3 * day)), at(2)}, "pass deliver", nil},
	{"TLSA signatures expire", []edit{func(f *Facts) { f.Bases[0].TLSA.Until = now.Add(day) }, at(2)}, "fail skip dnssec-invalid", nil},
	{"TLSA signatures not yet valid", []edit{func(f *Facts) { f.Bases[0].TLSA.Since = now.Add(-day) }, at(-2)}, "fail skip dnssec-invalid", nil},
	{"address signatures expire", []edit{func(f *Facts) { f.Addresses[0].Until = now.Add(day) }, at(2)}, "fail skip dnssec-invalid", nil},

	{"expanded base decides", []edit{bases(base("host.example.net", resolve.Secure, tlsa(3, 1, 1, good)), base("mx.example.org", resolve.Secure, stale(3, 1, 1))), also("host.example.net", starttls.Any, good, inter)}, "pass deliver", nil},
	{"expanded base decides against", []edit{bases(base("host.example.net", resolve.Secure, stale(3, 1, 1)), base("mx.example.org", resolve.Secure, tlsa(3, 1, 1, good))), also("host.example.net", starttls.Any, good, inter)}, "fail skip validation-failure", nil},
	{"initial base, because the expanded has none", []edit{bases(base("host.example.net", resolve.Secure), base("mx.example.org", resolve.Secure, tlsa(3, 1, 1, good))), isAlias}, "pass deliver", []string{"senders-differ: Postfix judges them, Exim looks where"}},
	{"initial base, because the expanded is insecure", []edit{bases(base("host.example.net", resolve.Insecure, stale(3, 1, 1)), base("mx.example.org", resolve.Secure, tlsa(3, 1, 1, good)))}, "pass deliver", nil},
	{"expanded base fails", []edit{bases(base("host.example.net", resolve.Failed), base("mx.example.org", resolve.Secure, tlsa(3, 1, 1, good)))}, "fail skip dnssec-invalid", nil},
	{"another certificate for the base", []edit{bases(base("host.example.net", resolve.Secure, tlsa(3, 1, 1, other))), also("host.example.net", starttls.Any, other, inter)}, "pass deliver", nil},
	{"no handshake with the base", []edit{bases(base("host.example.net", resolve.Secure, tlsa(3, 1, 1, good)))}, "?", nil},
	{"another port", []edit{func(f *Facts) { f.Port = 465 }}, "n/a unauthenticated", nil},
}

// daneRecords are about single records, and what the server shows.
var daneRecords = []row{
	{"3 1 1", []edit{publishes(tlsa(3, 1, 1, good))}, "pass deliver", nil},
	{"3 1 2", []edit{publishes(tlsa(3, 1, 2, good))}, "pass deliver", nil},
	{"3 1 0", []edit{publishes(tlsa(3, 1, 0, good))}, "pass deliver", nil},
	{"3 0 1", []edit{publishes(tlsa(3, 0, 1, good))}, "pass deliver", nil},
	{"3 0 2", []edit{publishes(tlsa(3, 0, 2, good))}, "pass deliver", nil},
	{"3 0 0", []edit{publishes(tlsa(3, 0, 0, good))}, "pass deliver", nil},
	{"3 1 1 of another", []edit{publishes(tlsa(3, 1, 1, other))}, "fail skip validation-failure", []string{"-tlsa-combination"}},
	{"3 0 0 of another", []edit{publishes(tlsa(3, 0, 0, other))}, "fail skip validation-failure", nil},
	{"3 1 0 of another", []edit{publishes(tlsa(3, 1, 0, other))}, "fail skip validation-failure", nil},
	{"3 1 1 of the issuer", []edit{publishes(tlsa(3, 1, 1, inter))}, "fail skip validation-failure", nil},
	{"3 0 1 after renewal with the same key", []edit{publishes(tlsa(3, 0, 1, good)), serves(sign(&x509.Certificate{DNSNames: []string{"mx.example.org"}}, inter, good.key), inter)}, "fail skip validation-failure", nil},
	{"3 1 1 after renewal with the same key", []edit{serves(sign(&x509.Certificate{DNSNames: []string{"mx.example.org"}}, inter, good.key), inter)}, "pass deliver", nil},
	{"two records, one fits", []edit{publishes(stale(3, 1, 1), tlsa(3, 1, 1, good))}, "pass deliver", []string{"-tlsa-combination"}},
	{"3 1 1 expired", []edit{at(1000)}, "pass deliver", nil},
	{"3 1 1 not yet valid", []edit{at(-1000)}, "pass deliver", nil},
	{"3 1 1 another name", []edit{both(server("ecdsa", inter, withNames("x.example.net")), inter)}, "pass deliver", nil},
	{"3 1 1 self-signed", []edit{both(server("ecdsa", nil))}, "pass deliver", nil},
	{"3 1 1 clientAuth only", []edit{both(server("ecdsa", inter, uses(x509.ExtKeyUsageClientAuth)), inter)}, "pass deliver", nil},
	{"3 1 1 no intermediate", []edit{serves(good)}, "pass deliver", nil},
	{"3 1 1 weak key", []edit{both(server("rsa1024", inter), inter)}, "pass deliver", nil},

	{"no STARTTLS", []edit{fails("no STARTTLS")}, "fail skip starttls-not-supported", nil},
	{"454", []edit{fails("454")}, "fail skip starttls-not-supported", nil},
	{"injection", []edit{fails("injection")}, "fail skip validation-failure", []string{"senders-differ: Postfix drops them and goes on, Exim defers"}},
	{"no version", []edit{fails("no version")}, "fail skip validation-failure", nil},
	{"nothing common", []edit{fails("nothing common")}, "?", []string{"not-judged: -dane_tlsa_domain mx.example.org"}},
	{"refused", []edit{fails("refused")}, "?", nil},

	{"PKIX-TA", []edit{publishes(tlsa(0, 1, 1, inter))}, "n/a unauthenticated tlsa-invalid", []string{"tlsa-unusable: usage 0 is not for SMTP", "senders-differ: dane-only"}},
	{"PKIX-EE", []edit{publishes(tlsa(1, 1, 1, good))}, "n/a unauthenticated tlsa-invalid", []string{"tlsa-unusable", "senders-differ"}},
	{"unknown usage", []edit{publishes(record(4, 1, 1, make([]byte, 32)))}, "n/a unauthenticated tlsa-invalid", []string{"tlsa-unusable: usage 4 is unknown", "senders-differ"}},
	{"private usage", []edit{publishes(record(255, 1, 1, make([]byte, 32)))}, "n/a unauthenticated tlsa-invalid", []string{"tlsa-unusable", "senders-differ"}},
	{"unknown selector", []edit{publishes(record(3, 2, 1, make([]byte, 32)))}, "n/a unauthenticated tlsa-invalid", []string{"tlsa-unusable: selector 2", "senders-differ"}},
	{"unknown matching type", []edit{publishes(record(3, 1, 3, make([]byte, 32)))}, "n/a unauthenticated tlsa-invalid", []string{"tlsa-unusable: matching type 3", "senders-differ"}},
	{"digest too short", []edit{publishes(record(3, 1, 1, make([]byte, 31)))}, "n/a unauthenticated tlsa-invalid", []string{"tlsa-unusable: 32 bytes, not 31", "senders-differ"}},
	{"digest too long", []edit{publishes(record(3, 1, 1, make([]byte, 64)))}, "n/a unauthenticated tlsa-invalid", []string{"tlsa-unusable", "senders-differ"}},
	{"SHA-512 too short", []edit{publishes(record(3, 1, 2, make([]byte, 32)))}, "n/a unauthenticated tlsa-invalid", []string{"tlsa-unusable", "senders-differ"}},
	{"empty data", []edit{publishes(record(3, 1, 1, nil))}, "n/a unauthenticated tlsa-invalid", []string{"tlsa-unusable: empty", "senders-differ"}},
	{"empty full data", []edit{publishes(record(3, 1, 0, nil))}, "n/a unauthenticated tlsa-invalid", []string{"tlsa-unusable", "senders-differ"}},
	{"full garbage", []edit{publishes(record(3, 0, 0, []byte("garbage")))}, "n/a unauthenticated tlsa-invalid", []string{"tlsa-unusable", "senders-differ"}},
	{"full certificate cut off", []edit{publishes(record(3, 0, 0, good.Raw[:100]))}, "n/a unauthenticated tlsa-invalid", []string{"tlsa-unusable", "senders-differ"}},
	{"full certificate that x509 cannot read", []edit{publishes(record(3, 0, 0, peculiarCertificate()))}, "?", []string{"not-judged: 3 0 0"}},
	{"usage 2 garbage", []edit{publishes(record(2, 0, 0, []byte("garbage")))}, "n/a unauthenticated tlsa-invalid", []string{"tlsa-unusable", "senders-differ: Exim with GnuTLS defers the mail"}},
	{"unusable and no TLS", []edit{publishes(record(1, 1, 1, make([]byte, 32))), fails("no STARTTLS")}, "fail skip starttls-not-supported", []string{"tlsa-unusable"}},
	{"unusable beside right", []edit{publishes(record(1, 1, 1, make([]byte, 32)), tlsa(3, 1, 1, good))}, "pass deliver", []string{"tlsa-unusable", "-tlsa-combination"}},
	{"unusable beside wrong", []edit{publishes(record(1, 1, 1, make([]byte, 32)), stale(3, 1, 1))}, "fail skip validation-failure", []string{"tlsa-unusable"}},

	{"stale 3 1 2 beside right 3 1 1", []edit{publishes(stale(3, 1, 2), tlsa(3, 1, 1, good))}, "fail skip validation-failure", []string{"senders-differ: Exim with GnuTLS and mox deliver", "tlsa-combination: 3 1 2"}},
	{"stale 3 1 1 beside right 3 1 2", []edit{publishes(stale(3, 1, 1), tlsa(3, 1, 2, good))}, "pass deliver", []string{"tlsa-combination: 3 1 1"}},
	{"stale 3 0 2 beside right 3 1 1", []edit{publishes(stale(3, 0, 2), tlsa(3, 1, 1, good))}, "pass deliver", []string{"tlsa-combination: 3 0 2"}},
	{"stale 3 1 2 beside right 3 1 0", []edit{publishes(stale(3, 1, 2), tlsa(3, 1, 0, good))}, "pass deliver", []string{"tlsa-combination: 3 1 2"}},
	{"stale 2 1 2 beside right 3 1 1", []edit{publishes(stale(2, 1, 2), tlsa(3, 1, 1, good))}, "pass deliver", []string{"tlsa-combination: 2 1 2"}},
	{"unusable 3 1 2 beside right 3 1 1", []edit{publishes(record(3, 1, 2, make([]byte, 3)), tlsa(3, 1, 1, good))}, "pass deliver", []string{"tlsa-unusable"}},
	{"both digests right", []edit{publishes(tlsa(3, 1, 1, good), tlsa(3, 1, 2, good))}, "pass deliver", []string{"-tlsa-combination"}},

	{"two keys, both published", []edit{publishes(tlsa(3, 1, 1, good), tlsa(3, 1, 1, goodRSA)), also("mx.example.org", starttls.RSA, goodRSA, inter)}, "pass deliver", []string{"-tlsa-combination"}},
	{"two keys, ECDSA published", []edit{also("mx.example.org", starttls.RSA, goodRSA, inter)}, "fail skip validation-failure", []string{"senders-differ: Postfix prefers ECDSA", "senders-differ: decides about what it gets publish a 3 1 1 record of each key"}},
	{"two keys, RSA published", []edit{publishes(tlsa(3, 1, 1, goodRSA)), also("mx.example.org", starttls.RSA, goodRSA, inter)}, "fail skip validation-failure", []string{"senders-differ: Postfix prefers ECDSA"}},
	{"two keys, issuer published", []edit{publishes(tlsa(2, 1, 1, inter)), also("mx.example.org", starttls.RSA, goodRSA, inter)}, "pass deliver", nil},
	{"two keys, a combination each", []edit{publishes(tlsa(3, 1, 1, good), tlsa(3, 0, 1, goodRSA)), also("mx.example.org", starttls.RSA, goodRSA, inter)}, "pass deliver", []string{"tlsa-combination: ECDSA", "tlsa-combination: RSA"}},
	{"one key right, what crypto/tls cannot speak", []edit{alsoFails("nothing common")}, "?", []string{"not-judged: -dane_tlsa_rrdata '3 1 1 "}},
	{"one key wrong, what crypto/tls cannot speak", []edit{publishes(stale(3, 1, 1)), alsoFails("nothing common")}, "fail skip validation-failure", nil},
	{"works with less than senders offer", []edit{fails("TLS error"), also("mx.example.org", starttls.ECDSA, good, inter)}, "fail skip validation-failure", nil},
	{"old TLS", []edit{old}, "pass deliver", []string{"senders-differ: Exim with GnuTLS delivers"}},
	{"3 1 1 and 25 certificates", []edit{serves(append([]*entity{good}, slices.Repeat([]*entity{inter}, 25)...)...)}, "pass deliver", nil},
	{"no forward secrecy", []edit{staticRSA}, "pass deliver", []string{"senders-differ: Exim with GnuTLS and mox do no TLS", "senders-differ: allow ECDHE"}},
	{"another certificate without SNI", []edit{also("", starttls.Any, mine, privateCA)}, "pass deliver", nil},
}

// both serves a chain and publishes its key.
func both(chain ...*entity) edit {
	return func(f *Facts) {
		serves(chain...)(f)
		publishes(tlsa(3, 1, 1, chain[0]))(f)
	}
}

// peculiarCertificate is one that crypto/x509 does not read, with the outline of a certificate: its serial number is negative.
func peculiarCertificate() []byte {
	der := slices.Clone(good.Raw)
	serial := good.SerialNumber.Bytes()
	for i := range der {
		if len(der)-i > len(serial) && der[i] == 2 && int(der[i+1]) == len(serial) && slices.Equal(der[i+2:i+2+len(serial)], serial) {
			der[i+2] |= 0x80
			return der
		}
	}
	panic("no serial number")
}

func TestDANE(t *testing.T) {
	checkRows(t, DANE, daneDNS)
	checkRows(t, DANE, daneRecords)
	checkRows(t, DANE, daneIssuers())
}

// daneIssuers are about usage 2. Without other words the server sends leaf and intermediate.
func daneIssuers() []row {
	oldInter := authority("Old Intermediate", root, until(now.Add(-day)))
	oldRoot := authority("Old Root", nil, until(now.Add(-day)))
	oldRootsCA := authority("Old Root's", oldRoot)
	sub := authority("Sub", inter)
	noCA := sign(&x509.Certificate{Subject: pkix.Name{CommonName: "no CA"}, BasicConstraintsValid: true}, root, keyOf("ecdsa"))
	vague := authority("Vague", root, noBasicConstraints, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })
	foreign := sign(&x509.Certificate{Subject: inter.Subject, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: inter.SubjectKeyId}, private, inter.key)
	selfMade := server("ecdsa", nil)
	leafOf := func(parent *entity, changes ...change) *entity { return server("ecdsa", parent, changes...) }
	mailDomain := leafOf(inter, withNames("example.org"))
	const mismatch, untrusted, expired, none = "fail skip certificate-host-mismatch", "fail skip certificate-not-trusted", "fail skip certificate-expired", "fail skip validation-failure"
	return []row{
		{"2 1 1 of the intermediate", []edit{publishes(tlsa(2, 1, 1, inter))}, "pass deliver", nil},
		{"2 0 1 of the intermediate", []edit{publishes(tlsa(2, 0, 1, inter))}, "pass deliver", nil},
		{"2 1 2 of the intermediate", []edit{publishes(tlsa(2, 1, 2, inter))}, "pass deliver", nil},
		{"2 0 0 of the intermediate", []edit{publishes(tlsa(2, 0, 0, inter))}, "pass deliver", nil},
		{"2 1 0 of the intermediate", []edit{publishes(tlsa(2, 1, 0, inter))}, "pass deliver", nil},
		{"2 1 1 of a private CA", []edit{publishes(tlsa(2, 1, 1, privateCA)), serves(mine, privateCA)}, "pass deliver", nil},
		{"2 0 1 of a root that is sent", []edit{publishes(tlsa(2, 0, 1, root)), serves(good, inter, root)}, "pass deliver", nil},
		{"2 0 1 of a root that is not sent", []edit{publishes(tlsa(2, 0, 1, root))}, none, nil},
		{"2 1 1 of a root that is not sent", []edit{publishes(tlsa(2, 1, 1, root))}, none, nil},
		{"2 0 0 of a root that is not sent", []edit{publishes(tlsa(2, 0, 0, root))}, "pass deliver", []string{"senders-differ: Postfix delivers, Exim with GnuTLS defers"}},
		{"2 1 0 of a root that is not sent", []edit{publishes(tlsa(2, 1, 0, root))}, "pass deliver", []string{"senders-differ: Exim with GnuTLS and mox defers"}},
		{"2 1 0 of an intermediate that is not sent", []edit{publishes(tlsa(2, 1, 0, inter)), serves(good)}, "pass deliver", []string{"senders-differ"}},
		{"2 1 0 of an RSA key that is not sent", []edit{publishes(tlsa(2, 1, 0, goodRSA)), serves(good)}, untrusted, nil},
		{"2 0 0 of another root", []edit{publishes(tlsa(2, 0, 0, private))}, untrusted, nil},
		{"2 1 0 of another root", []edit{publishes(tlsa(2, 1, 0, private))}, untrusted, nil},
		{"2 0 0 of the leaf", []edit{publishes(tlsa(2, 0, 0, good)), serves(good)}, none, []string{"senders-differ: mox delivers"}},
		{"2 1 1 of another", []edit{publishes(stale(2, 1, 1))}, none, nil},
		{"2 1 1 of an issuer that is not the leaf's", []edit{publishes(tlsa(2, 1, 1, privateCA)), serves(good, inter, privateCA)}, untrusted, nil},
		{"2 1 1 of the leaf", []edit{publishes(tlsa(2, 1, 1, good))}, none, []string{"senders-differ: names the certificate of mx.example.org (192.0.2.1) itself"}},
		{"2 0 1 of the leaf, sent twice", []edit{publishes(tlsa(2, 0, 1, good)), serves(good, good)}, none, []string{"senders-differ"}},
		{"2 0 1 of a self-signed leaf", []edit{publishes(tlsa(2, 0, 1, selfMade)), serves(selfMade)}, none, []string{"senders-differ"}},
		{"2 1 1 two steps up", []edit{publishes(tlsa(2, 1, 1, inter)), serves(leafOf(sub), sub, inter)}, "pass deliver", nil},
		{"2 1 1 two steps up, in another order", []edit{publishes(tlsa(2, 1, 1, inter)), serves(leafOf(sub), inter, sub)}, "pass deliver", nil},
		{"2 1 1 two steps up, the middle missing", []edit{publishes(tlsa(2, 1, 1, inter)), serves(leafOf(sub), inter)}, untrusted, nil},
		{"2 1 1 of an expired issuer", []edit{publishes(tlsa(2, 1, 1, oldInter)), serves(leafOf(oldInter), oldInter)}, "pass deliver", []string{"senders-differ: Postfix delivers, Exim with GnuTLS and mox defer"}},
		{"2 1 1 of an expired root that is sent", []edit{publishes(tlsa(2, 1, 1, oldRoot)), serves(leafOf(oldRootsCA), oldRootsCA, oldRoot)}, "pass deliver", []string{"senders-differ: Exim with GnuTLS delivers, Postfix and mox defer"}},
		{"2 1 1 of a root above an expired intermediate", []edit{publishes(tlsa(2, 1, 1, root)), serves(leafOf(oldInter), oldInter, root)}, expired, nil},
		{"2 1 1 and an expired leaf", []edit{publishes(tlsa(2, 1, 1, inter)), serves(leafOf(inter, until(now.Add(-day))), inter)}, expired, nil},
		{"2 1 1 and a future leaf", []edit{publishes(tlsa(2, 1, 1, inter)), serves(leafOf(inter, from(now.Add(day))), inter)}, none, nil},
		{"2 1 1 later", []edit{publishes(tlsa(2, 1, 1, inter)), at(90)}, expired, nil},
		{"2 1 1 and a client certificate", []edit{publishes(tlsa(2, 1, 1, inter)), serves(leafOf(inter, uses(x509.ExtKeyUsageClientAuth)), inter)}, untrusted, []string{"senders-differ: not for TLS servers"}},
		{"2 1 1 of an issuer that is no CA", []edit{publishes(tlsa(2, 1, 1, noCA)), serves(leafOf(noCA), noCA)}, none, nil},
		{"2 1 1 of an issuer that does not say", []edit{publishes(tlsa(2, 1, 1, vague)), serves(leafOf(vague), vague)}, "?", []string{"not-judged: does not say whether it is a CA"}},
		{"2 1 1 another name", []edit{publishes(tlsa(2, 1, 1, inter)), serves(leafOf(inter, withNames("x.example.net")), inter)}, mismatch, []string{"senders-differ: Exim with GnuTLS delivers it without proof"}},
		{"2 1 1 wildcard", []edit{publishes(tlsa(2, 1, 1, inter)), serves(leafOf(inter, withNames("*.example.org")), inter)}, "pass deliver", nil},
		{"2 1 1 mail domain", []edit{publishes(tlsa(2, 1, 1, inter)), serves(mailDomain, inter)}, "pass deliver", []string{"senders-differ: Exim with GnuTLS takes it for no proof"}},
		{"2 1 1 mail domain, private CA", []edit{publishes(tlsa(2, 1, 1, privateCA)), serves(leafOf(privateCA, withNames("example.org")), privateCA)}, "pass deliver", []string{"senders-differ: Exim with GnuTLS defers the mail"}},
		{"2 1 1 another name, private CA", []edit{publishes(tlsa(2, 1, 1, privateCA)), serves(leafOf(privateCA, withNames("x.example.net")), privateCA)}, mismatch, nil},
		{"2 1 1 expanded next hop", []edit{publishes(tlsa(2, 1, 1, inter)), serves(leafOf(inter, withNames("mail.example.com")), inter), func(f *Facts) { f.MX.Final = "mail.example.com" }}, "pass deliver", []string{"senders-differ"}},
		{"2 1 1 mail domain, insecure MX", []edit{publishes(tlsa(2, 1, 1, inter)), serves(mailDomain, inter), mxIs(resolve.Insecure)}, "n/a unauthenticated", []string{"senders-differ: that fit"}},
		{"2 1 1 mail domain, host named", []edit{publishes(tlsa(2, 1, 1, inter)), serves(mailDomain, inter), func(f *Facts) { f.MX = nil }}, mismatch, []string{"senders-differ: Exim with GnuTLS delivers it without proof"}},
		{"2 1 1 CN only", []edit{publishes(tlsa(2, 1, 1, inter)), serves(leafOf(inter, cn("mx.example.org")), inter)}, "pass deliver", []string{"senders-differ: mox defers"}},
		{"2 1 1 CN beside another name", []edit{publishes(tlsa(2, 1, 1, inter)), serves(leafOf(inter, withNames("x.example.net")), inter)}, mismatch, []string{"senders-differ: Exim with GnuTLS delivers it without proof"}},
		{"2 1 1 CN of another", []edit{publishes(tlsa(2, 1, 1, inter)), serves(leafOf(inter, cn("x.example.net")), inter)}, mismatch, []string{"senders-differ: Exim with GnuTLS delivers it without proof"}},
		{"2 1 1 base domain", []edit{bases(base("host.example.net", resolve.Secure, tlsa(2, 1, 1, inter))), also("host.example.net", starttls.Any, leafOf(inter, withNames("host.example.net")), inter)}, "pass deliver", nil},
		{"2 1 1 initial name, expanded base", []edit{bases(base("host.example.net", resolve.Secure, tlsa(2, 1, 1, inter))), also("host.example.net", starttls.Any, good, inter)}, mismatch, []string{"senders-differ: Exim with GnuTLS delivers it without proof"}},
		{"2 1 1 initial name, expanded base, host named", []edit{bases(base("host.example.net", resolve.Secure, tlsa(2, 1, 1, inter))), also("host.example.net", starttls.Any, good, inter), func(f *Facts) { f.MX = nil }}, "pass deliver", []string{"senders-differ"}},
		{"2 1 1 initial name, expanded base, implicit MX", []edit{bases(base("host.example.net", resolve.Secure, tlsa(2, 1, 1, inter))), also("host.example.net", starttls.Any, good, inter), func(f *Facts) { f.MX = mx(resolve.Secure) }}, "pass deliver", []string{"senders-differ"}},
		{"2 1 1 of a root, cross-signed by another first", []edit{publishes(tlsa(2, 1, 1, root)), serves(good, foreign, inter, root)}, "pass deliver", []string{"senders-differ: Postfix and Exim stop there"}},
		{"stale 2 1 1 beside right 3 1 1", []edit{publishes(stale(2, 1, 1), tlsa(3, 1, 1, good))}, "pass deliver", []string{"tlsa-combination: 2 1 1"}},
		{"right 2 1 1 beside stale 3 1 1", []edit{publishes(stale(3, 1, 1), tlsa(2, 1, 1, inter))}, "pass deliver", []string{"tlsa-combination: 3 1 1"}},
		{"stale 2 1 2 beside right 2 1 1", []edit{publishes(stale(2, 1, 2), tlsa(2, 1, 1, inter))}, none, []string{"senders-differ: stronger digest", "tlsa-combination: 2 1 2"}},
	}
}
