package nameserver_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"mxcert/cmd/mxcert-lab/nameserver"
)

func TestAnswers(t *testing.T) {
	everything := listen(t, newWorld(t))
	tests := []struct {
		name      string
		qtype     uint16
		rd        bool
		rcode     int
		answer    []string
		authority string // type and owner of the first record there
		aa        bool
	}{
		{"mx.example.org", dns.TypeA, false, dns.RcodeSuccess, []string{"mx.example.org. A 127.0.0.1"}, "", true},
		{"MX.eXample.org", dns.TypeAAAA, false, dns.RcodeSuccess, []string{"mx.example.org. AAAA ::1"}, "", true},
		{"example.org", dns.TypeMX, true, dns.RcodeSuccess, []string{"example.org. MX 10 mx.example.org."}, "", true},
		{"example.org", dns.TypeCAA, true, dns.RcodeSuccess, []string{`example.org. CAA 0 issue "ca.example"`}, "", true},
		{"example.org", dns.TypeNS, false, dns.RcodeSuccess, []string{"example.org. NS ns1.example.org."}, "", true},
		{"_25._tcp.mx.example.org", dns.TypeTLSA, true, dns.RcodeSuccess, []string{"_25._tcp.mx.example.org. TLSA 3 1 1 00ff"}, "", true},

		{"mx.example.org", dns.TypeTXT, false, dns.RcodeSuccess, nil, "SOA example.org.", true},
		{"nothing.example.org", dns.TypeA, false, dns.RcodeNameError, nil, "SOA example.org.", true},
		{"y.deep.example.org", dns.TypeA, false, dns.RcodeSuccess, nil, "SOA example.org.", true}, // an empty non-terminal
		{"z.deep.example.org", dns.TypeA, false, dns.RcodeNameError, nil, "SOA example.org.", true},

		{"one.wild.example.org", dns.TypeTXT, false, dns.RcodeSuccess, []string{`one.wild.example.org. TXT "any"`}, "", true},
		{"a.b.wild.example.org", dns.TypeTXT, false, dns.RcodeSuccess, []string{`a.b.wild.example.org. TXT "any"`}, "", true},
		{"one.wild.example.org", dns.TypeA, false, dns.RcodeSuccess, nil, "SOA example.org.", true},
		{"wild.example.org", dns.TypeTXT, false, dns.RcodeSuccess, nil, "SOA example.org.", true},

		{"alias.example.org", dns.TypeA, false, dns.RcodeSuccess, []string{
			"alias.example.org. CNAME far.alias.example.org.", "far.alias.example.org. CNAME target.example.com.", "target.example.com. A 192.0.2.2",
		}, "", true},
		{"alias.example.org", dns.TypeCNAME, false, dns.RcodeSuccess, []string{"alias.example.org. CNAME far.alias.example.org."}, "", true},
		{"alias.example.org", dns.TypeTXT, false, dns.RcodeSuccess, []string{
			"alias.example.org. CNAME far.alias.example.org.", "far.alias.example.org. CNAME target.example.com.",
		}, "SOA example.com.", true},
		{"out.example.org", dns.TypeA, false, dns.RcodeSuccess, []string{"out.example.org. CNAME name.example.net."}, "", true},
		{"out.example.org", dns.TypeA, true, dns.RcodeNameError, []string{"out.example.org. CNAME name.example.net."}, "SOA .", true},

		{"host.sub.example.org", dns.TypeA, false, dns.RcodeSuccess, []string{"host.sub.example.org. A 192.0.2.7"}, "", true},
		{"sub.example.org", dns.TypeSOA, false, dns.RcodeSuccess, []string{"sub.example.org. SOA ns1.sub.example.org. hostmaster.sub.example.org. 1 60 10 3600 5"}, "", true},
		{"sub.example.org", dns.TypeDS, false, dns.RcodeSuccess, nil, "SOA example.org.", true},
		{"www.lame.example.org", dns.TypeA, false, dns.RcodeSuccess, nil, "NS lame.example.org.", false},
		{"www.lame.example.org", dns.TypeA, true, dns.RcodeServerFailure, nil, "", false},

		{"example.net", dns.TypeA, false, dns.RcodeRefused, nil, "", false},
		{"example.net", dns.TypeA, true, dns.RcodeNameError, nil, "SOA .", false},
		{"org", dns.TypeSOA, true, dns.RcodeNameError, nil, "SOA .", false},
	}
	for _, test := range tests {
		for _, network := range []string{"udp", "tcp"} {
			reply := ask(t, network, everything.Address(), test.name, test.qtype, test.rd)
			what := strings.Join([]string{test.name, dns.TypeToString[test.qtype], network}, " ")
			if reply.Rcode != test.rcode || reply.Authoritative != test.aa || !reply.RecursionAvailable {
				t.Errorf("%s: %s, AA %v, RA %v", what, dns.RcodeToString[reply.Rcode], reply.Authoritative, reply.RecursionAvailable)
			}
			if got := brief(reply.Answer); !slices.Equal(got, test.answer) && len(got)+len(test.answer) > 0 {
				t.Errorf("%s: answer %q, want %q", what, got, test.answer)
			}
			if got := first(reply.Ns); got != test.authority {
				t.Errorf("%s: authority %q, want %q", what, got, test.authority)
			}
		}
	}
}

func first(rrs []dns.RR) string {
	if len(rrs) == 0 {
		return ""
	}
	return dns.TypeToString[rrs[0].Header().Rrtype] + " " + rrs[0].Header().Name
}

func TestAliasLoopEnds(t *testing.T) {
	reply := ask(t, "tcp", listen(t, newWorld(t)).Address(), "loop.example.org", dns.TypeA, true)
	if len(reply.Answer) == 0 || len(reply.Answer) > 16 {
		t.Errorf("%d records for an alias of itself", len(reply.Answer))
	}
}

func TestServerOfSomeZones(t *testing.T) {
	parent := listen(t, newWorld(t), "example.org")
	reply := ask(t, "udp", parent.Address(), "host.sub.example.org", dns.TypeA, false)
	if reply.Authoritative || first(reply.Ns) != "NS sub.example.org." || len(reply.Extra) != 1 {
		t.Errorf("the parent's server gives no referral with glue:\n%s", reply)
	}
	reply = ask(t, "udp", parent.Address(), "alias.example.org", dns.TypeA, false)
	if got := brief(reply.Answer); len(got) != 2 {
		t.Errorf("the chain into a zone that is not served here: %q", got)
	}
	reply = ask(t, "udp", parent.Address(), "target.example.com", dns.TypeA, false)
	if reply.Rcode != dns.RcodeRefused {
		t.Errorf("a zone that is not served here is answered with %s", dns.RcodeToString[reply.Rcode])
	}
	reply = ask(t, "udp", parent.Address(), "host.sub.example.org", dns.TypeA, true)
	if got := brief(reply.Answer); !slices.Equal(got, []string{"host.sub.example.org. A 192.0.2.7"}) {
		t.Errorf("as a resolver it finds %q", got)
	}
}

func TestNegativeTTL(t *testing.T) {
	w := newWorld(t)
	if err := w.Replace("example.org. 3600 IN SOA ns1.example.org. hostmaster.example.org. 7 60 10 3600 30"); err != nil {
		t.Fatal(err)
	}
	reply := ask(t, "udp", listen(t, w).Address(), "nothing.example.org", dns.TypeA, false)
	if got := reply.Ns[0].Header().Ttl; got != 30 {
		t.Errorf("the SOA of NXDOMAIN lives %d s, want the 30 s of its minimum field", got)
	}
	if got := w.Serial("example.org"); got != 7 {
		t.Errorf("serial %d, want the one that was set", got)
	}
}

func TestLargeAnswers(t *testing.T) {
	w := newWorld(t)
	for i := range 40 {
		if err := w.Add("many.example.org. TXT " + strings.Repeat("x", 40+i)); err != nil {
			t.Fatal(err)
		}
	}
	address := listen(t, w).Address()
	reply := ask(t, "udp", address, "many.example.org", dns.TypeTXT, true)
	reply.Compress = true // as it was on the wire
	if !reply.Truncated || reply.Len() > dns.MinMsgSize {
		t.Errorf("without EDNS: TC %v, %d bytes", reply.Truncated, reply.Len())
	}
	if reply := ask(t, "tcp", address, "many.example.org", dns.TypeTXT, true); reply.Truncated || len(reply.Answer) != 40 {
		t.Errorf("over TCP: TC %v, %d records", reply.Truncated, len(reply.Answer))
	}
	question := new(dns.Msg).SetQuestion("many.example.org.", dns.TypeTXT)
	question.SetEdns0(4096, false)
	reply, err := dns.Exchange(question, address)
	if err != nil {
		t.Fatal(err)
	}
	if reply.Truncated || len(reply.Answer) != 40 || reply.IsEdns0() == nil {
		t.Errorf("with EDNS of 4096 bytes: TC %v, %d records", reply.Truncated, len(reply.Answer))
	}
}

func TestTrust(t *testing.T) {
	w := newWorld(t)
	address := listen(t, w).Address()
	authentic := func(name string, rd, do, cd bool) (bool, int) {
		question := new(dns.Msg).SetQuestion(name, dns.TypeA)
		question.RecursionDesired, question.CheckingDisabled = rd, cd
		if do {
			question.SetEdns0(1232, true)
		}
		reply, err := dns.Exchange(question, address)
		if err != nil {
			t.Fatal(err)
		}
		return reply.AuthenticatedData, reply.Rcode
	}
	set := func(apex string, trust nameserver.Trust) {
		if err := w.SetTrust(apex, trust); err != nil {
			t.Fatal(err)
		}
	}
	set("example.org", nameserver.Secure)
	for _, test := range []struct {
		name   string
		rd, do bool
		want   bool
	}{
		{"mx.example.org.", true, true, true},
		{"nothing.example.org.", true, true, true},
		{"mx.example.org.", true, false, false},    // did not ask
		{"mx.example.org.", false, true, false},    // an authoritative server does not validate
		{"alias.example.org.", true, true, false},  // the chain leaves the secure zone
		{"back.example.com.", true, true, false},   // and here it comes into one
		{"target.example.com.", true, true, false}, // insecure
		{"out.example.org.", true, true, false},
	} {
		if got, _ := authentic(test.name, test.rd, test.do, false); got != test.want {
			t.Errorf("%s RD %v DO %v: AD %v", test.name, test.rd, test.do, got)
		}
	}
	set("example.com", nameserver.Secure)
	if got, _ := authentic("alias.example.org.", true, true, false); !got {
		t.Error("the chain through two secure zones has no AD")
	}
	set("example.com", nameserver.Bogus)
	for _, test := range []struct {
		name  string
		cd    bool
		rcode int
	}{
		{"target.example.com.", false, dns.RcodeServerFailure},
		{"alias.example.org.", false, dns.RcodeServerFailure},
		{"target.example.com.", true, dns.RcodeSuccess},
		{"mx.example.org.", false, dns.RcodeSuccess},
	} {
		if _, rcode := authentic(test.name, true, true, test.cd); rcode != test.rcode {
			t.Errorf("%s CD %v: %s", test.name, test.cd, dns.RcodeToString[rcode])
		}
	}
	if err := w.SetTrust("example.net", nameserver.Secure); err == nil {
		t.Error("a zone that does not exist takes a trust")
	}
}

func TestBadZones(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct {
		apex, record, want string
	}{
		{"example.org", "", "exists already"},
		{"example.net", "mx.example.org. A 127.0.0.1", "outside"},
		{"example.net", "mx A not-an-address", "bad A"},
	} {
		if err := w.AddZone(test.apex, test.record); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("zone %s with %q: %v, want %q", test.apex, test.record, err, test.want)
		}
	}
	if err := w.Add("mx.example.net. A 127.0.0.1"); err == nil {
		t.Error("a record in no zone is added")
	}
}
