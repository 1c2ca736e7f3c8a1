package dnsprovider

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode"
)

// TestHide: an API may give back the request in any of these forms.
func TestHide(t *testing.T) {
	asJSON := func(v any, escapeHTML bool) string {
		var out bytes.Buffer
		encoder := json.NewEncoder(&out)
		encoder.SetEscapeHTML(escapeHTML)
		if err := encoder.Encode(v); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	forms := map[string]func(s string) string{
		"plain":      func(s string) string { return "token " + s + " refused" },
		"in a query": func(s string) string { return "https://api.example/?token=" + url.QueryEscape(s) + "&x=1" },
		"in a path":  func(s string) string { return "https://api.example/v1/" + url.PathEscape(s) + "/x" },
		"as a user": func(s string) string {
			return (&url.URL{Scheme: "https", Host: "a", User: url.UserPassword("u", s)}).String()
		},
		"escaped twice": func(s string) string { return url.QueryEscape(url.QueryEscape(s)) },
		"JSON":          func(s string) string { return asJSON(map[string]string{"key": s}, true) },
		"JSON, no HTML": func(s string) string { return asJSON(map[string]string{"key": s}, false) },
		"JSON of PHP":   func(s string) string { return strings.ReplaceAll(asJSON(s, false), "/", `\/`) },
		"JSON in JSON":  func(s string) string { return asJSON(asJSON(s, true), true) },
		"quoted by Go":  func(s string) string { return fmt.Sprintf("%q", s) },
		"XML":           func(s string) string { return "<key>" + html.EscapeString(s) + "</key>" },
		"Basic": func(s string) string {
			return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("me:"+s))
		},
		"Basic, other user": func(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte("user7:"+s)) },
		"base64":            func(s string) string { return "key=" + base64.StdEncoding.EncodeToString([]byte(s)) + ";" },
		"base64 in a path":  func(s string) string { return "https://a/v1/" + base64.StdEncoding.EncodeToString([]byte("u:"+s)) },
		"base64url":         func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte("u:" + s)) },
		"base64, escaped": func(s string) string {
			return "k=" + url.QueryEscape(base64.StdEncoding.EncodeToString([]byte("???"+s)))
		},
		"base64, JSON of PHP": func(s string) string {
			return strings.ReplaceAll(asJSON(base64.StdEncoding.EncodeToString([]byte("???>>"+s)), false), "/", `\/`)
		},
	}
	for _, value := range []string{"s3cr3t-value", `s3"cr/3t+&=<v>`, "späß 7/ü", "line one\nline two\n", "tok7", "a1", "😀/s3cr3t"} {
		env := map[string]string{"API_TOKEN": value, "TTL": "120"}
		for what, form := range forms {
			if what == "base64 in a path" && len(value) < shortest {
				continue // its place is not known, and such a value is found in nonsense
			}
			text := form(value)
			got := hide(text, "httpreq", env)
			if !strings.Contains(got, "(API_TOKEN)") || strings.Contains(got, value) {
				t.Errorf("%s of %q: %q became %q", what, value, text, got)
			}
		}
	}
}

// What is not the secret stays readable.
func TestHideLeavesTheRest(t *testing.T) {
	for _, tt := range []struct {
		provider  string
		env       map[string]string
		text, get string
	}{
		{"exec", map[string]string{"DEBUG": "1"}, "exit status 1", "exit status 1"},
		{"exec", map[string]string{"API_KEY": "1"}, "exit status 1, 11 and b1", "exit status (API_KEY), 11 and b1"},
		{"exec", map[string]string{"PIN": "4711"}, "pin 4711 of 47110", "pin (PIN) of 47110"},
		{"httpreq", map[string]string{"HTTPREQ_MODE": "RAW"}, "mode RAW", "mode RAW"},
		{"httpreq", map[string]string{"HTTPREQ_PASSWORD": "a"}, "a banana", "(HTTPREQ_PASSWORD) banana"},
		{"httpreq", map[string]string{"HTTPREQ_PASSWORD": ""}, "nothing", "nothing"},
		{"httpreq", map[string]string{"HTTPREQ_PASSWORD": "password"}, "RequestID: 0A1b2C3d4E5f6071", "RequestID: 0A1b2C3d4E5f6071"},
		{"httpreq", map[string]string{"HTTPREQ_USERNAME": "marvin", "HTTPREQ_PASSWORD": "marvin-and-more"}, "marvin-and-more marvin", "(HTTPREQ_PASSWORD) (HTTPREQ_USERNAME)"},
	} {
		if got := hide(tt.text, tt.provider, tt.env); got != tt.get {
			t.Errorf("%s %q: %q became %q", tt.provider, tt.env, tt.text, got)
		}
	}
}

// A value of any length and a page of any length end in bounded time.
func TestHideALot(t *testing.T) {
	key := strings.Repeat("MIIEvQ+/AD\n", 200)
	began := time.Now()
	got := hide(strings.Repeat("a b+/c", 2_500)+key+strings.Repeat("=%2F\\/", 1_000_000), "httpreq", map[string]string{"HTTPREQ_PASSWORD": key, "A": "\xff\xfe\xfd\xfc\xfb\xfa", "B": `\\\\\\\\`})
	if strings.Contains(got, "MIIEvQ") || !strings.Contains(got, "(HTTPREQ_PASSWORD)") || time.Since(began) > 20*time.Second {
		t.Errorf("%d bytes in %s", len(got), time.Since(began))
	}
	t.Log(time.Since(began))
}

// A foreign page is cut to its status and its first words, and has nothing that a terminal obeys.
func TestForeignBody(t *testing.T) {
	page := "unexpected status code: [status code: 403] body: \x1b]0;owned\x07\u202e<html>\r\n" + strings.Repeat("word ", 100_000)
	got := capped(page, "httpreq", nil)
	if !strings.HasPrefix(got, "unexpected status code: [status code: 403] body: ]0;owned <html> word") || len(got) > 220 || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("%d bytes: %q", len(got), got)
	}
	long := capped("a message of the library: "+strings.Repeat("word ", 100_000), "httpreq", nil)
	if len(long) < mostReason || len(long) > mostReason+10 {
		t.Errorf("%d bytes", len(long))
	}
}
