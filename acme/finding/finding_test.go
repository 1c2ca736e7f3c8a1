package finding_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"mxcert/acme/finding"
)

func TestWorst(t *testing.T) {
	t.Parallel()
	ok, warning, bad := finding.New("a", finding.OK, "x"), finding.New("b", finding.Warning, "x"), finding.New("c", finding.Error, "x")
	for _, c := range []struct {
		list []finding.Finding
		want finding.Severity
	}{
		{nil, finding.OK},
		{[]finding.Finding{ok, ok}, finding.OK},
		{[]finding.Finding{ok, warning, ok}, finding.Warning},
		{[]finding.Finding{bad, warning, ok}, finding.Error},
		{[]finding.Finding{warning, bad}, finding.Error},
	} {
		if got := finding.Worst(c.list); got != c.want {
			t.Errorf("Worst(%v) = %s, want %s", c.list, got, c.want)
		}
	}
}

// About and Next return copies: a finding that is shared is never changed.
func TestFindingIsAValue(t *testing.T) {
	t.Parallel()
	first := finding.New("caa", finding.OK, "%d records", 2)
	second := first.About("mx.example.org").Next("nothing")
	if first.Subject != "" || first.Hint != "" {
		t.Errorf("the first finding was changed: %+v", first)
	}
	text, err := json.Marshal(second)
	if want := `{"id":"caa","severity":"ok","subject":"mx.example.org","message":"2 records","hint":"nothing"}`; err != nil || string(text) != want {
		t.Errorf("JSON is %s (%v), want %s", text, err, want)
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		most int
		want string
	}{
		{"plain", 10, "plain"},
		{" a\r\n\tb  c ", 10, "a b c"},
		{"\x1b[31mred\x07", 20, "[31mred"},
		{"a\u202eb\u200bc", 20, "a b c"},
		{"bad\xff\xfeutf8", 20, "bad utf8"},
		{"0123456789", 4, "0123…"},
		{"ääää", 3, "ä…"},
		{"", 5, ""},
	} {
		if got := finding.Quote(c.text, c.most); got != c.want {
			t.Errorf("Quote(%q, %d) = %q, want %q", c.text, c.most, got, c.want)
		}
	}
}

func FuzzQuote(f *testing.F) {
	f.Add("250 \x1b]0;title\x07 ok")
	f.Add(strings.Repeat("ä", 200))
	f.Fuzz(func(t *testing.T, text string) {
		got := finding.Quote(text, 60)
		if len(got) > 60+len("…") || !utf8.ValidString(got) {
			t.Fatalf("Quote(%q) = %q: %d bytes", text, got, len(got))
		}
		if strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("Quote(%q) = %q: not printable", text, got)
		}
	})
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"8760h": "365 days", "48h": "2 days", "24h": "24h", "49h": "49h", "90m": "1h30m", "1h": "1h", "20m": "20m", "1m30s": "1m30s", "2.6s": "3s", "0s": "0s",
	} {
		d, err := time.ParseDuration(text)
		if got := finding.Duration(d); err != nil || got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestWord(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"mx.example.org": "mx.example.org", "_25._tcp.mx.example.org": "_25._tcp.mx.example.org", "": "''", "two words": "'two words'",
		"`reboot`.example.org": "'`reboot`.example.org'", "$(x).example.org": "'$(x).example.org'", "it's": `'it'\''s'`, `a\032b`: `'a\032b'`,
	} {
		if got := finding.Word(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
