package transport

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// TestAlternates reads links as RFC 8288 section 3 has them.
func TestAlternates(t *testing.T) {
	base, err := url.Parse("https://ca.example/cert/1")
	if err != nil {
		t.Fatal(err)
	}
	const other = "https://ca.example/cert/1/2"
	for line, want := range map[string]string{
		`<https://ca.example/cert/1/2>;rel="alternate"`:                                        other,
		`<https://ca.example/cert/1/2>;rel=alternate`:                                          other,
		`</cert/1/2> ; Rel = Alternate`:                                                        other,
		`</cert/1/2>; rel="up alternate"`:                                                      other,
		`</cert/1/2>; rel=alternate; title=x`:                                                  other,
		`</cert/1/2>; crossorigin; rel=alternate`:                                              other,
		`</cert/1/2>; title="a, <b>; rel=up, \"c\""; rel=alternate`:                            other,
		`<https://ca.example/dir>;rel="index", </cert/1/2>;rel=alternate,</cert/1/3>;rel="up"`: other,
		`</cert/1/2>;rel=alternate, </cert/1/3>;rel=alternate`:                                 other + " https://ca.example/cert/1/3",
		`, ,</cert/1/2>;rel=alternate`:                                                         other,
		`garbage, </cert/1/2>;rel=alternate`:                                                   other,
		`<https://ca.example/a,b;c>;rel=alternate`:                                             "https://ca.example/a,b;c",
		`</cert/1/2>;rel=up;rel=alternate`:                                                     "",
		`</cert/1/2>;title="rel=alternate"`:                                                    "",
		`</cert/1/2>;xrel="alternate"`:                                                         "",
		`</cert/1/2>;rel="alternates"`:                                                         "",
		`</cert/1/2>`:                                                                          "",
		`<a`:                                                                                   "",
		`</cert/1/2>;rel="alternate`:                                                           other,
		"":                                                                                     "",
	} {
		if got := alternates(base, http.Header{"Link": {line}}); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s: %q", line, got)
		}
	}
	if got := alternates(base, http.Header{"Link": {"</1>;rel=up", "</2>;rel=alternate"}}); len(got) != 1 {
		t.Errorf("two lines: %q", got)
	}
}
