package starttls

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"mxcert/acme/finding"
)

// These are the steps of a conversation, in order, as in [Error].
const (
	StepConnect      = "connect"
	StepGreeting     = "greeting"
	StepEHLO         = "ehlo"
	StepSTARTTLS     = "starttls"
	StepTLS          = "tls"
	StepEHLOAfterTLS = "ehlo-after-tls"
)

// These are the kinds of error that a caller may test for.
const (
	KindTLSUnavailable       = "tls-unavailable"        // 454: the server offers STARTTLS but cannot do it
	KindSTARTTLSNotSupported = "starttls-not-supported" // RFC 8460: not offered, or answered with 5xx
	KindValidationFailure    = "validation-failure"     // RFC 8460: any failure of the TLS handshake that has no kind of its own
	KindTLSVersion           = "tls-version"            // no common TLS version
	KindKeyTypeNotOffered    = "key-type-not-offered"   // the server has no certificate of the asked key type
	KindInjection            = "injection"              // clear text after the reply to STARTTLS
	KindRejected             = "rejected"               // the server answered the greeting, EHLO or STARTTLS negatively; Code says how
	KindConnectionRefused    = "connection-refused"     // nothing listens
	KindConnectionLost       = "connection-lost"        // the server closed the connection
	KindTimeout              = "timeout"                // a timeout of the request or of the context
	KindNotJudged            = "not-judged"             // crypto/tls or crypto/x509 cannot speak or read what the server offers, but other senders may
)

// These are the other kinds.
const (
	kindInvalidRequest = "invalid-request"
	kindUnreachable    = "unreachable"
	kindNameNotFound   = "name-not-found"
	kindCanceled       = "canceled"
	kindProtocol       = "protocol"
)

// Error says why a handshake did not succeed. It wraps the error of the network or of the context, if there is one.
type Error struct {
	Address    string // as requested
	ServerName string // as requested
	KeyType    KeyType
	Step       string // the step that failed
	Code       int    // the server's SMTP reply code; 0 if the failure was not a reply
	Alert      uint8  // the alert with which the server refused TLS (RFC 8446 section 6.2), if it is one of 40, 70 and 71; otherwise 0
	Stripped   bool   // a device on the way has overwritten what the server offers; the kind is starttls-not-supported
	protocol   Protocol
	kind       string
	reason     string
	cause      error
}

// Error says where, at which step and why. It quotes and shortens text from the server.
func (e *Error) Error() string {
	how := "STARTTLS"
	if e.protocol == TLS || e.protocol == SMTPS {
		how = "TLS"
	}
	return fmt.Sprintf("%s on %s%s failed at step %s: %s", how, e.Address, e.asked(), e.Step, e.reason)
}

// asked names what is special about the request.
func (e *Error) asked() string {
	switch name, key := e.ServerName != "", e.KeyType.words(); {
	case name && key != "":
		return fmt.Sprintf(" (SNI %s, %s)", e.ServerName, key)
	case name:
		return fmt.Sprintf(" (SNI %s)", e.ServerName)
	case key != "":
		return fmt.Sprintf(" (%s)", key)
	}
	return ""
}

// Unwrap returns the network's or the context's error.
func (e *Error) Unwrap() error { return e.cause }

// Kind is one of
//
//   - invalid-request: the request itself cannot be sent
//   - connection-refused, unreachable, name-not-found, connection-lost: the network
//   - timeout, canceled: a timeout of the request or of the context; the context was cancelled
//   - rejected: the server answered the greeting, EHLO or STARTTLS negatively; Code says how
//   - protocol: the server does not speak SMTP
//   - starttls-not-supported, tls-unavailable: see the constants
//   - injection: clear text after the reply to STARTTLS
//   - key-type-not-offered: the server has no certificate of the asked key type
//   - tls-version: no common TLS version
//   - validation-failure, not-judged: see the constants
func (e *Error) Kind() string { return e.kind }

// Temporary reports whether the same request may succeed a little later without anybody's help. During a reload Exim refuses connections
// for some 10 ms. After GnuTLS has read a certificate and a key that do not match, it answers 454 for 5 s.
func (e *Error) Temporary() bool {
	if e.kind == KindRejected {
		return e.Code >= 400 && e.Code < 500
	}
	return slices.Contains([]string{KindConnectionRefused, KindConnectionLost, kindUnreachable, KindTimeout, kindCanceled, KindTLSUnavailable}, e.kind)
}

// Hint says what to do next, or returns "" if the error already says it.
func (e *Error) Hint() string {
	switch e.kind {
	case KindConnectionRefused:
		return fmt.Sprintf("nothing listens on %s: is the mail server running? (systemctl status exim4); if it listens elsewhere set verify.endpoints", e.Address)
	case kindUnreachable, kindNameNotFound:
		return "check the address and this host's network; IPv6 needs a route and an address of its own"
	case KindTimeout:
		return e.timeoutHint()
	case KindConnectionLost:
		return "the server hung up; its log says why (exim: /var/log/exim4/mainlog)"
	case KindRejected:
		return "the server refuses this client; its log says why (access lists, HELO checks, load, connection limits)"
	case kindProtocol:
		return fmt.Sprintf("is %s really a port that speaks %s first?", e.Address, strings.ToUpper(string(e.protocol)))
	case KindSTARTTLSNotSupported:
		if e.Stripped {
			return "switch off the inspection of SMTP in the firewall between here and the server (Cisco: no inspect esmtp, no fixup protocol smtp)"
		}
		return "switch TLS on in the mail server (exim: MAIN_TLS_ENABLE = yes and tls_advertise_hosts; postfix: smtpd_tls_security_level = may)"
	case KindTLSUnavailable:
		return "the mail server cannot load its key or certificate: check the paths, that it may read them, and that they match; its log names the file"
	case KindInjection:
		return "something between here and the server writes into the connection, or the server is broken; do not trust this path"
	case KindKeyTypeNotOffered:
		return fmt.Sprintf("configure a certificate with an %s in the mail server, or do not list that key type in keys", e.KeyType.words())
	case KindTLSVersion:
		return "allow TLS 1.2 and TLS 1.3 in the mail server; a key type can be asked for with TLS 1.2 only"
	case KindNotJudged:
		return "other senders may succeed; see what they see: " + e.command()
	case KindValidationFailure:
		return fmt.Sprintf("compare with: %s; the server's log has its side of it", e.command())
	}
	return ""
}

// command returns how OpenSSL makes the same handshake.
func (e *Error) command() string {
	command := "openssl s_client"
	if e.protocol != TLS && e.protocol != SMTPS {
		command += " -starttls " + string(e.protocol)
	}
	command += " -connect " + e.Address
	if e.ServerName != "" {
		return command + " -servername " + finding.Word(e.ServerName)
	}
	return command + " -noservername"
}

func (e *Error) timeoutHint() string {
	switch e.Step {
	case StepConnect:
		return "packets are dropped on the way: a firewall here or there; many providers block outgoing port 25"
	case StepGreeting:
		return "the server accepts connections and does not greet: it is overloaded, stopped, or delays its greeting for longer than the timeout"
	}
	return "the server accepts connections and does not answer: it is overloaded or stopped; its log may say more"
}

func (s *session) fail(step, kind, format string, a ...any) *Error {
	return &Error{Address: s.request.Address, ServerName: s.request.ServerName, KeyType: s.request.KeyType,
		Step: step, protocol: s.request.Protocol, kind: kind, reason: fmt.Sprintf(format, a...)}
}

// rejected returns the error for a reply that ends the conversation.
func (s *session) rejected(step, kind string, r reply) *Error {
	e := s.fail(step, kind, "the server answered %d %s", r.code, quoted(r.lines[0]))
	e.Code = r.code
	return e
}

// ioError turns an error of the network or of crypto/tls into an Error. It checks the context first: the end of the context closes the
// connection, and that may look like any error.
func (s *session) ioError(step string, err error) *Error {
	kind, reason := classify(err)
	switch {
	case s.ctx.Err() == context.Canceled:
		kind, reason, err = kindCanceled, "cancelled", context.Canceled
	case s.ctx.Err() != nil:
		kind, reason, err = KindTimeout, "the time for it was up", s.ctx.Err()
	case kind == "" && step == StepConnect:
		kind, reason = kindUnreachable, err.Error()
	case kind == "" && len(s.result.Chain) == 0 && step != StepTLS:
		kind, reason = KindConnectionLost, err.Error()
	case kind == "":
		kind, reason = s.classifyTLS(err)
	}
	e := s.fail(step, kind, "%s", reason)
	e.cause, e.Alert = err, remoteAlert(err)
	return e
}
