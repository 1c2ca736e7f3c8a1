package mailhost

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Counts says how the sessions of a load ended. Each attempt is counted once more, in the field of its end.
type Counts struct {
	Attempts    int
	Served      int // handshake done and QUIT said
	Refused     int // nobody listened
	Reset       int // the connection broke off before the handshake was done
	Busy        int // 421: too many connections
	Unavailable int // 454: the server cannot load its key or certificate
	Handshake   int // the TLS handshake failed
	Timeout     int
	Other       int

	Serials map[string]int // sessions by the serial of the leaf served, lower-case hex
	Errors  []string       // the first few, for the failure message
}

// String prints the counts on one line.
func (c Counts) String() string {
	return fmt.Sprintf("%d sessions: %d served (serials %v), %d refused, %d reset, %d busy, %d 454, %d failed handshakes, %d timeouts, %d other %q",
		c.Attempts, c.Served, slices.Sorted(maps.Keys(c.Serials)), c.Refused, c.Reset, c.Busy, c.Unavailable, c.Handshake, c.Timeout, c.Other, c.Errors)
}

// A Load is a running load.
type Load struct {
	stop   context.CancelFunc
	done   sync.WaitGroup
	mu     sync.Mutex
	counts Counts
}

// StartLoad starts workers that open one short SMTP session after another on the addresses in turn, from inside the host:
// banner, EHLO, STARTTLS, handshake, QUIT. Only the possession of the key is checked, not the chain. Between two
// sessions a worker waits for pause; without one, it knocks some thousand times a second where nobody listens.
func (h *Host) StartLoad(ctx context.Context, workers int, pause time.Duration, addresses ...string) *Load {
	ctx, cancel := context.WithCancel(ctx)
	l := &Load{stop: cancel, counts: Counts{Serials: map[string]int{}}}
	for w := range workers {
		l.done.Go(func() { l.work(ctx, h, pause, addresses, w) })
	}
	return l
}

// Stop lets the sessions under way end and returns the counts.
func (l *Load) Stop() Counts {
	l.stop()
	l.done.Wait()
	return l.Counts()
}

// Counts returns the counts so far.
func (l *Load) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts
	c.Serials, c.Errors = maps.Clone(c.Serials), slices.Clone(c.Errors)
	return c
}

func (l *Load) work(ctx context.Context, h *Host, wait time.Duration, addresses []string, turn int) {
	leave, err := h.enterNetwork()
	if err != nil {
		l.count("", err)
		return
	}
	defer leave()
	for ; ctx.Err() == nil; turn++ {
		l.count(session(addresses[turn%len(addresses)]))
		if wait > 0 && pause(ctx, wait) != nil {
			return
		}
	}
}

// A replyError is an SMTP reply that is not the one hoped for.
type replyError struct{ wanted, got string }

func (e replyError) Error() string { return fmt.Sprintf("wanted %s, got %q", e.wanted, e.got) }

// A handshakeError is a failure after the server's go-ahead.
type handshakeError struct{ error }

func (e handshakeError) Unwrap() error { return e.error }

// session runs one session and returns the serial that was served.
func session(address string) (serial string, err error) {
	conn, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	plain := bufio.NewReader(conn)
	for _, step := range []struct{ command, code string }{{"", "220"}, {"EHLO load.example.org\r\n", "250"}, {"STARTTLS\r\n", "220"}} {
		if err := exchange(conn, plain, step.command, step.code); err != nil {
			return "", err
		}
	}
	secure := tls.Client(conn, &tls.Config{ServerName: "mx.example.org", InsecureSkipVerify: true})
	if err := secure.Handshake(); err != nil {
		return "", handshakeError{err}
	}
	serial = hex.EncodeToString(secure.ConnectionState().PeerCertificates[0].SerialNumber.Bytes())
	return serial, exchange(secure, bufio.NewReader(secure), "QUIT\r\n", "221")
}

// exchange sends a command and reads its reply, of one line or several.
func exchange(w io.Writer, r *bufio.Reader, command, code string) error {
	if _, err := io.WriteString(w, command); err != nil {
		return err
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if !strings.HasPrefix(line, code) {
			return replyError{code, line}
		}
		if !strings.HasPrefix(line, code+"-") {
			return nil
		}
	}
}

func (l *Load) count(serial string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &l.counts
	c.Attempts++
	if serial != "" {
		c.Serials[serial]++
	}
	if err != nil && len(c.Errors) < 5 {
		c.Errors = append(c.Errors, err.Error())
	}
	*c.field(err)++
}

// field is the count that an end of a session belongs to.
func (c *Counts) field(err error) *int {
	var reply replyError
	var handshake handshakeError
	broken := errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	switch {
	case err == nil:
		return &c.Served
	case errors.As(err, &reply) && strings.HasPrefix(reply.got, "454"):
		return &c.Unavailable
	case errors.As(err, &reply) && strings.HasPrefix(reply.got, "421"):
		return &c.Busy
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &c.Timeout
	case errors.As(err, &handshake):
		return &c.Handshake
	case errors.Is(err, syscall.ECONNREFUSED):
		return &c.Refused
	case broken:
		return &c.Reset
	default:
		return &c.Other
	}
}
