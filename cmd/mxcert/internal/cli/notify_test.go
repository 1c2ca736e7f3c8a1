package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert/internal/daemon"
	"mxcert/cmd/mxcert/internal/report"
)

// badServer is an HTTP server that behaves as the path says. What hangs does so until the end of the test.
type badServer struct {
	*httptest.Server

	hanging  atomic.Int32 // requests that wait now
	followed atomic.Int32 // requests that followed a redirect
	calls    atomic.Int32
}

func newBadServer(t *testing.T) *badServer {
	t.Helper()
	s := &badServer{}
	end := make(chan struct{})
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		s.calls.Add(1)
		switch r.URL.Path {
		case "/hang":
			s.hanging.Add(1)
			<-end
		case "/500":
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, "a problem of ours")
		case "/429":
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
		case "/404", "/ping404":
			w.WriteHeader(http.StatusNotFound)
		case "/redirect":
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		case "/elsewhere":
			s.followed.Add(1)
		case "/flood":
			w.WriteHeader(http.StatusBadGateway)
			for line := make([]byte, 64<<10); ; {
				if _, err := w.Write(line); err != nil {
					return
				}
			}
		}
	}))
	t.Cleanup(func() { close(end); s.Close() })
	return s
}

// testMessages are those of `notify test`: a channel, and what becomes of it.
var testMessages = map[string]struct {
	kind, config string // URL and DIR are replaced
	code         report.Code
	says         string
}{
	"chat":     {"webhook", `webhook: {url: "URL/ok"}`, report.CodeOK, ""},
	"slack":    {"webhook", `webhook: {url: "URL/ok", body: slack}`, report.CodeOK, ""},
	"alive":    {"ping", `ping: "URL/ok"`, report.CodeOK, ""},
	"page":     {"exec", `exec: DIR/page`, report.CodeOK, ""},
	"problem":  {"webhook", `webhook: {url: "URL/500"}`, report.CodeTemporary, `HTTP status 500: "a problem of ours"`},
	"limited":  {"webhook", `webhook: {url: "URL/429"}`, report.CodeTemporary, "HTTP status 429"},
	"gone":     {"webhook", `webhook: {url: "URL/404"}`, report.CodeFailed, "HTTP status 404"},
	"switch":   {"ping", `ping: "URL/ping404"`, report.CodeFailed, "the dead man's switch at 127.0.0.1"},
	"moved":    {"webhook", `webhook: {url: "URL/redirect"}`, report.CodeFailed, "does not follow"},
	"flood":    {"webhook", `webhook: {url: "URL/flood"}`, report.CodeTemporary, "HTTP status 502"},
	"closed":   {"webhook", `webhook: {url: "http://127.0.0.1:1/x"}`, report.CodeTemporary, "does not answer"},
	"template": {"webhook", `webhook: {url: "URL/ok", body: DIR/bad.tmpl}`, report.CodeFailed, "there is no field .Subjekt"},
	"roots":    {"webhook", `webhook: {url: "URL/ok", ca_file: DIR/page}`, report.CodeFailed, "it holds no PEM certificate"},
	"secret":   {"webhook", `webhook: {url: "file:DIR/no-url"}`, report.CodePermission, "no-url"},
	"empty":    {"webhook", `webhook: {url: "file:DIR/bad.tmpl"}`, report.CodeFailed, "is not a URL that mxcert uses"},
	"fails":    {"exec", `exec: DIR/fails`, report.CodeTemporary, `exit status 3; it said "the pager is off"`},
	"lost":     {"exec", `exec: DIR/lost`, report.CodeFailed, "does not exist"},
	"relay":    {"mail", `mail: {to: ops@elsewhere.example, via: {smtp: "127.0.0.1:1"}}`, report.CodeTemporary, "the relay 127.0.0.1:1 does not answer"},
}

// channels writes the files that they need, and the section notify.
func (h *host) channels(url string) string {
	h.t.Helper()
	for name, text := range map[string]string{"page": "#!/bin/sh\ncat >/dev/null\n", "fails": "#!/bin/sh\ncat >/dev/null; echo the pager is off; exit 3\n", "bad.tmpl": "{{.Subjekt}}"} {
		h.check(os.WriteFile(h.Path(name), []byte(text), 0o700))
	}
	text := "notify:\n"
	for name, tt := range testMessages {
		text += fmt.Sprintf("  - {name: %s, %s}\n", name, strings.NewReplacer("URL", url, "DIR", h.Directory).Replace(tt.config))
	}
	return text
}

// tested runs `notify test --json`.
func (h *host) tested(names ...string) (r notifyReport, code report.Code) {
	h.t.Helper()
	got := h.run(append([]string{"notify", "test", "--json"}, names...)...)
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil {
		h.t.Fatalf("%v:\n%s%s", err, got.stdout, got.stderr)
	}
	return r, got.code
}

// `notify test` says of each channel what became of the message: as a code, as JSON, and for a person; the same if a daemon sends it.
func TestNotifyTest(t *testing.T) {
	t.Parallel()
	bad := newBadServer(t)
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	if got := h.run("notify", "test"); got.code != report.CodeUsage || !strings.Contains(got.stderr, "its section notify is empty") {
		t.Errorf("without channels: exit %d, %s", got.code, got.stderr)
	}
	text, err := os.ReadFile(h.config)
	h.check(err)
	h.write(string(text) + h.channels(bad.URL))
	check := func(who string, list []daemon.Sent) {
		t.Helper()
		for _, s := range list {
			tt := testMessages[s.Name]
			if s.Kind != tt.kind || s.Code != tt.code || s.OK != (tt.says == "") || !strings.Contains(s.Error, tt.says) || (s.Hint == "") != s.OK || s.OK && s.Error != "" {
				t.Errorf("%s, %s: %+v", who, s.Name, s)
			}
		}
	}
	all, code := h.tested()
	if check("all", all.Channels); code != report.CodeSome || all.OK || len(all.Channels) != len(testMessages) {
		t.Errorf("all: exit %d, ok %v, %d channels", code, all.OK, len(all.Channels))
	}
	for name, tt := range testMessages {
		if one, code := h.tested(name, name); code != tt.code || len(one.Channels) != 1 || one.OK != (code == report.CodeOK) {
			t.Errorf("%s alone: exit %d, %+v", name, code, one)
		}
	}
	if _, code := h.tested("problem", "gone"); code != report.CodeFailed {
		t.Errorf("one later, one never: exit %d", code)
	}
	if got := h.run("notify", "test", "nobody"); got.code != report.CodeUsage || !strings.Contains(got.stderr, `no channel "nobody"; it has: `) {
		t.Errorf("nobody: exit %d, %s", got.code, got.stderr)
	}
	got := h.run("notify", "test", "chat", "problem")
	lines := strings.Split(got.stdout, "\n")
	if len(lines) != 6 || !strings.HasPrefix(lines[0], "CHANNEL  RESULT") || !strings.HasPrefix(lines[1], "chat     sent ") || !strings.HasPrefix(lines[2], "problem  not sent") ||
		!strings.HasPrefix(lines[3], "  the webhook at 127.0.0.1") || !strings.HasPrefix(lines[4], "  → the server has a problem") || strings.Contains(got.stdout, "/500\n") {
		t.Errorf("for a person:\n%s", got.stdout)
	}
	if bad.followed.Load() != 0 {
		t.Error("a redirect was followed")
	}

	// doctor looks without sending anything, and finds what can be seen so.
	before := bad.calls.Load()
	doctor := h.run("doctor", "--json").stdout
	for name, ready := range map[string]bool{"chat": true, "page": true, "alive": true, "problem": true, "template": false, "roots": false, "secret": false, "empty": false, "lost": false} {
		want := map[bool]string{true: "the channel " + name + " is ready", false: "the channel " + name + " cannot tell anybody"}[ready]
		if !strings.Contains(doctor, want) {
			t.Errorf("doctor does not say %q", want)
		}
	}
	if bad.calls.Load() != before {
		t.Error("doctor has called a server")
	}
	if online := h.run("doctor", "--online", "--json").stdout; !strings.Contains(online, "the channel relay cannot tell anybody") || bad.calls.Load() != before {
		t.Errorf("doctor --online does not find the relay, or has called a server:\n%s", online)
	}

	d := h.daemon()
	d.awaitLog("certificate in service")
	all, code = h.tested()
	if check("the daemon", all.Channels); code != report.CodeSome || len(all.Channels) != len(testMessages) {
		t.Errorf("the daemon: exit %d, %d channels", code, len(all.Channels))
	}
	d.stop()
}

// Channels that hang, answer 500, redirect or flood neither delay a pass nor make one fail, and the good one is told all the same. What they
// could not be told survives kill -9.
func TestBadChannelsDelayNothing(t *testing.T) {
	t.Parallel()
	bad, desk := newBadServer(t), newDesk(t)
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	h.check(os.WriteFile(h.Path("sleeps"), []byte("#!/bin/sh\nexec sleep 25\n"), 0o700))
	text, err := os.ReadFile(h.config)
	h.check(err)
	h.write(string(text) + desk.config() + fmt.Sprintf(`  - {name: hangs, webhook: {url: "%[1]s/hang"}}
  - {name: switch, ping: "%[1]s/hang"}
  - {name: problem, webhook: {url: "%[1]s/500"}}
  - {name: moved, webhook: {url: "%[1]s/redirect"}}
  - {name: flood, webhook: {url: "%[1]s/flood"}}
  - {name: sleeps, exec: %[2]s/sleeps}
`, bad.URL, h.Directory))
	kill, log := h.process()
	eventually(t, "the first certificate", func() bool { return strings.Contains(log.String(), "certificate in service") })
	eventually(t, "a ping that hangs", func() bool { return bad.hanging.Load() == 1 })
	good := h.Secret()
	h.check(h.World.AddKey(lab.KeyName, "hmac-sha256.", "b3RoZXI="))
	h.run("renew", "--now")
	h.run("renew", "--now")
	eventually(t, "an alarm", func() bool { return slices.Equal(desk.events(), []string{"alarm"}) })
	eventually(t, "a webhook that hangs", func() bool { return bad.hanging.Load() >= 2 })
	h.check(h.World.AddKey(lab.KeyName, "hmac-sha256.", good))
	eventually(t, "a renewal while channels hang", func() bool { return h.run("renew", "--now").code == report.CodeOK })
	eventually(t, "its message", func() bool { return slices.Equal(desk.events(), []string{"alarm", "recovered"}) })
	waiting := func() map[string]int {
		r, _ := h.status()
		m := map[string]int{}
		for _, u := range r.Undelivered {
			m[u.Channel] = u.Waiting
		}
		return m
	}
	eventually(t, "status says who could not be told", func() bool {
		m := waiting()
		return m["problem"] == 2 && m["moved"] == 2 && m["flood"] == 2
	})
	kill()
	if m := waiting(); m["problem"] != 2 || m["moved"] != 2 || m["flood"] != 2 || m["chat"] != 0 {
		t.Errorf("after the kill, %v wait", m)
	}
	if bad.followed.Load() != 0 {
		t.Error("a redirect was followed")
	}
	if events := desk.events(); !slices.Equal(events, []string{"alarm", "recovered"}) {
		t.Errorf("the good channel was told %v", events)
	}
}

// TestResultBeforeTheNews: a command prints its result although a channel hangs, and waits for the channel after that.
func TestResultBeforeTheNews(t *testing.T) {
	t.Parallel()
	bad := newBadServer(t)
	h := newHost(t, lab.Options{}, lab.ConfigOptions{})
	text, err := os.ReadFile(h.config)
	h.check(err)
	h.write(string(text) + fmt.Sprintf("notify:\n  - {name: switch, ping: %q}\n", bad.URL+"/hang"))
	out, ended := &transcript{}, make(chan int, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { ended <- Run(ctx, testRelease, []string{"-c", h.config, "renew", "--json"}, out, io.Discard) }()
	eventually(t, "a ping that hangs", func() bool { return bad.hanging.Load() == 1 })
	eventually(t, "the result", func() bool {
		var r report.Report
		return json.Unmarshal([]byte(out.String()), &r) == nil && r.Changed
	})
	select {
	case code := <-ended:
		t.Errorf("it ended with %d before the ping", code)
	default:
	}
	bad.CloseClientConnections()
	if code := <-ended; code != int(report.CodeOK) {
		t.Errorf("exit code %d", code)
	}
}
