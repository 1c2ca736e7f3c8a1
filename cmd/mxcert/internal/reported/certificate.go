package reported

import (
	"cmp"
	"errors"
	"io/fs"
	"slices"
	"time"

	"mxcert/acme/state"
	"mxcert/deploy/tlsrpt"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// mostSenders limits the organisations that are listed of one certificate.
const mostSenders = 20

// Remembered returns the reports that a daemon has read and remembers; none if no daemon has read any.
func Remembered(store *state.Book) ([]tlsrpt.Report, error) {
	var memory Memory
	err := store.Remembered(state.Reported, &memory)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return memory.Reports, err
}

// Certificates returns what senders have reported about each certificate of a host, by its name: the failures of the last week with the worst
// first, whether they hold or not, and who has sent reports. A certificate that no report is about is not in it.
func Certificates(reports []tlsrpt.Report, host *wanted.Host, store *state.Book, now time.Time) map[string]*report.SenderReports {
	reports = tlsrpt.Unique(reports)
	if len(reports) == 0 || len(host.Certificates) == 0 {
		return nil
	}
	all := map[string]*report.SenderReports{}
	for name, list := range read(host, store).about(reports) {
		s := &report.SenderReports{Failures: []report.Reported{}, Reports: len(list), From: list[0].From}
		for i, sender := range tlsrpt.Senders(list) {
			if sender.Last.After(s.Until) {
				s.Until = sender.Last
			}
			if i < mostSenders {
				s.Senders = append(s.Senders, senderOf(sender))
			}
		}
		all[name] = s
	}
	for _, f := range Compare(reports, host, store, now.Add(-fresh)).Failures {
		if s := all[f.Certificate]; s != nil && len(s.Failures) < mostFindings {
			s.Failures = append(s.Failures, f)
		}
	}
	return all
}

// about divides reports: each certificate gets the parts of them that are about it, by the name of the certificate.
func (h *history) about(reports []tlsrpt.Report) map[string][]tlsrpt.Report {
	all := map[string][]tlsrpt.Report{}
	for _, r := range reports {
		parts := map[string][]tlsrpt.Policy{}
		for _, p := range r.Policies {
			for _, name := range h.named(p) {
				parts[name] = append(parts[name], p)
			}
		}
		for name, policies := range parts {
			part := r
			part.Policies = policies
			all[name] = append(all[name], part)
		}
	}
	return all
}

// named lists the certificates that a policy of a report is about, by its domain or by a failure.
func (h *history) named(p tlsrpt.Policy) (names []string) {
	base := tlsrpt.Sum{Domain: p.Domain}
	if p.Type == "tlsa" {
		base.Host = p.Domain // the TLSA base domain is the host
	}
	sums := []tlsrpt.Sum{base}
	for _, f := range p.Failures {
		sums = append(sums, tlsrpt.Sum{Domain: p.Domain, Host: cmp.Or(f.Host, base.Host), Addresses: []string{f.Address}})
	}
	for _, s := range sums {
		if c, _ := h.find(s); c != nil && !slices.Contains(names, c.want.Name) {
			names = append(names, c.want.Name)
		}
	}
	return names
}
