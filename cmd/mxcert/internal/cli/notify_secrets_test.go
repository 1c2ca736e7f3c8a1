package cli

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mxcert/cmd/mxcert-lab/lab"
)

// The secrets of the channels.
const (
	chatSecret  = "canary-of-the-chat-7f3a"
	keySecret   = "canary-of-the-key-91bc"
	userSecret  = "canary-of-the-login-02de"
	pingSecret  = "canary-of-the-switch-55aa"
	relaySecret = "canary-of-the-relay-c0de"
)

// gossip is an HTTP server that refuses each request, and repeats its URL wherever it can.
func gossip(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		w.Header().Set("X-Request", r.URL.String())
		w.Header().Set("Location", r.URL.String())
		w.WriteHeader(map[bool]int{true: http.StatusFound, false: http.StatusForbidden}[strings.Contains(r.URL.Path, "redirect")])
		_, _ = fmt.Fprintf(w, "%s %s %s %s", r.URL, user, password, r.URL.Query().Get("key"))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// gossipingRelay is a relay on this host that repeats what it gets.
func gossipingRelay(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.WriteString(conn, "220 relay.example ESMTP\r\n")
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					answer := "250-relay.example\r\n250 AUTH PLAIN LOGIN\r\n"
					if login, found := strings.CutPrefix(lines.Text(), "AUTH PLAIN "); found {
						text, _ := base64.StdEncoding.DecodeString(login)
						answer = fmt.Sprintf("535 5.7.8 not %s, that is %q\r\n", login, text)
					}
					_, _ = io.WriteString(conn, answer)
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// No secret of a channel is in what mxcert prints or logs, in its state, on its page, in its metrics or in what other channels get: not if the
// other side repeats it, and not if there are mistakes around it in the configuration.
func TestSecretsOfChannelsAreKept(t *testing.T) {
	t.Parallel()
	bad, desk, relay := gossip(t), newDesk(t), gossipingRelay(t)
	c := &confidant{host: newHost(t, lab.Options{}, lab.ConfigOptions{})}
	host := strings.TrimPrefix(bad, "http://")
	written := strings.NewReplacer("HOST", host, "CHAT", chatSecret, "KEY", keySecret, "LOGIN", userSecret, "PING", pingSecret)
	chat := written.Replace("http://bot:LOGIN@HOST/hooks/CHAT?key=KEY")
	c.check(os.WriteFile(c.Path("credentials", "chat"), []byte(chat+"\n"), 0o600))
	c.check(os.WriteFile(c.Path("got"), nil, 0o600))
	c.check(os.WriteFile(c.Path("page"), fmt.Appendf(nil, "#!/bin/sh\nenv >>%[1]s/got; cat >>%[1]s/got; exit 1\n", c.Directory), 0o700))
	text, err := os.ReadFile(c.config)
	c.check(err)
	section := desk.config() + written.Replace(fmt.Sprintf(`  - {name: stored, webhook: {url: "file:%[1]s"}}
  - {name: literal, webhook: {url: "http://bot:LOGIN@HOST/hooks/CHAT?key=KEY"}}
  - {name: moved, webhook: {url: "http://bot:LOGIN@HOST/redirect/CHAT?key=KEY"}}
  - {name: refused, webhook: {url: "http://bot:LOGIN@127.0.0.1:1/hooks/CHAT?key=KEY"}}
  - {name: template, webhook: {url: "http://HOST/hooks/CHAT", body: %[2]s}}
  - {name: switch, ping: "http://HOST/PING"}
  - {name: variable, ping: "env:THE_URL"}
  - {name: page, exec: %[2]s}
  - {name: relay, mail: {to: ops@elsewhere.example, via: {smtp: "%[3]s", user: mxcert, password: "%[4]s"}}}
report: {html: %[5]q}
metrics: {textfile: %[6]q}
`, c.Path("credentials", "chat"), c.Path("page"), relay, relaySecret, c.Path("page.html"), c.Path("mxcert.prom")))
	good := string(text) + section
	c.write(good)
	c.environment = []string{"THE_URL=" + written.Replace("http://HOST/PING")}
	all := []string{"check", "check --json", "config show", "config show --json", "notify test", "notify test --json", "doctor --online", "doctor --online --json",
		"status", "status --json", "history --json", "report --html -", "report --ics -"}
	for _, command := range append([]string{"renew --now"}, all...) {
		c.run(strings.Fields(command)...)
	}
	if said := c.said.String(); strings.Count(said, "[secret]") < 8 || !strings.Contains(said, "535 5.7.8 not [secret]") {
		t.Fatalf("the servers did not repeat the secrets: the test proves nothing\n%s", said)
	}
	d := c.daemon()
	d.awaitLog("sleeps")
	c.check(c.World.AddKey(lab.KeyName, "hmac-sha256.", "b3RoZXI="))
	c.run("renew", "--now")
	c.run("renew", "--now")
	eventually(t, "an alarm, which no other channel could send", func() bool {
		return len(desk.events()) > 0 && strings.Count(d.log.String(), "a channel cannot deliver") >= 5
	})
	for _, command := range all {
		c.run(strings.Fields(command)...)
	}
	for _, mistake := range [][2]string{
		{"url: \"http://bot", "ulr: \"http://bot"}, {"webhook: {url: \"http://bot", "webhook: {url: [\"http://bot"}, {"webhook: {url: \"http://bot", "webhook: {url: \"ftp://bot"},
		{"ping: \"http", "ping: \"htp"}, {"ping: \"http", "pign: \"http"}, {"ping: \"http", "ping: {url: \"http"}, {"password: \"", "pasword: \""}, {"password: \"", "password: [\""},
		{"webhook: {url: \"http://bot", "webhook: {body: \"http://bot"}, {"http://bot:", "http:// bot:"}, {"?key=", "\\x?key="},
	} {
		if !strings.Contains(good, mistake[0]) {
			t.Fatalf("no %q in the configuration", mistake[0])
		}
		c.write(strings.Replace(good, mistake[0], mistake[1], 1))
		for _, command := range []string{"check", "check --json", "notify test"} {
			c.run(strings.Fields(command)...)
		}
	}
	c.write(good)
	d.stop()
	c.said.WriteString(d.log.String())
	c.check(filepath.WalkDir(c.Directory, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || path == c.config || path == c.Path("credentials", "chat") {
			return err
		}
		text, err := os.ReadFile(path)
		fmt.Fprintf(&c.said, "\n%s:\n%s", path, text)
		return err
	}))
	desk.mu.Lock()
	fmt.Fprintf(&c.said, "%+v", desk.messages)
	desk.mu.Unlock()
	for _, part := range []string{"alarms.json", "mxcert.prom", "page.html", "MXCERT_EVENT"} {
		if !strings.Contains(c.said.String(), part) {
			t.Errorf("%s was not looked at", part)
		}
	}
	for _, secret := range []string{chatSecret, keySecret, userSecret, pingSecret, relaySecret} {
		for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte("bot:" + secret)), base64.StdEncoding.EncodeToString([]byte("\x00mxcert\x00" + secret))} {
			for rest := c.said.String(); ; {
				at := strings.Index(rest, form)
				if at < 0 {
					break
				}
				t.Errorf("a secret was told: %s", rest[max(0, at-300):at+len(form)])
				rest = rest[min(len(rest), at+2000):]
			}
		}
	}
}
