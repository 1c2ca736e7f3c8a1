package starttls

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"mxcert/acme/finding"
)

// Protocol is what a port speaks before STARTTLS, or without it.
type Protocol string

const (
	// SMTP begins in clear text, on port 25 and 587 (RFC 3207). It is the default.
	SMTP Protocol = "smtp"
	// SMTPS is SMTP in TLS from the first byte, on port 465 (RFC 8314 section 7.3).
	SMTPS Protocol = "smtps"
	// IMAP begins in clear text, on port 143 (RFC 9051 section 6.2.1).
	IMAP Protocol = "imap"
	// POP3 begins in clear text, on port 110 (RFC 2595 section 4).
	POP3 Protocol = "pop3"
	// TLS is any protocol in TLS from the first byte, such as IMAP on port 993 and POP3 on port 995. Only the handshake is made.
	TLS Protocol = "tls"
)

// ProtocolOf returns what a port usually speaks. For a port without a well-known protocol it returns SMTP.
func ProtocolOf(address string) Protocol {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return SMTP
	}
	switch port {
	case "465":
		return SMTPS
	case "143":
		return IMAP
	case "110":
		return POP3
	case "993", "995":
		return TLS
	}
	return SMTP
}

// talk holds the conversation of the protocol up to the handshake. With SMTP it also sends the EHLO after the handshake.
func (s *session) talk(ctx context.Context) error {
	switch s.request.Protocol {
	case TLS:
		return s.handshake(ctx)
	case SMTPS:
		return s.talkSMTPS(ctx)
	case IMAP:
		return s.talkLines(ctx, "* OK", "mxcert STARTTLS", "mxcert OK", "mxcert ", "mxcert LOGOUT")
	case POP3:
		return s.talkLines(ctx, "+OK", "STLS", "+OK", "-ERR", "QUIT")
	}
	return s.talkSMTP(ctx)
}

func (s *session) talkSMTPS(ctx context.Context) error {
	if err := s.handshake(ctx); err != nil {
		return err
	}
	if err := s.greeting(); err != nil {
		return err
	}
	return s.ehloUnderTLS()
}

// maxUntagged limits how many lines a server may send before it answers.
const maxUntagged = 20

// talkLines is for protocols whose answers are lines. The greeting begins with hello. The answer to the command is the first line that
// begins with yes or with no. bye ends the session under TLS.
func (s *session) talkLines(ctx context.Context, hello, command, yes, no, bye string) error {
	greeting, err := s.line(StepGreeting, "", s.request.BannerTimeout)
	if err != nil {
		return err
	}
	if !hasPrefix(greeting, hello) {
		kind := kindProtocol
		if hasPrefix(greeting, "* BYE") || hasPrefix(greeting, "-ERR") {
			kind = KindRejected
		}
		return s.fail(StepGreeting, kind, "the server greets with %s", quoted(greeting))
	}
	s.result.Greeting = finding.Quote(strings.TrimSpace(greeting[len(hello):]), maxQuote)
	answer, err := s.line(StepSTARTTLS, command, s.request.StepTimeout)
	for n := 0; err == nil && !hasPrefix(answer, yes) && !hasPrefix(answer, no); n++ {
		if n == maxUntagged {
			return s.fail(StepSTARTTLS, kindProtocol, "the server does not answer, but says %s", quoted(answer))
		}
		answer, err = s.line(StepSTARTTLS, "", s.request.StepTimeout)
	}
	if err != nil {
		return err
	}
	if !hasPrefix(answer, yes) {
		return s.fail(StepSTARTTLS, KindSTARTTLSNotSupported, "the server answered %s", quoted(answer))
	}
	if err := s.nothingBuffered(); err != nil {
		return err
	}
	if err := s.handshake(ctx); err != nil {
		return err
	}
	s.polite = false
	_, _ = s.line("quit", bye, min(s.request.StepTimeout, time.Second)) // nothing depends on it
	return nil
}

// line sends a command, if it is not empty, and reads one line.
func (s *session) line(step, command string, timeout time.Duration) (string, error) {
	if err := s.conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return "", s.ioError(step, err)
	}
	if command != "" {
		if _, err := fmt.Fprintf(s.conn, "%s\r\n", command); err != nil {
			return "", s.ioError(step, err)
		}
	}
	text, err := readLine(s.in)
	if err != nil {
		return "", s.ioError(step, err)
	}
	return string(text), nil
}

func hasPrefix(text, prefix string) bool {
	return len(text) >= len(prefix) && strings.EqualFold(text[:len(prefix)], prefix)
}
