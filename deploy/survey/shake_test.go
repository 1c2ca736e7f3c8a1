package survey

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert-lab/port"
	"mxcert/cmd/mxcert-lab/smtpd"
	"mxcert/deploy/starttls"
	"mxcert/deploy/verdict"
)

// asks lists what was asked for: key type and SNI.
func asks(h Host) (list []string) {
	for _, shaken := range h.Handshakes {
		list = append(list, string(shaken.Ask)+"/"+strings.TrimSuffix(shaken.ServerName, ".example.org"))
	}
	return list
}

func (p *peer) seen() (total, most, quits int, commands []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.total, p.most, p.quits, slices.Clone(p.commands)
}

// settle waits until the server has noticed that all clients are gone.
func (p *peer) settle(t *testing.T) {
	t.Helper()
	for range 3000 {
		p.mu.Lock()
		now := p.now
		p.mu.Unlock()
		if now == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("connections stay open")
}

func TestConnections(t *testing.T) {
	t.Parallel()
	ca := newPKI(t)
	ec, rsa := ca.leaf(ecKey(t)), ca.leaf(rsaKey(t, 2048))
	for _, tt := range []struct {
		name    string
		records []string
		change  func(*Options)
		tls     *tls.Config
		asked   string // of the first entry
		total   int
	}{
		{"the most telling four", nil, nil, nil, "[any/mx rsa/mx any/ any/unknown.invalid]", 4},
		{"RSA preferred", nil, nil, &tls.Config{Certificates: []tls.Certificate{rsa}}, "[any/mx ecdsa/mx any/ any/unknown.invalid]", 4},
		{"one", nil, func(o *Options) { o.Connections = 1 }, nil, "[any/mx]", 1},
		{"more", nil, func(o *Options) { o.Connections = 50 }, nil, "[any/mx rsa/mx any/ any/unknown.invalid ecdsa/mx]", 5},
		{"old TLS only", nil, nil, &tls.Config{Certificates: []tls.Certificate{ec}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "[any/mx old-tls/mx any/ rsa/mx]", 4},
		{"full", nil, func(o *Options) { o.Full = true }, nil,
			"[any/mx rsa/mx any/ any/unknown.invalid ecdsa/mx tls13/mx ecdsa/ rsa/ tls13/ ecdsa/unknown.invalid rsa/unknown.invalid tls13/unknown.invalid]", 12},
		{"ours", nil, func(o *Options) { o.Ours, o.Connections = local, 1 }, nil,
			"[any/mx rsa/mx any/ any/unknown.invalid ecdsa/mx tls13/mx ecdsa/ rsa/ tls13/ ecdsa/unknown.invalid rsa/unknown.invalid tls13/unknown.invalid]", 12},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, "mx A 127.5.7.1")
			if tt.tls == nil {
				tt.tls = &tls.Config{Certificates: []tls.Certificate{ec, rsa}}
			}
			p := (&peer{config: tt.tls}).listen(t, "127.5.7.1", w.port)
			options := w.options()
			if tt.change != nil {
				tt.change(&options)
			}
			list := LookAtHost(within(t, 30*time.Second), "mx.example.org", options)
			if got := fmt.Sprint(asks(list[0])); got != tt.asked {
				t.Errorf("asked %s, want %s", got, tt.asked)
			}
			p.settle(t)
			total, most, quits, commands := p.seen()
			if alerts := tt.name == "old TLS only"; total != tt.total || most != 1 && !alerts { // after an alert the client is faster than the server
				t.Errorf("%d connections, %d at a time; want %d, one at a time", total, most, tt.total)
			}
			good := 0
			for _, shaken := range list[0].Handshakes {
				if shaken.Err == nil {
					good++
				}
			}
			if quits != good || slices.ContainsFunc(commands, func(c string) bool { return !slices.Contains([]string{"EHLO", "STARTTLS", "QUIT"}, c) }) {
				t.Errorf("%d QUITs after %d good handshakes, commands %v", quits, good, commands)
			}
		})
	}
}

// TestTLSABaseIsAskedEarly: a DANE sender sends the base domain in SNI.
func TestTLSABaseIsAskedEarly(t *testing.T) {
	t.Parallel()
	w, ca := newWorld(t, "mx CNAME real", "real A 127.5.7.2"), newPKI(t)
	check(t, w.dns.Add(fmt.Sprintf("_%d._tcp.real.example.org. TLSA 3 1 1 %064d", w.port, 1)))
	(&peer{config: &tls.Config{Certificates: []tls.Certificate{ca.leaf(ecKey(t))}}}).listen(t, "127.5.7.2", w.port)
	list := LookAtHost(within(t, 30*time.Second), "mx.example.org", w.options())
	if got := fmt.Sprint(asks(list[0])); got != "[any/mx any/real rsa/real rsa/mx]" {
		t.Error(got)
	}
}

// TestSharedAddress: hosts with the same address share its connections, and have one at a time together.
func TestSharedAddress(t *testing.T) {
	t.Parallel()
	w, ca := newWorld(t, "mx A 127.5.7.3", "mx2 A 127.5.7.3", "@ MX 1 mx", "@ MX 2 mx2"), newPKI(t)
	p := (&peer{config: &tls.Config{Certificates: []tls.Certificate{ca.leaf(ecKey(t))}}}).listen(t, "127.5.7.3", w.port)
	_, list := LookAtDomain(within(t, 30*time.Second), "example.org", w.options())
	p.settle(t)
	if total, most, _, _ := p.seen(); total != 4 || most != 1 || len(list) != 2 || len(list[0].Handshakes) != 2 || len(list[1].Handshakes) != 2 {
		t.Errorf("%d connections, %d at a time; %d entries", total, most, len(list))
	}
}

// TestPortsOfOurs looks at further ports of our own addresses, and at none of others.
func TestPortsOfOurs(t *testing.T) {
	t.Parallel()
	for _, ours := range []bool{true, false} {
		w := newWorld(t, "mx A 127.5.7.4")
		b, other, closed := w.issue("mx.example.org"), port.Reserve(t), port.Reserve(t)
		w.mail("127.5.7.4", "mx.example.org", smtpd.Faults{}, b)
		w.mailAt("127.5.7.4", other, "mx.example.org", smtpd.Faults{}, b)
		options := w.options()
		options.Ports = []int{other, w.port, closed}
		if ours {
			options.Ours = local
		}
		var ports []int
		for _, h := range LookAtHost(within(t, 30*time.Second), "mx.example.org", options) {
			if len(h.Handshakes) == 0 || h.Handshakes[0].Err != nil {
				t.Errorf("%+v", h.Handshakes)
			}
			ports = append(ports, h.Port)
		}
		want := []int{w.port}
		if ours {
			want = append(want, other)
		}
		if !slices.Equal(ports, want) {
			t.Errorf("ports %v, want %v", ports, want)
		}
	}
}

// TestOurReload: the port of our own server may be closed for a moment.
func TestOurReload(t *testing.T) {
	t.Parallel()
	w, ca := newWorld(t, "mx A 127.5.7.5"), newPKI(t)
	options := w.options()
	options.Ours = local
	time.AfterFunc(300*time.Millisecond, func() {
		(&peer{config: &tls.Config{Certificates: []tls.Certificate{ca.leaf(ecKey(t))}}}).listen(t, "127.5.7.5", w.port)
	})
	list := LookAtHost(within(t, 30*time.Second), "mx.example.org", options)
	if len(list) != 1 || list[0].Handshakes[0].Err != nil {
		t.Errorf("%+v", list)
	}
}

// TestLaterRefusals: what a server does when it has enough of this client is no fault of its TLS.
func TestLaterRefusals(t *testing.T) {
	t.Parallel()
	w, ca := newWorld(t, "mx A 127.5.7.6"), newPKI(t)
	p := &peer{config: &tls.Config{Certificates: []tls.Certificate{ca.leaf(ecKey(t))}}}
	listener, err := net.Listen("tcp", fmt.Sprintf("127.5.7.6:%d", w.port))
	check(t, err)
	defer listener.Close()
	p.greeting, p.plain, p.secure, p.starttls = "220 mx.example.org\r\n", "250-mx.example.org\r\n250 STARTTLS\r\n", "250 mx.example.org\r\n", "220 go\r\n"
	go func() {
		for n := 0; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if n == 0 {
				go func() { defer conn.Close(); p.talk(conn, func() {}) }()
				continue
			}
			_, _ = conn.Write([]byte("421 too many connections\r\n"))
			conn.Close()
		}
	}()
	list := LookAtHost(within(t, 30*time.Second), "mx.example.org", w.options())
	if got := list[0].Handshakes; len(got) != 1 || got[0].Err != nil {
		t.Errorf("%+v", got)
	}
}

// TestPlan lists each handshake once.
func TestPlan(t *testing.T) {
	route := verdict.Route{Host: "mx", Bases: []verdict.Base{{Domain: "real"}, {Domain: "mx"}}}
	list := plan(verdict.Handshake{ServerName: "mx", Ask: starttls.Any}, route, true)
	for i, a := range list {
		if slices.Contains(list[:i], a) || a == (ask{starttls.Any, "mx"}) {
			t.Errorf("%+v twice", a)
		}
	}
	if !slices.Contains(list, ask{starttls.TLS13, "real"}) || !slices.Contains(list, ask{starttls.OldTLS, "mx"}) {
		t.Errorf("%+v", list)
	}
}

func TestCancelledBefore(t *testing.T) {
	w := newWorld(t, "mx A 127.5.7.7", "@ MX 1 mx")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	start := time.Now()
	LookAtDomain(ctx, "example.org", w.options())
	LookAtHost(ctx, netip.MustParseAddr("127.5.7.7").String(), w.options())
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("ends after %s", took)
	}
}
