package doctor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/nameserver"
	"mxcert/cmd/mxcert-lab/smtpd"
	"mxcert/deploy/discover"
	"mxcert/deploy/survey"
	"mxcert/deploy/verdict"
)

// mailAt looks at the mail of the lab as a host whose address is 127.0.0.1.
func (h *host) mailAt(domains ...string) *mail {
	h.t.Helper()
	d := h.doctor()
	want := d.Certificates[0]
	want.MailDomains, want.PublicAddresses = domains, []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	_, text, err := net.SplitHostPort(h.SMTP.Address())
	h.check(err)
	port, err := strconv.Atoi(text)
	h.check(err)
	return &mail{Doctor: d, want: want, resolver: want.Resolver(), port: port}
}

// as gives the findings of a test its ID, as Examine does.
func as(id string, found []finding.Finding) (list checks) {
	for _, f := range found {
		if f.ID == "" {
			f.ID = id
		}
		list = append(list, Check{Finding: f})
	}
	return list
}

// expect checks that all findings are among those that are expected, and that what is not well says what to do.
func (r checks) expect(t *testing.T, what string, n int, severity finding.Severity, id, says string) {
	t.Helper()
	if len(r) != n || !r.has(id, severity, says) {
		t.Errorf("%s: want %d, one of them %s %s that says %q:%s", what, n, severity, id, says, r)
	}
	for _, c := range r {
		if c.Severity != finding.OK && c.Hint == "" {
			t.Errorf("%s: no hint: %+v", what, c)
		}
	}
}

// TestNames: which names do senders use, and does the certificate have them?
func TestNames(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	ctx := t.Context()
	as("mx", h.mailAt().names(ctx)).expect(t, "no mail domains", 1, "ok", "mx", "mail_domains is not set")
	as("mx", h.mailAt("example.org", "example.com").names(ctx)).expect(t, "covered", 2, "ok", "mx", "mx.example.org, an MX host of example.com, is this host, and the certificate covers it")
	h.check(h.World.Add("example.com. MX 20 mx2.example.com.", "mx2.example.com. A 127.0.0.1", "example.com. MX 30 backup.example.com.", "backup.example.com. A 192.0.2.9"))
	as("mx", h.mailAt("example.com").names(ctx)).expect(t, "a backup elsewhere is said", 3, "ok", "mx-elsewhere", "backup.example.com, an MX host of example.com, is another host: 192.0.2.9")
	as("mx", h.mailAt("example.com").names(ctx)).expect(t, "a name that is missing", 3, "warning", "mx", "mx2.example.com, an MX host of example.com, is this host, but the certificate does not cover it")
	h.renew()
	as("mx", h.mailAt("example.com").names(ctx)).expect(t, "the issued certificate", 3, "warning", "mx", "mxcert renew mx --now")
	h.check(h.World.SetTrust(lab.OtherZone, nameserver.Bogus))
	as("mx", h.mailAt("example.com").names(ctx)).expect(t, "an error", 1, "warning", "mx-unresolvable", "example.com")
	if got := h.mailAt("example.com").hosts(ctx); len(got) != 1 || got[0] != "mx.example.org" {
		t.Errorf("hosts %q", got)
	}
	for host, want := range map[string]bool{"mx.example.org": true, "MX.example.org": true, "a.w.example.org": true, "w.example.org": false, "a.b.w.example.org": false} {
		if covers([]string{"mx.example.org", "*.w.example.org"}, host) != want {
			t.Errorf("covers %s: %v", host, !want)
		}
	}
}

// TestIdentity: what other servers check when this host sends.
func TestIdentity(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.check(h.World.AddZone("127.in-addr.arpa.", "@ NS ns1.example.org."))
	look := func(helo string) checks {
		m := h.mailAt("example.org")
		m.Servers = []Server{{Sending: discover.Sending{Kind: "exim", Name: helo}}}
		return as("address", m.addresses(t.Context()))
	}
	look("mx.example.org").expect(t, "no PTR", 2, "warning", "ptr", "has no name in DNS")
	h.check(h.World.Add("1.0.0.127.in-addr.arpa. PTR mx.example.org."))
	look("mx.example.org").expect(t, "all is well", 2, "ok", "ptr", "127.0.0.1 is mx.example.org, and back")
	look("MX.example.org.").expect(t, "the case of the name", 2, "ok", "ehlo", "is a name of this host")
	look("localhost").expect(t, "no full name", 2, "warning", "ehlo", "no full name")
	look("nothere.example.org").expect(t, "no address", 2, "warning", "ehlo", "has no address in DNS")
	h.check(h.World.Add("other.example.org. A 192.0.2.77"))
	look("other.example.org").expect(t, "another host, or a NAT", 2, "ok", "ehlo", "not judged")
	h.check(h.World.Replace("1.0.0.127.in-addr.arpa. PTR other.example.org."))
	look("mx.example.org").expect(t, "a PTR that does not lead back", 2, "warning", "ptr", "does not lead back")
	h.Primary.SetFaults(nameserver.Faults{Edit: func(_, reply *dns.Msg) *dns.Msg {
		if len(reply.Question) == 1 && reply.Question[0].Qtype == dns.TypePTR {
			reply.Rcode, reply.Answer = dns.RcodeServerFailure, nil
		}
		return reply
	}})
	look("mx.example.org").expect(t, "an error is no denial", 2, "ok", "ptr", "not judged")
	h.Primary.SetFaults(nameserver.Faults{})
	m := h.mailAt("example.org")
	m.want.PublicAddresses = nil
	as("address", m.addresses(t.Context())).expect(t, "a host without a public address", 1, "ok", "ptr", "not judged")
}

// TestTLSA: the state of DNS as senders with DANE need it.
func TestTLSA(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	look := func() checks { return as("tlsa", h.mailAt("example.org").tlsa(t.Context())) }
	look().expect(t, "nobody validates", 1, "ok", "tlsa", "apt install unbound dns-root-data")
	h.check(h.World.AddZone(".", "@ NS ns1.example.org."))
	h.check(h.World.SetTrust(".", nameserver.Secure))
	look().expect(t, "not signed", 1, "ok", "tlsa", "is not signed")
	h.check(h.World.SetTrust(lab.Zone, nameserver.Secure))
	look().expect(t, "signed, without TLSA", 1, "ok", "tlsa", "has no TLSA record")
	h.check(h.World.Add("_25._tcp.mx.example.org. TLSA 3 1 1 " + strings.Repeat("ab", 32)))
	look().expect(t, "with TLSA", 1, "ok", "tlsa", "has 1 signed TLSA record")
	h.check(h.World.Add("two.example.org. MX 10 alias.example.org.", "alias.example.org. CNAME mx.example.org."))
	as("tlsa", h.mailAt("two.example.org").tlsa(t.Context())).expect(t, "TLSA where the alias leads", 1, "ok", "tlsa", "_25._tcp.mx.example.org has 1 signed TLSA record")
	h.check(h.World.SetTrust(lab.OtherZone, nameserver.Insecure))
	h.check(h.World.Add("mx3.example.com. A 127.0.0.1", "out.example.org. CNAME mx3.example.com.", "three.example.org. MX 10 out.example.org.", "_25._tcp.out.example.org. TLSA 3 1 1 "+strings.Repeat("ab", 32)))
	as("tlsa", h.mailAt("three.example.org").tlsa(t.Context())).expect(t, "a signed alias that leads out of the signed zone", 1, "ok", "tlsa", "_25._tcp.out.example.org has 1 signed TLSA record")
	h.Primary.SetFaults(nameserver.Faults{Edit: func(_, reply *dns.Msg) *dns.Msg {
		if len(reply.Question) == 1 && reply.Question[0].Qtype == dns.TypeTLSA {
			reply.Rcode, reply.Answer = dns.RcodeServerFailure, nil
		}
		return reply
	}})
	look().expect(t, "the zone is signed and TLSA fails", 1, "error", "tlsa", "senders with DANE keep the mail")
	h.Primary.SetFaults(nameserver.Faults{})
	h.check(h.World.SetTrust(lab.Zone, nameserver.Bogus))
	m := h.mailAt()
	as("tlsa", m.tlsa(t.Context())).expect(t, "bogus", 1, "error", "tlsa", "bogus")
}

// TestSTS: what the policy rooms find is shown; that of a domain without MTA-STS is no fault.
func TestSTS(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	look := func() checks { return as("mta-sts", h.mailAt("example.org").sts(t.Context())) }
	look().expect(t, "none", 1, "ok", "mta-sts", "has no MTA-STS")
	h.check(h.World.Add(`_mta-sts.example.org. TXT "v=STSv1; id=a-b"`))
	look().expect(t, "a bad record", 1, "error", "sts-record-invalid", "a-b")
}

// TestSenders: the verdicts about what is served now.
func TestSenders(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.check(h.World.AddZone(".", "@ NS ns1.example.org."))
	h.check(h.World.SetTrust(".", nameserver.Secure))
	h.check(h.World.SetTrust(lab.Zone, nameserver.Secure))
	look := func() checks {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		return as("senders", h.mailAt("example.org").senders(ctx))
	}
	if found := look(); found.count(finding.Error) != 0 || found.count(finding.Warning) == 0 {
		t.Errorf("before the first certificate, what is served is no error:%s", found)
	}
	h.renew()
	look().expect(t, "all is well", 2, "ok", "senders", "opportunistic pass, pkix pass, dane n/a, mta_sts n/a")
	h.check(h.World.Add("_25._tcp.mx.example.org. TLSA 3 1 1 "+strings.Repeat("ab", 32), fmt.Sprintf("_%d._tcp.mx.example.org. TLSA 3 1 1 %s", h.mailAt().port, strings.Repeat("ab", 32))))
	if found := look(); !found.has("senders", "error", "a sender with dane keeps the mail") {
		t.Errorf("a TLSA record that does not match:%s", found)
	}
	h.check(h.World.Remove("_25._tcp.mx.example.org."))
	h.check(h.World.Remove(fmt.Sprintf("_%d._tcp.mx.example.org.", h.mailAt().port)))
	h.SMTP.SetFaults(smtpd.Faults{NoStartTLS: true})
	if found := look(); !found.has("senders", "warning", "a sender with opportunistic fails") {
		t.Errorf("no STARTTLS:%s", found)
	}
	h.SMTP.SetFaults(smtpd.Faults{})
	as("port-25-in", h.mailAt("example.org").ports(t.Context())).expect(t, "port 25", 1, "ok", "port-25-in", "answers at port 25")
	h.check(h.SMTP.Close())
	as("port-25-in", h.mailAt("example.org").ports(t.Context())).expect(t, "behind NAT", 1, "ok", "port-25-in", "not judged")
}

// TestSlowServersTakeTheirTimeTogether: a server that greets late at each of its addresses does not use up the time of doctor.
func TestSlowServersTakeTheirTimeTogether(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	m := h.mailAt("example.org")
	const servers = 5
	arrived, all := make(chan struct{}, servers), make(chan struct{})
	go func() {
		for range servers {
			select {
			case <-arrived:
			case <-t.Context().Done():
				return
			}
		}
		close(all)
	}()
	for i := 2; i < 2+servers; i++ {
		address := fmt.Sprintf("127.0.0.%d", i)
		l, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(m.port)))
		h.check(err)
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			arrived <- struct{}{}
			select { // a server greets when all are connected to
			case <-all:
			case <-t.Context().Done():
			}
			_, _ = conn.Write([]byte("220 late.example.org\r\n"))
			_ = conn.Close()
		}()
		h.check(h.World.Add("mx.example.org. A " + address))
		m.want.PublicAddresses = append(m.want.PublicAddresses, netip.MustParseAddr(address))
	}
	as("port-25-in", m.ports(t.Context())).expect(t, "late greetings", 6, "ok", "port-25-in", "127.0.0.6] answers at port 25")
}

// TestPort25: any greeting shows that the port is open.
func TestPort25(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	say := func(text string) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		h.check(err)
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Write([]byte(text))
				if text != "" {
					_ = conn.Close()
				} else {
					t.Cleanup(func() { _ = conn.Close() })
				}
			}
		}()
		return l.Addr().String()
	}
	for what, tt := range map[string]struct{ endpoint, says string }{
		"a server":        {h.SMTP.Address(), ""},
		"a refusal":       {say("554 go away\r\n"), ""},
		"another service": {say("SSH-2.0-x\r\n"), "no greeting of SMTP"},
		"an endless line": {say(strings.Repeat("x", 1<<20)), "no greeting"},
		"silence":         {say(""), "no greeting comes"},
	} {
		patience := time.Minute
		if what == "silence" {
			patience = time.Second
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := greeted(ctx, tt.endpoint)
		cancel()
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", what, err, tt.says)
		}
	}
	h.SMTP.SetFaults(smtpd.Faults{})
	d := h.doctor()
	d.Elsewhere = []string{"elsewhere.example.com"}
	one(t, "no such domain", d.outgoing(t.Context(), resolve.New(h.NameServers())), finding.OK, "not judged")
	h.check(h.World.Add("elsewhere.example.com. MX 10 mx.elsewhere.example.com.", "mx.elsewhere.example.com. A 127.0.0.98"))
	one(t, "a closed port", d.outgoing(t.Context(), resolve.New(h.NameServers())), finding.Warning, "connection refused")
}

// Before the first certificate, mxcert is not told off for the certificate that it is about to replace. A failure of DANE keeps mail even then.
func TestJudgedBeforeTheFirstCertificate(t *testing.T) {
	t.Parallel()
	fails := func(kind string) verdict.Verdict {
		return verdict.Verdict{Result: verdict.Fail, Type: kind, Reason: "the reason"}
	}
	served := survey.Host{Facts: verdict.Facts{Route: verdict.Route{Host: "mx.example.org"}},
		Verdicts: map[verdict.Kind]verdict.Verdict{verdict.PKIX: fails("certificate-host-mismatch")},
		Findings: []finding.Finding{finding.New("certificate-host-mismatch", finding.Error, "another name"), finding.New("ehlo-differs", finding.Error, "another EHLO")}}
	if found := as("senders", judged(served, true)); found.count(finding.Error) != 0 || found.count(finding.Warning) != 1 || !found.has("senders", "ok", "until the first certificate is served, a sender with pkix fails") {
		t.Errorf("before the first certificate:%s", found)
	}
	if found := as("senders", judged(served, false)); found.count(finding.Error) != 2 || found.count(finding.Warning) != 1 {
		t.Errorf("after it:%s", found)
	}
	served.Verdicts = map[verdict.Kind]verdict.Verdict{verdict.DANE: fails("certificate-expired")}
	if found := as("senders", judged(served, true)); found.count(finding.Error) != 1 {
		t.Errorf("DANE:%s", found)
	}
}
