package mailhost

import (
	"cmp"
	"errors"
	"slices"
	"syscall"
	"time"
)

// A Session is one attempt of a load.
type Session struct {
	Address string
	Began   time.Time
	Greeted bool      // the server has answered
	Secured time.Time // when the handshake was done
	Serial  string    // of the leaf that was served, lower-case hex; "" without a handshake
	Err     error
}

// Sessions are all attempts so far, in the order of their beginnings.
func (l *Load) Sessions() []Session {
	l.mu.Lock()
	defer l.mu.Unlock()
	sessions := slices.Clone(l.sessions)
	slices.SortFunc(sessions, func(a, b Session) int { return a.Began.Compare(b.Began) })
	return sessions
}

// Gaps are the times in which an address refused connections: each from the first attempt refused to the next that was not.
// The attempts have to be in the order of their beginnings.
func Gaps(sessions []Session) []time.Duration {
	var gaps []time.Duration
	since := map[string]time.Time{}
	for _, s := range sessions {
		began, closed := since[s.Address]
		switch refused := errors.Is(s.Err, syscall.ECONNREFUSED); {
		case refused && !closed:
			since[s.Address] = s.Began
		case !refused && closed:
			gaps = append(gaps, s.Began.Sub(began))
			delete(since, s.Address)
		}
	}
	slices.SortFunc(gaps, cmp.Compare[time.Duration])
	return gaps
}

// FirstShown is the end of the first handshake that showed a certificate, of the sessions that began after a moment, at any address.
func FirstShown(sessions []Session, serial string, after time.Time) (at time.Time, ok bool) {
	for _, s := range sessions {
		if s.Serial == serial && s.Began.After(after) && (!ok || s.Secured.Before(at)) {
			at, ok = s.Secured, true
		}
	}
	return at, ok
}

// Held is a session that has begun and waits.
type Held struct{ *conn }

// Hold begins a session and leaves it open: behind the handshake when secure, before STARTTLS otherwise.
func (h *Host) Hold(address string, secure bool) (*Held, error) {
	leave, err := h.enterNetwork()
	if err != nil {
		return nil, err
	}
	defer leave()
	c, err := dial(address)
	if err != nil {
		return nil, err
	}
	if secure {
		err = c.secure()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return &Held{c}, nil
}

// Use goes on with the session to its orderly end.
func (h *Held) Use() error {
	defer h.Close()
	h.SetDeadline(time.Now().Add(sessionPatience))
	if h.serial == "" {
		if err := h.secure(); err != nil {
			return err
		}
	}
	return h.say(append(h.look, h.quit...))
}

// Login logs in to IMAP.
func (h *Held) Login() error {
	return exchange(h.Conn, h.read, step{"l LOGIN somebody secret\r\n", "l OK"})
}
