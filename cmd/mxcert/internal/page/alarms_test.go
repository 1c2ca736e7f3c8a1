package page_test

import (
	"bytes"
	"strings"
	"testing"

	"mxcert/cmd/mxcert/internal/page"
	"mxcert/cmd/mxcert/internal/report"
)

// TestAlarmsTold: what people were told is on the page with its time and the next step, and the page does not say the same again. What they
// were not told stays.
func TestAlarmsTold(t *testing.T) {
	t.Parallel()
	s := example()
	www := &s.Certificates[3].Report
	www.Error, www.Code = &report.Error{Stage: "dns", Message: "the name server refuses the update", Hint: "check the key"}, report.CodeFailed
	s.Alarms = []page.Alarm{page.BadConfiguration("line 3: bad", at)}
	names := []string{"lists"}
	for _, c := range "abcdef" {
		names = append(names, string(c))
	}
	s.Told = page.Told{
		Alarms: []report.Alarm{
			{ID: "not-in-service", Severity: "error", Certificates: names, Since: day(-2), Told: day(-1.9), Title: "not in service", What: "verify: still serves serial 05deadbeef", Senders: "another certificate", Next: "exim -bP"},
			{ID: "name-left-out", Severity: "warning", Certificates: []string{"mx"}, Since: day(-3), Told: day(-3), Title: "a name is left out", What: "other.example is left out: why"},
			{ID: "drift", Severity: "error", Certificates: []string{"www"}, Since: day(-4), Told: day(-4), Gone: day(-0.1), Title: "something keeps changing the files"},
			{ID: "sts-mode-testing", Severity: "warning", Certificates: []string{"mx"}, Since: day(-3), Told: day(-3), Title: "senders meet a fault", What: "the MTA-STS policy of example.org is in mode testing: senders report failures and deliver all the same"},
		},
		Undelivered: []report.Undelivered{{Channel: "desk", Since: day(-0.5), Error: "connection refused", Waiting: 2}},
	}
	s.Finish()
	var got []string
	for _, a := range s.Alarms {
		got = append(got, string(a.Severity)+" "+a.Subject+" "+a.Title)
	}
	want := []string{
		"error lists, a, b, c, d and 2 more not in service",
		"error  the configuration is bad; the one that was loaded before stays in force: line 3: bad",
		"error www the name server refuses the update",
		"warning mx a name is left out",
		"warning mx senders meet a fault",
		"warning www something keeps changing the files",
		"warning  the channel desk of notify cannot deliver: connection refused; 2 messages wait",
		"warning mx the certificate is without mx.customer.example: no CNAME from _acme-challenge.mx.customer.example to a zone of dns.zones",
		"warning mx.example.org " + example().Certificates[0].Report.Reported.Failures[0].Message,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the alarms are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	text := render(t, s)
	for _, words := range []string{"3 faults to fix", "</b>: not in service", "verify: still serves serial", "Senders see: another certificate", `; people were told at <time datetime="2026-11-28T07:36:00Z">`, "Next: exim -bP", "Not found any more since <time", "mxcert notify test desk"} {
		if !bytes.Contains(text, []byte(words)) {
			t.Errorf("the page does not say %q", words)
		}
	}
}

// TestExpired: an expired certificate is a fault, whatever else is well.
func TestExpired(t *testing.T) {
	t.Parallel()
	c := well("mx", "mx.example.org")
	c.Report.Keys[0] = key("ec256", "01", -91, -1)
	s := page.Sight{Host: "h", At: at, Certificates: []page.Certificate{c}}
	s.Finish()
	text := string(render(t, s))
	for _, words := range []string{"1 fault to fix", "✗ </span>expired<", "the ec256 certificate has expired", "mxcert doctor mx"} {
		if !strings.Contains(text, words) {
			t.Errorf("the page does not say %q", words)
		}
	}
}
