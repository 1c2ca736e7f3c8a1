package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
)

// probePause is the time between two sessions with a host.
const probePause = 100 * time.Millisecond

// A wire is what senders see of a host, all the time, over boots: sessions with STARTTLS from inside, which no cut of a cable disturbs.
type wire struct {
	t    testing.TB
	name string
	host *mailhost.Host
	load *mailhost.Load
	past []mailhost.Session // of boots before
	bad  []string           // sessions that reached a server and had no TLS
}

// watch starts to look.
func watch(t testing.TB, h *host) *wire {
	v := &wire{t: t, name: h.name, host: h.Host}
	v.resume()
	return v
}

func (v *wire) resume() {
	v.load = v.host.StartLoad(context.WithoutCancel(v.t.Context()), 1, probePause, "127.0.0.1:25")
}

// rest stops looking, before the test itself has a server fail, until resume.
func (v *wire) rest() {
	counts := v.load.Stop()
	v.past = append(v.past, v.load.Sessions()...)
	if n := counts.Handshake + counts.Unavailable; n > 0 {
		v.bad = append(v.bad, counts.String())
	}
	v.load = nil
}

// sessions are all so far.
func (v *wire) sessions() []mailhost.Session {
	list := slices.Clone(v.past)
	if v.load != nil {
		list = append(list, v.load.Sessions()...)
	}
	return list
}

// serial is what the newest good session showed since a moment.
func (v *wire) serial(since time.Time) string {
	list := v.sessions()
	for i := len(list) - 1; i >= 0 && list[i].Began.After(since); i-- {
		if list[i].Serial != "" && list[i].Err == nil {
			return list[i].Serial
		}
	}
	return ""
}

// judge ends the look: no handshake failed, and nothing older was served than what had been served before.
func (v *wire) judge(rank func(serial string) (int, bool)) (sessions int, err error) {
	if v.load != nil {
		v.rest()
	}
	var errs []error
	for _, bad := range v.bad {
		errs = append(errs, fmt.Errorf("%s: senders had no certificate: %s", v.name, bad))
	}
	sessions, err = forward(v.past, rank)
	if err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", v.name, err))
	}
	return sessions, errors.Join(errs...)
}

// forward checks that sessions, in the order of their beginnings, saw no older certificate after a newer one. What a host has at first, nobody
// has issued.
func forward(list []mailhost.Session, rank func(serial string) (int, bool)) (sessions int, err error) {
	newest, of := -1, ""
	var errs []error
	for _, s := range list {
		if s.Serial == "" {
			continue
		}
		sessions++
		n, known := rank(s.Serial)
		switch {
		case !known && newest >= 0:
			errs = append(errs, fmt.Errorf("at %s it served %s, which nobody issued, after %s", clock(s.Secured), s.Serial, of))
		case known && n < newest:
			errs = append(errs, fmt.Errorf("at %s it served %s again, after %s", clock(s.Secured), s.Serial, of))
		case known:
			newest, of = n, s.Serial
		}
	}
	return sessions, errors.Join(errs...)
}

// serve waits until all hosts serve one certificate, which is not the given one.
func (w *town) serve(limit time.Duration, not string, hosts ...*host) (serial string) {
	w.t.Helper()
	serial, err := w.agreed(limit, not, hosts...)
	w.check(err)
	return serial
}

func (w *town) agreed(limit time.Duration, not string, hosts ...*host) (serial string, err error) {
	began := time.Now()
	err = wait(w.t.Context(), limit, func() error {
		since := time.Now().Add(-3 * time.Second)
		if since.Before(began) {
			since = began.Add(-probePause)
		}
		var seen []string
		for _, h := range hosts {
			serial := h.wire.serial(since)
			if _, issued := w.orders.rank(serial); !issued {
				serial = ""
			}
			seen = append(seen, serial)
		}
		serial = seen[0]
		if serial == "" || serial == not || len(slices.Compact(slices.Sorted(slices.Values(seen)))) != 1 {
			return errors.New("the hosts serve " + fmt.Sprint(seen))
		}
		return nil
	})
	return serial, err
}
