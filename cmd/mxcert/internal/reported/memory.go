package reported

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/deploy/tlsrpt"
)

const (
	// kept is how long a report is remembered: by then the next certificate is in service.
	kept = 35 * 24 * time.Hour
	// mostRemembered limits the policies of a report, and its failures, that are remembered.
	mostRemembered = 40
	// mostBytes and mostMarks keep the memory below what the state reads: 1 MiB, and 50,000 of the characters { [ and comma.
	mostBytes, mostMarks = 900 << 10, 45_000
)

// Memory is what the daemon remembers of the reports that it has read, as state.Reported. So no report counts twice, and mails that somebody
// removes are not forgotten at once.
type Memory struct {
	Version int               `json:"version"`
	Read    time.Time         `json:"read,omitzero"` // up to which change of a file the directory has been read
	Reports []tlsrpt.Report   `json:"reports,omitempty"`
	Said    []finding.Finding `json:"said,omitempty"` // what was found last
}

// Add remembers reports. Old ones are forgotten; of many, the oldest.
func (m *Memory) Add(reports []tlsrpt.Report, now time.Time) {
	m.Version = state.Version
	for _, r := range reports {
		m.Reports = append(m.Reports, Short(r))
	}
	m.Reports = slices.DeleteFunc(tlsrpt.Unique(m.Reports), func(r tlsrpt.Report) bool { return now.Sub(r.Until) > kept })
	for n := len(m.Reports); n > 0; n = len(m.Reports) {
		fits := m.fits()
		if fits >= n {
			break
		}
		m.Reports = slices.Clone(m.Reports[n-fits:])
	}
}

// fits returns how many reports the state can read again, if all are of the same size.
func (m *Memory) fits() int {
	text, err := json.MarshalIndent(m, "", "  ") // as the state writes it
	if err != nil {
		return 0 // cannot be: times are of this century
	}
	marks := bytes.Count(text, []byte{'{'}) + bytes.Count(text, []byte{'['}) + bytes.Count(text, []byte{','})
	n := len(m.Reports)
	if len(text) < mostBytes && marks < mostMarks {
		return n
	}
	return min(n-1, n*mostBytes/len(text), n*mostMarks/marks)
}

// Short returns a report with its largest policies and failures, for the memory. A report about one host has a few.
func Short(r tlsrpt.Report) tlsrpt.Report {
	r.Policies = slices.Clone(r.Policies)
	slices.SortStableFunc(r.Policies, func(a, b tlsrpt.Policy) int { return cmp.Compare(b.Good+b.Bad, a.Good+a.Bad) })
	r.Policies = slices.Clone(r.Policies[:min(len(r.Policies), mostRemembered)])
	left := mostRemembered
	for i := range r.Policies {
		p := &r.Policies[i]
		p.Failures = slices.Clone(p.Failures)
		slices.SortStableFunc(p.Failures, func(a, b tlsrpt.Failure) int { return cmp.Compare(b.Sessions, a.Sessions) })
		p.Failures = slices.Clone(p.Failures[:min(len(p.Failures), left)])
		left -= len(p.Failures)
	}
	return r
}
