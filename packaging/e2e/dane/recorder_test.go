package dane

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/textproto"
	"strings"
	"sync"
	"time"

	"mxcert/packaging/e2e/world"
)

// The recorder asks each server every 300 ms, and shakes hands less often: that costs the mail host a process and both a key exchange. So it
// makes ten handshakes a second at most. Each is asked more often than the shortest TTL.
const (
	everyAnswer = 300 * time.Millisecond
	leastShake  = 700 * time.Millisecond
	mostShake   = 1500 * time.Millisecond
)

// A recorder asks every server for the records of every name, and shakes hands at every address, until it is stopped.
type recorder struct {
	host *world.Host

	mu     sync.Mutex
	sights map[[2]string][]sight // by server and name
	shakes []shake
	silent map[string]int     // questions without an answer, by server
	lost   map[[2]string]bool // the last question had no answer
	every  time.Duration      // between the handshakes at one port
	wait   sync.WaitGroup
	stop   context.CancelFunc
	ctx    context.Context
}

// A source is a server that the recorder asks.
type source struct {
	address string
	cache   bool
	owners  []string
}

// record starts a recorder on a host.
func record(ctx context.Context, host *world.Host, sources []source, ports []port) *recorder {
	r := &recorder{host: host, sights: map[[2]string][]sight{}, silent: map[string]int{}, lost: map[[2]string]bool{}}
	r.ctx, r.stop = context.WithCancel(ctx)
	for _, s := range sources {
		r.wait.Go(func() { r.ask(s) })
	}
	streams := 0
	for _, p := range ports {
		streams += len(p.kinds)
	}
	r.every = min(max(time.Duration(streams)*100*time.Millisecond, leastShake), mostShake)
	for _, p := range ports {
		for _, kind := range p.kinds {
			r.wait.Go(func() { r.shake(p, kind) })
		}
	}
	return r
}

// end stops the recorder and returns what it has.
func (r *recorder) end() recording {
	r.stop()
	r.wait.Wait()
	var all recording
	for _, list := range r.sights {
		all.sights = append(all.sights, list...)
	}
	all.shakes = r.shakes
	return all
}

func (r *recorder) ask(s source) {
	var c net.Conn
	for r.ctx.Err() == nil {
		if c == nil {
			_ = r.host.Do(func() { c, _ = net.Dial("udp", net.JoinHostPort(s.address, "53")) })
		}
		for _, owner := range s.owners {
			if c == nil || r.ctx.Err() != nil {
				break
			}
			asked := time.Now()
			g, err := ask(c, owner, s.cache)
			r.note(s, owner, g, asked, time.Now(), err)
			if err != nil { // a new socket: late answers reach the old one
				c.Close()
				c = nil
			}
		}
		r.pause(everyAnswer)
	}
	if c != nil {
		c.Close()
	}
}

// note keeps an answer. What a server gave before it was silent, and after that again, are two sights: nobody knows what it gave meanwhile.
func (r *recorder) note(s source, owner string, g given, asked, answered time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := [2]string{s.address, owner}
	lost := r.lost[at]
	if r.lost[at] = err != nil || g.rcode != 0 && g.rcode != 3; r.lost[at] {
		r.silent[s.address]++
		return
	}
	if s.cache {
		g.signed = g.ad // only what it vouches for is used
	}
	if list := r.sights[at]; len(list) > 0 && !lost {
		before := &list[len(list)-1]
		if before.set == g.set && before.signed == g.signed && (s.cache || before.ttl == g.ttl) {
			before.last, before.ttl = asked, g.ttl
			before.count++
			return
		}
	}
	r.sights[at] = append(r.sights[at], sight{server: s.address, owner: owner, cache: s.cache, given: g, first: answered, last: asked, count: 1})
}

// A port is where the recorder shakes hands.
type port struct {
	address string // with a port
	name    string // SNI
	owners  []string
	kinds   []string
}

func (r *recorder) shake(p port, kind string) {
	for r.ctx.Err() == nil {
		h := shakeHands(r.host, p, kind)
		if r.ctx.Err() == nil {
			r.mu.Lock()
			r.shakes = append(r.shakes, h)
			r.mu.Unlock()
		}
		r.pause(r.every)
	}
}

// shakeHands makes one handshake from a host.
func shakeHands(host *world.Host, p port, kind string) shake {
	h := shake{address: p.address, owners: p.owners, kind: kind, begin: time.Now()}
	var c net.Conn
	var err error
	if failed := host.Do(func() { c, err = net.DialTimeout("tcp", p.address, 30*time.Second) }); failed != nil {
		err = failed
	}
	var state tls.ConnectionState
	if err == nil {
		state, err = startTLS(c, p.name, kind)
	}
	h.end = time.Now()
	if err != nil {
		h.failed = err.Error()
	}
	for i, cert := range state.PeerCertificates {
		if i == 0 {
			h.leaf = [][]byte{cert.Raw, cert.RawSubjectPublicKeyInfo}
		} else {
			h.chain = append(h.chain, cert.Raw, cert.RawSubjectPublicKeyInfo)
		}
	}
	return h
}

func (r *recorder) pause(d time.Duration) {
	select {
	case <-r.ctx.Done():
	case <-time.After(d):
	}
}

// suites are those of TLS 1.2 with which a server shows the certificate of one key type.
var suites = map[string][]uint16{
	"ec256":   {tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384},
	"rsa2048": {tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384},
}

// startTLS shakes hands with an SMTP server. Whatever it shows will do: the checker judges.
func startTLS(c net.Conn, name, kind string) (state tls.ConnectionState, err error) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	text := textproto.NewReader(bufio.NewReader(c))
	for _, step := range []struct {
		say  string
		code int
	}{{"", 220}, {"EHLO recorder.example\r\n", 250}, {"STARTTLS\r\n", 220}} {
		if _, err := c.Write([]byte(step.say)); err != nil {
			return state, err
		}
		if _, line, err := text.ReadResponse(step.code); err != nil {
			return state, fmt.Errorf("%q: %w %s", strings.TrimSpace(step.say), err, line)
		}
	}
	//nolint:gosec // the recorder records what is served, and trusts nothing
	t := tls.Client(c, &tls.Config{ServerName: name, InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: suites[kind]})
	if err := t.Handshake(); err != nil {
		return state, err
	}
	state = t.ConnectionState()
	_, _ = t.Write([]byte("QUIT\r\n"))
	return state, nil
}
