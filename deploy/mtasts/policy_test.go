package mtasts

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestParse: the grammar of RFC 8461 section 3.2.
func TestParse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what, text string
		problem    string // "" for a policy that senders use
		notes      []string
		want       Policy
	}{
		{what: "CRLF", text: good, want: Policy{Enforce, 14 * 24 * time.Hour, []string{"mx.example.org", "*.mail.example.org"}}},
		{what: "LF", text: "version: STSv1\nmode: testing\nmx: mx.example.org\nmax_age: 86400\n", want: Policy{Testing, 24 * time.Hour, []string{"mx.example.org"}}},
		{what: "no end of the last line", text: "version: STSv1\nmode: testing\nmx: a.example\nmax_age: 86400", want: Policy{Testing, 24 * time.Hour, []string{"a.example"}}},
		{what: "any order", text: "max_age: 86400\nmx: a.example\nmode: enforce\nversion: STSv1\n", want: Policy{Enforce, 24 * time.Hour, []string{"a.example"}}},
		{what: "spaces", text: "version:STSv1  \nmode:\t enforce\t\nmx:   a.example \nmax_age:86400\n", want: Policy{Enforce, 24 * time.Hour, []string{"a.example"}}},
		{what: "unknown keys, UTF-8", text: good + "x-note: größer als 1\n", want: Policy{Enforce, 14 * 24 * time.Hour, []string{"mx.example.org", "*.mail.example.org"}}},
		{what: "the first of duplicates", text: good + "mode: none\nmax_age: 1\nversion: STSv2\n", want: Policy{Enforce, 14 * 24 * time.Hour, []string{"mx.example.org", "*.mail.example.org"}},
			notes: []string{"warning sts-policy-duplicate", "warning sts-policy-duplicate", "warning sts-policy-duplicate"}},
		{what: "mode none without mx", text: "version: STSv1\nmode: none\nmax_age: 86400\n", want: Policy{Mode: None, MaxAge: 24 * time.Hour}},
		{what: "the longest max_age", text: "version: STSv1\nmode: none\nmax_age: 31557600\n", want: Policy{Mode: None, MaxAge: longest}},
		{what: "max_age 0", text: "version: STSv1\nmode: none\nmax_age: 0\n", want: Policy{Mode: None}},
		{what: "upper case and A-labels", text: "version: STSv1\nmode: enforce\nmx: MX.XN--BCHER-KVA.example\nmax_age: 86400\n", want: Policy{Enforce, 24 * time.Hour, []string{"mx.xn--bcher-kva.example"}}},
		{what: "the same pattern twice", text: "version: STSv1\nmode: enforce\nmx: a.example\nmx: A.example\nmax_age: 86400\n", want: Policy{Enforce, 24 * time.Hour, []string{"a.example"}}},
		{what: "empty lines", text: good + "\r\n\r\n", want: Policy{Enforce, 14 * 24 * time.Hour, []string{"mx.example.org", "*.mail.example.org"}}, notes: []string{"warning sts-policy-empty-line"}},
		{what: "max_age of two years", text: "version: STSv1\nmode: none\nmax_age: 31557601\n", problem: "max_age"},
		{what: "max_age that is no number", text: "version: STSv1\nmode: none\nmax_age: 1d\n", problem: "max_age"},
		{what: "a negative max_age", text: "version: STSv1\nmode: none\nmax_age: -1\n", problem: "max_age"},
		{what: "an endless max_age", text: "version: STSv1\nmode: none\nmax_age: 99999999999999999999\n", problem: "max_age"},
		{what: "no mode", text: "version: STSv1\nmx: a.example\nmax_age: 86400\n", problem: "no mode"},
		{what: "an unknown mode", text: "version: STSv1\nmode: Enforce\nmx: a.example\nmax_age: 86400\n", problem: "the mode"},
		{what: "another version", text: "version: STSv2\nmode: none\nmax_age: 86400\n", problem: "the version"},
		{what: "the case of keys", text: "Version: STSv1\nmode: none\nmax_age: 86400\n", problem: "no version"},
		{what: "enforce without mx", text: "version: STSv1\nmode: enforce\nmax_age: 86400\n", problem: "no mx"},
		{what: "a space before a key", text: " version: STSv1\nmode: none\nmax_age: 86400\n", problem: "line 1"},
		{what: "a space before the colon", text: "version : STSv1\nmode: none\nmax_age: 86400\n", problem: "line 1"},
		{what: "no value", text: "version: STSv1\nmode: none\nmax_age:\n", problem: "line 3"},
		{what: "a byte order mark", text: "\ufeff" + good, problem: "line 1"},
		{what: "Latin-1", text: good + "x: gr\xf6\xdfer\n", problem: "UTF-8"},
		{what: "a control character", text: good + "x: a\x00b\n", problem: "line 6"},
		{what: "CR alone", text: strings.ReplaceAll(good, "\r\n", "\r"), problem: "line 1"},
		{what: "the record's syntax", text: "version: STSv1; mode: enforce; mx: a.example; max_age: 86400", problem: "the version"},
		{what: "a U-label", text: "version: STSv1\nmode: enforce\nmx: bücher.example\nmax_age: 86400\n", problem: "A-label"},
		{what: "a dot at the end", text: "version: STSv1\nmode: enforce\nmx: a.example.\nmax_age: 86400\n", problem: "without a dot"},
		{what: "a star alone", text: "version: STSv1\nmode: enforce\nmx: *\nmax_age: 86400\n", problem: "wildcard"},
		{what: "a star inside", text: "version: STSv1\nmode: enforce\nmx: mx*.a.example\nmax_age: 86400\n", problem: "wildcard"},
		{what: "two stars", text: "version: STSv1\nmode: enforce\nmx: *.*.example\nmax_age: 86400\n", problem: "wildcard"},
		{what: "an old wildcard", text: "version: STSv1\nmode: enforce\nmx: .a.example\nmax_age: 86400\n", problem: "wildcard"},
		{what: "an address", text: "version: STSv1\nmode: enforce\nmx: [192.0.2.1]\nmax_age: 86400\n", problem: "host name"},
		{what: "two hosts in a line", text: "version: STSv1\nmode: enforce\nmx: a.example b.example\nmax_age: 86400\n", problem: "host name"},
	} {
		p, notes, problem := parse(tt.text)
		if (problem == "") != (tt.problem == "") || !strings.Contains(problem, tt.problem) {
			t.Errorf("%s: problem %q, want %q", tt.what, problem, tt.problem)
			continue
		}
		if !slices.Equal(ids(notes), tt.notes) {
			t.Errorf("%s: notes %q, want %q", tt.what, ids(notes), tt.notes)
		}
		if problem == "" && (p.Mode != tt.want.Mode || p.MaxAge != tt.want.MaxAge || !slices.Equal(p.MX, tt.want.MX)) {
			t.Errorf("%s: %+v, want %+v", tt.what, *p, tt.want)
		}
	}
}

// TestPermits: a wildcard stands for exactly one label (RFC 8461 section 4.1).
func TestPermits(t *testing.T) {
	t.Parallel()
	p := &Policy{MX: []string{"mx.example.org", "*.mail.example.org"}}
	for host, want := range map[string]bool{
		"mx.example.org": true, "MX.Example.ORG.": true, "mx1.example.org": false, "example.org": false, "a.mx.example.org": false,
		"a.mail.example.org": true, "A.MAIL.example.org": true, "mail.example.org": false, "a.b.mail.example.org": false, ".mail.example.org": false,
		"*.mail.example.org": true, "amail.example.org": false, "": false, ".": false, "org": false,
	} {
		if got := p.Permits(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}

func TestAdvise(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		mode Mode
		age  time.Duration
		want []string
	}{
		{Enforce, 14 * 24 * time.Hour, nil}, {Enforce, 24 * time.Hour, []string{"warning sts-max-age-short"}}, {None, 0, nil},
		{Testing, 24 * time.Hour, []string{"warning sts-mode-testing"}}, {Testing, time.Hour, []string{"warning sts-max-age-short", "warning sts-mode-testing"}},
	} {
		if got := ids((&Policy{Mode: tt.mode, MaxAge: tt.age}).advise()); !slices.Equal(got, tt.want) {
			t.Errorf("%s for %s: %q, want %q", tt.mode, tt.age, got, tt.want)
		}
	}
}

// FuzzRecord: whatever is in the record, an id is one, and what is said can be printed.
func FuzzRecord(f *testing.F) {
	for _, text := range []string{"v=STSv1; id=1;", "v=STSv1;id=1;x=y", "v=STSv1", "v=STSv1; id=\x00", "v=STSv1;;;", "V=STS"} {
		f.Add(text, "v=STSv1; id=2")
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		for _, records := range [][]string{{one}, {one, two}} {
			id, notes, fault := readRecords(records)
			if id != "" && (!idValue.MatchString(id) || fault != nil) {
				t.Fatalf("%q: id %q, fault %v", records, id, fault)
			}
			for _, n := range notes {
				printable(t, n.Message)
			}
			if fault != nil {
				printable(t, fault.reason)
			}
		}
	})
}

// FuzzPolicy: whatever a policy host sends, a policy has a known mode, an age within bounds, and patterns that Permits understands.
func FuzzPolicy(f *testing.F) {
	for _, text := range []string{good, "version: STSv1\nmode: none\nmax_age: 0\n", "", "a:b", "\n\n", "mx: *.\n", "max_age: 99999999999"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, notes, problem := parse(text)
		printable(t, problem)
		for _, n := range notes {
			printable(t, n.Message)
		}
		if problem != "" {
			return
		}
		if p.Mode != Enforce && p.Mode != Testing && p.Mode != None || p.MaxAge < 0 || p.MaxAge > longest || p.Mode != None && len(p.MX) == 0 {
			t.Fatalf("%q: %+v", text, p)
		}
		for _, mx := range p.MX {
			if !p.Permits(strings.Replace(mx, "*", "host", 1)) {
				t.Fatalf("%q permits no host: %+v", mx, p)
			}
		}
	})
}

func printable(t *testing.T, text string) {
	t.Helper()
	if strings.ContainsAny(text, "\n\r\x1b\x00") || len(text) > 2000 {
		t.Fatalf("%q", text)
	}
}
