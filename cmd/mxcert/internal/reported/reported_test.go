package reported

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/deploy/tlsrpt"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return t
}

// day is a report about the first, second … of March 2026.
func day(n int, organization string, policies ...tlsrpt.Policy) tlsrpt.Report {
	from := at("2026-02-28T00:00:00Z").AddDate(0, 0, n)
	return tlsrpt.Report{Organization: organization, ID: fmt.Sprint(n), From: from, Until: from.Add(24*time.Hour - time.Second), Policies: policies}
}

func met(kind, host string, n int64) tlsrpt.Policy {
	return tlsrpt.Policy{Type: "sts", Domain: "example.org", Good: 400 - n, Bad: n, Failures: []tlsrpt.Failure{{Type: kind, Host: host, Sessions: n}}}
}

func good(n int64) tlsrpt.Policy { return tlsrpt.Policy{Type: "sts", Domain: "example.org", Good: n} }

// past is what the host had in service: a generation since December, which expired on the first of March, and the next since the third.
func past() *history {
	return &history{certificates: []certificate{{
		want: wanted.Certificate{Name: "mx", MailDomains: []string{"example.org"}}, names: []string{"mx2.example.org", "*.mail.example.org"},
		services: []service{
			{Generation: state.Generation{ID: "old", Key: bundle.KeyType("ec256"), NotAfter: at("2026-03-01T12:00:00Z")}, from: at("2025-12-01T00:00:00Z"), until: at("2026-03-03T09:30:00Z")},
			{Generation: state.Generation{ID: "new", Key: bundle.KeyType("ec256"), NotAfter: at("2026-06-01T00:00:00Z")}, from: at("2026-03-03T09:30:00Z")},
		},
	}}}
}

// TestJudge says of each failure whether it holds, and in which words.
func TestJudge(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reports  []tlsrpt.Report
		state    report.ReportState
		severity finding.Severity
		message  string
		hint     string
	}{
		"fixed by a deployment": {[]tlsrpt.Report{day(1, "Google", met("certificate-expired", "mx2.example.org", 12))}, report.Fixed, finding.OK,
			"Google met certificate-expired on mx2.example.org from 2026-03-01 00:00 to 2026-03-01 23:59 UTC (12 of 400 sessions): that was generation old, " +
				"which expired at 2026-03-01 12:00 UTC; the certificate had expired; fixed since 2026-03-03 09:30 UTC, when another certificate went into service", ""},
		"within the time": {[]tlsrpt.Report{day(3, "Google", met("certificate-expired", "mx2.example.org", 1))}, report.Unclear, finding.Warning, "only the next report tells", ""},
		"after it":        {[]tlsrpt.Report{day(4, "Google", met("certificate-not-trusted", "mx2.example.org", 1))}, report.Holds, finding.Error, ": that was generation new; the certificate did not lead", "`mxcert verify --host mx2.example.org` shows what senders meet now"},
		"a wildcard":      {[]tlsrpt.Report{day(4, "Google", met("tlsa-invalid", "a.mail.example.org", 1))}, report.Holds, finding.Error, "generation new", "mxcert tlsa check mx compares the records with what is served"},
		"not in a later report": {[]tlsrpt.Report{day(4, "Google", met("certificate-not-trusted", "mx2.example.org", 1)), day(5, "Google", good(3))}, report.Fixed, finding.OK,
			"; its later reports do not have it", ""},
		"another sender's later report":   {[]tlsrpt.Report{day(4, "Google", met("certificate-not-trusted", "mx2.example.org", 1)), day(5, "Other", good(3))}, report.Holds, finding.Error, "", ""},
		"a later report without sessions": {[]tlsrpt.Report{day(4, "Google", met("certificate-not-trusted", "mx2.example.org", 1)), day(5, "Google", good(0))}, report.Holds, finding.Error, "", ""},
		"a backup MX": {[]tlsrpt.Report{day(1, "Google", met("certificate-expired", "backup.example.net", 1))}, report.Holds, finding.Warning, "; backup.example.net is not this host",
			"ask who runs that host; `mxcert verify --host backup.example.net` shows what senders meet there"},
		"the policy's host": {[]tlsrpt.Report{day(1, "Google", met("sts-policy-fetch-error", "", 1))}, report.Holds, finding.Warning, "with example.org", "mxcert verify --domain example.org --for mta_sts shows what a sender finds"},
		"no words":          {[]tlsrpt.Report{day(4, "", tlsrpt.Policy{Type: "no-policy-found", Bad: 1})}, report.Holds, finding.Warning, "an unnamed sender met unspecified somewhere", ""},
		"a shell in a name": {[]tlsrpt.Report{day(4, "Google", met("certificate-expired", "$(reboot).mail.example.org", 1))}, report.Holds, finding.Error, "", "closes the gap"},
		"a shell elsewhere": {[]tlsrpt.Report{day(4, "Google", met("certificate-expired", "`reboot`", 1))}, report.Holds, finding.Warning, "", "--host '`reboot`'"},
	} {
		sums := tlsrpt.Failures(tlsrpt.Unique(c.reports))
		if len(sums) != 1 {
			t.Fatalf("%s: %+v", name, sums)
		}
		f := past().judge(sums[0])
		if f.State != c.state || f.Severity != c.severity || !strings.Contains(f.Message, c.message) || !strings.Contains(f.Hint, c.hint) || c.hint == "" && c.state != report.Holds && f.Hint != "" {
			t.Errorf("%s: %s %s\n%s\n%s", name, f.State, f.Severity, f.Message, f.Hint)
		}
	}
}

// A later renewal does not change since when a failure is fixed.
func TestFixedOnce(t *testing.T) {
	t.Parallel()
	h := past()
	c := &h.certificates[0]
	c.services[1].until = at("2026-05-01T00:00:00Z")
	c.services = append(c.services, service{Generation: state.Generation{ID: "newer", Key: bundle.KeyType("ec256"), NotAfter: at("2026-08-01T00:00:00Z")}, from: at("2026-05-01T00:00:00Z")})
	for d, want := range map[int]string{1: "2026-03-03T09:30:00Z", 3: "2026-05-01T00:00:00Z", 4: "2026-05-01T00:00:00Z"} {
		f := h.judge(tlsrpt.Failures(tlsrpt.Unique([]tlsrpt.Report{day(d, "Google", met("certificate-expired", "mx2.example.org", 12))}))[0])
		if f.State != report.Fixed || f.Since == nil || !f.Since.Equal(at(want)) {
			t.Errorf("the report of day %d: %s %v", d, f.State, f.Since)
		}
	}
}

// Failures of several days are one, those after a week without any are another; reports that come twice count once.
func TestSums(t *testing.T) {
	t.Parallel()
	one := day(1, "Google", met("certificate-expired", "mx2.example.org", 12))
	doc := Compare([]tlsrpt.Report{one, one, day(2, "Google", met("certificate-expired", "mx2.example.org", 3)), day(20, "Google", met("certificate-expired", "mx2.example.org", 1)), day(3, "Other", good(12345))}, nil, nil, time.Time{})
	if doc.Reports != 4 || doc.OK || doc.Compared || len(doc.Failures) != 2 || doc.Failures[1].Failed != 15 || doc.Failures[1].Sessions != 800 || doc.Failures[1].Reports != 2 || doc.Failures[0].Failed != 1 {
		t.Errorf("%+v", doc)
	}
	if s := doc.Senders; len(s) != 2 || s[0].Organization != "Other" || s[1].Failed != 16 || s[1].Successful != 1184 {
		t.Errorf("%+v", doc.Senders)
	}
	if since := Compare([]tlsrpt.Report{one}, nil, nil, at("2026-03-02T00:00:00Z")); since.Reports != 0 || !since.OK {
		t.Errorf("%+v", since)
	}
}

// services finds the times of service from the events, and from the record where the events are gone.
func TestServices(t *testing.T) {
	t.Parallel()
	ec, rsa := bundle.KeyType("ec256"), bundle.KeyType("rsa2048")
	g := func(id string, key bundle.KeyType, created string) state.Generation {
		return state.Generation{ID: id, Serial: id, Key: key, Created: at(created)}
	}
	event := func(what, serial, when string) state.Event {
		return state.Event{Event: what, Serial: serial, At: at(when)}
	}
	list := services(state.Record{
		Keys: map[bundle.KeyType]*state.Slot{ec: {Current: "c", Served: "c", Previous: "b"}, rsa: {Current: "r", Served: "r"}},
		Events: []state.Event{event("issued", "b", "2026-01-01T00:00:00Z"), event("served", "b", "2026-01-01T01:00:00Z"), event("served", "c", "2026-02-01T00:00:00Z"),
			event("served", "b", "2026-02-02T00:00:00Z"), event("deployed", "c", "2026-02-03T00:00:00Z"), event("issued", "d", "2026-02-04T00:00:00Z")},
	}, []state.Generation{g("a", ec, "2025-10-01T00:00:00Z"), g("b", ec, "2026-01-01T00:00:00Z"), g("c", ec, "2026-02-01T00:00:00Z"), g("d", ec, "2026-02-04T00:00:00Z"), g("r", rsa, "2026-01-15T00:00:00Z")})
	var got []string
	for _, s := range list {
		until := ""
		if !s.until.IsZero() {
			until = s.until.Format("01-02")
		}
		got = append(got, s.ID+" "+s.from.Format("01-02")+"-"+until)
	}
	if want := []string{"a 10-01-01-01", "b 01-01-02-01", "r 01-15-", "c 02-01-02-02", "b 02-02-02-03", "c 02-03-"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// The memory never becomes larger than what the state reads again, and keeps the newest.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	store, err := state.Open(disk.Open(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	var many []tlsrpt.Report
	for i := range 600 {
		r := tlsrpt.Report{Organization: "Forger", ID: fmt.Sprint(i), From: now.Add(-time.Duration(600-i) * time.Minute), Until: now.Add(-time.Duration(599-i) * time.Minute)}
		for range 3 * mostRemembered {
			r.Policies = append(r.Policies, tlsrpt.Policy{Domain: strings.Repeat("d", 255), Bad: 1, Failures: []tlsrpt.Failure{{Type: "x", Reason: strings.Repeat("r", 255)}}})
		}
		many = append(many, Short(r))
	}
	var m Memory
	m.Add(many, now)
	m.Add([]tlsrpt.Report{{ID: "old", From: now.Add(-2 * kept), Until: now.Add(-2 * kept)}, {ID: "new", From: now, Until: now}}, now)
	if err := store.Remember(state.Reported, m); err != nil {
		t.Fatal(err)
	}
	var again Memory
	if err := store.Remembered(state.Reported, &again); err != nil || len(again.Reports) < 10 || again.Reports[len(again.Reports)-1].ID != "new" || len(again.Reports[0].Policies) != mostRemembered {
		t.Errorf("%d reports, %v", len(again.Reports), err)
	}
}

// What is said about one certificate is bounded, names who else reports it, and forgets what is old.
func TestFindings(t *testing.T) {
	t.Parallel()
	now := at("2026-03-10T00:00:00Z")
	f := func(organization, kind, host string, n int) report.Reported {
		return report.Reported{Organization: organization, Type: kind, Host: host, Until: at("2026-03-01T00:00:00Z").AddDate(0, 0, n), State: report.Holds, Certificate: "mx", Severity: finding.Error, Message: organization + " met it"}
	}
	doc := report.TLSRPT{Failures: []report.Reported{f("a", "certificate-expired", "mx", 8), f("b", "certificate-expired", "mx", 8), f("c", "certificate-expired", "mx", 8), f("d", "certificate-expired", "mx", 8),
		f("e", "certificate-expired", "mx", 8), f("f", "sender's word", "mx", 8), f("g", "old", "mx", 1)}}
	fixed := f("h", "fixed", "mx", 8)
	fixed.State = report.Fixed
	foreign := f("i", "foreign", "mx", 8)
	foreign.Certificate = ""
	list := Findings(report.TLSRPT{Failures: append(doc.Failures, fixed, foreign)}, now)["mx"]
	if len(list) != 2 || list[0].ID != "tlsrpt-certificate-expired" || list[0].Message != "a met it; b, c, d and 1 more report the same" || list[1].ID != "tlsrpt-other" {
		t.Errorf("%+v", list)
	}
	for i := range 100 {
		doc.Failures = append(doc.Failures, f("z", "certificate-expired", fmt.Sprint("mx", i), 8))
	}
	if list := Findings(doc, now)["mx"]; len(list) != mostFindings {
		t.Errorf("%d findings", len(list))
	}
}

// What is reported about each certificate: the failures of the last week, also those that are over, and the senders, also those that met none.
func TestCertificates(t *testing.T) {
	t.Parallel()
	store, err := state.Open(disk.Open(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	host := &wanted.Host{Certificates: []wanted.Certificate{
		{Name: "mx", Names: []string{"mx1.example.org"}, MailDomains: []string{"example.org"}}, {Name: "second", Names: []string{"mx2.example.org"}}, {Name: "web", Names: []string{"www.example.org"}}}}
	if all := Certificates(nil, host, store, at("2026-03-10T00:00:00Z")); all != nil {
		t.Errorf("%+v", all)
	}
	tlsa := tlsrpt.Policy{Type: "tlsa", Domain: "mx2.example.org", Good: 5}
	both := met("certificate-expired", "mx1.example.org", 3)
	both.Failures = append(both.Failures, tlsrpt.Failure{Type: "certificate-expired", Host: "mx2.example.org", Sessions: 1})
	all := Certificates([]tlsrpt.Report{day(1, "Google", met("old", "mx1.example.org", 1)), day(8, "Google", both), day(9, "Google", both, tlsa), day(9, "Other", good(7)), day(9, "Third", tlsa),
		day(9, "Forger", tlsrpt.Policy{Type: "sts", Domain: "example.net", Bad: 9})}, host, store, at("2026-03-10T00:00:00Z"))
	mx, second := all["mx"], all["second"]
	if len(all) != 2 || mx == nil || second == nil {
		t.Fatalf("%+v", all)
	}
	if mx.Reports != 4 || len(mx.Senders) != 2 || mx.Senders[0].Organization != "Google" || mx.Senders[1].Successful != 7 || mx.Until != at("2026-03-09T23:59:59Z") || mx.From != at("2026-03-01T00:00:00Z") {
		t.Errorf("%+v", mx)
	}
	if len(mx.Failures) != 1 || mx.Failures[0].Host != "mx1.example.org" || mx.Failures[0].Failed != 6 || mx.Holding() != 1 {
		t.Errorf("%+v", mx.Failures)
	}
	if second.Reports != 3 || len(second.Failures) != 1 || second.Failures[0].Host != "mx2.example.org" || second.Senders[1].Organization != "Third" {
		t.Errorf("%+v", second)
	}
}
