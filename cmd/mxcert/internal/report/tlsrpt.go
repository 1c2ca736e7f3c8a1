package report

import (
	"time"

	"mxcert/acme/finding"
)

// TLSRPT is the document of `tlsrpt --json`: what senders have reported (RFC 8460), compared with what this host had in service.
type TLSRPT struct {
	OK         bool           `json:"ok"`       // no failure that is reported holds
	Reports    int            `json:"reports"`  // each counts once
	Compared   bool           `json:"compared"` // with this host; false without a configuration
	Why        string         `json:"not_compared,omitempty"`
	From       *time.Time     `json:"from"` // null without reports
	Until      *time.Time     `json:"until"`
	Failures   []Reported     `json:"failures"`   // the worst first
	Senders    []ReportSender `json:"senders"`    // the one with the most sessions first
	Others     int            `json:"others"`     // files without a report
	Unreadable []Unreadable   `json:"unreadable"` // files with a report that cannot be read
}

// SenderReports is what senders have reported about one certificate, as the daemon remembers it.
type SenderReports struct {
	Reports  int            `json:"reports"` // each counts once
	From     time.Time      `json:"from"`
	Until    time.Time      `json:"until"`
	Failures []Reported     `json:"failures"` // of the last week, the worst first
	Senders  []ReportSender `json:"senders"`  // the one with the most sessions first
}

// Holding counts the failures that hold; 0 if nothing is reported.
func (s *SenderReports) Holding() (n int) {
	if s == nil {
		return 0
	}
	for _, f := range s.Failures {
		if f.State == Holds {
			n++
		}
	}
	return n
}

// ReportSender is what one organisation reports in all.
type ReportSender struct {
	Organization string    `json:"organization"` // as it calls itself
	Reports      int       `json:"reports"`
	Successful   int64     `json:"successful_sessions"`
	Failed       int64     `json:"failed_sessions"`
	From         time.Time `json:"from"`
	Until        time.Time `json:"until"`
}

// Reported is one kind of failure that one organisation reports about one host.
type Reported struct {
	Organization string           `json:"organization"`
	Type         string           `json:"type"` // result type of RFC 8460 section 4.3, or the sender's word; unspecified if it has none
	Host         string           `json:"host"` // "" if the failure is not about a host, or if the report does not name it
	Addresses    []string         `json:"addresses"`
	Policy       string           `json:"policy"` // sts, tlsa or no-policy-found
	Domain       string           `json:"domain"` // of the policy
	Testing      bool             `json:"testing"`
	Failed       int64            `json:"failed_sessions"`
	Sessions     int64            `json:"sessions"` // all of the policy in these reports
	From         time.Time        `json:"from"`
	Until        time.Time        `json:"until"`
	Reports      int              `json:"reports"`
	Reason       string           `json:"reason"` // a code or a sentence of the sender
	Ours         bool             `json:"ours"`   // the host is this one
	Certificate  string           `json:"certificate"`
	Generations  []InService      `json:"generations"` // that were in service at that time
	State        ReportState      `json:"state"`
	Since        *time.Time       `json:"since"` // when it was fixed, or may have been
	OwnLook      string           `json:"own_look,omitempty"`
	Severity     finding.Severity `json:"severity"` // ok if it is fixed
	Message      string           `json:"message"`
	Hint         string           `json:"hint"`
}

// ReportState says whether a reported failure is over.
type ReportState string

// The states of a reported failure.
const (
	Holds   ReportState = "holds"
	Unclear ReportState = "unclear" // another certificate went into service within the time that the reports are about
	Fixed   ReportState = "fixed"   // another certificate went into service later, or a later report of the same sender does not have it
)

// InService is a certificate that was in service.
type InService struct {
	ID       string     `json:"id"` // of the generation
	Key      string     `json:"key"`
	Serial   string     `json:"serial"`
	From     time.Time  `json:"from"`
	Until    *time.Time `json:"until"` // null if it still is
	NotAfter time.Time  `json:"not_after"`
}

// Unreadable is a file that cannot be read.
type Unreadable struct {
	File    string `json:"file"`
	Message string `json:"message"`
}
