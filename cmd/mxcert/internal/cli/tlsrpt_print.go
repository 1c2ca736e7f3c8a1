package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"mxcert/acme/finding"
	"mxcert/deploy/tlsrpt"

	"mxcert/cmd/mxcert/internal/report"
)

// printReported prints the failures, the worst first, and then who reports.
func printReported(out sheet, r report.TLSRPT) {
	if r.Reports == 0 {
		out.text(2, "no reports")
	} else {
		n, s := r.Reports, len(r.Senders)
		out.text(2, "%d %s of %d %s, %s: %s", n, report.Plural(n, "report"), s, report.Plural(s, "sender"), days(*r.From, *r.Until), reportedAnswer(r))
	}
	if !r.Compared && r.Reports > 0 {
		out.line("warning", "not compared with what this host had in service: %s", r.Why)
	}
	for i := 0; i < len(r.Failures); {
		end := i + 1
		for end < len(r.Failures) && together(r.Failures[i], r.Failures[end]) {
			end++
		}
		fmt.Fprintln(out)
		printFailure(out, r.Failures[i:end], r.Compared)
		i = end
	}
	if len(r.Senders) > 0 {
		fmt.Fprintln(out)
		printSenders(out, r.Senders)
	}
	printUnreadable(out, r)
}

// reportedAnswer is the answer in a word.
func reportedAnswer(r report.TLSRPT) string {
	holding := 0
	for _, f := range r.Failures {
		if f.State == report.Holds {
			holding++
		}
	}
	switch {
	case len(r.Failures) == 0:
		return "no failure"
	case holding == 0:
		return "no failure that still holds"
	}
	return fmt.Sprintf("%d %s that %s", holding, report.Plural(holding, "failure"), map[bool]string{true: "holds", false: "hold"}[holding == 1])
}

// together reports whether two failures have the same heading.
func together(a, b report.Reported) bool { return heading(a) == heading(b) }

// heading names the host or the policy, the kind of failure, and whether it holds.
func heading(f report.Reported) string {
	subject := f.Host
	switch {
	case subject != "":
	case len(f.Addresses) > 0:
		subject = f.Addresses[0]
	case f.Domain != "":
		subject = f.Domain
	default:
		subject = "no host named"
	}
	return subject + ": " + f.Type + ", " + stateWord(f)
}

func stateWord(f report.Reported) string {
	switch f.State {
	case report.Fixed:
		return "fixed"
	case report.Unclear:
		return "perhaps fixed"
	}
	return "holds"
}

// mostMet limits the senders that are listed below a heading.
const mostMet = 10

// printFailure prints failures with the same heading.
func printFailure(out sheet, list []report.Reported, compared bool) {
	first := list[0]
	colour := map[report.ReportState]string{report.Holds: red, report.Unclear: yellow, report.Fixed: green}[first.State]
	if first.State == report.Holds && first.Severity != finding.Error {
		colour = yellow
	}
	text := heading(first)
	before := strings.TrimSuffix(text, stateWord(first))
	fmt.Fprint(out, before)
	out.paint(stateWord(first), colour)
	fmt.Fprintln(out)
	kind := tlsrpt.KindOf(first.Type)
	for i, f := range list {
		if i == mostMet {
			out.line("", "and %d more", len(list)-i)
			break
		}
		text := fmt.Sprintf("%s: %s of %s, %s", finding.Quote(f.Organization, 60), grouped(f.Failed), sessionsOf(f.Sessions), moments(f.From, f.Until))
		if f.Reason != "" {
			text += fmt.Sprintf(`; it says "%s"`, f.Reason)
		}
		out.line("met by", "%s", text)
	}
	out.line("meaning", "%s%s", kind.Meaning, policyText(first))
	for _, g := range first.Generations {
		out.line("in service", "%s", generationText(g, first.Until))
	}
	if compared && !first.Ours && first.Host != "" && !kind.Policy {
		out.line("host", "%s is not this host", first.Host)
	}
	printOutcome(out, first)
}

// policyText says what kind of sender it was.
func policyText(f report.Reported) string {
	switch {
	case f.Testing:
		return "; the MTA-STS policy is in testing mode, so the mail was delivered"
	case f.Policy == "sts":
		return " (a sender with MTA-STS)"
	case f.Policy == "tlsa":
		return " (a sender with DANE)"
	}
	return ""
}

// printOutcome says whether a failure is over, and what to do.
func printOutcome(out sheet, f report.Reported) {
	switch {
	case f.State == report.Fixed && f.Since == nil:
		out.line("fixed", "a later report of %s does not have it", finding.Quote(f.Organization, 60))
	case f.State == report.Fixed:
		out.line("fixed", "since %s, when another certificate went into service", report.Minute(*f.Since))
	case f.State == report.Unclear:
		out.line("changed", "another certificate went into service at %s, within that time; the next report tells whether that helped", report.Minute(*f.Since))
	}
	if f.OwnLook != "" && f.State != report.Fixed {
		out.line("own look", "%s", f.OwnLook)
	}
	if f.Hint != "" {
		out.line("next step", "%s", f.Hint)
	}
}

// generationText describes what was in service.
func generationText(g report.InService, until time.Time) string {
	text := fmt.Sprintf("generation %s (%s), from %s", g.ID, g.Key, report.Minute(g.From))
	if g.Until != nil {
		text += " to " + report.Minute(*g.Until)
	}
	if g.NotAfter.Before(until) {
		text += "; it expired at " + report.Minute(g.NotAfter)
	}
	return text
}

// printSenders prints first who reports failures, then in one line who reports none.
func printSenders(out sheet, list []report.ReportSender) {
	var good []string
	var sum report.ReportSender
	for _, s := range list {
		if s.Failed > 0 {
			out.text(2, "%s: %s, %s failed, %s", finding.Quote(s.Organization, 60), sessionsOf(s.Successful+s.Failed), grouped(s.Failed), days(s.From, s.Until))
			continue
		}
		if len(good) == 0 || s.From.Before(sum.From) {
			sum.From = s.From
		}
		if s.Until.After(sum.Until) {
			sum.Until = s.Until
		}
		sum.Successful += s.Successful
		good = append(good, finding.Quote(s.Organization, 60))
	}
	if len(good) > 0 {
		names := strings.Join(good[:min(len(good), mostMet)], ", ")
		if more := len(good) - mostMet; more > 0 {
			names += fmt.Sprintf(" and %d more", more)
		}
		out.text(2, "%s: %s, no failure, %s", names, sessionsOf(sum.Successful), days(sum.From, sum.Until))
	}
}

// printUnreadable says which files have not been read.
func printUnreadable(out sheet, r report.TLSRPT) {
	if r.Others > 0 {
		out.text(2, "%d %s without a report", r.Others, report.Plural(r.Others, "file"))
	}
	for i, u := range r.Unreadable {
		if i == mostMet {
			out.line("warning", "%d more files cannot be read", len(r.Unreadable)-i)
			break
		}
		out.line("warning", "cannot be read: %s: %s", finding.Quote(u.File, finding.MostQuoted), strings.TrimPrefix(u.Message, finding.Quote(u.File, finding.MostQuoted)+": "))
	}
}

func sessionsOf(n int64) string { return grouped(n) + " " + report.Plural(int(min(n, 2)), "session") }

// grouped writes a number with commas.
func grouped(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// days writes a period in days. One that ends at midnight does not have the day that begins then.
func days(from, until time.Time) string {
	first, last := from.UTC().Format(time.DateOnly), until.UTC().Add(-time.Second).Format(time.DateOnly)
	if first >= last {
		return first
	}
	return first + " to " + last
}

// moments writes a period to the minute.
func moments(from, until time.Time) string {
	return strings.TrimSuffix(report.Minute(from), " UTC") + " to " + report.Minute(until)
}
