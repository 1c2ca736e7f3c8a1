package verdict

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxcert/deploy/starttls"
)

// conversation is a server that answers each line of a client with the next text, and then hangs up. A text without a line end answers a
// ClientHello.
func conversation(ask starttls.KeyType, replies ...string) Handshake {
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		in := bufio.NewReader(conn)
		for i, reply := range replies {
			if !strings.HasSuffix(reply, "\n") {
				_, _ = in.ReadByte()
				_, _ = in.Discard(in.Buffered())
			} else if i > 0 {
				if _, err := in.ReadString('\n'); err != nil {
					return
				}
			}
			if _, err := conn.Write([]byte(reply)); err != nil {
				return
			}
		}
	}()
	r := starttls.Request{Address: "192.0.2.1:25", ServerName: "mx.example.org", KeyType: ask, HELO: "client.example", BannerTimeout: 5 * time.Second, StepTimeout: 5 * time.Second}
	r.Dialer = func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("tcp", listener.Addr().String())
	}
	return shake(r)
}

func shake(r starttls.Request) Handshake {
	shown, err := starttls.Handshake(context.Background(), r)
	return Handshake{ServerName: r.ServerName, Ask: r.KeyType, Shown: shown, Err: err}
}

// unconnected is a handshake for which there is no connection.
func unconnected(err error) Handshake {
	return shake(starttls.Request{Address: "192.0.2.1:25", ServerName: "mx.example.org", HELO: "client.example",
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
		}})
}

const (
	greeting = "220 mx.example.org ESMTP\r\n"
	offering = "250-mx.example.org\r\n250 STARTTLS\r\n"
	ready    = "220 go ahead\r\n"
)

// alert is a fatal TLS alert in a record.
func alert(number byte) string { return string([]byte{21, 3, 3, 0, 2, 2, number}) }

// The failures, each from a real conversation.
var failures = map[string]Handshake{
	"no STARTTLS":     conversation(starttls.Any, greeting, "250 mx.example.org\r\n"),
	"502":             conversation(starttls.Any, greeting, offering, "502 no\r\n"),
	"454":             conversation(starttls.Any, greeting, offering, "454 TLS currently unavailable\r\n"),
	"421 to STARTTLS": conversation(starttls.Any, greeting, offering, "421 later\r\n"),
	"injection":       conversation(starttls.Any, greeting, offering, ready+"250 hello\r\n"),
	"TLS lost":        conversation(starttls.Any, greeting, offering, ready),
	"TLS error":       conversation(starttls.Any, greeting, offering, ready, alert(80)),
	"no version":      conversation(starttls.Any, greeting, offering, ready, alert(70)),
	"no RSA":          conversation(starttls.RSA, greeting, offering, ready, alert(40)),
	"no ECDSA":        conversation(starttls.ECDSA, greeting, offering, ready, alert(40)),
	"no TLS 1.3":      conversation(starttls.TLS13, greeting, offering, ready, alert(70)),
	"nothing common":  conversation(starttls.Any, greeting, offering, ready, alert(40)),
	"554":             conversation(starttls.Any, "554 not you\r\n"),
	"greylisting":     conversation(starttls.Any, "421 come back later\r\n"),
	"550 to EHLO":     conversation(starttls.Any, greeting, "550 not you\r\n"),
	"no SMTP":         conversation(starttls.Any, "SSH-2.0-OpenSSH\r\n"),
	"hangs up":        conversation(starttls.Any),
	"refused":         unconnected(syscall.ECONNREFUSED),
	"timeout":         unconnected(os.ErrDeadlineExceeded),
	"unreachable":     unconnected(syscall.EHOSTUNREACH),
}

// The kinds of the failures are those that the rest of the tests relies on.
func TestFailures(t *testing.T) {
	for name, want := range map[string]string{
		"no STARTTLS": starttls.KindSTARTTLSNotSupported, "502": starttls.KindSTARTTLSNotSupported, "454": starttls.KindTLSUnavailable,
		"421 to STARTTLS": starttls.KindRejected, "injection": starttls.KindInjection, "TLS lost": starttls.KindConnectionLost,
		"TLS error": starttls.KindValidationFailure, "no version": starttls.KindTLSVersion, "no RSA": starttls.KindKeyTypeNotOffered,
		"no ECDSA": starttls.KindKeyTypeNotOffered, "no TLS 1.3": starttls.KindTLSVersion, "nothing common": starttls.KindNotJudged, "554": starttls.KindRejected,
		"greylisting": starttls.KindRejected, "550 to EHLO": starttls.KindRejected, "no SMTP": "protocol", "hangs up": starttls.KindConnectionLost,
		"refused": starttls.KindConnectionRefused, "timeout": starttls.KindTimeout, "unreachable": "unreachable",
	} {
		var e *starttls.Error
		if h := failures[name]; !errors.As(h.Err, &e) || e.Kind() != want || h.Shown != nil {
			t.Errorf("%s: got %v (%s), want the kind %s", name, h.Err, kindOf(h.Err), want)
		}
	}
}

func fails(names ...string) edit {
	return func(f *Facts) {
		f.Handshakes = nil
		for _, name := range names {
			f.Handshakes = append(f.Handshakes, failures[name])
		}
	}
}

func alsoFails(name string) edit {
	return func(f *Facts) { f.Handshakes = append(f.Handshakes, failures[name]) }
}
