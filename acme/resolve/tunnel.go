package resolve

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// tunnelTimeout bounds one question over TLS, with the handshake.
	tunnelTimeout = 6 * time.Second
	// idleTime is how long a connection waits for another question (RFC 7766 section 6.2.3: a few seconds).
	idleTime = 3 * time.Second
)

// tunnels are connections to resolvers that are asked over TLS (RFC 7858). A connection carries one question at a time, and the next ones
// while it is open.
type tunnels struct {
	roots *x509.CertPool // nil: those of the system

	mu   sync.Mutex
	idle map[string][]*tunnel // by name and address
}

type tunnel struct {
	*dns.Conn
	expire *time.Timer
}

// Roots says which roots the certificates of resolvers have to lead to that are asked over TLS; nil are those of the system. It is called
// before the first question.
func (r *Resolver) Roots(roots *x509.CertPool) *Resolver {
	r.tunnels.roots = roots
	return r
}

// exchange asks a question over an open connection, or a new one if there is none or the server has closed it.
func (t *tunnels) exchange(ctx context.Context, question *dns.Msg, name, address string) (*dns.Msg, error) {
	limited, cancel := context.WithTimeout(ctx, tunnelTimeout)
	defer cancel()
	key := name + "@" + address
	if open := t.take(key); open != nil {
		if answer, err := t.over(limited, open, question, key); err == nil || limited.Err() != nil {
			return answer, whose(ctx, err)
		}
	}
	dialer := tls.Dialer{Config: &tls.Config{ServerName: name, RootCAs: t.roots, MinVersion: tls.VersionTLS12}}
	conn, err := dialer.DialContext(limited, "tcp", address)
	if err != nil {
		return nil, whose(ctx, err)
	}
	answer, err := t.over(limited, &tunnel{Conn: &dns.Conn{Conn: conn}}, question, key)
	return answer, whose(ctx, err)
}

// whose returns the error of the caller's context if that has ended; the end of the time of one question is a timeout of the server.
func whose(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case endOf(ctx) != nil:
		return endOf(ctx)
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, net.ErrClosed):
		return os.ErrDeadlineExceeded
	}
	return err
}

// over asks over a connection, and keeps it for the next question if the answer is one.
func (t *tunnels) over(ctx context.Context, c *tunnel, question *dns.Msg, key string) (*dns.Msg, error) {
	message := question.Copy()
	message.Id = dns.Id()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	answer, err := c.ask(message)
	if !stop() || err != nil {
		_ = c.Close()
		if err == nil {
			err = ctx.Err()
		}
		return nil, err
	}
	t.keep(key, c)
	return answer, nil
}

func (c *tunnel) ask(message *dns.Msg) (*dns.Msg, error) {
	if err := c.WriteMsg(message); err != nil {
		return nil, err
	}
	answer, err := c.ReadMsg()
	switch {
	case err != nil:
		return nil, err
	case answer.Id != message.Id || !answersTo(message, answer):
		return nil, errNotAbout
	}
	return answer, nil
}

func (t *tunnels) take(key string) *tunnel {
	t.mu.Lock()
	defer t.mu.Unlock()
	for list := t.idle[key]; len(list) > 0; list = t.idle[key] {
		c := list[len(list)-1]
		t.idle[key] = list[:len(list)-1]
		if c.expire.Stop() {
			return c
		}
	}
	return nil
}

func (t *tunnels) keep(key string, c *tunnel) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.idle == nil {
		t.idle = map[string][]*tunnel{}
	}
	c.expire = time.AfterFunc(idleTime, func() { _ = c.Close(); t.forget(key, c) })
	t.idle[key] = append(t.idle[key], c)
}

// forget removes a connection that has waited for too long.
func (t *tunnels) forget(key string, c *tunnel) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, other := range t.idle[key] {
		if other == c {
			t.idle[key] = append(t.idle[key][:i:i], t.idle[key][i+1:]...)
			return
		}
	}
}
