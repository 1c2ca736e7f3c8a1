package notify

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const token = "T0kenOfTheHook"

func fixed(value string) Secret { return func() (string, error) { return value, nil } }

// alarm is a message with text that tries to get out of its place.
func alarm() Message {
	m := sample()
	m.Subject = "mx.example.org: \"bücher\" <b>\r\nBcc: all@elsewhere.example"
	return m
}

// server answers at a secret path, and returns the URL and what it got.
func server(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	return s.URL + "/hooks/" + token + "?key=" + token + "2"
}

// TestAnswers: whatever a server does, a message ends with what is true, in bounded time and memory, and without the URL.
func TestAnswers(t *testing.T) {
	t.Parallel()
	status := func(code int, header, value, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if header != "" {
				w.Header().Set(header, value)
			}
			w.WriteHeader(code)
			fmt.Fprintf(w, body, r.URL.String())
		}
	}
	for name, tt := range map[string]struct {
		answer    http.HandlerFunc
		says      string // "": it was sent
		kind      string
		temporary bool
		after     time.Duration
	}{
		"taken":          {answer: status(200, "", "", "ok %s")},
		"no content":     {answer: status(204, "", "", "")},
		"500":            {status(500, "", "", "oops at %s\x1b[31m"), "HTTP status 500", Refused, true, 0},
		"429":            {status(429, "Retry-After", "17", "slow down"), "HTTP status 429", Refused, true, 17 * time.Second},
		"503 for a year": {status(503, "Retry-After", "31536000", "later"), "HTTP status 503", Refused, true, 24 * time.Hour},
		"429 nonsense":   {status(429, "Retry-After", "soon", "later"), "HTTP status 429", Refused, true, 0},
		"400":            {status(400, "", "", "invalid_payload"), "invalid_payload", Refused, false, 0},
		"404":            {status(404, "", "", "no_service %s"), "HTTP status 404", Login, false, 0},
		"redirect":       {status(302, "Location", "https://elsewhere.example/"+token, ""), "does not follow", Refused, false, 0},
		"flood":          {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError); flood(w) }, "HTTP status 500", Refused, true, 0},
		"flood of 200":   {answer: func(w http.ResponseWriter, _ *http.Request) { flood(w) }},
		"closes early":   {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "does not answer", Unreachable, true, 0},
		"no HTTP":        {hijacked("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), "does not answer", Unreachable, true, 0},
		"header flood":   {hijacked("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n"), "does not answer", Unreachable, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := server(t, tt.answer)
			err := NewWebhook("chat", Webhook{URL: fixed(address)}).Send(t.Context(), alarm())
			if tt.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			e, ok := errors.AsType[*Error](err)
			if !ok || !strings.Contains(e.Error(), tt.says) || e.Kind() != tt.kind || e.Temporary() != tt.temporary || e.RetryAfter() != tt.after || e.Hint() == "" {
				t.Errorf("%#v", err)
			}
			if text := fmt.Sprintf("%v %+v", err, err); strings.Contains(text, token) || strings.ContainsAny(text, "\x1b\n") || len(text) > 2000 {
				t.Errorf("the error shows the secret, or what a terminal obeys: %q", text)
			}
		})
	}
}

func flood(w io.Writer) {
	line := make([]byte, 64<<10)
	for range 1 << 14 { // 1 GiB
		if _, err := w.Write(line); err != nil {
			return
		}
	}
}

// hijacked answers with raw bytes.
func hijacked(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_, _ = io.WriteString(conn, text)
			_ = conn.Close()
		}
	}
}

// TestHanging: a server that says nothing, or a byte now and then, is left when the context ends.
func TestHanging(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]func(net.Conn, <-chan struct{}){
		"silent": func(_ net.Conn, done <-chan struct{}) { <-done },
		"slow": func(c net.Conn, done <-chan struct{}) {
			for _, b := range []byte("HTTP/1.1 500 Oops\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 1<<20)) {
				select {
				case <-done:
					return
				case <-time.After(time.Millisecond):
				}
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			done := make(chan struct{})
			var once = context.AfterFunc(t.Context(), func() { close(done) })
			defer once()
			reached := make(chan struct{}, 1)
			address := server(t, func(w http.ResponseWriter, _ *http.Request) {
				conn, _, err := w.(http.Hijacker).Hijack()
				if err != nil {
					return
				}
				defer conn.Close()
				reached <- struct{}{}
				gone := make(chan struct{})
				go func() { _, _ = bufio.NewReader(conn).ReadByte(); close(gone) }()
				body(conn, gone)
			})
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-reached; cancel() }()
			err := NewWebhook("chat", Webhook{URL: fixed(address)}).Send(ctx, alarm())
			e, ok := errors.AsType[*Error](err)
			if !ok || !e.Temporary() || strings.Contains(err.Error(), token) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestBodies compares what servers get.
func TestBodies(t *testing.T) {
	t.Parallel()
	template := filepath.Join(t.TempDir(), "chat.tmpl")
	write(t, template, `{"title": {{json .Subject}}, "names": [{{range .Matters}}{{json (join .Certificates ", ")}}{{end}}]{{if eq .Event "alarm"}}, "urgent": true{{end}}}`)
	for body, check := range map[string]func(t *testing.T, h http.Header, text string, v map[string]any){
		BodyJSON: func(t *testing.T, _ http.Header, _ string, v map[string]any) {
			if v["version"] != 1.0 || v["event"] != "alarm" || len(v["matters"].([]any)) != 1 {
				t.Errorf("%v", v)
			}
		},
		BodySlack: func(t *testing.T, _ http.Header, _ string, v map[string]any) {
			if text := v["text"].(string); !strings.HasPrefix(text, `*mx.example.org: "bücher" &lt;b&gt; Bcc: all@elsewhere.example*`) || strings.Contains(text, "<") || len(v) != 1 {
				t.Errorf("%v", v)
			}
		},
		BodyMatrix: func(t *testing.T, _ http.Header, _ string, v map[string]any) {
			if !strings.Contains(v["text"].(string), "bücher") || len(v) != 1 {
				t.Errorf("%v", v)
			}
		},
		BodyNtfy: func(t *testing.T, h http.Header, text string, _ map[string]any) {
			if h.Get("Priority") != "high" || !strings.HasPrefix(h.Get("Title"), "=?utf-8?q?mx.example.org") || !strings.HasPrefix(text, "What:") {
				t.Errorf("%v %q", h, text)
			}
		},
		template: func(t *testing.T, _ http.Header, _ string, v map[string]any) {
			if v["title"] != `mx.example.org: "bücher" <b> Bcc: all@elsewhere.example` || v["urgent"] != true || fmt.Sprint(v["names"]) != "[mx]" {
				t.Errorf("%v", v)
			}
		},
	} {
		t.Run(filepath.Base(body), func(t *testing.T) {
			t.Parallel()
			address := server(t, func(_ http.ResponseWriter, r *http.Request) {
				text, _ := io.ReadAll(r.Body)
				var v map[string]any
				if err := json.Unmarshal(text, &v); (err == nil) != (r.Header.Get("Content-Type") == "application/json") {
					t.Errorf("%s: %q, %v", r.Header.Get("Content-Type"), text, err)
				}
				if r.Method != http.MethodPost || r.URL.Query().Get("key") != token+"2" {
					t.Errorf("%s %s", r.Method, r.URL)
				}
				check(t, r.Header, string(text), v)
			})
			channel := NewWebhook("chat", Webhook{URL: fixed(address), Body: body})
			if err := channel.Send(t.Context(), alarm()); err != nil {
				t.Error(err)
			}
			if err := channel.(Prober).Probe(t.Context(), true); err != nil {
				t.Error(err)
			}
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTemplates: a template that cannot be used is found before a message is to be sent, and says why.
func TestTemplates(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "chat.tmpl")
	for text, want := range map[string]string{
		`{{.Subject}} on {{.Host}}, {{.At}}{{/* why */}}`:                                 "",
		`{{range .Matters}}{{.ID}} {{.What | json}} {{.Certificates}}{{else}}none{{end}}`: "",
		`{{if .More}}and {{.More}} more{{else if .Text}}{{.Text}}{{end}}`:                 "",
		"a\n{{.Subjekt}}":                   "line 2: there is no field .Subjekt",
		"{{.Subject":                        "unclosed action",
		"{{range .Text}}{{end}}":            "range needs a list",
		"{{printf .Text}}":                  `function "printf" not defined`,
		"{{$x := .Text}}{{$x}}":             "no variables",
		"{{with .Text}}{{.}}{{end}}":        "no with",
		"{{json}}":                          "json is used as in",
		"{{join .Text .Host}}":              "join is used as in",
		"  \n":                              "it writes nothing",
		`{"text": "{{.Text}}"}`:             "{{json .Text}}, without quotation marks",
		strings.Repeat("x", mostTemplate+1): "larger than 64 KiB",
		strings.Repeat("{{range .Matters}}"+strings.Repeat("{{.Certificates}}", 200)+"{{end}}", 200): "writes more than",
	} {
		if strings.Contains(want, "writes more") {
			text = "{{range .Matters}}" + strings.Repeat("{{.What}}{{.Certificates}}", 2000) + "{{end}}"
			m := sample()
			m.Matters[0].What = strings.Repeat("x", mostWords)
			if _, err := evaluate(text, m); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v", err)
			}
			continue
		}
		write(t, path, text)
		err := CheckTemplate(path)
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path)) {
			t.Errorf("%.80q: %v", text, err)
		}
	}
	if err := CheckTemplate(path + ".gone"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if err := CheckTemplate("/dev/zero"); err == nil {
		t.Error("a device is a template")
	}
}

// FuzzTemplate: no template makes the program panic, or write more than it may.
func FuzzTemplate(f *testing.F) {
	for _, text := range []string{"{{.Text}}", "{{range .Matters}}{{json .}}{{end}}", `{{if eq .Event "alarm"}}x{{else}}y{{end}}`, "{{(json .Text) | json}}", "{{1}}", "{{. | .}}", "{{nil}}", "{{true}}", "{{block \"a\" .}}{{end}}"} {
		f.Add(text)
	}
	m := sample().Clean()
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > mostTemplate {
			return
		}
		if out, err := evaluate(text, m); err == nil && len(out) > mostBody+mostTemplate {
			t.Errorf("%d bytes", len(out))
		}
	})
}

// TestPing: a dead man's switch as healthchecks.io documents it.
func TestPing(t *testing.T) {
	t.Parallel()
	var got []string
	address := server(t, func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		got = append(got, r.URL.Path+"?"+r.URL.RawQuery+" "+string(text))
	})
	p := NewPing("alive", fixed(address+"\n"))
	for _, well := range []bool{true, false} {
		if err := p.Ping(t.Context(), well, "all 3 certificates\x1b"); err != nil {
			t.Fatal(err)
		}
	}
	want := "/hooks/" + token + "?key=" + token + "2 all 3 certificates�, /hooks/" + token + "/fail?key=" + token + "2 all 3 certificates�"
	if strings.Join(got, ", ") != want {
		t.Errorf("%q", got)
	}
	for in, out := range map[string]string{
		"https://hc.example/ping/uuid": "https://hc.example/ping/uuid/fail", "https://hc.example/ping/uuid/": "https://hc.example/ping/uuid/fail",
		"https://hc.example/ping/key/a%2Fb?create=1": "https://hc.example/ping/key/a%2Fb/fail?create=1", "https://hc.example": "https://hc.example/fail",
	} {
		if got := failing(in); got != out {
			t.Errorf("%s: %s", in, got)
		}
	}
}

// TestURLs: a secret that is no URL is said without showing it.
func TestURLs(t *testing.T) {
	t.Parallel()
	for address, good := range map[string]bool{
		"https://hooks.example/" + token: true, "http://127.0.0.1:8080/" + token: true, "http://[::1]/" + token: true, "http://localhost/" + token: true,
		"http://hooks.example/" + token: false, "hooks.example/" + token: false, "https:///" + token: false, "https://hooks.example/a b" + token: false,
		"ftp://hooks.example/" + token: false, "https://hooks.example/\n" + token: false, "https://hooks.example/#" + token: false, "": false, "https://%zz" + token: false,
	} {
		err := NewPing("alive", fixed(address)).(Prober).Probe(t.Context(), true)
		if (err == nil) != good || err != nil && strings.Contains(err.Error(), token) {
			t.Errorf("%q: %v", address, err)
		}
	}
	unreadable := errors.New("secret cred:chat-url: no")
	if err := NewWebhook("chat", Webhook{URL: func() (string, error) { return "", unreadable }}).Send(t.Context(), alarm()); !errors.Is(err, unreadable) {
		t.Error(err)
	}
}
