package page

import (
	"cmp"
	"fmt"
	"slices"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/report"
)

const (
	// mostReported limits the failures that the details of a certificate show.
	mostReported = 10
	// mostReporters limits the organisations that they name.
	mostReporters = 5
)

// reportedOf shows what senders report (RFC 8460).
func reportedOf(s *report.SenderReports) parts {
	if s == nil {
		return nil
	}
	how := mark{"good", "✓", "no failure"}
	if len(s.Failures) > 0 {
		how = mark{"good", "✓", "no failure that holds"}
	}
	if n := s.Holding(); n > 0 {
		how = mark{"warn", "!", fmt.Sprintf("%d %s", n, report.Plural(n, "failure"))}
	}
	var names parts
	for i, sender := range s.Senders[:min(len(s.Senders), mostReporters)] {
		if i > 0 {
			names = append(names, text(", "))
		}
		names = append(names, text(finding.Quote(sender.Organization, 60)))
	}
	if more := len(s.Senders) - mostReporters; more > 0 {
		names = append(names, say(" and %d more", more))
	}
	list := parts{el("h4", text("As senders report it")),
		el("p", how.show(), say(" in the last week; %d %s of ", s.Reports, report.Plural(s.Reports, "report")), names, text(", from "), moment(s.From), text(" to "), moment(s.Until))}
	var items parts
	for _, f := range s.Failures[:min(len(s.Failures), mostReported)] {
		items = append(items, el("li", reportedFailure(f)...))
	}
	if more := len(s.Failures) - mostReported; more > 0 {
		items = append(items, el("li", class("soft"), say("and %d more; mxcert tlsrpt shows all", more)))
	}
	if len(items) > 0 {
		list = append(list, el("ul", items...))
	}
	return list
}

// reportedFailure shows one failure, and what to do about it.
func reportedFailure(f report.Reported) parts {
	how := map[report.ReportState]mark{report.Holds: {"warn", "!", "holds"}, report.Unclear: {"", "?", "perhaps fixed"}, report.Fixed: {"good", "✓", "fixed"}}[f.State]
	if f.State == report.Holds && f.Severity == finding.Error {
		how.class, how.sign = "bad", "✗"
	}
	item := parts{how.show(), text(" "), foreign(f.Message)}
	if f.Hint != "" {
		item = append(item, el("div", class("next"), text("Next: "), foreign(f.Hint)))
	}
	return item
}

// reportedAlarms are the failures about a certificate that hold; one of those that several senders report about the same host.
func reportedAlarms(certificate string, s *report.SenderReports) (list []Alarm) {
	if s.Holding() == 0 {
		return nil
	}
	var known []string
	for _, f := range s.Failures {
		subject := cmp.Or(f.Host, f.Domain)
		if key := f.Type + " " + subject; f.State == report.Holds && !slices.Contains(known, key) {
			known = append(known, key)
			list = append(list, Alarm{certificate: certificate, ids: []string{"tlsrpt-" + f.Type}, words: subject, Severity: f.Severity, Subject: subject, Title: f.Message, Next: f.Hint})
		}
	}
	return list
}
