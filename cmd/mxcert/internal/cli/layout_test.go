package cli

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
)

func TestFold(t *testing.T) {
	t.Parallel()
	const url = "https://ca.example/terms/of/service/with/a/very/long/path"
	for _, tt := range []struct {
		what, text    string
		first, indent int
		want          string
	}{
		{"what fits stays", "a  b", 4, 4, "a  b"},
		{"at spaces only", "one two three four five", 4, 4, "one two three\n    four five"},
		{"a word that is too long has a line of its own", "open " + url + " first", 4, 4, "open\n    " + url + "\n    first"},
		{"a word that is too long at the beginning", url + " x", 4, 4, url + "\n    x"},
		{"lines of the text", "one two\nthree", 4, 2, "one two\n  three"},
		{"the indentation of a line stays", "a\n    deploy: files twice twice", 0, 2, "a\n      deploy: files\n      twice twice"},
		{"letters, not bytes", "äöü äöü äöü äöü", 4, 4, "äöü äöü äöü äöü"},
		{"commands", "first try `mxcert renew` now", 0, 2, "first try\n  `mxcert renew` now"},
		{"a single backquote", "one ` two three four five", 0, 2, "one ` two three four\n  five"},
		{"", "", 4, 4, ""},
	} {
		if got := fold(tt.text, tt.first, tt.indent, 20); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.what, got, tt.want)
		}
	}
}

// No line of a result is wider than 80 columns, except for words that cannot be broken.
func TestResultsFitInto80Columns(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	for _, args := range [][]string{{"renew"}, {"status"}, {"verify"}, {"doctor"}, {"history"}, {"renew", "--dry-run", "--now"}} {
		for line := range strings.Lines(h.run(args...).stdout) {
			words := strings.Fields(line)
			longest := slices.MaxFunc(append(words, ""), func(a, b string) int { return len(a) - len(b) })
			if line = strings.TrimRight(line, "\n"); utf8.RuneCountInString(line) > 80 && len(longest) < 50 {
				t.Errorf("%v: %d columns: %q", args, utf8.RuneCountInString(line), line)
			}
		}
	}
}

// With several certificates status prints a table, faults first; with a name the details.
func TestTable(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	certificate := func(name string, stage report.Stage, code report.Code, days int, names ...string) report.Certificate {
		c := report.New(name, names)
		c.Stage, c.Code = stage, code
		c.Keys = []report.Key{{Key: "rsa2048", NotAfter: now.AddDate(0, 0, days+9)}, {Key: "ec256", NotAfter: now.AddDate(0, 0, days)}}
		c.NextRenewal = new(now.AddDate(0, 0, days-30))
		return c
	}
	broken := certificate("list", report.Issued, report.CodeNotInService, 20, "list.example.org")
	broken.Error = &report.Error{Stage: "deploy", Message: "cannot write", Hint: "chmod"}
	late := certificate("www", report.Served, report.CodeTemporary, 50, "www.example.org", "ns.example.org")
	late.Missing = []string{"ns.example.org"}
	fresh := report.New("new", []string{"new.example.org"})
	fresh.Stage, fresh.Code = report.Waiting, report.CodeTemporary
	var out bytes.Buffer
	printTable(plainSheet(&out), []report.Certificate{certificate("mx", report.Served, 0, 89, "mx.example.org", "host7.example.org"), late, fresh, broken}, now)
	want := `NAME  STATE              EXPIRES              RENEWS      NAMES
list  issued             2026-12-19, 20 days  now         list.example.org
www   served, 1 missing  2027-01-18, 50 days  2026-12-19  www.example.org +1
new   waiting            -                    -           new.example.org
mx    served             2027-02-26, 89 days  2027-01-27  mx.example.org +1

list
  error        deploy: cannot write
  next step    chmod

warnings about www, new: mxcert status NAME shows them
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
}

func TestStatusOfSeveral(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	if got := h.run("status").stdout; !strings.HasPrefix(got, "mx: waiting\n") {
		t.Errorf("one certificate:\n%s", got)
	}
	h.edit("certificates:\n", "certificates:\n  - {name: second, domains: [two.example.org], verify: {endpoints: []}, deploy: [{files: {combined: "+h.Path("two.pem")+"}}]}\n")
	if got := h.run("status").stdout; !strings.HasPrefix(got, "NAME ") || !strings.Contains(got, "\nsecond  waiting") || strings.Contains(got, "names  ") {
		t.Errorf("two certificates:\n%s", got)
	}
	if got := h.run("status", "second").stdout; !strings.HasPrefix(got, "second: waiting\n  names        two.example.org\n") {
		t.Errorf("one of two:\n%s", got)
	}
	var names []string
	for _, c := range h.report(report.CodeTemporary, "status").Certificates {
		names = append(names, c.Name)
	}
	if strings.Join(names, " ") != "second mx" {
		t.Errorf("JSON has another order than the configuration: %v", names)
	}
}

// The locale C and dumb terminals get ASCII. Documents keep their characters.
func TestASCII(t *testing.T) {
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	for _, variable := range []string{"LC_ALL", "LC_CTYPE", "LANG", "TERM", "NO_COLOR"} {
		t.Setenv(variable, "")
	}
	for env, ascii := range map[string]bool{"LANG=C": true, "LC_ALL=POSIX": true, "TERM=dumb": true, "LANG=C.UTF-8": false, "LANG=de_DE.UTF-8": false, "TERM=xterm": false} {
		t.Run(env, func(t *testing.T) {
			name, value, _ := strings.Cut(env, "=")
			t.Setenv(name, value)
			for _, args := range [][]string{{"doctor"}, {"renew", "--now"}, {"providers", "rfc2137"}} {
				got := h.run(args...)
				if text := got.stdout + got.stderr; strings.ContainsAny(text, "✓✗·→…") == ascii {
					t.Errorf("%v prints\n%s", args, text)
				}
			}
		})
	}
	before := h.run("config", "example").stdout
	t.Setenv("LC_ALL", "C")
	if h.run("config", "example").stdout != before {
		t.Error("the example of the configuration depends on the locale")
	}
}
