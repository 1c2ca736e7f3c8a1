package reported

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/finding"
	"mxcert/deploy/tlsrpt"

	"mxcert/cmd/mxcert/internal/report"
)

const (
	// fresh is how long a failure alarms if no newer report says anything about it.
	fresh = 7 * 24 * time.Hour
	// mostFindings limits what is said about one certificate.
	mostFindings = 20
	// mostOthers limits the organisations that a finding names beside the first.
	mostOthers = 3
)

// Findings returns what people should know, by the name of the certificate: the failures of this host, and of other hosts of its mail domains,
// that hold. The ID is the result type after "tlsrpt-". What a report says about hosts and domains of others is not said.
func Findings(doc report.TLSRPT, now time.Time) map[string][]finding.Finding {
	all := map[string][]finding.Finding{}
	others := map[[3]string][]string{}
	for _, f := range doc.Failures { // the worst first
		if f.State != report.Holds || now.Sub(f.Until) > fresh || f.Certificate == "" {
			continue
		}
		id, subject := "tlsrpt-"+tlsrpt.KindOf(f.Type).Type, f.Host
		if subject == "" {
			subject = f.Domain
		}
		list := all[f.Certificate]
		same := slices.ContainsFunc(list, func(o finding.Finding) bool { return o.ID == id && o.Subject == subject })
		switch {
		case same:
			key := [3]string{f.Certificate, id, subject}
			if name := finding.Quote(f.Organization, mostName); !slices.Contains(others[key], name) {
				others[key] = append(others[key], name)
			}
		case len(list) < mostFindings:
			all[f.Certificate] = append(list, finding.New(id, f.Severity, "%s", f.Message).About(subject).Next(f.Hint))
		}
	}
	for name, list := range all {
		for i, f := range list {
			if more := others[[3]string{name, f.ID, f.Subject}]; len(more) > 0 {
				list[i].Message += "; " + also(more)
			}
		}
	}
	return all
}

// also names the organisations that report the same.
func also(names []string) string {
	text := strings.Join(names[:min(len(names), mostOthers)], ", ")
	if more := len(names) - mostOthers; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text + map[bool]string{true: " reports the same", false: " report the same"}[len(names) == 1]
}
