// Package reported compares what senders report (deploy/tlsrpt) with what this host had in service at that time, and says what still holds.
//
// Reports come a day later, so most failures in them are over when they are read. A failure is fixed if another certificate went into service
// after the period of the report, or if a later report of the same sender about the same policy does not have it. If the certificate changed
// within the period, only the next report can tell: the failure is unclear.
//
// [Compare] answers `mxcert tlsrpt`, and [Certificates] is what `mxcert status` and the page show. [Findings] is what people are told, and [Memory] what the daemon remembers of the reports that it has
// read. Nothing else follows from a report: anybody can forge one.
package reported

import (
	"cmp"
	"slices"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/deploy/tlsrpt"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// Compare sums reports up, and compares them with what a host had in service. Without a host, it compares nothing. Failures that ended before
// since are left out.
func Compare(reports []tlsrpt.Report, host *wanted.Host, store *state.Book, since time.Time) report.TLSRPT {
	reports = slices.DeleteFunc(tlsrpt.Unique(reports), func(r tlsrpt.Report) bool { return r.Until.Before(since) })
	doc := report.TLSRPT{OK: true, Reports: len(reports), Compared: host != nil, Failures: []report.Reported{}, Senders: []report.ReportSender{}, Unreadable: []report.Unreadable{}}
	for _, r := range reports {
		if doc.From == nil || r.From.Before(*doc.From) {
			doc.From = &r.From
		}
		if doc.Until == nil || r.Until.After(*doc.Until) {
			doc.Until = &r.Until
		}
	}
	for _, s := range tlsrpt.Senders(reports) {
		doc.Senders = append(doc.Senders, senderOf(s))
	}
	h := &history{}
	if host != nil {
		h = read(host, store)
	}
	for _, s := range tlsrpt.Failures(reports) {
		f := h.judge(s)
		doc.OK = doc.OK && f.State != report.Holds
		doc.Failures = append(doc.Failures, f)
	}
	slices.SortStableFunc(doc.Failures, func(a, b report.Reported) int {
		return cmp.Or(cmp.Compare(stateRank(a.State), stateRank(b.State)), cmp.Compare(severityRank(a.Severity), severityRank(b.Severity)),
			b.Until.Compare(a.Until), cmp.Compare(b.Failed, a.Failed), cmp.Compare(a.Organization, b.Organization))
	})
	return doc
}

func senderOf(s tlsrpt.Sender) report.ReportSender {
	return report.ReportSender{Organization: named(s.Organization), Reports: s.Reports, Successful: s.Good, Failed: s.Bad, From: s.First, Until: s.Last}
}

func stateRank(s report.ReportState) int {
	return slices.Index([]report.ReportState{report.Holds, report.Unclear, report.Fixed}, s)
}

func severityRank(s finding.Severity) int {
	return slices.Index([]finding.Severity{finding.Error, finding.Warning, finding.OK}, s)
}

// named is how an organisation is called in sentences.
func named(organization string) string { return cmp.Or(organization, "an unnamed sender") }

// judge compares one sum with the history.
func (h *history) judge(s tlsrpt.Sum) report.Reported {
	f := report.Reported{Organization: named(s.Organization), Type: cmp.Or(s.Type, tlsrpt.Unspecified), Host: s.Host, Addresses: append([]string{}, s.Addresses...), Policy: s.Policy, Domain: s.Domain,
		Testing: s.Testing, Failed: s.Sessions, Sessions: s.Of, From: s.First, Until: s.Last, Reports: s.Reports, Reason: s.Reason,
		Generations: []report.InService{}, State: report.Holds, Severity: s.Severity()}
	c, ours := h.find(s)
	f.Ours = ours
	var changed time.Time
	kind := tlsrpt.KindOf(s.Type)
	if c != nil {
		f.Certificate, f.OwnLook = c.want.Name, c.ownLook(s)
	}
	if c != nil && ours && !kind.Policy {
		for _, in := range c.between(s.First, s.Last) {
			f.Generations = append(f.Generations, inService(in))
		}
		changed = c.changed(s.Last)
	}
	switch {
	case s.Later:
		f.State = report.Fixed
	case changed.IsZero() || !kind.Certificate || !changed.After(s.First):
	case !changed.Before(s.Last):
		f.State, f.Since = report.Fixed, &changed
	default:
		f.State, f.Since = report.Unclear, &changed
	}
	switch {
	case f.State == report.Fixed:
		f.Severity = finding.OK
	case f.State == report.Unclear, h.certificates != nil && !ours:
		f.Severity = finding.Warning
	}
	f.Message, f.Hint = message(f, kind, s.Later, h.certificates != nil), hint(f, kind, h.certificates != nil)
	return f
}

func inService(s service) report.InService {
	in := report.InService{ID: s.ID, Key: string(s.Key), Serial: s.Serial, From: s.from, NotAfter: s.NotAfter}
	if !s.until.IsZero() {
		in.Until = &s.until
	}
	return in
}
