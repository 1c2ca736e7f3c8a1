package cli

import (
	"fmt"
	"strings"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/state"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/reported"
	"mxcert/cmd/mxcert/internal/wanted"
)

// addReported adds what senders report about each certificate. Only a daemon that reads reports remembers any, so otherwise host is not called.
func addReported(r *report.Report, store *state.Book, host func() *wanted.Host) {
	reports, err := reported.Remembered(store)
	if err != nil || len(reports) == 0 {
		return // the daemon reads the directory again, and logs why
	}
	h := host()
	if h == nil {
		return
	}
	all := reported.Certificates(reports, h, store, time.Now())
	for i := range r.Certificates {
		r.Certificates[i].Reported = all[r.Certificates[i].Name]
	}
}

// mostReported limits the failures that the details of a certificate show.
const mostReported = 5

// printReportedOf says what senders report about a certificate.
func printReportedOf(out sheet, s *report.SenderReports) {
	if s == nil {
		return
	}
	for i, f := range s.Failures {
		if i == mostReported {
			out.line("reported", "%d more; mxcert tlsrpt shows all", len(s.Failures)-i)
			break
		}
		out.line("reported", "%s", f.Message)
		if f.Hint != "" {
			out.line("next step", "%s", f.Hint)
		}
	}
	if len(s.Failures) == 0 {
		out.line("reported", "no failure in the last week; %d %s of %s since %s, the last until %s", s.Reports, report.Plural(s.Reports, "report"), reporters(s.Senders), report.Minute(s.From), report.Minute(s.Until))
	}
}

// mostReporters limits the organisations in a line.
const mostReporters = 3

// reporters names who reports.
func reporters(list []report.ReportSender) string {
	var names []string
	for _, s := range list[:min(len(list), mostReporters)] {
		names = append(names, finding.Quote(s.Organization, 60))
	}
	text := strings.Join(names, ", ")
	if more := len(list) - mostReporters; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// printReportedAbout names the certificates about which senders report failures that hold.
func printReportedAbout(out sheet, certificates []report.Certificate) {
	var names []string
	for _, c := range certificates {
		if c.Reported.Holding() > 0 {
			names = append(names, c.Name)
		}
	}
	if len(names) > 0 {
		fmt.Fprintln(out)
		out.text(2, "senders report failures about %s: mxcert status NAME shows them", strings.Join(names, ", "))
	}
}
