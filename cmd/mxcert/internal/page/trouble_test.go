package page_test

import (
	"strings"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/page"
	"mxcert/cmd/mxcert/internal/report"
)

// pages are hosts on which little, much, and everything bad happens.
func pages() []struct {
	name  string
	sight page.Sight
} {
	one := page.Sight{Host: "mx.example.org", Release: "1.3.0", At: at, Maker: page.ByDaemon, Certificates: []page.Certificate{well("mx", "mx.example.org")}}
	one.Finish()
	return []struct {
		name  string
		sight page.Sight
	}{{"one", one}, {"example", example()}, {"trouble", trouble()}, {"many", many(1000)}}
}

// trouble is a host with long names, foreign texts, markup in names, and faults of each kind.
func trouble() page.Sight {
	long := strings.Repeat("a", 63) + "." + strings.Repeat("b", 63) + "." + strings.Repeat("c", 63) + ".a-long-name-without-a-place-to-break.example"
	s := example()
	s.Host = long
	for _, foreign := range []string{long, "mx.xn--bcher-kva.example", "mx.xn--fsqu00a.xn--0zwm56d", "mx.xn--mgberp4a5d4ar"} {
		c := well(foreign, foreign)
		c.Report.Names = append(c.Report.Names, "*."+foreign)
		c.Report.Error = &report.Error{Stage: "dns", Kind: "refused", Message: `the server said "<script>alert(1)</script> <b>Zugriff verweigert</b> アクセスが拒否されました تم رفض الوصول"` + strings.Repeat("x", 400), Hint: "https://" + long + "/" + strings.Repeat("y", 200)}
		c.Report.Code, c.Report.Stage = report.CodeFailed, report.Failed
		c.Report.Warnings = []string{`"><img src=x onerror=alert(1)>`, "Предупреждение: " + long}
		c.Report.Missing = []string{foreign}
		c.Report.Endpoints[0].Address = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535"
		c.Report.Endpoints[0].Error = "the server answered 454 TLS currently unavailable " + strings.Repeat("z", 100)
		s.Certificates = append(s.Certificates, c)
	}
	expired := well("<b>expired</b>", "old.example.org")
	expired.Report.Keys[0] = key("ec256", strings.Repeat("f", 40), -91, -1)
	s.Certificates = append(s.Certificates, expired)
	s.Alarms = []page.Alarm{{Severity: finding.Error, Title: "the configuration is bad", Since: day(-1), Next: "mxcert check shows each fault"}}
	s.Told = page.Told{
		Alarms: []report.Alarm{{ID: "renewal-failed", Severity: "error", Certificates: []string{long, "mx.xn--bcher-kva.example", "a", "b", "c", "d", "e"}, Since: day(-2), Told: day(-1.9), Title: "the renewal fails", What: "dns: " + strings.Repeat("w", 300),
			Senders: "a certificate that is valid until 2027-01-19 05:12 UTC, if the server uses the files", Next: "mxcert doctor " + long}},
		Undelivered: []report.Undelivered{{Channel: "desk", Since: day(-0.5), Error: "dial tcp [2001:db8::1]:587: connection refused", Waiting: 2}},
	}
	s.Finish()
	return s
}
