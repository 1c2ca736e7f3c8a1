package tlsrpt

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"mxcert/acme/finding"
)

// RecordName returns the name of the TXT record by which a mail domain asks senders for reports.
func RecordName(domain string) string { return "_smtp._tls." + domain }

// Record is what such a record says (RFC 8460 section 3).
type Record struct {
	Mail []string // addresses to which senders mail reports
	Web  []string // URLs to which they post them
}

// ParseRecord reads the TXT records at the name that [RecordName] returns. It returns nil if none asks for reports. The error says why senders
// send none although one does.
func ParseRecord(texts []string) (*Record, error) {
	var ours []string
	for _, text := range texts {
		if version, _, _ := strings.Cut(text, ";"); strings.TrimSpace(version) == "v=TLSRPTv1" {
			ours = append(ours, text)
		}
	}
	switch len(ours) {
	case 0:
		return nil, nil
	case 1:
	default: // section 3
		return nil, fmt.Errorf("there are %d records that begin with v=TLSRPTv1, so senders ignore all", len(ours))
	}
	r := &Record{}
	for _, field := range strings.Split(ours[0], ";") {
		key, value, _ := strings.Cut(field, "=")
		if strings.TrimSpace(key) != "rua" {
			continue // extensions are permitted
		}
		for _, target := range strings.Split(value, ",") {
			r.add(strings.TrimSpace(target))
		}
	}
	if len(r.Mail)+len(r.Web) == 0 {
		return nil, errors.New("it names no mailto: or https: address in rua=")
	}
	return r, nil
}

// add adds an address, if senders can use it.
func (r *Record) add(target string) {
	u, err := url.Parse(target)
	switch {
	case err != nil:
	case u.Scheme == "mailto" && strings.Contains(u.Opaque, "@"):
		if address, err := url.PathUnescape(u.Opaque); err == nil {
			r.Mail = append(r.Mail, finding.Quote(address, mostText))
		}
	case u.Scheme == "https" && u.Host != "":
		r.Web = append(r.Web, finding.Quote(target, mostText))
	}
}
