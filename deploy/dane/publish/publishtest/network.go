package publishtest

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/port"
	"mxcert/deploy/dane"
)

// watched looks at every error: it must say what to do, and contain no secret.
type watched struct {
	dane.Publisher
	t *testing.T
	s Service
}

func (s Service) watch(t *testing.T, p dane.Publisher) dane.Publisher { return watched{p, t, s} }

func (w watched) see(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	hint, ok := errors.AsType[interface {
		error
		Hint() string
	}](err)
	if !ok || hint.Hint() == "" || kind(err) == "" {
		w.t.Errorf("%v does not say what to do", err)
		return err
	}
	text := err.Error() + " " + hint.Hint() + " " + w.String()
	for _, secret := range w.s.Secrets {
		if strings.Contains(text, secret) {
			w.t.Errorf("a secret is in %s", text)
		}
	}
	if strings.ContainsAny(text, "\n\r\x00\x1b") || len(text) > 2000 {
		w.t.Errorf("the message is not safe to print: %q", text)
	}
	return err
}

func (w watched) List(ctx context.Context, at dane.Place) ([]resolve.TLSA, time.Duration, error) {
	records, ttl, err := w.Publisher.List(ctx, at)
	return records, ttl, w.see(err)
}

func (w watched) Add(ctx context.Context, at dane.Place, records []resolve.TLSA, ttl time.Duration) error {
	return w.see(w.Publisher.Add(ctx, at, records, ttl))
}

func (w watched) Remove(ctx context.Context, at dane.Place, records []resolve.TLSA) error {
	return w.see(w.Publisher.Remove(ctx, at, records))
}

func (w watched) Probe(ctx context.Context, at dane.Place) error {
	return w.see(w.Publisher.Probe(ctx, at))
}

// front is a listener before the service, which gets each connection and its number.
func front(t *testing.T, serve func(conn net.Conn, n int)) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for n := 0; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn, n)
			}()
		}
	}()
	return listener.Addr().String()
}

func network(t *testing.T, s Service) {
	if s.Address == "" {
		return
	}
	for what, address := range map[string]string{
		"nobody listens": port.Address(t),
		"it hangs up":    front(t, func(net.Conn, int) {}),
		"it says nothing": front(t, func(conn net.Conn, _ int) {
			_, _ = io.Copy(io.Discard, conn)
		}),
	} {
		p, at := s.watch(t, s.Via(t, address)), s.place("network")
		ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		_, _, listed := p.List(ctx, at)
		for op, err := range map[string]error{"list": listed, "add": p.Add(ctx, at, values(1), time.Hour), "remove": p.Remove(ctx, at, values(1)), "probe": p.Probe(ctx, at)} {
			if err == nil || !temporary(err) && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %s: %v", what, op, err)
			}
		}
		cancel()
	}
}

// lostAnswers loses one answer in turn: the service has done what it was asked for, and mxcert does not know. To repeat it is harmless.
func lostAnswers(t *testing.T, s Service) {
	if s.Address == "" {
		return
	}
	for lost := range 8 {
		var failed atomic.Bool
		address := front(t, func(conn net.Conn, n int) {
			backend, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Address)
			if err != nil {
				return
			}
			defer backend.Close()
			go func() { _, _ = io.Copy(backend, conn) }()
			if n == lost {
				failed.Store(true)
				_, _ = backend.Read(make([]byte, 1)) // it has answered
				return
			}
			_, _ = io.Copy(conn, backend)
		})
		at := s.place("lost" + string(rune('a'+lost)))
		s.Put(t, at.Name, 3600, "TLSA", "2 1 1 "+strings.Repeat("b2", 32))
		foreign := "TLSA 2 1 1 " + strings.Repeat("b2", 32)
		p, good := s.watch(t, s.Via(t, address)), s.open(t)
		for _, op := range []func(dane.Publisher) error{
			func(p dane.Publisher) error { return p.Add(t.Context(), at, values(1, 2), time.Hour) },
			func(p dane.Publisher) error { return p.Remove(t.Context(), at, values(1)) },
		} {
			if err := op(p); err != nil && (!failed.Load() || !temporary(err)) {
				t.Errorf("answer %d: %v", lost, err)
			}
			if err := op(good); err != nil {
				t.Errorf("answer %d: repeated: %v", lost, err)
			}
		}
		s.holds(t, good, at, "after lost answers", append(records(Value(2)), foreign)...)
		if !failed.Load() {
			return // there were not so many
		}
	}
}

// notTheService has something else at the address.
func notTheService(t *testing.T, s Service) {
	if s.Address == "" {
		return
	}
	for what, answer := range map[string]string{
		"another protocol": "220 mail.example.org ESMTP\r\n",
		"zeros":            strings.Repeat("\x00", 1<<16),
		"a page":           "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 20\r\n\r\n<html>login</html>\x1b\x07",
		"a page as JSON":   "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 6\r\n\r\n<html>",
		"null":             "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\nnull",
		"a number":         "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n42",
		"a message":        "\x00\x0c\x00\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"it never ends":    "",
		"a redirection":    "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://" + s.Address + "/\r\nContent-Length: 0\r\n\r\n",
	} {
		address := front(t, func(conn net.Conn, _ int) {
			_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			_, _ = conn.Read(make([]byte, 1<<16))
			_, _ = io.WriteString(conn, answer)
			if answer == "" {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[")
				for _, err := io.WriteString(conn, strings.Repeat(" ", 1<<16)); err == nil; {
					_, err = io.WriteString(conn, strings.Repeat(" ", 1<<16))
				}
			}
		})
		p, at := s.watch(t, s.Via(t, address)), s.place("other")
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		_, _, listed := p.List(ctx, at)
		for op, err := range map[string]error{"list": listed, "add": p.Add(ctx, at, values(1), time.Hour), "probe": p.Probe(ctx, at)} {
			if err == nil {
				t.Errorf("%s: %s succeeds", what, op)
			}
		}
		if ctx.Err() != nil {
			t.Errorf("%s: it took too long", what)
		}
		cancel()
	}
}
