package notify

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/http/httptest"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// read parses a mail, and returns its decoded text.
func read(t *testing.T, text string) (*mail.Message, string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if len(line) > 200 || strings.ContainsFunc(line, func(r rune) bool { return r > '~' }) {
			t.Errorf("a line that not every server takes: %q", line)
		}
	}
	return m, string(body)
}

func composed(t *testing.T, m Message) (*mail.Message, string) {
	t.Helper()
	text, _, err := (&mailer{name: "desk", Mail: Mail{To: []string{"ops@elsewhere.example", "boss@elsewhere.example"}}}).compose(m.Clean())
	if err != nil {
		t.Fatal(err)
	}
	return read(t, string(text))
}

// TestMail: headers, UTF-8, long lines, and foreign text that tries to become a header.
func TestMail(t *testing.T) {
	t.Parallel()
	m := alarm()
	m.Text = "ünïcode\n.\nFrom here\n" + strings.Repeat("long ", 1000) + "\x1b[31m\u202e\x00\r\n\r\nBcc: all@elsewhere.example\n"
	m.Matters[0].ID, m.Host = "x>\r\nBcc: all@elsewhere.example", "mx\r\nBcc: all@elsewhere.example"
	got, body := composed(t, m)
	subject, _ := new(mime.WordDecoder).DecodeHeader(got.Header.Get("Subject"))
	if subject != `mx.example.org: "bücher" <b> Bcc: all@elsewhere.example` {
		t.Errorf("%q", subject)
	}
	for name, want := range map[string]string{
		"To": "<ops@elsewhere.example>, <boss@elsewhere.example>", "From": `"mxcert" <mxcert@mxBccallelsewhere.example>`, "Bcc": "", "Auto-Submitted": "auto-generated", "Precedence": "bulk",
		"Date": "Mon, 04 May 2026 03:02:01 +0000", "Content-Type": "text/plain; charset=UTF-8", "Content-Transfer-Encoding": "quoted-printable", "In-Reply-To": "", "References": "", "Mime-Version": "1.0",
	} {
		if got.Header.Get(name) != want || len(got.Header[name]) > 1 {
			t.Errorf("%s: %q, not %q", name, got.Header[name], want)
		}
	}
	if !strings.HasPrefix(body, "ünïcode\r\n.\r\nFrom here\r\nlong long") || strings.ContainsAny(body, "\x1b\x00\u202e") || !strings.HasSuffix(body, "\r\n\r\nBcc: all@elsewhere.example\r\n") {
		t.Errorf("%.100q … %q", body, body[len(body)-100:])
	}
}

// TestThread: an alarm, its reminders and its end belong together for a mail program; the same message sent twice is the same.
func TestThread(t *testing.T) {
	t.Parallel()
	a, b := sample().Matters[0], sample().Matters[0]
	b.ID = "tlsa"
	message := func(event Event, at time.Time, matters ...Matter) Message {
		return Message{Host: "mx.example.org", Event: event, Subject: string(event), At: at, Matters: matters}
	}
	now := time.Date(2026, 5, 5, 0, 0, 0, 0, time.UTC)
	first, _ := composed(t, message(Alarm, now, a, b))
	again, _ := composed(t, message(Alarm, now.Add(time.Hour), a, b))
	id := first.Header.Get("Message-Id")
	if id == "" || again.Header.Get("Message-Id") != id {
		t.Errorf("%q, then %q", id, again.Header.Get("Message-Id"))
	}
	seen := map[string]bool{id: true}
	for _, m := range []Message{message(Reminder, now, a, b), message(Reminder, now.Add(24*time.Hour), a, b), message(Recovered, now, a, b), message(Recovered, now, a)} {
		got, _ := composed(t, m)
		if own := got.Header.Get("Message-Id"); seen[own] {
			t.Errorf("two messages are %s", own)
		} else {
			seen[own] = true
		}
		if got.Header.Get("In-Reply-To") != id || !strings.HasSuffix(got.Header.Get("References"), id) {
			t.Errorf("%s: %q, %q", m.Event, got.Header.Get("In-Reply-To"), got.Header.Get("References"))
		}
	}
	alone, _ := composed(t, message(Recovered, now, b)) // the end of the second matter: its ID is among those of the alarm
	if parent := alone.Header.Get("In-Reply-To"); parent == id || !strings.Contains(first.Header.Get("References"), parent) {
		t.Errorf("%q is not in %q", parent, first.Header.Get("References"))
	}
	later := a
	later.Since = later.Since.Add(time.Hour)
	if other, _ := composed(t, message(Alarm, now, later)); other.Header.Get("Message-Id") == id {
		t.Error("another time, another thread")
	}
}

// relay is a mail server with one account. It answers each command as script says, or well.
type relay struct {
	t      *testing.T
	tls    *tls.Config
	script map[string]string // the beginning of a command → an answer; "hang" and "close" are no answers
	offer  string            // of AUTH
	noTLS  bool

	from string
	to   []string
	text string
	user string
}

// start listens, and returns the address.
func (r *relay) start(implicit bool) string {
	r.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = listener.Close() })
	done := make(chan struct{})
	r.t.Cleanup(func() { _ = listener.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if implicit {
				conn = tls.Server(conn, r.tls)
			}
			r.serve(conn)
			_ = conn.Close()
		}
	}()
	return listener.Addr().String()
}

func (r *relay) serve(conn net.Conn) {
	secure := false
	in := bufio.NewReader(conn)
	say := func(text string) { _, _ = io.WriteString(conn, text+"\r\n") }
	line := func() string { text, _ := in.ReadString('\n'); return strings.TrimRight(text, "\r\n") }
	if answer, ok := r.script["GREETING"]; ok {
		if answer == "flood" {
			flood(conn)
			return
		}
		say(answer)
		return
	}
	say("220 relay.example ESMTP")
	for {
		command := line()
		if command == "" {
			return
		}
		verb := strings.ToUpper(command)
		answered := false
		for prefix, answer := range r.script {
			if strings.HasPrefix(verb, prefix) {
				if answered = true; answer == "hang" {
					_, _ = in.ReadByte()
					return
				} else if answer == "close" {
					return
				}
				say(answer)
			}
		}
		switch {
		case answered:
		case strings.HasPrefix(verb, "EHLO"):
			_, isTLS := conn.(*tls.Conn)
			text := "250-relay.example\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"
			if !isTLS && !r.noTLS {
				text += "250-STARTTLS\r\n"
			}
			if secure = isTLS; r.offer != "" && isTLS { // as smtpd_tls_auth_only of Postfix
				text += "250-AUTH " + r.offer + "\r\n"
			}
			say(text + "250 SIZE 1000000")
		case verb == "STARTTLS":
			say("220 go")
			conn = tls.Server(conn, r.tls)
			in = bufio.NewReader(conn)
		case strings.HasPrefix(verb, "AUTH PLAIN "):
			text, _ := base64.StdEncoding.DecodeString(command[len("AUTH PLAIN "):])
			if !secure || string(text) != "\x00mxcert\x00"+token {
				say("535 5.7.8 Error: authentication failed for " + string(text[1:]))
				continue
			}
			r.user = "mxcert"
			say("235 2.7.0 ok")
		case strings.HasPrefix(verb, "MAIL"):
			r.from = command
			say("250 ok")
		case strings.HasPrefix(verb, "RCPT"):
			r.to = append(r.to, command)
			say("250 ok")
		case verb == "DATA":
			say("354 go")
			for text := line(); text != "."; text = line() {
				r.text += strings.TrimPrefix(text, ".") + "\r\n"
			}
			say("250 queued")
		case verb == "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

// newRelay returns a relay with a certificate for 127.0.0.1, and the root to trust.
func newRelay(t *testing.T) (*relay, *x509.CertPool) {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return &relay{t: t, tls: &tls.Config{Certificates: s.TLS.Certificates}, script: map[string]string{}}, pool //nolint:gosec // of a test
}

// TestRelay sends through a relay on this host.
func TestRelay(t *testing.T) {
	t.Parallel()
	r, _ := newRelay(t)
	r.offer = "PLAIN LOGIN"
	c := NewMail("desk", Mail{To: []string{"ops@elsewhere.example", "boss@elsewhere.example"}, From: "mxcert@mx.example.org", Relay: &Relay{Address: r.start(false)}})
	if err := c.Send(t.Context(), alarm()); err != nil {
		t.Fatal(err)
	}
	got, _ := read(t, r.text)
	if r.from != "MAIL FROM:<mxcert@mx.example.org> BODY=8BITMIME" || len(r.to) != 2 || got.Header.Get("Auto-Submitted") != "auto-generated" || r.user != "" {
		t.Errorf("%q %q %q", r.from, r.to, r.text)
	}
	if err := c.(Prober).Probe(t.Context(), true); err != nil {
		t.Error(err)
	}
}

// TestRelayFails: what a relay refuses is told with its words, without the password; what can be tried again says so.
func TestRelayFails(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		script    map[string]string
		says      string
		temporary bool
	}{
		"sender":         {map[string]string{"MAIL": "553 5.7.1 not yours"}, `does not take mail from mxcert@mx.example.org: "553 5.7.1 not yours"`, false},
		"all recipients": {map[string]string{"RCPT": "550 5.1.1 nobody"}, `does not take mail for ops@elsewhere.example: "550`, false},
		"one recipient":  {map[string]string{"RCPT TO:<BOSS": "550 5.1.1 nobody"}, "for boss@elsewhere.example: \"550 5.1.1 nobody\"; it has taken it for 1 of 2", false},
		"one, later":     {map[string]string{"RCPT TO:<BOSS": "450 4.2.0 greylisted"}, "it has taken it for 1 of 2", false},
		"greylisted":     {map[string]string{"RCPT": "450 4.2.0 greylisted"}, "greylisted", true},
		"data":           {map[string]string{"DATA": "554 no"}, "554 no", false},
		"full":           {map[string]string{"MAIL": "452 4.3.1 full\x1b[31m"}, "452 4.3.1 full", true},
		"not now":        {map[string]string{"GREETING": "421 4.3.2 too busy"}, "421", true},
		"not SMTP":       {map[string]string{"GREETING": "SSH-2.0-OpenSSH_9.2p1"}, "does not answer", true},
		"flood":          {map[string]string{"GREETING": "flood"}, "more than a relay has to say", true},
		"closes":         {map[string]string{"MAIL": "close"}, "closed the connection", true},
		"closes at once": {map[string]string{"EHLO": "close", "HELO": "close"}, "closed the connection", true},
		"wrong password": {map[string]string{"AUTH": "535 5.7.8 no: " + token + ", " + base64.StdEncoding.EncodeToString([]byte("\x00mxcert\x00"+token))}, "does not accept the login of mxcert", false},
		"login, later":   {map[string]string{"AUTH": "454 4.7.0 later"}, "does not accept the login of mxcert", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _ := newRelay(t)
			r.script, r.offer = tt.script, "PLAIN"
			relay := &Relay{Address: r.start(false)}
			if strings.Contains(tt.says, "login") {
				relay.User, relay.Password = "mxcert", fixed(token)
			}
			err := NewMail("desk", Mail{To: []string{"ops@elsewhere.example", "boss@elsewhere.example"}, From: "mxcert@mx.example.org", Relay: relay}).Send(t.Context(), alarm())
			e, ok := errors.AsType[*Error](err)
			if !ok || !strings.Contains(e.Error(), tt.says) || e.Temporary() != tt.temporary || e.Partly() != strings.HasPrefix(name, "one") || e.Hint() == "" || strings.Contains(e.Error(), token) || strings.Contains(e.Error(), base64.StdEncoding.EncodeToString([]byte(token))[:12]) || strings.Contains(e.Error(), "AG14Y2Vyd") || strings.ContainsAny(e.Error(), "\n\x1b") {
				t.Errorf("%#v", err)
			}
		})
	}
}

// TestRelayHangs: the end of the context ends a conversation.
func TestRelayHangs(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			cancel()
			_, _ = bufio.NewReader(conn).ReadByte() // until the other side closes
		}
	}()
	err = NewMail("desk", Mail{To: []string{"ops@elsewhere.example"}, Relay: &Relay{Address: listener.Addr().String()}}).Send(ctx, alarm())
	if e, ok := errors.AsType[*Error](err); !ok || !e.Temporary() {
		t.Error(err)
	}
}

// TestRelayAbroad: a relay that is not on this host gets mail only over a connection that is encrypted and checked. The address in the
// 127.0.0.0/8 network stands for one elsewhere: open is called with the rules for it.
func TestRelayAbroad(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		trusted, noTLS, local bool
		says                  string
	}{
		"checked":     {trusted: true},
		"not trusted": {says: "the certificate of the relay"},
		"no STARTTLS": {trusted: true, noTLS: true, says: "does not offer STARTTLS"},
		"this host":   {local: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, pool := newRelay(t)
			r.noTLS, r.offer = tt.noTLS, "PLAIN"
			address := r.start(false)
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			relay := &Relay{Address: address, User: "mxcert", Password: fixed(token)}
			if !tt.trusted {
				pool = x509.NewCertPool()
			}
			c := &conversation{relay: relay, secret: token, roots: pool}
			defer conn.Close()
			err = c.begin(conn, "127.0.0.1", "587", tt.local)
			if tt.says == "" && (err != nil || r.user == "" && !tt.local) {
				t.Errorf("%v, user %q", err, r.user)
			}
			if e, ok := errors.AsType[*Error](err); tt.says != "" && (!ok || !strings.Contains(e.Error(), tt.says) || e.Kind() != Encryption || r.user != "") {
				t.Errorf("%v, user %q", err, r.user)
			}
		})
	}
	t.Run("from the start", func(t *testing.T) {
		t.Parallel()
		r, pool := newRelay(t)
		r.offer = "PLAIN"
		conn, err := net.Dial("tcp", r.start(true))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := &conversation{relay: &Relay{Address: "127.0.0.1:465", User: "mxcert", Password: fixed(token)}, secret: token, roots: pool}
		if err := c.begin(conn, "127.0.0.1", implicitTLS, false); err != nil {
			t.Error(err)
		}
	})
}

// executable writes an executable script, and returns its path.
func executable(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestSendmail: the program gets the mail on standard input, with the line ends of this host.
func TestSendmail(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := executable(t, fmt.Sprintf("echo \"$*\" > %[1]s/args; env > %[1]s/env; cat > %[1]s/mail\n", dir))
	c := NewMail("desk", Mail{To: []string{"ops@elsewhere.example"}, Sendmail: path})
	if err := c.Send(t.Context(), alarm()); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(filepath.Join(dir, "mail"))
	got, _ := read(t, string(text))
	args, _ := os.ReadFile(filepath.Join(dir, "args"))
	if strings.Contains(string(text), "\r") || got.Header.Get("To") != "<ops@elsewhere.example>" || string(args) != "-t -i\n" {
		t.Errorf("%q %q", args, text)
	}
	for code, temporary := range map[int]bool{1: true, 75: true} {
		err := NewMail("desk", Mail{To: []string{"ops@elsewhere.example"}, Sendmail: executable(t, fmt.Sprintf("cat >/dev/null; echo 'queue\x1b is full' >&2; exit %d\n", code))}).Send(t.Context(), alarm())
		if e, ok := errors.AsType[*Error](err); !ok || e.Temporary() != temporary || !strings.Contains(e.Error(), "it said \"queue") || strings.Contains(e.Error(), "\x1b") {
			t.Errorf("%v", err)
		}
	}
}

// TestExec: a program gets the message as JSON, and nothing of mxcert's environment.
func TestExec(t *testing.T) {
	t.Setenv("MXCERT_TEST_TOKEN", token)
	dir := t.TempDir()
	if err := NewExec("page", executable(t, fmt.Sprintf("env > %[1]s/env; cat > %[1]s/json\n", dir))).Send(t.Context(), alarm()); err != nil {
		t.Fatal(err)
	}
	env, _ := os.ReadFile(filepath.Join(dir, "env"))
	if text, _ := os.ReadFile(filepath.Join(dir, "json")); !strings.Contains(string(text), `"version":1`) || strings.Contains(string(env), token) || !strings.Contains(string(env), "MXCERT_EVENT=alarm\n") {
		t.Errorf("%s\n%s", text, env)
	}
	open := executable(t, "exit 0\n")
	if err := os.Chmod(open, 0o722); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(dir, "json")
	for path, want := range map[string]string{open: "writable by its group or by others", plain: "not executable", dir: "not a regular file", filepath.Join(dir, "no"): "does not exist", executable(t, "echo why; exit 3\n"): `exit status 3; it said "why"`} {
		c := NewExec("page", path)
		err := c.Send(t.Context(), alarm())
		if e, ok := errors.AsType[*Error](err); !ok || !strings.Contains(e.Error(), want) || e.Hint() == "" || e.Kind() != Program {
			t.Errorf("%s: %v", path, err)
		}
		if probed := c.(Prober).Probe(t.Context(), false); (probed == nil) != strings.Contains(want, "exit status") {
			t.Errorf("%s: %v", path, probed)
		}
	}
}
