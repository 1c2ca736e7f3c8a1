package mailhost

import (
	"bufio"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// A dialect is what a port speaks.
type dialect struct {
	protocol string // as openssl names it: smtp, imap
	implicit bool   // TLS from the first byte
}

// dialectOf tells a dialect by the port.
func dialectOf(address string) dialect {
	_, port, _ := net.SplitHostPort(address)
	switch port {
	case "993":
		return dialect{"imap", true}
	case "143":
		return dialect{"imap", false}
	case "465":
		return dialect{"smtp", true}
	}
	return dialect{"smtp", false}
}

// A step is a command and how the reply to it begins.
type step struct{ command, reply string }

// steps are what a session says.
type steps struct {
	plain []step // before TLS, from the greeting on
	start []step // STARTTLS
	again []step // as soon as TLS is there
	look  []step // a sign of life
	quit  []step
}

func (d dialect) steps() (s steps) {
	greeting := step{"", "220"}
	if d.protocol == "imap" {
		greeting = step{"", "* OK"}
		s.plain, s.start = []step{greeting}, []step{{"a STARTTLS\r\n", "a OK"}}
		s.again, s.look, s.quit = []step{{"b CAPABILITY\r\n", "b OK"}}, []step{{"c NOOP\r\n", "c OK"}}, []step{logout()}
	} else {
		hello := step{"EHLO load.example.org\r\n", "250"}
		s.plain, s.start = []step{greeting, hello}, []step{{"STARTTLS\r\n", "220"}}
		s.again, s.look, s.quit = []step{hello}, []step{{"NOOP\r\n", "250"}}, []step{{"QUIT\r\n", "221"}}
	}
	if d.implicit {
		s.plain, s.start, s.again = nil, nil, append([]step{greeting}, s.again...)
	}
	return s
}

// A conn is one session, plain or secure.
type conn struct {
	net.Conn
	read *bufio.Reader
	steps
	serial  string    // of the leaf, once the handshake is done
	secured time.Time // when it was done
}

// sessionPatience bounds one session.
const sessionPatience = 20 * time.Second

// dial connects and says all that comes before STARTTLS. Of a port with TLS from the first byte, that is nothing.
func dial(address string) (*conn, error) {
	tcp, err := net.DialTimeout("tcp", address, sessionPatience/2)
	if err != nil {
		return nil, err
	}
	tcp.SetDeadline(time.Now().Add(sessionPatience))
	c := &conn{Conn: tcp, read: bufio.NewReader(tcp), steps: dialectOf(address).steps()}
	if err := c.say(c.plain); err != nil {
		tcp.Close()
		return nil, err
	}
	return c, nil
}

// secure starts TLS. Only the possession of the key is checked, not the chain.
func (c *conn) secure() error {
	if err := c.say(c.start); err != nil {
		return err
	}
	client := tls.Client(c.Conn, &tls.Config{ServerName: "mx.example.org", InsecureSkipVerify: true})
	if err := client.Handshake(); err != nil {
		return handshakeError{err}
	}
	c.serial = hex.EncodeToString(client.ConnectionState().PeerCertificates[0].SerialNumber.Bytes())
	c.Conn, c.read, c.secured = client, bufio.NewReader(client), time.Now()
	return c.say(c.again)
}

// say has a conversation.
func (c *conn) say(list []step) error {
	for _, s := range list {
		if err := exchange(c.Conn, c.read, s); err != nil {
			return err
		}
	}
	return nil
}

// exchange sends a command and reads its reply, of one line or several.
func exchange(w io.Writer, r *bufio.Reader, s step) error {
	if _, err := io.WriteString(w, s.command); err != nil {
		return err
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		bye := strings.HasPrefix(line, "* BYE") && s != logout()
		untagged := strings.HasPrefix(line, "* ") && s.command != "" && !bye
		switch {
		case untagged, strings.HasPrefix(line, s.reply+"-"):
		case strings.HasPrefix(line, s.reply):
			return nil
		default:
			return replyError{s.reply, strings.TrimSpace(line)}
		}
	}
}

// logout is the command of IMAP after which the server may say BYE.
func logout() step { return step{"d LOGOUT\r\n", "d OK"} }

// A replyError is a reply that is not the one hoped for.
type replyError struct{ wanted, got string }

func (e replyError) Error() string { return fmt.Sprintf("wanted %s, got %q", e.wanted, e.got) }

// A handshakeError is a failure after the server's go-ahead.
type handshakeError struct{ error }

func (e handshakeError) Unwrap() error { return e.error }
