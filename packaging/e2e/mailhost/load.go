package mailhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
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
	stop context.CancelFunc
	done sync.WaitGroup

	mu       sync.Mutex
	counts   Counts
	sessions []Session
}

// StartLoad starts workers that open one short session after another on the addresses in turn, from inside the host: banner,
// EHLO, STARTTLS, handshake, EHLO, NOOP, QUIT, or what that is in IMAP on its ports; without STARTTLS on 465 and 993. Only the possession of the key is checked, not the chain. Between two
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
		l.count(Session{Err: err})
		return
	}
	defer leave()
	for ; ctx.Err() == nil; turn++ {
		l.count(converse(addresses[turn%len(addresses)]))
		if wait > 0 && pause(ctx, wait) != nil {
			return
		}
	}
}

// converse has one short session.
func converse(address string) (s Session) {
	s.Address, s.Began = address, time.Now()
	c, err := dial(address)
	if err == nil {
		defer c.Close()
		s.Greeted = true
		err = c.secure()
		s.Secured, s.Serial = c.secured, c.serial
		if err == nil {
			err = c.say(append(c.look, c.quit...))
		}
	}
	s.Err = err
	return s
}

func (l *Load) count(s Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sessions = append(l.sessions, s)
	c := &l.counts
	c.Attempts++
	if s.Serial != "" {
		c.Serials[s.Serial]++
	}
	if s.Err != nil && len(c.Errors) < 5 {
		c.Errors = append(c.Errors, s.Err.Error())
	}
	*c.field(s.Err)++
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
