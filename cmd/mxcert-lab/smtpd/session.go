package smtpd

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"
)

const (
	idleTimeout = 5 * time.Minute // RFC 5321 section 4.5.3.2.7
	maxLine     = 4096
	keptNumber  = 10_000 // sessions, to bound the memory of a lab that runs for days
)

// Session is what happened on one connection.
type Session struct {
	Time       time.Time
	Client     string   // address:port
	Commands   []string // lines that the client sent, without CRLF
	TLS        bool     // a handshake was completed
	ServerName string   // SNI, "" when none was sent
	Version    uint16   // of TLS
	Ended      bool
}

// Sessions are the latest sessions (up to 10,000), oldest first.
func (s *Server) Sessions() []Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	sessions := make([]Session, len(s.sessions))
	for i, session := range s.sessions {
		sessions[i] = *session
		sessions[i].Commands = slices.Clone(session.Commands)
	}
	return sessions
}

// Count returns how many connections there have been.
func (s *Server) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// errEnd ends a session.
var errEnd = errors.New("the session is over")

// conversation is a session in progress.
type conversation struct {
	server  *Server
	faults  Faults
	conn    net.Conn
	reader  *bufio.Reader
	session *Session
	inTLS   bool
}

func (s *Server) serve(conn net.Conn) {
	c := &conversation{server: s, faults: *s.faults.Load(), conn: conn, reader: bufio.NewReaderSize(conn, maxLine)}
	c.session = s.record(conn)
	defer c.note(func(session *Session) { session.Ended = true })
	if c.greet() != nil {
		return
	}
	for {
		line, err := c.readLine()
		if err != nil || c.command(line) != nil {
			return
		}
	}
}

func (s *Server) record(conn net.Conn) *Session {
	session := &Session{Time: time.Now(), Client: conn.RemoteAddr().String()}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	if len(s.sessions) == keptNumber {
		s.sessions = slices.Delete(s.sessions, 0, keptNumber/2)
	}
	s.sessions = append(s.sessions, session)
	return session
}

func (c *conversation) note(change func(*Session)) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	change(c.session)
}

func (c *conversation) greet() error {
	if c.faults.GreetingDelay > 0 {
		select {
		case <-time.After(c.faults.GreetingDelay):
		case <-c.server.closed:
			return errEnd
		}
	}
	return c.reply(Greeting, "220 "+c.server.opts.Hostname+" ESMTP mxcert-lab\r\n")
}

// readLine reads a command. A line that is too long ends the session.
func (c *conversation) readLine() (string, error) {
	if err := c.conn.SetDeadline(time.Now().Add(idleTimeout)); err != nil {
		return "", err
	}
	raw, err := c.reader.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	line := strings.TrimRight(string(raw), "\r\n")
	c.note(func(session *Session) { session.Commands = append(session.Commands, line) })
	return line, nil
}

func (c *conversation) command(line string) error {
	verb, _, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO":
		step := EHLO
		if c.inTLS {
			step = EHLOInTLS
		}
		return c.reply(step, c.extensions())
	case "HELO":
		return c.send("250 " + c.server.opts.Hostname + "\r\n")
	case "STARTTLS":
		return c.startTLS()
	case "NOOP", "RSET":
		return c.send("250 OK\r\n")
	case "QUIT":
		if err := c.reply(QUIT, "221 "+c.server.opts.Hostname+" closing connection\r\n"); err != nil {
			return err
		}
		_ = c.conn.Close() // in TLS this says so to the client (RFC 8446 section 6.1)
		return errEnd
	case "MAIL":
		return c.send("550 5.7.1 This server rehearses certificates and takes no mail\r\n")
	}
	return c.send("500 5.5.1 Command unrecognized\r\n")
}

func (c *conversation) extensions() string {
	lines := []string{c.server.opts.Hostname + " Hello", "SIZE 52428800", "8BITMIME", "PIPELINING"}
	if !c.faults.NoStartTLS && (!c.inTLS || c.faults.OfferAgain) {
		lines = append(lines, "STARTTLS")
	}
	if c.inTLS {
		lines = append(lines, "REQUIRETLS")
	}
	lines = append(lines, "HELP")
	var text strings.Builder
	for i, line := range lines {
		separator := "-"
		if i == len(lines)-1 {
			separator = " "
		}
		fmt.Fprintf(&text, "250%s%s\r\n", separator, line)
	}
	return text.String()
}

func (c *conversation) startTLS() error {
	if c.inTLS {
		return c.send("503 5.5.1 TLS is active already\r\n")
	}
	if c.faults.NoStartTLS {
		return c.send("502 5.5.1 Command not implemented\r\n")
	}
	if _, scripted := c.faults.Replies[STARTTLS]; scripted {
		return c.reply(STARTTLS, "")
	}
	loaded := c.server.credentials()
	if loaded.err != nil {
		return c.reply(STARTTLS, "454 TLS currently unavailable\r\n")
	}
	if err := c.reply(STARTTLS, "220 TLS go ahead\r\n"+c.faults.Inject); err != nil {
		return err
	}
	if err := c.stumble(Handshake); err != nil {
		return err
	}
	return c.handshake(loaded.certificates)
}

func (c *conversation) handshake(certificates []tls.Certificate) error {
	if c.reader.Buffered() > 0 {
		return errEnd // commands before the handshake are an attack (RFC 3207 section 4.2, CVE-2011-0411)
	}
	conn := tls.Server(c.conn, &tls.Config{Certificates: certificates, MinVersion: tls.VersionTLS12})
	ctx, stop := context.WithTimeout(context.Background(), idleTimeout)
	defer stop()
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	c.conn, c.reader, c.inTLS = conn, bufio.NewReaderSize(conn, maxLine), true
	state := conn.ConnectionState()
	c.note(func(session *Session) {
		session.TLS, session.ServerName, session.Version = true, state.ServerName, state.Version
	})
	return nil
}

// reply sends the text of a step, or what the faults want instead.
func (c *conversation) reply(step Step, text string) error {
	if err := c.stumble(step); err != nil {
		return err
	}
	if scripted, ok := c.faults.Replies[step]; ok {
		text = scripted
	}
	return c.send(text)
}

// stumble ends or stalls the session if the faults say so.
func (c *conversation) stumble(step Step) error {
	switch step {
	case c.faults.DropAt:
		return errEnd
	case c.faults.HangAt:
		_ = c.conn.SetDeadline(time.Time{})
		_, _ = io.Copy(io.Discard, c.conn) // until the client gives up or the server is closed
		return errEnd
	}
	return nil
}

func (c *conversation) send(text string) error {
	_, err := io.WriteString(c.conn, text)
	return err
}
