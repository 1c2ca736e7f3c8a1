package finding

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestLink(t *testing.T) {
	long := "https://ca.example/unpause?jwt=" + strings.Repeat("eyJ.-_", 70)
	for _, tt := range []struct{ text, link, quoted string }{
		{"see https://ca.example/limits#names.", "https://ca.example/limits#names", ""},
		{"(https://ca.example/a), or not", "https://ca.example/a", ""},
		{`look at "https://ca.example/a" now`, "https://ca.example/a", ""},
		{"wait", "", ""},
		{"https://", "", ""},
		{"https://user:word@ca.example/", "", ""},
		{"http://ca.example/", "", ""},
		{"visit " + long, long, "visit " + long},
		{"visit " + long + ". Thank you", long, "visit " + long + " …"},
		{strings.Repeat("x", 310) + " " + long, long, strings.Repeat("x", 300) + "… " + long},
		{"visit https://ca.example/" + strings.Repeat("a", MostLink), "", "visit https://ca.example/" + strings.Repeat("a", 275) + "…"},
	} {
		if got := Link(tt.text); got != tt.link {
			t.Errorf("%q has the link %q", tt.text, got)
		}
		want := tt.quoted
		if want == "" {
			want = tt.text
		}
		if got := QuoteLink(tt.text, MostQuoted); got != want {
			t.Errorf("%q becomes %q", tt.text, got)
		}
	}
}

// FuzzQuoteLink: whatever the text, what is printed is printable, valid and bounded.
func FuzzQuoteLink(f *testing.F) {
	f.Add("visit https://ca.example/?jwt=\x1b[31m\u202e"+strings.Repeat("é", 200), 300)
	f.Add(strings.Repeat("x ", 200)+"https://ca.example/a?b=c", 20)
	f.Fuzz(func(t *testing.T, text string, most int) {
		most = max(0, most%1000)
		got := QuoteLink(text, most)
		if !utf8.ValidString(got) || len(got) > most+MostLink+10 || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q becomes %q", text, got)
		}
	})
}
