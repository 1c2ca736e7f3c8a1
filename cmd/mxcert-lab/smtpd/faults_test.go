package smtpd_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/smtpd"
)

func startWell(t *testing.T) *smtpd.Server {
	t.Helper()
	pair := smtpd.Pair{Certificate: filepath.Join(t.TempDir(), "mx.pem")}
	one := make509(t, 1, ecKey(t))
	write(t, pair.Certificate, one.certificate, one.key)
	return start(t, smtpd.Options{Pairs: []smtpd.Pair{pair}})
}

func TestGreetingFaults(t *testing.T) {
	s := startWell(t)
	s.SetFaults(smtpd.Faults{
		GreetingDelay: 50 * time.Millisecond,
		Replies:       map[smtpd.Step]string{smtpd.Greeting: "220-first\r\n220 second\r\n"},
	})
	begin := time.Now()
	c := dial(t, s)
	if got := c.reply(); got != "220-first\r\n220 second\r\n" {
		t.Errorf("greeting %q", got)
	}
	if took := time.Since(begin); took < 50*time.Millisecond {
		t.Errorf("the greeting came after %s", took)
	}
	if got := c.ask("EHLO x"); !strings.HasPrefix(got, "250-") {
		t.Errorf("EHLO: %q", got)
	}
}

func TestScriptedReplies(t *testing.T) {
	s := startWell(t)
	long := "250 " + strings.Repeat("x", 100_000) + "\r\n"
	s.SetFaults(smtpd.Faults{Replies: map[smtpd.Step]string{
		smtpd.EHLO: long, smtpd.STARTTLS: "454 TLS not available due to temporary reason\r\n", smtpd.QUIT: "\x00\xff\r\n",
	}})
	c := dial(t, s)
	c.reply()
	for _, test := range []struct{ command, want string }{
		{"EHLO x", long},
		{"STARTTLS", "454 TLS not available due to temporary reason\r\n"},
		{"NOOP", "250 OK\r\n"}, // it goes on in plain text
		{"QUIT", "\x00\xff\r\n"},
	} {
		if got := c.ask(test.command); got != test.want {
			t.Errorf("%s: %d bytes, want %d", test.command, len(got), len(test.want))
		}
	}
}

func TestNoStartTLS(t *testing.T) {
	s := startWell(t)
	s.SetFaults(smtpd.Faults{NoStartTLS: true})
	c := dial(t, s)
	c.reply()
	if offer := c.ask("EHLO x"); strings.Contains(offer, "STARTTLS") {
		t.Errorf("offered in %q", offer)
	}
	if reply := c.ask("STARTTLS"); !strings.HasPrefix(reply, "502 ") {
		t.Errorf("STARTTLS: %q", reply)
	}
}

func TestOfferedAgain(t *testing.T) {
	s := startWell(t)
	s.SetFaults(smtpd.Faults{OfferAgain: true})
	c := dial(t, s)
	c.toTLS()
	c.handshake(&tls.Config{})
	if offer := c.ask("EHLO x"); !strings.Contains(offer, "STARTTLS\r\n") {
		t.Errorf("not offered in %q", offer)
	}
}

// TestInjection sees the injected text with the 220, before any TLS, and still gets a handshake when it skips the text.
func TestInjection(t *testing.T) {
	s := startWell(t)
	s.SetFaults(smtpd.Faults{Inject: "250 injected\r\n"})
	c := dial(t, s)
	if got := c.toTLS(); !strings.HasPrefix(got, "220 ") {
		t.Fatal(got)
	}
	if got := c.reply(); got != "250 injected\r\n" {
		t.Errorf("after the 220 came %q", got)
	}
	c.handshake(&tls.Config{})
}

// TestPlainTextBeforeHandshake sends a command behind STARTTLS, which a server must not take over into TLS.
func TestPlainTextBeforeHandshake(t *testing.T) {
	s := startWell(t)
	c := dial(t, s)
	c.reply()
	c.say("STARTTLS\r\nNOOP")
	if got := c.reply(); !strings.HasPrefix(got, "220 ") {
		t.Fatal(got)
	}
	if _, err := c.in.ReadByte(); err == nil || isTimeout(err) {
		t.Errorf("after the 220: %v, want the connection closed", err)
	}
}

// steps walks through a whole session, impatient at one step, and tells where it ended.
func steps(t *testing.T, s *smtpd.Server, impatient smtpd.Step) (smtpd.Step, error) {
	t.Helper()
	c := dial(t, s)
	attempt := func(line string) error {
		if line != "" {
			if _, err := io.WriteString(c.conn, line+"\r\n"); err != nil {
				return err
			}
		}
		for {
			reply, err := c.in.ReadString('\n')
			if err != nil || len(reply) < 4 || reply[3] == ' ' {
				return err
			}
		}
	}
	for _, step := range []struct {
		step smtpd.Step
		line string
	}{{smtpd.Greeting, ""}, {smtpd.EHLO, "EHLO x"}, {smtpd.STARTTLS, "STARTTLS"}, {smtpd.Handshake, ""}, {smtpd.EHLOInTLS, "EHLO x"}, {smtpd.QUIT, "QUIT"}} {
		patience := time.Minute
		if step.step == impatient {
			patience = 100 * time.Millisecond
		}
		if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return step.step, err
		}
		if step.step == smtpd.Handshake {
			conn := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true, ServerName: "mx.example.org"})
			if err := conn.HandshakeContext(t.Context()); err != nil {
				return step.step, err
			}
			c.conn = conn
			c.in.Reset(conn)
			continue
		}
		if err := attempt(step.line); err != nil {
			return step.step, err
		}
	}
	return "", nil
}

func TestDropAndHangAtEveryStep(t *testing.T) {
	s := startWell(t)
	if step, err := steps(t, s, ""); step != "" {
		t.Fatalf("a good session ends at %s: %v", step, err)
	}
	for _, step := range []smtpd.Step{smtpd.Greeting, smtpd.EHLO, smtpd.STARTTLS, smtpd.Handshake, smtpd.EHLOInTLS, smtpd.QUIT} {
		s.SetFaults(smtpd.Faults{DropAt: step})
		got, err := steps(t, s, "")
		if got != step || isTimeout(err) {
			t.Errorf("dropped at %s: the client sees %v at %s", step, err, got)
		}
		s.SetFaults(smtpd.Faults{HangAt: step})
		got, err = steps(t, s, step)
		if got != step || !isTimeout(err) {
			t.Errorf("hanging at %s: the client sees %v at %s", step, err, got)
		}
	}
}

func isTimeout(err error) bool {
	var netError net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || (errors.As(err, &netError) && netError.Timeout())
}

// TestCloseEndsSessions closes a server in the middle of a session that hangs and of one that waits for its greeting.
func TestCloseEndsSessions(t *testing.T) {
	for _, faults := range []smtpd.Faults{{HangAt: smtpd.EHLO}, {GreetingDelay: time.Hour}} {
		s, err := smtpd.Start(smtpd.Options{})
		if err != nil {
			t.Fatal(err)
		}
		s.SetFaults(faults)
		c := dial(t, s)
		if faults.HangAt != "" {
			c.reply()
			c.say("EHLO x")
		}
		for deadline := time.Now().Add(time.Minute); s.Count() == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the connection is never accepted")
			}
		}
		begin := time.Now()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took > 30*time.Second {
			t.Errorf("closing took %s", took)
		}
		if _, err := c.in.ReadByte(); err == nil {
			t.Error("the session goes on")
		}
	}
}
