package starttls

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"mxcert/acme/finding"
)

// classify recognizes the errors that mean the same at every step. kind is "" for others.
func classify(err error) (kind, reason string) {
	var syntax *syntaxError
	var address *net.AddrError
	var name *net.DNSError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &syntax):
		return kindProtocol, syntax.Error()
	case errors.As(err, &address):
		return kindInvalidRequest, err.Error()
	case errors.As(err, &name) && name.IsNotFound:
		return kindNameNotFound, err.Error()
	case errors.Is(err, syscall.ECONNREFUSED):
		return KindConnectionRefused, "connection refused"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return KindTimeout, "no answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNRESET):
		return KindConnectionLost, "the server closed the connection"
	}
	return "", ""
}

// classifyTLS says what an error of crypto/tls means. It never blames the server for what only crypto/tls or crypto/x509 cannot do.
func (s *session) classifyTLS(err error) (kind, reason string) {
	text := finding.Quote(err.Error(), finding.MostQuoted) // x509 quotes from the certificate
	switch alert := remoteAlert(err); {
	case alert == alertProtocolVersion, strings.Contains(text, "server selected unsupported protocol version"),
		alert != 0 && (s.request.KeyType == TLS13 || s.request.KeyType == OldTLS): // GnuTLS without the version answers handshake_failure
		return KindTLSVersion, "the server accepts none of the offered TLS versions"
	case alert != 0 && (s.request.KeyType == ECDSA || s.request.KeyType == RSA):
		return KindKeyTypeNotOffered, fmt.Sprintf("the server has no certificate with an %s", s.request.KeyType.words())
	case alert != 0:
		return KindNotJudged, "the server finds nothing in what mxcert offers; it may want what Go's TLS library lacks, such as DHE, other curves or other keys"
	case beyondGo(text):
		return KindNotJudged, "Go's TLS library refuses what the server sent: " + text
	}
	return KindValidationFailure, text
}

// beyondGo reports whether the text of an error shows a limit of crypto/tls or crypto/x509. OpenSSL and GnuTLS accept negative serial
// numbers, text that is not ASCII in names, keys on other curves, Ed448, long and short RSA keys, and SHA-1, at least in some
// configurations. Everybody refuses what is no certificate at all.
func beyondGo(text string) bool {
	if strings.HasSuffix(text, "x509: malformed certificate") || strings.HasSuffix(text, "x509: malformed tbs certificate") {
		return false
	}
	return slices.ContainsFunc([]string{
		"failed to parse certificate from server",
		"containing RSA key larger than",
		"unsupported type of public key",
		"unsupported public key",
		"crypto/rsa: ", // a key below 1024 bits
		"invalid signature algorithm",
	}, func(part string) bool { return strings.Contains(text, part) })
}

// The alerts of RFC 8446 section 6.2 that have a special meaning here.
const (
	alertHandshakeFailure     = 40
	alertProtocolVersion      = 70
	alertInsufficientSecurity = 71
)

// remoteAlert returns the number of the alert that the server sent, if it is one of these, otherwise 0. crypto/tls hides the number, so
// remoteAlert reads the text.
func remoteAlert(err error) uint8 {
	var remote *net.OpError
	if !errors.As(err, &remote) || remote.Op != "remote error" {
		return 0
	}
	for _, alert := range []uint8{alertHandshakeFailure, alertProtocolVersion, alertInsufficientSecurity} {
		if remote.Err.Error() == tls.AlertError(alert).Error() {
			return alert
		}
	}
	return 0
}
