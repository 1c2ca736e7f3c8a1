package fleet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"mxcert/packaging/e2e/mailhost"
)

// ttl is that of TLSA records: how long a sender may use an answer.
const ttl = 2 * time.Second

const daneConfig = "    dane: {mode: publish, hold: 1s, ttl: 2s, ports: [25]}\n"

// A look is what the name server gave a sender.
type look struct {
	at  time.Time // when the answer was there
	set string    // the records, joined by "; "; "" is none
}

// lookers ask the name server for the TLSA records of each host, all the time.
type lookers struct {
	mu    sync.Mutex
	looks map[string][]look // by the name of the host
	stop  context.CancelFunc
	done  sync.WaitGroup
}

// publish has mxcert manage TLSA records from now on, and looks at them.
func (w *town) publish(t *testing.T) {
	l := &lookers{looks: map[string][]look{}}
	ctx, stop := context.WithCancel(t.Context())
	l.stop = stop
	w.lookers = l
	for _, h := range w.hosts {
		conn, err := w.dialCenter(ctx, "udp", townAddress+":53")
		w.check(err)
		l.done.Go(func() {
			defer conn.Close()
			for ; ctx.Err() == nil; pause(ctx, 200*time.Millisecond) {
				set, err := askTLSA(conn, "_25._tcp."+h.name+".example.org.")
				if err != nil {
					continue // the next one
				}
				l.mu.Lock()
				l.looks[h.name] = append(l.looks[h.name], look{time.Now(), set})
				l.mu.Unlock()
			}
		})
	}
	w.dane = true
	w.configure(w.hosts...)
	published := func(hosts ...*host) func() error {
		return func() error {
			serial := w.hosts[0].wire.serial(time.Now().Add(-3 * time.Second))
			for _, h := range hosts {
				if set := l.last(h.name); !strings.Contains(set, w.orders.record(serial)) || strings.Count(set, "3 1 1") < 2 {
					return fmt.Errorf("%s, which serves %s, has the records %q", h.name, w.orders.record(serial), set)
				}
			}
			return nil
		}
	}
	// One after the other, as operators do it: the first look of the others finds records. That must not hold back the next change of the key.
	w.must(w.hosts[0], "systemctl", "reload", "mxcert")
	w.within(firstLimit, "the first host publishes records", published(w.hosts[0]))
	for _, h := range w.hosts[1:] {
		w.must(h, "systemctl", "reload", "mxcert")
	}
	w.within(firstLimit, "the records of all hosts are published", published(w.hosts...))
	w.say("TLSA records are managed")
}

func (l *lookers) last(host string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.looks[host]
	if len(list) == 0 {
		return ""
	}
	return list[len(list)-1].set
}

// askTLSA asks an open UDP socket.
func askTLSA(c net.Conn, owner string) (set string, err error) {
	name, err := dnsmessage.NewName(owner)
	if err != nil {
		return "", err
	}
	question := dnsmessage.Message{Header: dnsmessage.Header{ID: uint16(rand.N(65536))}, //nolint:gosec // not a secret
		Questions: []dnsmessage.Question{{Name: name, Type: 52, Class: dnsmessage.ClassINET}}}
	text, err := question.Pack()
	if err != nil {
		return "", err
	}
	answer := make([]byte, 4096)
	if err := errors.Join(c.SetDeadline(time.Now().Add(2*time.Second)), second(c.Write(text))); err != nil {
		return "", err
	}
	var m dnsmessage.Message
	for m.ID != question.ID || !m.Response { // an answer to an earlier question may have come late
		n, err := c.Read(answer)
		if err == nil {
			err = m.Unpack(answer[:n])
		}
		if err != nil {
			return "", err
		}
	}
	if m.RCode != dnsmessage.RCodeSuccess && m.RCode != dnsmessage.RCodeNameError {
		return "", fmt.Errorf("the name server says %v", m.RCode)
	}
	var records []string
	for _, r := range m.Answers {
		if u, is := r.Body.(*dnsmessage.UnknownResource); is && u.Type == 52 && len(u.Data) > 3 {
			records = append(records, fmt.Sprintf("%d %d %d %x", u.Data[0], u.Data[1], u.Data[2], u.Data[3:]))
		}
	}
	slices.Sort(records)
	return strings.Join(records, "; "), nil
}

func second[T any](_ T, err error) error { return err }

// refusals are the sessions that a sender with DANE would have ended: it held records, and none of them was of the key that was shown.
func refusals(looks []look, sessions []mailhost.Session, record func(serial string) string) (judged int, errs []error) {
	for _, s := range sessions {
		if s.Serial == "" {
			continue
		}
		// Whatever was given from TTL before the handshake on, a sender may have held; also what was given last before that.
		var held []string
		for i, l := range looks {
			ends := s.Secured
			if i+1 < len(looks) {
				ends = looks[i+1].at
			}
			if l.at.Before(s.Secured) && !ends.Before(s.Secured.Add(-ttl)) {
				held = append(held, l.set)
			}
		}
		for _, set := range held {
			judged++
			if set != "" && !strings.Contains(set, "3 1 1 "+record(s.Serial)) {
				errs = append(errs, fmt.Errorf("at %s it showed %s, whose record is %s, and a sender may have held %s", clock(s.Secured), s.Serial, record(s.Serial), set))
			}
		}
	}
	return judged, errs
}

// judgeTLSA ends the looks.
func (w *town) judgeTLSA(t *testing.T) {
	t.Helper()
	w.lookers.stop()
	w.lookers.done.Wait()
	judged, sets := 0, map[string]bool{}
	for _, h := range w.hosts {
		looks := w.lookers.looks[h.name]
		if len(looks) == 0 {
			t.Fatal("nobody looked")
		}
		for _, l := range looks {
			sets[l.set] = true
		}
		var since []mailhost.Session
		for _, s := range h.wire.sessions() {
			if s.Began.After(looks[0].at) {
				since = append(since, s)
			}
		}
		n, errs := refusals(looks, since, w.orders.record)
		judged += n
		for _, err := range errs[:min(len(errs), 5)] {
			t.Errorf("%s: %v", h.name, err)
		}
	}
	if judged == 0 {
		t.Error("no session was judged")
	}
	figure(t, "%d pairs of a handshake and the TLSA records that a sender may have held then, none refused; %d sets of records", judged, len(sets))
}
