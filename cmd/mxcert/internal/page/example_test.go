package page_test

import (
	"fmt"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/page"
	"mxcert/cmd/mxcert/internal/report"
)

// at is when the pages of these tests are made.
var at = time.Date(2026, 11, 30, 5, 12, 0, 0, time.UTC)

// day returns the time that many days after at.
func day(n float64) time.Time { return at.Add(time.Duration(n * 24 * float64(time.Hour))) }

func key(kind, serial string, began, ends float64) report.Key {
	return report.Key{Key: kind, Serial: serial, NotBefore: day(began), NotAfter: day(ends), Issuer: "E7", SPKI: "c0ffee"}
}

func verdicts(dane string) map[string]report.SenderVerdict {
	all := map[string]report.SenderVerdict{}
	for _, kind := range []string{"opportunistic", "pkix", "mta_sts"} {
		all[kind] = report.SenderVerdict{Result: "pass", Action: "deliver"}
	}
	all["dane"] = report.SenderVerdict{Result: dane, Action: "skip", Type: "validation-failure", Reason: "no TLSA record of _25._tcp.mx.example.org matches the certificate"}
	all["requiretls"] = report.SenderVerdict{Result: "n/a", Reason: "the host does not offer REQUIRETLS"}
	return all
}

// well is a certificate in service.
func well(name, host string) page.Certificate {
	r := report.New(name, []string{host})
	r.Keys = []report.Key{key("ec256", "04a1b2c3d4e5f60718293a4b5c6d7e8f9012", -40, 50)}
	r.Stage, r.NextRenewal = report.Served, new(day(20))
	r.Endpoints = []report.Endpoint{{Address: "127.0.0.1:25", ServerName: host, Key: "ec256", Serial: "04a1b2c3d4e5f60718293a4b5c6d7e8f9012", Matches: true, SeenAt: day(-0.02)}}
	return page.Certificate{Report: r, Looked: at, Events: []state.Event{
		{At: day(-40), Event: "served", Key: "ec256", Serial: "04a1b2c3d4e5f60718293a4b5c6d7e8f9012"},
		{At: day(-40), Event: "issued", Key: "ec256", Serial: "04a1b2c3d4e5f60718293a4b5c6d7e8f9012"},
	}}
}

// example is a host with everything that a page can show.
func example() page.Sight {
	mx := well("mx", "mx.example.org")
	r := &mx.Report
	r.Names = append(r.Names, "host7.example.org", "mx.xn--mnchen-3ya.example", "mx.customer.example")
	r.Keys = append(r.Keys, key("rsa2048", "03ffeeddccbbaa99887766554433221100ab", -40, 50))
	r.Endpoints = append(r.Endpoints,
		report.Endpoint{Address: "192.0.2.25:25", Key: "ec256", Serial: r.Keys[0].Serial, Matches: true, SeenAt: at},
		report.Endpoint{Address: "[2001:db8::25]:25", Key: "rsa2048", Serial: r.Keys[1].Serial, Matches: true, SeenAt: at})
	r.LeftOut = []report.LeftOut{{Name: "mx.customer.example", Since: day(-3), Reason: "no CNAME from _acme-challenge.mx.customer.example to a zone of dns.zones", NextTry: day(0.5)}}
	r.Awaited = []report.Awaited{{Name: "mx2.example.org", Reason: "MX of example.com", Since: day(-0.01), Until: day(0.04)}}
	r.Reported = &report.SenderReports{Reports: 9, From: day(-20), Until: day(-1), Senders: []report.ReportSender{{Organization: "Google Inc."}, {Organization: "Microsoft Corporation"}}, Failures: []report.Reported{
		{Organization: "Google Inc.", Type: "tlsa-invalid", Host: "mx.example.org", State: report.Holds, Severity: finding.Warning, Hint: "mxcert tlsa check mx compares the records with what is served",
			Message: "Google Inc. met tlsa-invalid on mx.example.org from 2026-11-28 00:00 to 2026-11-28 23:59 UTC (12 of 400 sessions): that was generation 20261021T051200000Z-0a1b2c3d; the TLSA records did not fit the certificate, or could not be used"},
		{Organization: "Microsoft Corporation", Type: "certificate-expired", Host: "mx.example.org", State: report.Fixed, Severity: finding.OK, Message: "Microsoft Corporation met certificate-expired on mx.example.org; its later reports do not have it"}}}
	r.Senders = &report.Senders{Version: 1, At: day(-0.03), Domains: []string{"example.org", "xn--mnchen-3ya.example"},
		Findings: []finding.Finding{finding.New("sts-mode-testing", finding.Warning, "the MTA-STS policy of example.org is in mode testing: senders report failures and deliver all the same").About("example.org").Next("set mode: enforce when the reports are clean")},
		Hosts: []report.SenderHost{
			{MX: "mx.example.org", Domain: "example.org", Address: "192.0.2.25", Port: 25, Verdicts: verdicts("pass")},
			{MX: "mx.example.org", Domain: "example.org", Address: "2001:db8::25", Port: 25, Verdicts: verdicts("fail")}}}
	yes := true
	r.TLSA = &report.TLSA{Mode: "publish", State: "holding", WaitingFor: "senders may hold the old records", Until: new(day(0.7)), LookedAt: new(day(-0.02)), SignedUntil: new(day(12)),
		Keys:   []report.TLSAKey{{Key: "ec256", State: "holding", WaitingFor: "senders may hold older records of _25._tcp.mx.example.org", Until: new(day(0.7))}, {Key: "rsa2048", State: "steady"}},
		Owners: []report.TLSAOwner{{Owner: "_25._tcp.mx.example.org", Host: "mx.example.org", Port: 25, Matches: &yes}},
		Records: []report.TLSARecord{
			{Owner: "_25._tcp.mx.example.org", Record: "3 1 1 0d6fce3bd4eb2b1a0f5e9f7a7f9f4a9c41a4d0f6a0d5e7c9b8a7f6e5d4c3b2a1", Ours: true, Matches: "current ec256", SeenBy: make([]report.SeenBy, 3)},
			{Owner: "_25._tcp.mx.example.org", Record: "3 1 1 9e8d7c6b5a49382716051423324150697887a6b5c4d3e2f1a0b9c8d7e6f50413", Ours: true, Matches: "next ec256", SeenBy: make([]report.SeenBy, 2), Missing: make([]report.SeenBy, 1)}}}

	lists := well("lists", "lists.example.net")
	lists.Report.Stage, lists.Report.Code = report.Deployed, report.CodeNotInService
	lists.Report.Keys = []report.Key{key("ec256", "0511112222333344445555666677778888aa", -80, 9)}
	lists.Report.NextRenewal, lists.Report.NextTry = new(day(-21)), new(day(0.1))
	lists.Report.Endpoints = []report.Endpoint{{Address: "127.0.0.1:465", Key: "ec256", Serial: "05deadbeef", SeenAt: at}, {Address: "127.0.0.1:587", Key: "ec256", Error: "connect: connection refused", SeenAt: at}}
	lists.Report.Error = &report.Error{Stage: "verify", Kind: "not-served", Message: "127.0.0.1:465 still serves serial 05deadbeef after 90 s", Hint: "exim -bP tls_certificate shows the file that Exim reads"}
	lists.Events = []state.Event{{At: day(-0.1), Event: "failed", Key: "ec256", Message: "127.0.0.1:465 still serves serial 05deadbeef after 90 s"}, {At: day(-0.1), Event: "reverted", Key: "ec256", Serial: "0511112222333344445555666677778888aa"}}

	imap := page.Certificate{Report: report.New("imap", []string{"imap.example.org"})}
	imap.Report.Keys = []report.Key{key("ec256", "0612341234123412341234123412341234ff", -2, 4.5)}
	s := page.Sight{Host: "host7.example.org", Release: "1.3.0", At: at, Maker: page.ByDaemon, Since: day(-0.1), Certificates: []page.Certificate{mx, lists, imap, well("www", "www.example.org")},
		Fleet: &page.Fleet{Name: "berlin", Host: "mx1", Since: day(-0.1), Reason: "fleet.identity: secret cred:age: permission denied", Hint: "chmod 0640 /etc/mxcert/credentials/age", Hosts: []page.FleetHost{{Host: "mx2", Seen: day(-2), Serves: 3, Of: 4}, {Host: "mx1", Alive: true, Seen: at, Serves: 4, Of: 4}}}}
	s.Finish()
	return s
}

// many is a host with n certificates in service.
func many(n int) page.Sight {
	s := page.Sight{Host: "host7.example.org", Release: "1.3.0", At: at, Maker: page.ByDaemon}
	for i := range n {
		s.Certificates = append(s.Certificates, well(fmt.Sprintf("customer-%04d", i), fmt.Sprintf("mx.customer-%04d.example", i)))
	}
	s.Finish()
	return s
}
