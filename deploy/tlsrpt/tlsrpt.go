// Package tlsrpt reads what senders of mail report about TLS (RFC 8460), and sums it up.
//
// [Read] takes a report as it arrives: plain JSON, gzip, the mail that carries it, a mail that forwards such a mail, or an mbox of these.
// [Directory] reads the files of a directory, such as a maildir.
//
// Senders differ from the RFC, so [Read] accepts what is clear: a string in place of a list and the reverse, numbers as strings, null, a
// time without a zone (UTC is meant), and fields that are missing. It refuses what could mean two things: a key that is there twice, a
// negative number of sessions, a period that ends before it begins.
//
// Everything in a report may be forged. RFC 8460 section 5.3 wants the mail signed by DKIM; the mail server verifies that, not this package.
// So nothing may follow from a report but a message to a person. All texts are safe to print, and short. A small report of compressed zeros,
// nested mails and lists without end are refused early: memory and time stay within the limits below.
//
// Not supported: reports in zip files, which the RFC does not know, and reports by HTTPS (RFC 8460 section 3).
package tlsrpt

import (
	"errors"
	"time"
)

const (
	// mostJSON limits a report after decompression, in bytes. Reports of large senders have some megabytes.
	mostJSON = 16 << 20
	// mostMail limits one mail, and one file that is no mbox.
	mostMail = 32 << 20
	// mostInput limits an mbox.
	mostInput = 512 << 20
	// mostHeader limits the header of a mail.
	mostHeader = 1 << 20
	// mostNested limits how deep mails and parts are in each other.
	mostNested = 8
	// mostParts limits the parts of a mail, with those of the mails in it.
	mostParts = 100
	// mostReports limits the reports of one input.
	mostReports = 10_000
	// mostKept limits the policies and failures of all reports of one input.
	mostKept = 200_000
	// mostPolicies and mostFailures limit what is different in one report: failures that differ only in the sender's address are one.
	mostPolicies, mostFailures = 2_000, 2_000
	// mostText limits a text of a report, in bytes. No DNS name is longer than 253.
	mostText = 255
	// mostSessions is more than any sender opens.
	mostSessions = 1_000_000_000_000
)

// ErrNone means that an input has no report in it. It may be a mail about something else.
var ErrNone = errors.New("there is no TLS report in it (RFC 8460)")

// ErrCutOff means that an input ends in the middle of a report. It may still be written.
var ErrCutOff = errors.New("the report ends in the middle")

// Report is what one organisation saw in a period, normally a day.
type Report struct {
	Organization string    `json:"organization"` // as it calls itself; "" if it does not
	ID           string    `json:"id"`
	From         time.Time `json:"from"`
	Until        time.Time `json:"until"`
	Policies     []Policy  `json:"policies,omitempty"`
}

// Policy is what the organisation saw of one policy.
type Policy struct {
	Type     string    `json:"type"`   // sts, tlsa or no-policy-found; "" if the report does not say
	Domain   string    `json:"domain"` // of the mail, for sts; the TLSA base domain, for tlsa; "" if the report does not say (Postfix, without a policy)
	Testing  bool      `json:"testing,omitempty"`
	Good     int64     `json:"good,omitempty"` // sessions
	Bad      int64     `json:"bad,omitempty"`
	Failures []Failure `json:"failures,omitempty"`
}

// Failure is why sessions failed.
type Failure struct {
	Type     string `json:"type"` // result type of RFC 8460 section 4.3, or another word of the sender
	Host     string `json:"host,omitempty"`
	Address  string `json:"address,omitempty"` // of that host; "" if the report does not say
	Sessions int64  `json:"sessions"`
	Reason   string `json:"reason,omitempty"` // a code or a sentence of the sender
}

// Key identifies a report: the same one may arrive by several ways.
func (r Report) Key() string {
	if r.ID == "" {
		key := r.Organization + "\x00" + r.From.String() + r.Until.String()
		for _, p := range r.Policies {
			key += "\x00" + p.Type + " " + p.Domain
		}
		return key
	}
	return r.Organization + "\x00" + r.ID
}
