package page_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"mxcert/cmd/mxcert/internal/page"
)

func calendar(t testing.TB, s page.Sight) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := page.Calendar(&b, s); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// uids lists the UIDs of a calendar, which must be lines of RFC 5545 section 3.1.
func uids(t testing.TB, text []byte) (list []string) {
	t.Helper()
	if !bytes.HasSuffix(text, []byte("\r\n")) {
		t.Error("the last line has no end")
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(string(text), "\r\n"), "\r\n") {
		if len(line) > 75 || !utf8.ValidString(line) || strings.ContainsAny(line, "\r\n") {
			t.Errorf("a bad line: %q", line)
		}
	}
	unfolded := strings.ReplaceAll(string(text), "\r\n ", "")
	for line := range strings.SplitSeq(unfolded, "\r\n") {
		if uid, ok := strings.CutPrefix(line, "UID:"); ok {
			list = append(list, uid)
		}
	}
	return list
}

// TestCalendar: each date has an event whose UID stays when the date moves.
func TestCalendar(t *testing.T) {
	t.Parallel()
	golden(t, "example.ics", calendar(t, example()))
	before := uids(t, calendar(t, example()))
	known := map[string]bool{}
	for _, uid := range before {
		if known[uid] {
			t.Errorf("%s is there twice", uid)
		}
		known[uid] = true
	}
	renewed := example()
	for i := range renewed.Certificates {
		for j := range renewed.Certificates[i].Report.Keys {
			renewed.Certificates[i].Report.Keys[j] = key(renewed.Certificates[i].Report.Keys[j].Key, "99", 0, 90)
		}
	}
	if after := uids(t, calendar(t, renewed)); len(before) < 8 || strings.Join(before, " ") != strings.Join(after, " ") {
		t.Errorf("before a renewal: %q\nafter: %q", before, after)
	}
	// An hour later nothing differs but when it was made.
	later := example()
	later.At = later.At.Add(time.Hour)
	stamp := regexp.MustCompile(`DTSTAMP:\w+`)
	one, two := calendar(t, example()), calendar(t, later)
	if bytes.Equal(one, two) || !bytes.Equal(stamp.ReplaceAll(one, nil), stamp.ReplaceAll(two, nil)) {
		t.Errorf("an hour later the calendar is\n%s", two)
	}
}

// judge reads a calendar with Debian's python3-icalendar, and prints each event.
const judge = `
import sys, icalendar
c = icalendar.Calendar.from_ical(open(sys.argv[1], 'rb').read())
assert c['version'] == '2.0' and c['prodid'] and not c.errors
for e in c.walk('VEVENT'):
    assert not e.errors and e['uid'].isascii() and e['uid'].isprintable() and e['dtstamp'].dt.tzinfo and e['dtstart'].dt.tzinfo, e
    alarms = e.walk('VALARM')
    for a in alarms:
        assert a['action'] == 'DISPLAY' and a['description'] and a['trigger'].dt.total_seconds() < 0, a
    # A line that ends in the middle of a character would show here.
    assert '\ufffd' not in e['summary'] + e['description'], e
    if 'mxcert-expiry-ec256' in e['uid'] or 'x;' in e['description']:
        print('description', repr(str(e['description'])))
    print(e['uid'], e['dtstart'].dt.strftime('%Y-%m-%dT%H:%MZ'), len(alarms), e['summary'])
`

// TestCalendarIsRead: another program reads the same dates, also with hostile names.
func TestCalendarIsRead(t *testing.T) {
	t.Parallel()
	if exec.Command("/usr/bin/python3", "-c", "import icalendar").Run() != nil {
		if os.Getenv("MXCERT_TEST_REQUIRE") == "1" {
			t.Fatal("python3-icalendar is not installed")
		}
		t.Skip("needs the Debian package python3-icalendar")
	}
	for name, s := range map[string]page.Sight{"example": example(), "hostile": hostile("x;,\\:\"\r\nEND:VCALENDAR\u202e ü" + strings.Repeat("é", 200))} {
		file := filepath.Join(t.TempDir(), "c.ics")
		if err := os.WriteFile(file, calendar(t, s), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("/usr/bin/python3", "-c", judge, file).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		for _, want := range map[string][]string{
			"example": {
				"mxcert-expiry-ec256-mx@host7.example.org 2027-01-19T05:12Z 1 Certificate mx (ec256) of host7.example.org expires\n",
				`description 'The ec256 certificate expires\nNames: mx.example.org, host7.example.org, mx.xn--mnchen-3ya.example, mx.customer.example\nSerial: 04a1b2c3d4e5f60718293a4b5c6d7e8f9012\n`,
			},
			"hostile": {`\nNames: x;,\\:" END:VCALENDAR ü`}, // Python's repr doubles the backslash
		}[name] {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s: not %q:\n%s", name, want, out)
			}
		}
		if n := strings.Count(string(out), "\n"); n < 8 {
			t.Errorf("%s: %d events:\n%s", name, n, out)
		}
	}
}

// TestCalendarOfMany: a calendar of a thousand certificates is small, and has both dates of each.
func TestCalendarOfMany(t *testing.T) {
	t.Parallel()
	text := calendar(t, many(1000))
	t.Logf("figure: a calendar of 1,000 certificates has %d bytes", len(text))
	if list := uids(t, text); len(list) != 2000 || len(text) >= 1<<20 {
		t.Errorf("%d events, %d bytes", len(list), len(text))
	}
}

func BenchmarkCalendar(b *testing.B) {
	s := many(1000)
	b.ReportAllocs()
	for b.Loop() {
		calendar(b, s)
	}
}
