package survey

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert-lab/nameserver"
	"mxcert/cmd/mxcert-lab/smtpd"
	"mxcert/deploy/verdict"
)

// TestHostsOfADomain has every kind of MX records, with the entries and the findings about names that they lead to.
func TestHostsOfADomain(t *testing.T) {
	w := newWorld(t,
		"mx A 127.5.0.1", "mx2 A 127.5.0.2", "mx2 AAAA ::1", "same A 127.5.0.1", "alias CNAME mx", "under_score A 127.5.0.1", "-dash A 127.5.0.1", "dashed MX 10 -dash", "xn--bcher-kva A 127.5.0.1",
		"two MX 20 mx2", "two MX 10 mx", "twice MX 10 mx", "twice MX 20 MX.example.org.", "upper MX 10 MX", "null MX 0 .", "beside MX 0 .", "beside MX 10 mx",
		"address MX 10 127.5.0.1.", "aliased MX 10 alias", "underscored MX 10 under_score", "nowhere MX 10 missing", "nowhere MX 20 mx", "implicit A 127.5.0.1", "nothing TXT x", "xn--bcher-kva MX 10 xn--bcher-kva",
		"away MX 10 mx.broken.example.", "away MX 20 mx")
	w.mail("127.5.0.1", "mx.example.org", smtpd.Faults{}, w.issue("mx.example.org"))
	check(t, w.dns.AddZone("broken.example.", "mx A 127.5.0.1", "@ MX 10 mx.example.org."))
	check(t, w.dns.SetTrust("broken.example.", nameserver.Bogus))
	for _, tt := range []struct {
		domain string
		hosts  string
		found  string // IDs of what is not about MTA-STS
		worst  finding.Severity
		mail   string // what happens to it in the end: result and action of an opportunistic sender
	}{
		{"two.example.org", "mx.example.org=127.5.0.1 mx2.example.org=::1 mx2.example.org=127.5.0.2", "", finding.OK, "pass deliver"},
		{"TWO.example.org.", "mx.example.org=127.5.0.1 mx2.example.org=::1 mx2.example.org=127.5.0.2", "", finding.OK, "pass deliver"},
		{"twice.example.org", "mx.example.org=127.5.0.1", "", finding.OK, "pass deliver"},
		{"upper.example.org", "mx.example.org=127.5.0.1", "", finding.OK, "pass deliver"},
		{"null.example.org", "", "mx-null", finding.OK, "n/a bounce"},
		{"beside.example.org", "mx.example.org=127.5.0.1", "mx-null-beside", finding.Error, "pass deliver"},
		{"address.example.org", "127.5.0.1", "mx-address", finding.Error, "fail skip"},
		{"aliased.example.org", "alias.example.org=127.5.0.1", "mx-alias", finding.Warning, "pass deliver"},
		{"underscored.example.org", "under_score.example.org=127.5.0.1", "mx-uncertifiable", finding.Warning, "pass deliver"},
		{"dashed.example.org", "-dash.example.org=127.5.0.1", "mx-uncertifiable", finding.Warning, "pass deliver"},
		{"nowhere.example.org", "missing.example.org mx.example.org=127.5.0.1", "mx-host-missing", finding.Error, "pass deliver"},
		{"implicit.example.org", "implicit.example.org=127.5.0.1", "mx-implicit", finding.Warning, "pass deliver"},
		{"nothing.example.org", "nothing.example.org", "mx-implicit mx-host-missing", finding.Error, "fail skip"},
		{"no.such.example.org", "", "mail-domain-missing", finding.Error, "fail bounce"},
		{"bücher.example.org", "xn--bcher-kva.example.org=127.5.0.1", "", finding.OK, "pass deliver"},
		{"broken.example", "", "mx-unresolvable", finding.Error, "fail skip"}, // no implicit MX after an error
		{"away.example.org", "mx.broken.example mx.example.org=127.5.0.1", "mx-host-unresolvable", finding.Error, "pass deliver"},
	} {
		t.Run(tt.domain, func(t *testing.T) {
			d, hosts := LookAtDomain(within(t, 30*time.Second), tt.domain, w.options())
			if got := strings.Join(placesOf(hosts), " "); got != tt.hosts {
				t.Errorf("hosts %s, want %s", got, tt.hosts)
			}
			names := slices.DeleteFunc(ids(d.Findings), func(id string) bool { return strings.HasPrefix(id, "sts") || strings.HasPrefix(id, "mta-sts") })
			if got := strings.Join(names, " "); got != tt.found {
				t.Errorf("findings %s, want %s", got, tt.found)
			}
			if got := finding.Worst(d.Findings); got != tt.worst {
				t.Errorf("worst %s, want %s: %v", got, tt.worst, d.Findings)
			}
			if v := d.Verdicts[verdict.Opportunistic]; fmt.Sprint(v.Result, " ", v.Action) != tt.mail || v.NotJudged {
				t.Errorf("%+v, want %s", v, tt.mail)
			}
			for _, f := range d.Findings {
				if f.Severity != finding.OK && (f.Hint == "" || f.Message == "") {
					t.Errorf("%+v says nothing", f)
				}
			}
			for _, h := range hosts {
				if h.Domain != d.Domain || h.MX == nil || h.Policy == nil || len(h.Verdicts) != len(verdict.Kinds) {
					t.Errorf("%+v", h.Route)
				}
			}
		})
	}
}

// TestQuestions counts the questions: nothing is asked twice, and nothing that no sender needs.
func TestQuestions(t *testing.T) {
	var records []string
	const hosts = 10
	for i := range hosts {
		records = append(records, fmt.Sprintf("mx%d A 127.5.1.%d", i, i+1), fmt.Sprintf("@ MX %d mx%d", i+1, i))
	}
	w := newWorld(t, records...)
	b := w.issue("mx.example.org")
	for i := range hosts {
		w.mail(fmt.Sprintf("127.5.1.%d", i+1), "mx.example.org", smtpd.Faults{}, b)
	}
	_, list := LookAtDomain(within(t, 30*time.Second), "example.org", w.options())
	asked := map[string]int{}
	for _, q := range w.dns.Queries() {
		asked[fmt.Sprint(q.Name, q.Type)]++
	}
	for question, times := range asked {
		if times > 1 {
			t.Errorf("%s was asked %d times", question, times)
		}
	}
	least := 1 + 1 + 3*hosts // MX, TXT of MTA-STS; A, AAAA and TLSA of each host
	if got := len(w.dns.Queries()); len(list) != hosts || float64(got) > 1.2*float64(least) {
		t.Errorf("%d questions for %d hosts, the least is %d: %v", got, len(list), least, asked)
	}
}

// TestTLSAQuestions asks for TLSA records where a sender does (RFC 7672 section 2.2.2).
func TestTLSAQuestions(t *testing.T) {
	w := newWorld(t, "plain A 127.5.2.1", "alias CNAME plain", "out CNAME mx.insecure.example.", "in A 127.5.2.1")
	check(t, w.dns.AddZone("insecure.example.", "mx A 127.5.2.1", "back CNAME in.example.org."))
	w.mail("127.5.2.1", "mx.example.org", smtpd.Faults{}, w.issue("mx.example.org"))
	tlsa := fmt.Sprintf("TLSA 3 1 1 %064d", 1)
	check(t, w.dns.Add(
		fmt.Sprintf("_%d._tcp.plain.example.org. %s", w.port, tlsa)))
	for _, tt := range []struct{ host, bases string }{
		{"plain.example.org", "plain.example.org:1"},
		{"in.example.org", "in.example.org:0"},
		{"alias.example.org", "plain.example.org:1"},
		{"out.example.org", "out.example.org:0"}, // only the alias is secure
		{"mx.insecure.example", ""},
		{"back.insecure.example", ""},
	} {
		list := LookAtHost(within(t, 30*time.Second), tt.host, w.options())
		if len(list) != 1 {
			t.Fatalf("%s: %d entries", tt.host, len(list))
		}
		var got []string
		for _, base := range list[0].Bases {
			got = append(got, fmt.Sprintf("%s:%d", base.Domain, len(base.TLSA.Records)))
		}
		if strings.Join(got, " ") != tt.bases {
			t.Errorf("%s: %v, want %s", tt.host, got, tt.bases)
		}
	}
	// without records at the end of the alias, the name itself is asked
	check(t, w.dns.Remove(fmt.Sprintf("_%d._tcp.plain.example.org.", w.port)))
	check(t, w.dns.Add(fmt.Sprintf("_%d._tcp.alias.example.org. %s", w.port, tlsa)))
	list := LookAtHost(within(t, 30*time.Second), "alias.example.org", w.options())
	if bases := list[0].Bases; len(bases) != 2 || bases[0].Domain != "plain.example.org" || len(bases[1].TLSA.Records) != 1 {
		t.Errorf("%+v", bases)
	}
}

func TestAnAddressAsHost(t *testing.T) {
	w := newWorld(t)
	w.mail("127.5.3.1", "mx.example.org", smtpd.Faults{}, w.issue("mx.example.org"))
	list := LookAtHost(within(t, 30*time.Second), "127.5.3.1", w.options())
	if len(list) != 1 || list[0].Address != netip.MustParseAddr("127.5.3.1") || len(list[0].Handshakes) == 0 || len(w.dns.Queries()) != 0 {
		t.Errorf("%+v", list)
	}
	if got := fmt.Sprint(asks(list[0])); got != "[any/ rsa/ any/unknown.invalid ecdsa/]" || list[0].Verdicts[verdict.Opportunistic].Result != verdict.Pass || len(list[0].Findings) > 0 && finding.Worst(list[0].Findings) == finding.Error {
		t.Errorf("asked %s: %+v", got, list[0].Findings)
	}
}

// A hostile domain with many hosts that have many addresses does not lead to endless connections. Of each host, some addresses are looked at.
func TestManyAddresses(t *testing.T) {
	t.Parallel()
	const hosts, addresses = 100, 40
	w := newWorld(t)
	for i := range hosts {
		records := []string{fmt.Sprintf("example.org. MX %d mx%d.example.org.", i, i)}
		for n := range addresses {
			records = append(records, fmt.Sprintf("mx%d.example.org. A 127.6.%d.%d", i, i, n+1))
		}
		check(t, w.dns.Add(records...))
	}
	d, list := LookAtDomain(within(t, 60*time.Second), "example.org", w.options())
	if len(list) != mostAddresses {
		t.Errorf("%d addresses, want %d", len(list), mostAddresses)
	}
	if f := find(d.Findings, "mx-many-addresses"); !strings.Contains(f.Message, "mx0.example.org, an MX host of example.org, has 40 addresses; mxcert looks at 10 of them") {
		t.Errorf("%+v", f)
	}
}
