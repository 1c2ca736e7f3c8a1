package tlsrpt

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mxcert/acme/finding"
)

// parse reads a report as JSON. The fields are those of RFC 8460 section 4.4.
func parse(r io.Reader) (Report, error) {
	buffered := bufio.NewReader(&dense{from: &capped{r, mostJSON}})
	if mark, _ := buffered.Peek(3); string(mark) == "\xef\xbb\xbf" { // a byte order mark, which JSON does not allow
		_, _ = buffered.Discard(3)
	}
	d := reader{json.NewDecoder(buffered)}
	d.UseNumber()
	var report Report
	known, objects := 0, 0
	var begin, end string
	err := d.objects(func() error {
		if objects++; objects > 1 {
			return errors.New("it has several reports in one list")
		}
		return nil
	}, func(key string) (err error) {
		known++
		switch key {
		case "organization-name":
			report.Organization, err = d.text()
		case "report-id":
			report.ID, err = d.text()
		case "date-range":
			err = d.objects(nothing, func(key string) (err error) {
				switch key {
				case "start-datetime":
					begin, err = d.text()
				case "end-datetime":
					end, err = d.text()
				default:
					_, err = d.raw()
				}
				return err
			})
		case "policies":
			err = report.policies(d)
		default:
			known--
			_, err = d.raw()
		}
		return err
	})
	switch {
	case err != nil:
		return report, err
	case known < 2:
		return report, ErrNone
	}
	return report, report.period(begin, end)
}

func nothing() error { return nil }

// policies reads the list of policies.
func (r *Report) policies(d reader) error {
	known := map[place]int{}
	return d.objects(func() error {
		if len(r.Policies) == mostPolicies {
			return fmt.Errorf("it has more than %d policies", mostPolicies)
		}
		r.Policies = append(r.Policies, Policy{})
		return nil
	}, func(key string) (err error) {
		p := &r.Policies[len(r.Policies)-1]
		switch key {
		case "policy":
			return p.policy(d)
		case "summary":
			return d.objects(nothing, func(key string) (err error) {
				switch key {
				case "total-successful-session-count":
					p.Good, err = d.count(key)
				case "total-failure-session-count":
					p.Bad, err = d.count(key)
				default:
					_, err = d.raw()
				}
				return err
			})
		case "failure-details":
			return p.failures(d, len(r.Policies), known)
		}
		_, err = d.raw()
		return err
	})
}

// policy reads what the policy was.
func (p *Policy) policy(d reader) error {
	return d.objects(nothing, func(key string) (err error) {
		switch key {
		case "policy-type":
			p.Type, err = d.text()
			p.Type = strings.ToLower(p.Type)
		case "policy-domain":
			p.Domain, err = d.text()
			p.Domain = host(p.Domain)
		case "policy-string":
			var lines []string
			lines, err = d.texts(mostKeys)
			p.Testing = slices.ContainsFunc(lines, func(line string) bool {
				key, mode, _ := strings.Cut(line, ":")
				return strings.EqualFold(strings.TrimSpace(key), "mode") && strings.HasPrefix(strings.ToLower(strings.TrimSpace(mode)), "testing")
			})
		default: // mx-host has the patterns of the policy, not the host that failed
			_, err = d.raw()
		}
		return err
	})
}

// place is a failure without its numbers, of the policy with a number.
type place struct {
	policy              int
	kind, host, address string
}

// failures reads a list of failures of a policy. Those that differ only in the address of the sender become one. known has the index of each.
func (p *Policy) failures(d reader, number int, known map[place]int) error {
	var f Failure
	begun := false
	add := func() error {
		if !begun {
			return nil
		}
		key := place{number, f.Type, f.Host, f.Address}
		if i, is := known[key]; is {
			p.Failures[i].Sessions = min(p.Failures[i].Sessions+f.Sessions, mostSessions)
			return nil
		}
		if len(known) == mostFailures {
			return fmt.Errorf("it has more than %d different failures", mostFailures)
		}
		known[key] = len(p.Failures)
		p.Failures = append(p.Failures, f)
		return nil
	}
	err := d.objects(func() error {
		err := add()
		f, begun = Failure{}, true
		return err
	}, func(key string) (err error) {
		switch key {
		case "result-type":
			f.Type, err = d.text()
			f.Type = strings.ToLower(f.Type)
		case "receiving-mx-hostname":
			f.Host, err = d.text()
			f.Host = host(f.Host)
		case "receiving-ip":
			f.Address, err = d.text()
			f.Address = address(f.Address)
		case "failed-session-count":
			f.Sessions, err = d.count(key)
		case "failure-reason-code":
			f.Reason, err = d.text()
		default:
			_, err = d.raw()
		}
		return err
	})
	if err != nil {
		return err
	}
	return add()
}

// host normalises the name of a host.
func host(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// address normalises an IP address. A text that is none says nothing.
func address(text string) string {
	a, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if err != nil {
		return ""
	}
	return a.Unmap().WithZone("").String()
}

// moments are the forms of a time that senders write. RFC 8460 wants the first; Microsoft has sent times without a zone.
//
//nolint:gochecknoglobals // a constant list
var moments = []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05 Z07:00", "2006-01-02 15:04:05", //nolint:gochecknoglobals // a constant table
	"2006-01-02T15:04:05Z0700", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", time.DateOnly}

// moment reads a time; without a zone it is UTC.
func moment(text string) (time.Time, error) {
	for _, form := range moments {
		if t, err := time.Parse(form, strings.ToUpper(strings.TrimSpace(text))); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%s is no time", finding.Quoted(text, 40))
}

const (
	// ahead is how far a sender's clock, or its idea of when a day ends, may be ahead.
	ahead = 48 * time.Hour
	// longest is longer than any sender's period. RFC 8460 section 4.1 wants a day.
	longest = 366 * 24 * time.Hour
)

// period sets when the report is about.
func (r *Report) period(begin, end string) (err error) {
	if begin == "" || end == "" {
		return errors.New("it does not say when it is about: date-range is missing or half")
	}
	if r.From, err = moment(begin); err != nil {
		return err
	}
	if r.Until, err = moment(end); err != nil {
		return err
	}
	switch {
	case r.Until.Before(r.From):
		return fmt.Errorf("its period ends before it begins: from %s until %s", finding.Quote(begin, 40), finding.Quote(end, 40))
	case r.Until.Sub(r.From) > longest:
		return fmt.Errorf("its period is longer than a year: from %s until %s", finding.Quote(begin, 40), finding.Quote(end, 40))
	case r.From.After(time.Now().Add(ahead)) || r.Until.After(time.Now().Add(ahead)):
		return fmt.Errorf("it is about the future: from %s until %s", finding.Quote(begin, 40), finding.Quote(end, 40))
	case r.From.Year() < 2015: // before there were drafts of the RFC
		return fmt.Errorf("it is about %s, and there were no such reports yet", finding.Quote(begin, 40))
	}
	return nil
}

// errLarge means that something is larger than its limit.
var errLarge = errors.New("it is too large")

// capped reads at most left bytes, and says so if there are more: what is cut off must not look complete.
type capped struct {
	from io.Reader
	left int64
}

// Read reads at most what is left.
func (c *capped) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errLarge
	}
	n, err := c.from.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}
