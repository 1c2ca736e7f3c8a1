package wire_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mxcert/cmd/mxcert/internal/wire"
)

type message struct {
	Text string `json:"text"`
	N    int    `json:"n,omitempty"`
}

// listen is a socket in a directory of its own. A socket's path has at most 107 bytes, so it must be short.
func listen(t testing.TB) (*wire.Listener, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "wire")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := wire.Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, path
}

// pair is both ends of a connection; raw is the one that dialed, without wire.
func pair(t *testing.T) (conn *wire.Conn, raw net.Conn) {
	t.Helper()
	l, path := listen(t)
	raw, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	if conn, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, raw
}

// An echo: many questions over one connection, whose answers come in order; a long one too.
func TestAsk(t *testing.T) {
	t.Parallel()
	l, path := listen(t)
	go func() {
		conn, err := l.Accept()
		for err == nil {
			var m message
			if err = conn.Read(context.Background(), &m); err == nil {
				err = conn.Write(context.Background(), message{Text: m.Text, N: m.N + 1})
			}
		}
	}()
	conn, err := wire.Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for n, text := range []string{"a", "line\nfeed", strings.Repeat("x", 1<<20)} {
		var answer message
		if err := conn.Ask(t.Context(), message{Text: text, N: n}, &answer); err != nil || answer.Text != text || answer.N != n+1 {
			t.Errorf("%.10q: %.10q, %d, %v", text, answer.Text, answer.N, err)
		}
	}
}

// Several goroutines write at once, and no message is torn.
func TestWritersDoNotMix(t *testing.T) {
	t.Parallel()
	l, path := listen(t)
	conn, err := wire.Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	var writers sync.WaitGroup
	for n := range 8 {
		writers.Go(func() {
			for range 50 {
				if err := conn.Write(t.Context(), message{Text: strings.Repeat("x", 5000), N: n}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 8 * 50 {
		var m message
		if err := other.Read(t.Context(), &m); err != nil || len(m.Text) != 5000 {
			t.Fatal(len(m.Text), err)
		}
	}
	writers.Wait()
}

// What another program may send instead of a message.
func TestReadRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sent string
		want error
	}{
		"no JSON":              {"GET / HTTP/1.1\r\n", wire.ErrMalformed},
		"another shape":        {`{"text":["a"]}` + "\n", wire.ErrMalformed},
		"a long number":        {`{"text":` + strings.Repeat("9", 100_000) + "}\n", wire.ErrMalformed},
		"an empty line":        {"\n", wire.ErrMalformed},
		"too long":             {strings.Repeat("x", wire.MaxLine+1), wire.ErrMalformed},
		"more than it needs":   {`{"list":[` + strings.Repeat("{},", 100_000) + "{}]}\n", wire.ErrMalformed},
		"half a message":       {`{"text":"a"}`, io.ErrUnexpectedEOF},
		"nothing, and is gone": {"", io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, raw := pair(t)
			go func() {
				_, _ = io.WriteString(raw, c.sent)
				_ = raw.Close()
			}()
			var m message
			if err := conn.Read(t.Context(), &m); !errors.Is(err, c.want) || len(err.Error()) > 300 {
				t.Errorf("Read = %.400v, want %v", err, c.want)
			}
		})
	}
}

// A peer that says nothing, or takes nothing, is waited for as long as the context lasts; the other direction still works.
func TestContextEnds(t *testing.T) {
	t.Parallel()
	conn, raw := pair(t)
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	var m message
	if err := conn.Read(short, &m); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Read = %v", err)
	}
	if err := conn.Read(short, &m); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Read with a context that has ended = %v", err)
	}
	if err := conn.Write(t.Context(), message{Text: "still here"}); err != nil {
		t.Error(err)
	}
	buffer := make([]byte, 100)
	if n, err := raw.Read(buffer); err != nil || string(buffer[:n]) != `{"text":"still here"}`+"\n" {
		t.Errorf("%q, %v", buffer[:n], err)
	}
	interrupted, stop := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, stop)
	if err := conn.Write(interrupted, message{Text: strings.Repeat("x", 8<<20)}); !errors.Is(err, context.Canceled) {
		t.Errorf("Write to a peer that does not read = %v", err)
	}
}

// An answer that came too late is not taken for the answer to the next question, and half a message is not continued.
func TestErrorsStay(t *testing.T) {
	t.Parallel()
	conn, raw := pair(t)
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	var m message
	if err := conn.Ask(short, message{N: 1}, &m); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Ask = %v", err)
	}
	if _, err := io.WriteString(raw, `{"n":2}`+"\n"); err != nil {
		t.Fatal(err)
	}
	if err := conn.Ask(t.Context(), message{N: 2}, &m); !errors.Is(err, context.DeadlineExceeded) || m.N != 0 {
		t.Errorf("after a time-out Ask = %v, %+v", err, m)
	}
	if err := conn.Write(short, message{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Write = %v", err)
	}
	if err := conn.Write(t.Context(), message{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after a time-out Write = %v", err)
	}
}

// A time limit of one message is none of the next.
func TestDeadlineDoesNotStay(t *testing.T) {
	t.Parallel()
	conn, raw := pair(t)
	for n := range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		go func() { fmt.Fprintf(raw, `{"n":%d}`+"\n", n) }()
		var m message
		if err := conn.Read(ctx, &m); err != nil || m.N != n {
			t.Fatal(m, err)
		}
		cancel()
	}
}

func TestWriteToPeerThatHungUp(t *testing.T) {
	t.Parallel()
	conn, raw := pair(t)
	_ = raw.Close()
	if err := conn.Write(t.Context(), message{}); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("Write = %v", err)
	}
	if err := conn.Write(t.Context(), make(chan int)); err == nil {
		t.Error("a channel was sent")
	}
}

// Both ends know who the other is, and let only that one in.
func TestPeer(t *testing.T) {
	t.Parallel()
	l, path := listen(t)
	dialed, err := wire.Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer dialed.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	me := os.Geteuid()
	for name, conn := range map[string]*wire.Conn{"dialed": dialed, "accepted": accepted} {
		if uid, err := conn.PeerUID(); err != nil || uid != me {
			t.Errorf("%s: the peer is user %d, %v; want %d", name, uid, err, me)
		}
		if err := conn.Admit(me+1, me); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := conn.Admit(me+1, me+2); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("user %d", me)) {
			t.Errorf("%s: another user was let in: %v", name, err)
		}
	}
	_ = dialed.Close()
	if err := dialed.Admit(me); err == nil {
		t.Error("a closed connection has a peer")
	}
}

// A socket that a dead process left is replaced; a file is not, and its content stays.
func TestListen(t *testing.T) {
	t.Parallel()
	left, path := listen(t)
	again, err := wire.Listen(path, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	conn, err := wire.Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := again.Accept(); err != nil {
		t.Error(err)
	}
	_ = again.Close()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	if _, err := again.Accept(); err == nil {
		t.Error("a closed listener accepts")
	}
	_ = left.Close()
	if _, err := wire.Dial(t.Context(), path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Dial = %v", err)
	}
	if err := os.WriteFile(path, []byte("a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := wire.Listen(path, 0o600); err == nil {
		t.Error("a file was replaced")
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "a file" {
		t.Errorf("%q, %v", text, err)
	}
}

// A connection that another program accepted, as a descriptor.
func TestInherit(t *testing.T) {
	t.Parallel()
	l, path := listen(t)
	raw, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := raw.(*net.UnixConn).File()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Close()
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	conn, err := wire.Inherit(file)
	if err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	var m message
	if err := errors.Join(conn.Write(t.Context(), message{N: 7}), other.Read(t.Context(), &m)); err != nil || m.N != 7 {
		t.Error(m, err)
	}
	if uid, err := conn.PeerUID(); err != nil || uid != os.Geteuid() {
		t.Error(uid, err)
	}
	_ = conn.Close()
	if err := other.Read(t.Context(), &m); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}

func TestInheritRefuses(t *testing.T) {
	t.Parallel()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if _, err := wire.Inherit(null); err == nil || !strings.Contains(err.Error(), os.DevNull) {
		t.Errorf("a file: %v", err)
	}
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	file, err := udp.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := wire.Inherit(file); err == nil {
		t.Error("a socket of a network was taken")
	}
}
