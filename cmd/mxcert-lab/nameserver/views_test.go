package nameserver_test

import (
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/cmd/mxcert-lab/nameserver"
)

// TestNegativeCache: a resolver that was asked too early goes on to say that the name does not exist, and only there.
func TestNegativeCache(t *testing.T) {
	w := newWorld(t)
	s := listen(t, w)
	s.SetFaults(nameserver.Faults{NegativeCache: time.Hour})
	const name, other = "_acme-challenge.mx.example.org", "_acme-challenge.host7.example.org"
	if reply := ask(t, "udp", s.Address(), name, dns.TypeSOA, true); reply.Rcode != dns.RcodeNameError {
		t.Fatalf("before: %s", dns.RcodeToString[reply.Rcode])
	}
	if err := w.Add(name+". TXT one", other+". TXT one"); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		rd    bool
		rcode int
	}{
		{name, true, dns.RcodeNameError}, {name, false, dns.RcodeSuccess}, {other, true, dns.RcodeSuccess},
	} {
		reply := ask(t, "udp", s.Address(), test.name, dns.TypeTXT, test.rd)
		if reply.Rcode != test.rcode || (len(reply.Answer) > 0) != (test.rcode == dns.RcodeSuccess) {
			t.Errorf("%s, RD %v:\n%s", test.name, test.rd, reply)
		}
		if test.rcode == dns.RcodeNameError && first(reply.Ns) != "SOA example.org." {
			t.Errorf("the cached answer has no SOA:\n%s", reply)
		}
	}
	s.SetFaults(nameserver.Faults{NegativeCache: time.Nanosecond})
	ask(t, "udp", s.Address(), "z.example.org", dns.TypeTXT, true)
	if err := w.Add("z.example.org. TXT one"); err != nil {
		t.Fatal(err)
	}
	if reply := ask(t, "udp", s.Address(), "z.example.org", dns.TypeTXT, true); len(reply.Answer) != 1 {
		t.Errorf("a cache whose time is over:\n%s", reply)
	}
}

func TestWithoutAuthority(t *testing.T) {
	s := listen(t, newWorld(t))
	for what, test := range map[string]struct {
		faults nameserver.Faults
		rcode  int
		aa     bool
	}{
		"well":         {nameserver.Faults{}, dns.RcodeSuccess, true},
		"lame":         {nameserver.Faults{Lame: true}, dns.RcodeRefused, false},
		"no authority": {nameserver.Faults{NoAA: true}, dns.RcodeSuccess, false},
	} {
		s.SetFaults(test.faults)
		reply := ask(t, "udp", s.Address(), "mx.example.org", dns.TypeA, false)
		if reply.Rcode != test.rcode || reply.Authoritative != test.aa {
			t.Errorf("%s: %s, AA %v", what, dns.RcodeToString[reply.Rcode], reply.Authoritative)
		}
		if reply := ask(t, "udp", s.Address(), "mx.example.org", dns.TypeA, true); len(reply.Answer) != 1 {
			t.Errorf("%s, as a resolver:\n%s", what, reply)
		}
	}
}

// TestBogusSaysWhy: validating resolvers explain themselves (RFC 8914).
func TestBogusSaysWhy(t *testing.T) {
	w := newWorld(t)
	if err := w.SetTrust("example.org", nameserver.Bogus); err != nil {
		t.Fatal(err)
	}
	question := new(dns.Msg).SetQuestion("mx.example.org.", dns.TypeA)
	question.SetEdns0(1232, true)
	reply, err := dns.Exchange(question, listen(t, w).Address())
	if err != nil {
		t.Fatal(err)
	}
	if opt := reply.IsEdns0(); reply.Rcode != dns.RcodeServerFailure || opt == nil || len(opt.Option) != 1 || opt.Option[0].Option() != dns.EDNS0EDE {
		t.Errorf("got:\n%s", reply)
	}
}
