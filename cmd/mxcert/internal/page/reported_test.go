package page_test

import (
	"strings"
	"testing"

	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert/internal/page"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/tell"
	"mxcert/cmd/mxcert/internal/wanted"
)

// TestReported: what senders report and holds is an alarm, once for each host and kind, although the daemon has found it, too. Foreign text is
// escaped.
func TestReported(t *testing.T) {
	t.Parallel()
	store, err := state.Open(disk.Open(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	failure := report.Reported{Organization: "<b>Google</b>", Type: "certificate-expired", Host: "mx.example.org", State: report.Holds, Severity: finding.Error, Message: "<b>Google</b> met certificate-expired", Hint: "mxcert status mx"}
	other, fixed := failure, failure
	other.Organization, other.Message = "Other", "Other met certificate-expired"
	fixed.State, fixed.Message = report.Fixed, "Third met certificate-expired; fixed"
	w := tell.World{
		Host: &wanted.Host{Certificates: []wanted.Certificate{{Name: "mx", Names: []string{"mx.example.org"}}, {Name: "lists", Names: []string{"lists.example.org"}}}}, Store: store,
		Reported: map[string]*report.SenderReports{"mx": {Reports: 3, From: day(-3), Until: day(-1), Failures: []report.Reported{failure, other, fixed}, Senders: []report.ReportSender{{Organization: "<b>Google</b>"}}}},
		Findings: map[tell.Topic][]finding.Finding{
			{Source: "tlsrpt", Certificate: "mx"}: {finding.New("tlsrpt-certificate-expired", finding.Error, "%s", failure.Message).About("mx.example.org")},
			{Source: "tlsrpt"}:                    {finding.New("tlsrpt-directory", finding.Warning, "the reports of senders cannot be read")},
		},
	}
	s := page.Of(w, new(page.Memory), page.Told{}, at, page.ByDaemon)
	var titles []string
	for _, a := range s.Alarms {
		titles = append(titles, a.Title)
	}
	if len(titles) != 2 || titles[0] != failure.Message || !strings.HasPrefix(titles[1], "the reports of senders cannot be read") {
		t.Errorf("alarms: %q", titles)
	}
	known := page.Told{Alarms: []report.Alarm{{ID: "tlsrpt-certificate-expired", Severity: "error", Certificates: []string{"mx"}, Since: day(-2), Told: day(-2),
		Title: "senders report failures", What: "mx.example.org: Google met certificate-expired in fewer sessions"}}}
	if told := page.Of(w, new(page.Memory), known, at, page.ByDaemon).Alarms; len(told) != 2 || told[0].Told.IsZero() || told[1].Title != titles[1] {
		t.Errorf("with what people were told: %+v", told)
	}
	text := string(render(t, s))
	if strings.Contains(text, "<b>Google") || strings.Count(text, "As senders report it") != 1 || !strings.Contains(text, "Third met certificate-expired; fixed") || !strings.Contains(text, "2 failures") {
		t.Error("the page is wrong:\n" + text[strings.Index(text, "<body"):])
	}
}
