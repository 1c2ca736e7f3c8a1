package starttls

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"mxcert/cmd/mxcert-lab/port"
)

// A conversation up to a point, and the whole of a good one.
const (
	greeted = `
	> 220-mx.example.org ESMTP\r\n220 ready\r\n
	< EHLO client.example.org
	`
	offered = greeted + `
	> 250-mx.example.org hello\r\n250-SIZE 1000\r\n250-STARTTLS\r\n250 HELP\r\n
	< STARTTLS
	`
	secured = offered + `
	> 220 go ahead\r\n
	tls
	< EHLO client.example.org
	`
	goodServer = secured + `
	> 250-mx.example.org hello again\r\n250-size 1000\r\n250 REQUIRETLS\r\n
	< QUIT
	> 221 bye\r\n
	wait
	`
)

func request(address string) Request {
	return Request{Address: address, ServerName: "mx.example.org", HELO: "client.example.org",
		BannerTimeout: 5 * time.Second, StepTimeout: 5 * time.Second}
}

func bothKeys() *tls.Config {
	w := theWorld()
	return &tls.Config{Certificates: []tls.Certificate{w.pair(w.ec), w.pair(w.rsa)}}
}

func TestHandshake(t *testing.T) {
	w := theWorld()
	address := serve(t, bothKeys(), goodServer)
	r, err := Handshake(t.Context(), request(address))
	if err != nil {
		t.Fatal(err)
	}
	if !Match(r.Chain, w.rsa.certificate, w.ec.certificate) || Match(r.Chain, w.rsa.certificate) || Match(r.Chain) || Match(nil, w.ec.certificate) {
		t.Errorf("the wrong certificates match: %v", r.Chain)
	}
	if len(r.Chain) != 2 || !r.Chain[1].Equal(w.intermediate.certificate) {
		t.Errorf("the chain is not the one that was sent: %v", r.Chain)
	}
	if r.Version != tls.VersionTLS13 || len(r.Findings) != 0 {
		t.Errorf("%+v", r)
	}
	if !r.Offers("requiretls") || !r.Offers("SIZE") || r.Offers("STARTTLS") || r.Offers("SIZ") {
		t.Errorf("extensions: %q", r.Extensions)
	}
	if r.Elapsed <= 0 {
		t.Errorf("elapsed: %v", r.Elapsed)
	}
}

func TestHandshakeAsksForAKeyType(t *testing.T) {
	w := theWorld()
	address := serve(t, bothKeys(), goodServer)
	for key, want := range map[KeyType]*authority{ECDSA: w.ec, RSA: w.rsa} {
		q := request(address)
		q.KeyType = key
		r, err := Handshake(t.Context(), q)
		if err != nil {
			t.Error(err)
			continue
		}
		name := "_" + strings.ToUpper(string(key)) + "_"
		if !Match(r.Chain, want.certificate) || r.Version != tls.VersionTLS12 || !strings.Contains(tls.CipherSuiteName(r.Cipher), name) {
			t.Errorf("%s: got %v with %s", key, r.Chain[0].PublicKeyAlgorithm, tls.CipherSuiteName(r.Cipher))
		}
	}
}

func TestHandshakeSendsSNI(t *testing.T) {
	w := theWorld()
	got := make(chan string, 1)
	pair := w.pair(w.ec)
	config := &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		got <- hello.ServerName
		return &pair, nil
	}}
	address := serve(t, config, goodServer)
	for name, want := range map[string]string{"mx.example.org": "mx.example.org", "": "", "192.0.2.1": "", "unknown.invalid": "unknown.invalid"} {
		q := request(address)
		q.ServerName = name
		if _, err := Handshake(t.Context(), q); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if sni := <-got; sni != want {
			t.Errorf("for %q SNI %q was sent, want %q", name, sni, want)
		}
	}
}

// TestTolerance has what is unusual or sloppy, and no reason to refuse a server.
func TestTolerance(t *testing.T) {
	for name, script := range map[string]string{
		"line ends in LF only":   strings.ReplaceAll(goodServer, `\r`, ""),
		"no text":                strings.NewReplacer("220-mx.example.org ESMTP", "220-", "220 ready", "220", "220 go ahead", "220").Replace(goodServer),
		"lower case":             strings.ReplaceAll(goodServer, "250-STARTTLS", "250-starttls"),
		"long line":              strings.ReplaceAll(goodServer, "SIZE 1000", "AUTH "+strings.Repeat("X", 2000)),
		"99 extensions":          strings.ReplaceAll(goodServer, `250-SIZE 1000\r\n`, strings.Repeat(`250-X\r\n`, 97)),
		"no answer to QUIT":      strings.ReplaceAll(goodServer, `> 221 bye\r\n`, "close"),
		"bytes that are no text": strings.NewReplacer("mx.example.org ESMTP", "\xff\x1b[31m", "size 1000", "\xff\x1b[31m").Replace(goodServer),
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Handshake(t.Context(), request(serve(t, bothKeys(), script)))
			if err != nil {
				t.Fatal(err)
			}
			if !r.Offers("REQUIRETLS") || strings.ContainsFunc(strings.Join(r.Extensions, ""), func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }) {
				t.Errorf("extensions %q", r.Extensions)
			}
		})
	}
}

func TestSTARTTLSAgain(t *testing.T) {
	script := strings.ReplaceAll(goodServer, "250-size 1000", "250-STARTTLS")
	r, err := Handshake(t.Context(), request(serve(t, bothKeys(), script)))
	if err != nil || len(r.Findings) != 1 || r.Findings[0].ID != "starttls-after-tls" {
		t.Errorf("got %+v, %v", r, err)
	}
}

// assertError checks what every error must be: typed, named, at the right step, with a hint, and harmless to print.
func assertError(t *testing.T, err error, step, kind string) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *Error of kind %s", err, kind)
	}
	if e.Step != step || e.Kind() != kind {
		t.Errorf("got step %s, kind %s, want %s, %s: %v", e.Step, e.Kind(), step, kind, err)
	}
	text := err.Error() + e.Hint()
	if len(text) > 1500 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' }) {
		t.Errorf("not fit to print: %q", text)
	}
	if e.Hint() == "" && kind != "canceled" && kind != "invalid-request" {
		t.Errorf("no hint: %v", err)
	}
	return e
}

func TestMisbehaviour(t *testing.T) {
	for _, test := range []struct {
		name, script string
		step, kind   string
		code         int
		temporary    bool
	}{
		{"greeting 554", `> 554 go away\r\n`, StepGreeting, "rejected", 554, false},
		{"greeting 421", `> 421 too many connections\r\n close`, StepGreeting, "rejected", 421, true},
		{"greeting 250", `> 250 hello\r\n < QUIT`, StepGreeting, "rejected", 250, false},
		{"greeting is HTTP", `> HTTP/1.1 400 Bad Request\r\n`, StepGreeting, "protocol", 0, false},
		{"greeting is IMAP", `> * OK IMAP4rev1\r\n`, StepGreeting, "protocol", 0, false},
		{"no greeting", `close`, StepGreeting, "connection-lost", 0, true},
		{"half a greeting", `> 220 mx`, StepGreeting, "connection-lost", 0, true},
		{"code of two digits", `> 22 ready\r\n`, StepGreeting, "protocol", 0, false},
		{"code too large", `> 620 ready\r\n`, StepGreeting, "protocol", 0, false},
		{"preliminary code", `> 120 soon\r\n`, StepGreeting, "protocol", 0, false},
		{"no separator", `> 220ready\r\n`, StepGreeting, "protocol", 0, false},
		{"empty line", `> \r\n`, StepGreeting, "protocol", 0, false},
		{"two codes", `> 220-a\r\n250 b\r\n`, StepGreeting, "protocol", 0, false},
		{"bare CR", `> 220 a\rb\r\n`, StepGreeting, "protocol", 0, false},
		{"CR twice", `> 220 a\r\r\n`, StepGreeting, "protocol", 0, false},
		{"NUL", `> 220 a\x00b\r\n`, StepGreeting, "protocol", 0, false},
		{"endless line", `> 220 ` + strings.Repeat("x", 3000), StepGreeting, "protocol", 0, false},
		{"101 lines", `> ` + strings.Repeat(`220-x\r\n`, 101), StepGreeting, "protocol", 0, false},
		{"EHLO unknown", greeted + `> 502 5.5.2 what?\r\n`, StepEHLO, "starttls-not-supported", 502, false},
		{"EHLO refused", greeted + `> 550 your name is bad\r\n`, StepEHLO, "rejected", 550, false},
		{"EHLO refused for now", greeted + `> 450 later\r\n`, StepEHLO, "rejected", 450, true},
		{"EHLO lost", greeted + `close`, StepEHLO, "connection-lost", 0, true},
		{"nothing offered", greeted + `> 250 mx\r\n < QUIT`, StepEHLO, "starttls-not-supported", 0, false},
		{"offered in the greeting only", greeted + `> 250-STARTTLS\r\n250 SIZE\r\n < QUIT`, StepEHLO, "starttls-not-supported", 0, false},
		{"something like it", greeted + `> 250-mx\r\n250 STARTTLSX\r\n < QUIT`, StepEHLO, "starttls-not-supported", 0, false},
		{"454", offered + `> 454 TLS currently unavailable\r\n < QUIT`, StepSTARTTLS, "tls-unavailable", 454, true},
		{"502", offered + `> 502 no\r\n`, StepSTARTTLS, "starttls-not-supported", 502, false},
		{"421", offered + `> 421 bye\r\n`, StepSTARTTLS, "rejected", 421, true},
		{"250 instead of 220", offered + `> 250 ok\r\n`, StepSTARTTLS, "rejected", 250, false},
		{"injection", offered + `> 220 go\r\n250-evil\r\n250 AUTH\r\n`, StepSTARTTLS, "injection", 0, false},
		{"injected byte", offered + `> 220 go\r\nx`, StepSTARTTLS, "injection", 0, false},
		{"no TLS", offered + `> 220 go\r\n close`, StepTLS, "connection-lost", 0, true},
		{"clear text instead of TLS", offered + `> 220 go\r\n read > 454 sorry, no certificate\r\n wait`, StepTLS, "validation-failure", 0, false},
		{"lost after TLS", secured + `close`, StepEHLOAfterTLS, "connection-lost", 0, true},
		{"EHLO refused after TLS", secured + `> 550 no\r\n < QUIT`, StepEHLOAfterTLS, "rejected", 550, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			script := strings.NewReplacer(" close", "\nclose", " wait", "\nwait", " < QUIT", "\n< QUIT", " read >", "\nread\n>").Replace(test.script)
			r, err := Handshake(t.Context(), request(serve(t, bothKeys(), script)))
			e := assertError(t, err, test.step, test.kind)
			if e.Code != test.code || e.Temporary() != test.temporary {
				t.Errorf("code %d, temporary %t: %v", e.Code, e.Temporary(), e)
			}
			if (r != nil) != (test.step == StepEHLOAfterTLS) {
				t.Errorf("result %v with %v", r, err)
			}
		})
	}
}

func TestTLSFailures(t *testing.T) {
	w := theWorld()
	ecOnly := []tls.Certificate{w.pair(w.ec)}
	broken := tls.Certificate{Certificate: [][]byte{{0x30, 0x03, 1, 2, 3}}, PrivateKey: w.ec.key}
	for _, test := range []struct {
		name   string
		config *tls.Config
		key    KeyType
		kind   string
	}{
		{"no RSA certificate", &tls.Config{Certificates: ecOnly}, RSA, "key-type-not-offered"},
		{"TLS 1.3 only", &tls.Config{Certificates: ecOnly, MinVersion: tls.VersionTLS13}, ECDSA, "tls-version"},
		{"TLS 1.1 only", &tls.Config{Certificates: ecOnly, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, Any, "tls-version"},
		{"not a certificate", &tls.Config{Certificates: []tls.Certificate{broken}}, Any, "validation-failure"},
		{"no certificate for the name", &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return nil, errors.New("none")
		}}, Any, "validation-failure"},
	} {
		t.Run(test.name, func(t *testing.T) {
			q := request(serve(t, test.config, goodServer))
			q.KeyType = test.key
			r, err := Handshake(t.Context(), q)
			assertError(t, err, StepTLS, test.kind)
			if r != nil {
				t.Errorf("a result without a certificate: %+v", r)
			}
		})
	}
}

func TestServerWantsAClientCertificate(t *testing.T) {
	config := bothKeys()
	config.ClientAuth = tls.RequireAnyClientCert
	r, err := Handshake(t.Context(), request(serve(t, config, goodServer)))
	assertError(t, err, StepEHLOAfterTLS, "validation-failure") // with TLS 1.3 the server refuses only then
	if r == nil || len(r.Chain) != 2 {
		t.Errorf("what the server presented is lost: %+v", r)
	}
}

func TestNothingListens(t *testing.T) {
	q := request(port.Address(t))
	_, err := Handshake(t.Context(), q)
	e := assertError(t, err, StepConnect, "connection-refused")
	if !errors.Is(err, syscall.ECONNREFUSED) || !e.Temporary() || !strings.Contains(e.Hint(), q.Address) || !strings.Contains(e.Hint(), "verify.endpoints") {
		t.Errorf("%v: %s", err, e.Hint())
	}
}

func TestConnectErrors(t *testing.T) {
	for kind, cause := range map[string]error{
		"unreachable":    &net.OpError{Op: "dial", Net: "tcp", Err: syscall.EHOSTUNREACH},
		"name-not-found": &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "mx", IsNotFound: true}},
		"timeout":        &net.OpError{Op: "dial", Err: &net.DNSError{Err: "timeout", Name: "mx", IsTimeout: true}},
	} {
		q := request("192.0.2.1:25")
		q.Dialer = func(context.Context, string, string) (net.Conn, error) { return nil, cause }
		_, err := Handshake(t.Context(), q)
		assertError(t, err, StepConnect, kind)
	}
	_, err := Handshake(t.Context(), request("mx.example.org"))
	assertError(t, err, StepConnect, "invalid-request")
	q := request("127.0.0.1:25")
	q.HELO = "x\r\nMAIL FROM:<>"
	_, err = Handshake(t.Context(), q)
	assertError(t, err, StepConnect, "invalid-request")
	q = request("127.0.0.1:25")
	q.KeyType = "ed25519"
	_, err = Handshake(t.Context(), q)
	assertError(t, err, StepConnect, "invalid-request")
}

// pipe makes the request talk to a script without a network, so that the fake clock works.
func pipe(q Request, script string) Request {
	q.Dialer = func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		p := &peer{server, bufio.NewReader(server), bothKeys()}
		go func() {
			_ = p.play(script)
			_, _ = io.Copy(io.Discard, server)
		}()
		return client, nil
	}
	return q
}

// silences stop talking before each step.
var silences = []struct{ step, script string }{
	{StepGreeting, "wait"},
	{StepGreeting, `> 220-mx`},
	{StepEHLO, greeted + "wait"},
	{StepSTARTTLS, offered + "wait"},
	{StepTLS, offered + "> 220 go\\r\\n\nwait"},
	{StepEHLOAfterTLS, secured + "wait"},
}

func TestTimeouts(t *testing.T) {
	for _, silence := range silences {
		synctest.Test(t, func(t *testing.T) {
			q := pipe(Request{Address: "mx:25", HELO: "client.example.org"}, silence.script)
			want := 30 * time.Second
			if silence.step == StepGreeting {
				want = 60 * time.Second
			}
			start := time.Now()
			_, err := Handshake(t.Context(), q)
			assertError(t, err, silence.step, "timeout")
			if took := time.Since(start); took != want {
				t.Errorf("%s: gave up after %s, want %s", silence.step, took, want)
			}
		})
	}
}

func TestConnectTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := request("mx:25")
		q.Dialer = func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
		}
		start := time.Now()
		_, err := Handshake(t.Context(), q)
		assertError(t, err, StepConnect, "timeout")
		if took := time.Since(start); took != q.StepTimeout {
			t.Errorf("gave up after %s", took)
		}
	})
}

// TestSlowDrip: a step is over in time even when bytes keep coming.
func TestSlowDrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := request("mx:25")
		q.Dialer = func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			go func() {
				for _, err := server.Write([]byte("220-")); err == nil; _, err = server.Write([]byte("x")) {
					time.Sleep(time.Second)
				}
			}()
			return client, nil
		}
		_, err := Handshake(t.Context(), q)
		assertError(t, err, StepGreeting, "timeout")
		time.Sleep(2 * time.Second) // the server notices that the client is gone
	})
}

func TestCancelAtEveryStep(t *testing.T) {
	for _, silence := range silences {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			start := time.Now()
			_, err := Handshake(ctx, pipe(request("mx:25"), silence.script))
			e := assertError(t, err, silence.step, "canceled")
			if took := time.Since(start); took != time.Second || !errors.Is(err, context.Canceled) || !e.Temporary() {
				t.Errorf("%s: %v after %s", silence.step, err, took)
			}
		})
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := Handshake(ctx, pipe(request("mx:25"), silence.script))
			assertError(t, err, silence.step, "timeout")
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
	}
}

func TestQUITIsNotWaitedForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := strings.ReplaceAll(goodServer, `> 221 bye\r\n`, "")
		q := pipe(Request{Address: "mx:25", HELO: "client.example.org"}, script)
		start := time.Now()
		r, err := Handshake(t.Context(), q)
		if took := time.Since(start); err != nil || took != 5*time.Second || r.Elapsed != 0 {
			t.Errorf("%v after %s, %+v", err, took, r)
		}
	})
}

func TestDefaultHELO(t *testing.T) {
	v4, v6 := &net.TCPAddr{IP: net.ParseIP("192.0.2.1")}, &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Zone: "eth0"}
	for _, test := range []struct {
		host  string
		local net.Addr
		want  string
	}{
		{"mx.example.org", v4, "mx.example.org"},
		{"mx", v4, "[192.0.2.1]"},
		{"", v6, "[IPv6:2001:db8::1]"},
		{"my_host.example.org", v4, "[192.0.2.1]"},
		{"a.b\r\nMAIL", v4, "[192.0.2.1]"},
		{"mx", &net.UnixAddr{}, "[127.0.0.1]"},
	} {
		if got := defaultHELO(test.host, test.local); got != test.want {
			t.Errorf("%q, %v: got %q, want %q", test.host, test.local, got, test.want)
		}
	}
}
