package judges

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// row is one case of the table: what DNS says, what the server does, and what each judge answers. In texts, {d} is the row's mail domain,
// {mx} its MX host, {ip} the host's address and {next} that of the next row.
type row struct {
	id   string // a DNS label, unique
	what string

	// DNS. The zone is signed and secure unless it is "plain" (unsigned, proven), "bogus" (the DS record is of no key) or "expired".
	zone    string
	to      string   // where mail is sent; "": {d}
	mx      string   // name of the MX host; "": mx.{d}
	records []string // instead of the MX and the address record
	more    []string // beside them
	tlsa    []string // at _25._tcp.{mx}: "3 1 1 leaf"; see (deck).association

	// The server: postfix (default), exim, or odd:NAME, a server of this test (odd_test.go).
	server string
	leaf   leaf
	second *leaf    // of another key type, or what is shown to those who do not ask for the name of sni
	sni    string   // the certificate is shown only to those who ask for this name
	send   string   // the chain: "leaf int" by default
	set    []string // options of Postfix's smtpd, or "ciphers=…" and such of Exim; see servers_test.go
	policy *policy  // of MTA-STS
	cuts   []string // zones of their own: "signed _tcp.{mx}", or plain or bogus instead of signed

	later    time.Duration // judge so much later
	zoneTime bool          // what the time changes is DNSSEC alone: posttls-finger, whose resolver has the time, judges too

	// The answers of all judges (see answers); on13 are those on Debian 13, if they are others.
	want, on13 string

	// why says, from the RFC or from what the judge is, why a judge decides otherwise than mxcert. It is there if and only if one does.
	why string
	// unnamed says that why is no matter for the finding senders-differ.
	unnamed bool
}

// answers are those of all judges. A row writes them in one line, in this order, with " | " between:
//
//	posttls-finger at the levels dane, dane-only, secure (its match is the MX host's name)
//	Postfix's deliveries at the levels may, dane, dane-only, secure
//	Exim's deliveries with hosts_try_dane, hosts_require_dane, tls_verify_hosts
//	openssl s_client: DANE with the row's TLSA records, PKIX with the MX host's name; ok or the verify return code
//	GnuTLS: danetool --check, gnutls-cli; ok or no
//	mxcert verify: opportunistic, pkix, dane, mta_sts, requiretls of the domain; "+" pass, "!" fail, "=" n/a, "?" not judged, and the action
//	the senders that its finding senders-differ names
//
// V is a verified server, T one with a trusted anchor whose name was not asked, U an unauthenticated one, C clear text, D deferred,
// B bounced, no: no TLS, -: does not apply.
type answers struct{ Finger, Postfix, Exim, OpenSSL, GnuTLS, Ours, Differ string }

func (a answers) String() string {
	all := []string{a.Finger, a.Postfix, a.Exim, a.OpenSSL, a.GnuTLS, a.Ours, or(a.Differ, "-")}
	return strings.Join(all, " | ")
}

// missing names a judge that did not answer.
func (a answers) missing() string {
	for _, one := range []struct {
		name, answer string
		words        int
	}{{"posttls-finger", a.Finger, 3}, {"Postfix", a.Postfix, 4}, {"Exim", a.Exim, 3}, {"openssl", a.OpenSSL, 2}, {"GnuTLS", a.GnuTLS, 2}, {"mxcert", a.Ours, 5}} {
		if one.answer != "-" && len(strings.Fields(one.answer)) != one.words {
			return one.name
		}
	}
	return ""
}

func (r row) domain() string {
	if r.zone == "" {
		return r.id + ".example"
	}
	return r.id + "." + r.zone + ".example"
}

// mailDomain is the domain that mail is sent to.
func (r row) mailDomain() string { return strings.ReplaceAll(or(r.to, "{d}"), "{d}", r.domain()) }

func (r row) host() string { return strings.ReplaceAll(or(r.mx, "mx.{d}"), "{d}", r.domain()) }

// seat is a row in the world: with its address and certificates.
type seat struct {
	row
	ip     string
	next   string // address of the row below
	leaves []issued
	chain  [][]byte // as sent
	pki    *pki
}

func (s *seat) fill(text string) string {
	return strings.NewReplacer("{d}", s.domain(), "{mx}", s.host(), "{ip}", s.ip, "{next}", s.next).Replace(text)
}

// seatOf gives a row its address and its certificates.
func seatOf(r row, ip, next string, p *pki) (*seat, error) {
	s := &seat{row: r, ip: ip, next: next, pki: p}
	for _, l := range []*leaf{&r.leaf, r.second} {
		if l == nil {
			continue
		}
		mine := *l
		mine.names = nil
		for _, name := range l.names {
			mine.names = append(mine.names, s.fill(name))
		}
		if l.names != nil && mine.names == nil {
			mine.names = []string{}
		}
		mine.cn, mine.san = s.fill(l.cn), []byte(nil)
		if l.san != nil {
			mine.san = rawSAN(s.fill(string(l.san)))
		}
		made, err := p.issue(mine, s.host())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.id, err)
		}
		s.leaves = append(s.leaves, made)
	}
	for _, what := range strings.Fields(or(r.send, "leaf int")) {
		der, err := s.certificate(what)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.id, err)
		}
		s.chain = append(s.chain, der)
	}
	return s, nil
}

func (s *seat) certificate(what string) ([]byte, error) {
	switch a := s.pki.authorities[what]; {
	case what == "leaf":
		return s.leaves[0].der, nil
	case what == "leaf2" && len(s.leaves) > 1:
		return s.leaves[1].der, nil
	case a != nil:
		return a.cert.Raw, nil
	}
	return nil, fmt.Errorf("no such certificate: %q", what)
}

// association turns "3 1 1 leaf" into the text of a TLSA record. Instead of a certificate there may be wrong (random data of the right
// length), hex:… (data as it is) or empty.
func (s *seat) association(text string) (string, error) {
	text = s.fill(text)
	var usage, selector, matching int
	var what string
	if _, err := fmt.Sscan(text, &usage, &selector, &matching, &what); err != nil {
		return "", fmt.Errorf("TLSA %q: %w", text, err)
	}
	head := fmt.Sprintf("%d %d %d ", usage, selector, matching)
	if data, ok := strings.CutPrefix(what, "hex:"); ok {
		return head + data, nil
	}
	var der []byte
	if what == "wrong" {
		other, err := s.pki.issue(leaf{}, "wrong.example")
		if err != nil {
			return "", err
		}
		der = other.der
	} else {
		var err error
		if der, err = s.certificate(what); err != nil {
			return "", err
		}
	}
	data, err := associated(der, selector, matching)
	return head + data, err
}

func associated(der []byte, selector, matching int) (string, error) {
	if selector == 1 {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return "", err
		}
		der = c.RawSubjectPublicKeyInfo
	}
	switch matching {
	case 1:
		sum := sha256.Sum256(der)
		der = sum[:]
	case 2:
		sum := sha512.Sum512(der)
		der = sum[:]
	}
	return hex.EncodeToString(der), nil
}

// tlsaRecords are the row's own records at _25._tcp.{mx}.
func (s *seat) tlsaRecords() ([]string, error) {
	var records []string
	for _, text := range s.tlsa {
		record, err := s.association(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.id, err)
		}
		records = append(records, record)
	}
	return records, nil
}

// zoneLines are all records of the row, as a zone file has them. A TLSA record among the row's own lines is computed, too.
func (s *seat) zoneLines() ([]string, error) {
	lines := s.records
	if lines == nil {
		lines = []string{"{d} MX 10 {mx}", "{mx} A {ip}"}
	}
	var out []string
	for _, line := range append(append([]string{}, lines...), s.more...) {
		fields := strings.Fields(s.fill(line))
		if fields[1] == "TLSA" {
			record, err := s.association(strings.Join(fields[2:], " "))
			if err != nil {
				return nil, err
			}
			fields = []string{fields[0], "TLSA", record}
		}
		out = append(out, absolute(fields))
	}
	records, err := s.tlsaRecords()
	for _, record := range records {
		out = append(out, "_25._tcp."+s.host()+". TLSA "+record)
	}
	if s.policy != nil {
		out = append(out, s.policy.records(s)...)
	}
	return out, err
}

// absolute ends the names of a record with a dot.
func absolute(fields []string) string {
	name := map[string]bool{"MX": true, "CNAME": true, "DNAME": true, "NS": true}
	fields[0] += "."
	if last := len(fields) - 1; name[fields[1]] && fields[last] != "." {
		fields[last] += "."
	}
	return strings.Join(fields, " ")
}

// zeros are the hexadecimal digits of n octets.
func zeros(n int) string { return strings.Repeat("00", n) }

func repeat(text string, n int) []string { return slices.Repeat([]string{text}, n) }

func numbered(format string, n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(format, i))
	}
	return all
}
