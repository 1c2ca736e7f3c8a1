package cli

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"mxcert/acme/finding"
	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert-lab/nameserver"
	"mxcert/cmd/mxcert-lab/port"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/mtasts"
	"mxcert/deploy/survey"
	"mxcert/deploy/verdict"
)

// five makes verdicts: of each kind "pass", "fail", "n/a", or "?" if it is not judged.
func five(words ...string) map[verdict.Kind]verdict.Verdict {
	all := map[verdict.Kind]verdict.Verdict{}
	for i, kind := range verdict.Kinds {
		switch words[i] {
		case "pass":
			all[kind] = verdict.Verdict{Result: verdict.Pass, Action: verdict.Deliver, Reason: "all is well for " + string(kind)}
		case "fail":
			all[kind] = verdict.Verdict{Result: verdict.Fail, Action: verdict.Skip, Type: "validation-failure", Reason: "something is wrong for " + string(kind)}
		case "?":
			all[kind] = verdict.Verdict{Result: verdict.NotApplicable, NotJudged: true, Reason: "nobody validated"}
		default:
			all[kind] = verdict.Verdict{Result: verdict.NotApplicable, Reason: "nothing is asked for"}
		}
	}
	return all
}

// address makes a host with one address that was looked at.
func address(mx, address string, verdicts map[verdict.Kind]verdict.Verdict, findings ...finding.Finding) survey.Host {
	h := survey.Host{Verdicts: verdicts, Findings: findings}
	h.Domain, h.Host, h.Port = "example.org", mx, 25
	h.MX = &resolve.Set[resolve.MX]{Answer: resolve.Answer{Validator: "127.0.0.1", State: resolve.Secure}}
	if address != "" {
		h.Address = netip.MustParseAddr(address)
	}
	return h
}

func exampleSight() sight {
	d := survey.Domain{Domain: "example.org", Verdicts: five("pass", "pass", "fail", "pass", "n/a"),
		Findings: []finding.Finding{finding.New("sts-id-unchanged", finding.Warning, "the policy changed, but its id did not").Next("give the TXT record another id")}}
	d.MX.Answer = resolve.Answer{Name: "example.org", Type: "MX", State: resolve.Secure, Validator: "127.0.0.1"}
	d.MX.Records = []resolve.MX{{Host: "mx.example.org", Preference: 10}, {Host: "odd;name.example.org", Preference: 20}}
	d.Policy = mtasts.Found{Domain: "example.org", ID: "2026", Policy: &mtasts.Policy{Mode: mtasts.Enforce, MaxAge: 24 * time.Hour, MX: []string{"*.example.org"}}}
	bad := address("mx.example.org", "192.0.2.25", five("pass", "fail", "fail", "pass", "n/a"), finding.New("chain-incomplete", finding.Error, "192.0.2.25 does not send an issuer").Next("send the chain"))
	bad.Bases = []verdict.Base{{Domain: "mx.example.org", TLSA: resolve.Set[resolve.TLSA]{Answer: resolve.Answer{Name: "_25._tcp.mx.example.org", State: resolve.Secure},
		Records: []resolve.TLSA{{Usage: 3, Selector: 1, MatchingType: 1, Data: []byte{0xab, 0xcd}}}}}}
	same := address("mx.example.org", "2001:db8:1111:2222:3333:4444:5555:6666", bad.Verdicts, finding.New("chain-incomplete", finding.Error, "2001:db8:1111:2222:3333:4444:5555:6666 does not send an issuer").Next("send the chain"))
	none := address("odd;name.example.org", "", five("?", "?", "?", "?", "?"))
	return sight{domains: []survey.Domain{d}, hosts: []survey.Host{bad, same, none}}
}

// printed returns what a person sees.
func printed(r verifyReport) string {
	var text bytes.Buffer
	printVerify(sheet{Writer: &text, width: 80, paint: func(s, _ string) { text.WriteString(s) }}, r)
	return text.String()
}

func TestVerifyText(t *testing.T) {
	t.Parallel()
	seen, at := exampleSight(), time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)
	r := newVerifyReport(seen, verifyTask{options: survey.Options{At: at}, domains: []string{"example.org"}})
	got := printed(r)
	const want = `judged for 2027-01-31 00:00:00 UTC
example.org: fail dane; pass opportunistic, pkix, mta_sts; n/a requiretls

example.org
  MX           mx.example.org (10), "odd;name.example.org" (20)
  DNSSEC       the MX records are secure; 127.0.0.1 validated
  MTA-STS      enforce, id "2026", max_age 86400, mx *.example.org
  dane         fail, skip (validation-failure): something is wrong for dane
  requiretls   n/a: nothing is asked for
  warning      sts-id-unchanged: the policy changed, but its id did not
  next step    give the TXT record another id

mx.example.org, port 25
                                  opportunistic  pkix  dane  mta_sts  requiretls
  192.0.2.25                      pass           fail  fail  pass     n/a
  2001:db8:1111:2222:3333:4444:5555:6666
                                  pass           fail  fail  pass     n/a

"odd;name.example.org", port 25
                                  opportunistic  pkix  dane  mta_sts  requiretls
  no address                      ?              ?     ?     ?        ?
?  not judged; the reason is below

mx.example.org at 192.0.2.25:25, [2001:db8:1111:2222:3333:4444:5555:6666]:25
  opportunistic pass, deliver: all is well for opportunistic
  pkix         fail, skip (validation-failure): something is wrong for pkix
  dane         fail, skip (validation-failure): something is wrong for dane
  mta_sts      pass, deliver: all is well for mta_sts
  requiretls   n/a: nothing is asked for
  error        chain-incomplete: 192.0.2.25 does not send an issuer
  next step    send the chain

"odd;name.example.org" at no address
  opportunistic not judged: nobody validated
  pkix         as opportunistic
  dane         as opportunistic
  mta_sts      as opportunistic
  requiretls   as opportunistic
`
	if got != want {
		t.Errorf("got:\n%s", got)
	}
	for line := range strings.Lines(got) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// A host by name has its own answer; its addresses may differ.
func TestVerifyTextOfHost(t *testing.T) {
	t.Parallel()
	one, two := address("mx.example.org", "192.0.2.1", five("pass", "pass", "n/a", "n/a", "n/a")), address("mx.example.org", "192.0.2.2", five("pass", "fail", "n/a", "n/a", "n/a"))
	one.Domain, two.Domain = "", ""
	got := printed(newVerifyReport(sight{hosts: []survey.Host{one, two}}, verifyTask{}))
	if want := "mx.example.org: fail pkix (1 of 2 addresses); pass opportunistic; n/a dane,\n  mta_sts, requiretls\n"; !strings.HasPrefix(got, want) {
		t.Errorf("got:\n%s", got)
	}
}

// Why a policy cannot be used is said of the domain, and not of each of its hosts.
func TestVerifyTextOfUnusablePolicy(t *testing.T) {
	t.Parallel()
	all := five("pass", "pass", "n/a", "n/a", "n/a")
	all[verdict.MTASTS] = verdict.Verdict{Result: verdict.NotApplicable, Action: verdict.Unauthenticated, Type: "sts-policy-invalid", Reason: "there are two records"}
	d := survey.Domain{Domain: "example.org", Verdicts: all}
	got := printed(newVerifyReport(sight{domains: []survey.Domain{d}, hosts: []survey.Host{address("mx.example.org", "192.0.2.1", all)}}, verifyTask{}))
	if strings.Count(got, "there are two records") != 1 || !strings.Contains(got, "mta_sts      n/a, unauthenticated (sts-policy-invalid): as said of example.org\n") {
		t.Errorf("got:\n%s", got)
	}
}

// Hosts of several domains, and several ports of a host, are told apart.
func TestVerifyTextOfSeveral(t *testing.T) {
	t.Parallel()
	good := five("pass", "pass", "n/a", "n/a", "n/a")
	one, two := address("mx.example.org", "192.0.2.1", good), address("mx.example.org", "192.0.2.1", good)
	two.Domain = "example.com"
	three, four := address("mail.example.org", "192.0.2.3", good), address("mail.example.org", "192.0.2.3", good)
	three.Domain, four.Domain, four.Port = "", "", 465
	got := printed(newVerifyReport(sight{domains: []survey.Domain{{Domain: "example.org"}, {Domain: "example.com"}}, hosts: []survey.Host{one, two, three, four}}, verifyTask{}))
	for _, want := range []string{
		"mx.example.org, port 25 for example.org\n", "mx.example.org, port 25 for example.com\n", "mail.example.org, port 465\n",
		"mx.example.org at 192.0.2.1:25 for example.com\n", "mail.example.org port 25: pass", "mail.example.org port 465: pass",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing:\n%s", want, got)
		}
	}
}

// The fields of the document, as DESIGN names them.
func TestVerifyJSON(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(newVerifyReport(exampleSight(), verifyTask{domains: []string{"example.org"}}))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`{"ok":false,"hosts":[{"mx":"mx.example.org","domain":"example.org","address":"192.0.2.25","port":25,"validator":"127.0.0.1",`,
		`"tlsa":[{"name":"_25._tcp.mx.example.org","state":"secure","records":["3 1 1 abcd"]}],"handshakes":[],`,
		`"dane":{"result":"fail","action":"skip","type":"validation-failure","reason":"something is wrong for dane"}`,
		`"requiretls":{"result":"n/a","action":"","type":"","reason":"nothing is asked for"}`,
		`"findings":[{"id":"chain-incomplete","severity":"error","message":"192.0.2.25 does not send an issuer","hint":"send the chain"}]`,
		`{"mx":"odd;name.example.org","domain":"example.org","address":"","port":25,`,
		`"opportunistic":{"result":"n/a","action":"","type":"","reason":"nobody validated","not_judged":true}`,
		`"domains":[{"domain":"example.org","mx":[{"host":"mx.example.org","preference":10},{"host":"odd;name.example.org","preference":20}],"dnssec":"secure","validator":"127.0.0.1",` +
			`"sts":{"id":"2026","mode":"enforce","max_age":86400,"mx":["*.example.org"],"type":"","reason":""},"verdicts":{`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is missing in:\n%s", want, text)
		}
	}
}

func TestVerifyCode(t *testing.T) {
	t.Parallel()
	good, closed, none := five("pass", "pass", "n/a", "n/a", "n/a"), five("?", "?", "n/a", "n/a", "n/a"), five("n/a", "n/a", "n/a", "n/a", "n/a")
	withError, withWarning := address("mx.example.org", "192.0.2.1", good, finding.New("protocol", finding.Error, "x")), address("mx.example.org", "192.0.2.1", good, finding.New("chain-order", finding.Warning, "x"))
	badDomain := survey.Domain{Domain: "example.org", Verdicts: five("pass", "pass", "fail", "n/a", "n/a")}
	dane, sts := []verdict.Kind{verdict.DANE}, []verdict.Kind{verdict.MTASTS, verdict.RequireTLS}
	for _, c := range []struct {
		what  string
		hosts []survey.Host
		of    []survey.Domain
		kinds []verdict.Kind
		want  report.Code
	}{
		{"good", []survey.Host{address("mx.example.org", "192.0.2.1", good)}, nil, nil, report.CodeOK},
		{"a warning", []survey.Host{withWarning}, nil, nil, report.CodeOK},
		{"an error", []survey.Host{withError}, nil, nil, report.CodeFault},
		{"an error, but only verdicts count", []survey.Host{withError}, nil, dane, report.CodeOK},
		{"a fail of pkix, dane counts", []survey.Host{address("mx.example.org", "192.0.2.1", five("pass", "fail", "pass", "n/a", "n/a"))}, nil, dane, report.CodeOK},
		{"a fail of dane, dane counts", []survey.Host{address("mx.example.org", "192.0.2.1", five("pass", "pass", "fail", "n/a", "n/a"))}, nil, dane, report.CodeFault},
		{"a fail of the domain", nil, []survey.Domain{badDomain}, nil, report.CodeFault},
		{"a fail of the domain that does not count", nil, []survey.Domain{badDomain}, sts, report.CodeOK},
		{"dane counts and is not judged", []survey.Host{address("mx.example.org", "192.0.2.1", five("pass", "pass", "?", "n/a", "n/a"))}, nil, dane, report.CodeTemporary},
		{"dane is not judged at one of two", []survey.Host{address("mx.example.org", "192.0.2.1", five("pass", "pass", "?", "n/a", "n/a")), address("mx.example.org", "192.0.2.2", five("pass", "pass", "pass", "n/a", "n/a"))}, nil, dane, report.CodeOK},
		{"dane is not judged, all count", []survey.Host{address("mx.example.org", "192.0.2.1", five("pass", "pass", "?", "n/a", "n/a"))}, nil, nil, report.CodeOK},
		{"port 25 closed", []survey.Host{address("mx.example.org", "192.0.2.1", closed), address("mx.example.org", "192.0.2.2", closed)}, nil, nil, report.CodeTemporary},
		{"port 25 closed, a fail of dane in DNS", []survey.Host{address("mx.example.org", "192.0.2.1", five("?", "?", "fail", "n/a", "n/a"))}, nil, nil, report.CodeFault},
		{"port 25 closed, dane counts and is not used", []survey.Host{address("mx.example.org", "192.0.2.1", closed)}, nil, dane, report.CodeOK},
		{"one of two answers", []survey.Host{address("mx.example.org", "192.0.2.1", closed), address("mx.example.org", "192.0.2.2", good)}, nil, nil, report.CodeOK},
		{"a null MX", []survey.Host{}, []survey.Domain{{Domain: "example.org", Verdicts: none}}, nil, report.CodeOK},
	} {
		seen, task := sight{domains: c.of, hosts: c.hosts}, verifyTask{hosts: []string{"mx.example.org"}, kinds: c.kinds}
		if got := verifyCode(newVerifyReport(seen, task), task); got != c.want {
			t.Errorf("%s: %d, want %d", c.what, got, c.want)
		}
	}
	// An own endpoint that does not show the current certificate is a fault, whatever counts.
	r := verifyReport{Hosts: []hostReport{{unserved: true, Verdicts: newVerdictReports(closed)}}}
	if got := verifyCode(r, verifyTask{kinds: dane}); got != report.CodeFault {
		t.Errorf("an own endpoint: %d", got)
	}
}

// If no resolver answers, nothing can be judged; that is an error, and no verdict about anybody. Own endpoints are judged all the same.
func TestVerifyWithoutResolver(t *testing.T) {
	t.Parallel()
	closed := port.Address(t)
	for _, what := range []string{"--domain", "--host"} {
		got := runAlone("--json", "verify", what, "mx.example.org", "--resolver", closed)
		var r failureReport
		if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || got.code != report.CodeTemporary || !strings.Contains(r.Error.Message, "no resolver answers ("+closed+")") || !strings.Contains(r.Error.Hint, "--resolver") {
			t.Errorf("%s: %+v", what, got)
		}
	}
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.report(report.CodeOK, "renew")
	if r := h.verified(report.CodeOK, "--resolver", closed); !r.Hosts[0].Verdicts[verdict.DANE].NotJudged || r.Hosts[0].Verdicts[verdict.PKIX].Result != verdict.Pass {
		t.Errorf("own endpoints: %+v", r)
	}
}

// A resolver that answers, but cannot find out, is one thing; what it says about the domain is a fault.
func TestVerifyServerFailure(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	s.Primary.SetFaults(nameserver.Faults{Rcode: 2 /* SERVFAIL */})
	got := runAlone("verify", "--domain", "example.org", "--resolver", s.Primary.Address(), "--timeout", "20s")
	if got.code != report.CodeFault || !strings.HasPrefix(got.stdout, "example.org: fail") || !strings.Contains(got.stdout, "mx-unresolvable") {
		t.Errorf("%+v", got)
	}
}

func TestEquivalents(t *testing.T) {
	t.Parallel()
	seen := exampleSight()
	seen.domains[0].Policy.ID = ""
	task := verifyTask{domains: []string{"example.org"}, servers: []string{"127.0.0.1:5353"}, rootsFile: "/tmp/my roots.pem", options: survey.Options{At: time.Unix(1800000000, 0)}}
	got := strings.Join(equivalents(t.Context(), seen, task), "\n")
	const want = `dig @127.0.0.1 -p 5353 +dnssec +multiline example.org MX
dig @127.0.0.1 -p 5353 +dnssec +multiline _mta-sts.example.org TXT
dig @127.0.0.1 -p 5353 +dnssec +multiline _25._tcp.mx.example.org TLSA
openssl s_client -brief -connect 192.0.2.25:25 -starttls smtp -servername mx.example.org -verify_return_error -attime 1800000000 -verify_hostname mx.example.org -no-CApath -no-CAstore -CAfile '/tmp/my roots.pem' </dev/null
openssl s_client -brief -connect 192.0.2.25:25 -starttls smtp -servername mx.example.org -verify_return_error -attime 1800000000 -dane_tlsa_domain mx.example.org -dane_ee_no_namechecks -dane_tlsa_rrdata '3 1 1 abcd' </dev/null
openssl s_client -brief -connect '[2001:db8:1111:2222:3333:4444:5555:6666]:25' -starttls smtp -servername mx.example.org -verify_return_error -attime 1800000000 -verify_hostname mx.example.org -no-CApath -no-CAstore -CAfile '/tmp/my roots.pem' </dev/null`
	if got != want {
		t.Errorf("got:\n%s", got)
	}
}

// A host that is named by its address has no name to send.
func TestEquivalentsOfAnAddress(t *testing.T) {
	t.Parallel()
	h := address("192.0.2.1", "192.0.2.1", five("pass", "fail", "n/a", "n/a", "n/a"))
	h.Port = 465
	got := equivalents(t.Context(), sight{hosts: []survey.Host{h}}, verifyTask{hosts: []string{"192.0.2.1"}})
	if want := "openssl s_client -brief -connect 192.0.2.1:465 -noservername -verify_return_error -verify_ip 192.0.2.1 </dev/null"; len(got) != 1 || got[0] != want {
		t.Errorf("%q", got)
	}
}

// What several kinds of senders have in common, what a finding says of a handshake, and what is about the whole domain is printed once.
func TestVerifyTextSaysItOnce(t *testing.T) {
	t.Parallel()
	differ := func(kind, hint string) finding.Finding {
		return finding.New("senders-differ", finding.Warning, "senders decide otherwise about 192.0.2.1").About(kind).Next(hint)
	}
	cached := finding.New("sts-cached", finding.Warning, "senders have an older policy, of 192.0.2.2").About("example.org")
	failed := finding.New("sni-required", finding.Error, "the server wants a name: an alert")
	one := address("mx.example.org", "192.0.2.1", five("pass", "pass", "n/a", "n/a", "n/a"), failed, cached, differ("pkix", "first"), differ("dane", "second"), differ("requiretls", "first"))
	same := address("mx.example.org", "192.0.2.2", one.Verdicts, cached)
	again := address("mx.example.org", "192.0.2.3", one.Verdicts, cached)
	other := address("mx2.example.org", "192.0.2.4", one.Verdicts, cached)
	r := newVerifyReport(sight{hosts: []survey.Host{one, same, again, other}}, verifyTask{})
	r.Hosts[0].Handshakes = []handshakeReport{{Key: "any", Error: "an alert", Kind: "validation-failure"}, {Key: "tls13", Error: "no such version", Kind: "tls-version"}, {Key: "rsa", Error: "no such key", Kind: "key-type-not-offered"}, {Key: "any", Error: "STARTTLS on a failed at step tls: reset", Kind: "connection-lost"}, {Key: "rsa", Error: "STARTTLS on a (RSA key) failed at step tls: reset", Kind: "connection-lost"}}
	got := printed(r)
	for text, n := range map[string]int{"senders-differ": 1, "next step    first": 1, "next step    second": 1, "an alert": 1, "handshake ": 1, "reset": 1, "sts-cached": 2, "mx.example.org at 192.0.2.2:25, 192.0.2.3:25": 1} {
		if count := strings.Count(got, text); count != n {
			t.Errorf("%q is there %d times, not %d:\n%s", text, count, n, got)
		}
	}
}
