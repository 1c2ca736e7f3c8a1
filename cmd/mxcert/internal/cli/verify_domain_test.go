package cli

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/nameserver"
	"mxcert/cmd/mxcert-lab/smtpd"
	"mxcert/deploy/mx"
	"mxcert/deploy/verdict"

	"mxcert/cmd/mxcert/internal/report"
)

// sender is somebody who sends mail to example.org of a lab, without a configuration.
type sender struct {
	*host
	flags []string
}

func newSender(t *testing.T) *sender {
	t.Helper()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.report(report.CodeOK, "renew")
	h.check(h.World.SetTrust("example.org.", nameserver.Secure))
	text, err := os.ReadFile(h.Path("tls", "mx.crt"))
	h.check(err)
	_, port, err := net.SplitHostPort(h.SMTP.Address())
	h.check(err)
	leaf := leafOf(t, text)
	digest := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	h.check(h.World.Add("_" + port + "._tcp.mx.example.org. TLSA 3 1 1 " + hex.EncodeToString(digest[:])))
	return &sender{host: h, flags: []string{"--port", port, "--resolver", h.Primary.Address(), "--roots", h.Path("roots.pem")}}
}

// verify runs verify with --json, which must exit with code.
func (s *sender) verify(code report.Code, args ...string) (r verifyReport) {
	s.t.Helper()
	got := runAlone(append(append([]string{"verify", "--json"}, s.flags...), args...)...)
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || got.code != code || r.OK != (code == report.CodeOK) {
		s.t.Fatalf("verify %q exited with %d, want %d (%v):\n%s%s", args, got.code, code, err, got.stdout, got.stderr)
	}
	return r
}

// What a sender of mail to a domain meets, with each exit code.
func TestVerifyDomain(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	r := s.verify(report.CodeOK, "--domain", "example.org")
	if len(r.Domains) != 1 || len(r.Hosts) != 1 || r.Domains[0].DNSSEC != "secure" || r.Domains[0].Validator != s.Primary.Address() || r.Hosts[0].MX != "mx.example.org" || r.Hosts[0].Address != "127.0.0.1" {
		t.Fatalf("%+v", r)
	}
	for _, verdicts := range []map[verdict.Kind]verdictReport{r.Domains[0].Verdicts, r.Hosts[0].Verdicts} {
		for _, kind := range []verdict.Kind{verdict.Opportunistic, verdict.PKIX, verdict.DANE} {
			if v := verdicts[kind]; v.Result != verdict.Pass || v.Action != verdict.Deliver {
				t.Errorf("%s: %+v", kind, v)
			}
		}
	}
	text := runAlone(append([]string{"verify", "--domain", "example.org"}, s.flags...)...)
	if text.code != report.CodeOK || !strings.HasPrefix(text.stdout, "example.org: pass opportunistic, pkix, dane") {
		t.Errorf("%+v", text)
	}
	if !strings.Contains(text.stderr, "mail goes to 1 host\n") || !strings.Contains(text.stderr, "  handshake ") {
		t.Errorf("no progress:\n%s", text.stderr)
	}
	for line := range strings.Lines(text.stdout) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if quiet := runAlone(append([]string{"-q", "verify", "--domain", "example.org"}, s.flags...)...); quiet.stdout+quiet.stderr != "" {
		t.Errorf("with -q: %+v", quiet)
	}
	// A foreign address gets four connections at most, and all of them end with QUIT.
	before := s.SMTP.Count()
	s.verify(report.CodeOK, "--domain", "example.org")
	if n := s.SMTP.Count() - before; n < 2 || n > 4 {
		t.Errorf("%d connections", n)
	}
	before = s.SMTP.Count()
	s.verify(report.CodeOK, "--domain", "example.org", "--connections", "1")
	if n := s.SMTP.Count() - before; n != 1 {
		t.Errorf("%d connections with --connections 1", n)
	}
	for _, session := range s.SMTP.Sessions() {
		if commands := strings.Join(session.Commands, " "); strings.Contains(commands, "MAIL") || strings.Contains(commands, "RCPT") || session.TLS && !strings.HasSuffix(commands, "QUIT") {
			t.Errorf("a session: %s", commands)
		}
	}
	// Several domains, and hosts. Domains with the same host connect one after the other.
	if r = s.verify(report.CodeOK, "--domain", "example.org", "--domain", "EXAMPLE.org.", "--domain", "example.com", "--for", "opportunistic"); len(r.Domains) != 2 || r.Domains[1].Domain != "example.com" || r.Hosts[1].Domain != "example.com" {
		t.Errorf("two domains: %+v", r)
	}
	if r = s.verify(report.CodeOK, "--host", "mx.example.org", "--for", "dane"); len(r.Hosts) != 1 || r.Hosts[0].Verdicts[verdict.DANE].Result != verdict.Pass || len(r.Hosts[0].TLSA) != 1 {
		t.Errorf("a host: %+v", r)
	}
}

func TestVerifyDomainFaults(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	later := s.verify(report.CodeFault, "--domain", "example.org", "--at", "+3650d")
	if v := later.Hosts[0].Verdicts[verdict.PKIX]; v.Result != verdict.Fail || v.Type != "certificate-expired" || later.At == nil || later.At.Before(time.Now().AddDate(9, 0, 0)) {
		t.Errorf("later: %+v", later)
	}
	s.SMTP.SetFaults(smtpd.Faults{NoStartTLS: true})
	clear := s.verify(report.CodeFault, "--domain", "example.org")
	if v := clear.Domains[0].Verdicts; v[verdict.Opportunistic].Action != verdict.ClearText || v[verdict.DANE].Result != verdict.Fail {
		t.Errorf("without STARTTLS: %+v", v)
	}
	s.SMTP.SetFaults(smtpd.Faults{})
	if r := s.verify(report.CodeFault, "--domain", "nosuch.example.org"); len(r.Hosts) != 0 || r.Domains[0].Findings[0].ID != "mail-domain-missing" || r.Domains[0].Findings[0].Hint == "" {
		t.Errorf("no such domain: %+v", r)
	}
	missing := runAlone(append([]string{"verify", "--domain", "nosuch.example.org"}, s.flags...)...)
	if first, _, _ := strings.Cut(missing.stdout, "\n"); missing.code != report.CodeFault || !strings.Contains(first, "nosuch.example.org: fail for every sender: nobody can send mail to") || !strings.Contains(missing.stdout, "does not exist in DNS") {
		t.Errorf("%+v", missing)
	}
	// A null MX accepts no mail, which is no fault.
	s.check(s.World.Add("null.example.org. MX 0 ."))
	if r := s.verify(report.CodeOK, "--domain", "null.example.org"); r.Domains[0].Verdicts[verdict.Opportunistic].Result != verdict.NotApplicable || len(r.Domains[0].MX) != 1 || r.Domains[0].MX[0].Host != "" {
		t.Errorf("a null MX: %+v", r.Domains[0])
	}
	// A host without an address, and one at which nothing answers.
	s.check(s.World.Add("two.example.org. MX 10 gone.example.org.", "two.example.org. MX 20 mx.example.org."))
	if r := s.verify(report.CodeFault, "--domain", "two.example.org"); len(r.Hosts) != 2 || r.Hosts[0].MX != "gone.example.org" || r.Hosts[0].Address != "" || r.Domains[0].Verdicts[verdict.Opportunistic].Result != verdict.Pass {
		t.Errorf("one of two hosts: %+v", r)
	}
	s.check(s.SMTP.Close())
	if r := s.verify(report.CodeTemporary, "--domain", "example.org"); !r.Hosts[0].Verdicts[verdict.Opportunistic].NotJudged {
		t.Errorf("a closed port: %+v", r)
	}
	// Nobody validates, so nothing can be said about DANE.
	s.check(s.World.SetTrust("example.org.", nameserver.Insecure))
	s.flags = append(s.flags, "--for", "dane")
	if r := s.verify(report.CodeTemporary, "--domain", "example.org"); !r.Hosts[0].Verdicts[verdict.DANE].NotJudged || r.Domains[0].Validator != "" {
		t.Errorf("nobody validates: %+v", r)
	}
	s.check(s.World.SetTrust("example.org.", nameserver.Bogus))
	if r := s.verify(report.CodeFault, "--domain", "example.org"); r.Domains[0].DNSSEC != "bogus" || r.Domains[0].Verdicts[verdict.DANE].Result != verdict.Fail {
		t.Errorf("bogus: %+v", r)
	}
}

// A configuration is used if there is one, and a bad one that was named is an error.
func TestVerifyDomainUsesTheConfiguration(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	if got := s.run("verify", "--domain", "example.org", "--port", s.flags[1], "--roots", s.Path("roots.pem")); got.code != report.CodeOK {
		t.Errorf("with the resolvers of the configuration: %+v", got)
	}
	s.write("nonsense: true\n")
	if got := s.run("verify", "--domain", "example.org"); got.code != report.CodeConfig || got.stdout != "" {
		t.Errorf("a bad configuration: %+v", got)
	}
	if got := s.run(append([]string{"verify", "--domain", "example.org"}, s.flags...)...); got.code != report.CodeOK {
		t.Errorf("a resolver is named, so that the configuration does not matter: %+v", got)
	}
}

// The word of a resolver that is not on loopback counts if the configuration trusts it, also if it is named.
func TestVerifyTrustsANamedResolver(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	own, err := mx.Own(nil)
	s.check(err)
	i := slices.IndexFunc(own, func(a netip.Addr) bool { return a.Is4() })
	if i < 0 {
		t.Skip("this host has no IPv4 address but loopback")
	}
	server, err := s.World.Listen(own[i].String() + ":0")
	s.check(err)
	t.Cleanup(func() { _ = server.Close() })
	s.flags = append([]string{"-c", s.config}, "--port", s.flags[1], "--resolver", server.Address(), "--roots", s.Path("roots.pem"), "--for", "dane")
	if r := s.verify(report.CodeTemporary, "--domain", "example.org"); r.Domains[0].Validator != "" {
		t.Errorf("nobody trusts it: %+v", r.Domains[0])
	}
	s.edit("dns:\n", "dns:\n  resolvers_trusted: [\""+server.Address()+"\", 192.0.2.99]\n")
	if r := s.verify(report.CodeOK, "--domain", "example.org"); r.Domains[0].Validator != server.Address() {
		t.Errorf("--domain: %+v", r.Domains[0])
	}
	s.flags = []string{"-c", s.config, "--resolver", server.Address(), "--for", "dane"}
	if r := s.verify(report.CodeOK); r.Hosts[0].Verdicts[verdict.DANE].NotJudged {
		t.Errorf("own endpoints: %+v", r.Hosts[0])
	}
}

func leafOf(t *testing.T, text []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(text)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}
