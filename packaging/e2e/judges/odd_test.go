package judges

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"mxcert/packaging/e2e/world"
)

// oddities are SMTP servers that Debian's servers cannot be made to be. Each is a function of one connection.
var oddities = map[string]func(*oddity){
	"good":            func(o *oddity) { o.talk() },
	"requiretls":      func(o *oddity) { o.inside = []string{"REQUIRETLS", "PIPELINING"}; o.talk() },
	"requiretls-out":  func(o *oddity) { o.outside = append(o.outside, "REQUIRETLS"); o.talk() },
	"stripped":        func(o *oddity) { o.outside = []string{"PIPELINING", "XXXXXXXA"}; o.talk() },
	"no-starttls":     func(o *oddity) { o.outside = []string{"PIPELINING"}; o.talk() },
	"refused":         func(o *oddity) { o.answer = "454 4.7.0 TLS not available due to local problem\r\n"; o.talk() },
	"injected":        func(o *oddity) { o.answer = "220 go ahead\r\n250 injected\r\n"; o.talk() },
	"starttls-inside": func(o *oddity) { o.inside = []string{"STARTTLS", "PIPELINING"}; o.talk() },
	"ehlo-differs":    func(o *oddity) { o.nameInside = "inside.example"; o.talk() },
	"multi-line":      func(o *oddity) { o.greeting = "220-one\r\n220-two\r\n220 \r\n"; o.talk() },
	"bare-codes":      func(o *oddity) { o.greeting, o.answer = "220\r\n", "220\r\n"; o.talk() },
	"late":            func(o *oddity) { time.Sleep(3 * time.Second); o.talk() },
	"refuses-us":      func(o *oddity) { o.say("554 5.7.1 your address is on a list\r\n") },
	"busy":            func(o *oddity) { o.say("421 4.3.2 too many connections, try again later\r\n") },
	"greylist":        func(o *oddity) { o.rcpt = "451 4.7.1 try again later\r\n"; o.talk() },
	"silent":          func(o *oddity) { o.hold() },
	"closes":          func(*oddity) {},
	"alert": func(o *oddity) {
		o.handshake = func() bool { _, _ = o.conn.Write([]byte{21, 3, 3, 0, 2, 2, 40}); return false }
		o.talk()
	},
	"garbage": func(o *oddity) {
		o.handshake = func() bool {
			_, _ = o.conn.Read(make([]byte, 1)) // words behind the 220 would be injection if they came before the handshake begins
			o.say("this is not TLS\r\n")
			return false
		}
		o.talk()
	},
	"reset": func(o *oddity) {
		o.handshake = func() bool { _ = o.conn.(*net.TCPConn).SetLinger(0); return false }
		o.talk()
	},
	"client-certificate": func(o *oddity) { o.config.ClientAuth = tls.RequestClientCert; o.talk() },
	"sni-required": func(o *oddity) {
		o.config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if hello.ServerName == "" {
				return nil, errors.New("no name")
			}
			return nil, nil
		}
		o.talk()
	},
}

// oddity is one connection to such a server.
type oddity struct {
	conn                 net.Conn
	config               *tls.Config
	greeting, nameInside string
	outside, inside      []string
	answer               string // to STARTTLS; with 220 a handshake follows
	rcpt                 string
	handshake            func() bool
	ended                <-chan struct{}
}

func (o *oddity) say(text string) { _, _ = o.conn.Write([]byte(text)) }

// hold says nothing until the peer leaves or the test ends.
func (o *oddity) hold() {
	gone := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, o.conn); close(gone) }()
	select {
	case <-o.ended:
	case <-gone:
	}
}

func (o *oddity) talk() {
	o.say(or(o.greeting, "220 odd.receiver.example ESMTP\r\n"))
	name, offers := "odd.receiver.example", o.outside
	for r := bufio.NewReader(o.conn); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " "); verb {
		case "EHLO":
			o.say("250-" + strings.Join(append([]string{name}, offers...), "\r\n250-") + "\r\n250 8BITMIME\r\n")
		case "HELO":
			o.say("250 " + name + "\r\n")
		case "STARTTLS":
			if !slices.Contains(offers, "STARTTLS") {
				o.say("502 5.5.1 not here\r\n")
				continue
			}
			o.say(o.answer)
			if !strings.HasPrefix(o.answer, "220") {
				continue
			}
			if !o.handshake() {
				return
			}
			r, name, offers = bufio.NewReader(o.conn), or(o.nameInside, name), o.inside
		case "RCPT":
			o.say(o.rcpt)
		case "DATA":
			o.say("354 go on\r\n")
			for line != ".\r\n" && err == nil {
				line, err = r.ReadString('\n')
			}
			o.say("250 2.0.0 thrown away\r\n")
		case "QUIT":
			o.say("221 2.0.0 bye\r\n")
			return
		default:
			o.say("250 2.0.0 well\r\n")
		}
	}
}

func (o *oddity) startTLS() bool {
	c := tls.Server(o.conn, o.config)
	o.conn = c
	return c.Handshake() == nil
}

// serveOdd listens on the addresses of the odd rows, in the receiver's network.
func serveOdd(w *world.World, seats []*seat, ended <-chan struct{}) error {
	for _, s := range seats {
		kind, odd := strings.CutPrefix(s.server, "odd:")
		if !odd || kind == "closed" {
			continue
		}
		serve := oddities[kind]
		if serve == nil {
			serve = hostilities[kind]
		}
		if serve == nil {
			return fmt.Errorf("%s: no such server: %q", s.id, s.server)
		}
		if err := listenOdd(w.Receiver, s, serve, ended); err != nil {
			return err
		}
	}
	return nil
}

func listenOdd(h *world.Host, s *seat, serve func(*oddity), ended <-chan struct{}) error {
	var l net.Listener
	var listened error
	if err := h.Do(func() { l, listened = net.Listen("tcp", s.ip+":25") }); err != nil {
		return err
	}
	if listened != nil {
		return listened
	}
	go func() { <-ended; l.Close() }()
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: s.chain, PrivateKey: s.leaves[0].key}}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				o := &oddity{conn: c, config: config.Clone(), outside: []string{"PIPELINING", "STARTTLS"}, inside: []string{"PIPELINING"}, answer: "220 2.0.0 go ahead\r\n", rcpt: "250 2.1.5 well\r\n", ended: ended}
				o.handshake = o.startTLS
				serve(o)
				o.conn.Close()
			}()
		}
	}()
	return nil
}

// serveFaultyDNS opens the ports of a name server that never answers, and of one that answers SERVFAIL.
func serveFaultyDNS(w *world.World, ended <-chan struct{}) error {
	var deaf, lame net.PacketConn
	var errs [2]error
	err := w.Receiver.Do(func() {
		deaf, errs[0] = net.ListenPacket("udp", deafServer+":53")
		lame, errs[1] = net.ListenPacket("udp", lameServer+":53")
	})
	if err := errors.Join(err, errs[0], errs[1]); err != nil {
		return fmt.Errorf("the faulty name servers: %w", err)
	}
	go func() { <-ended; deaf.Close(); lame.Close() }()
	go func() {
		for buffer := make([]byte, 4096); ; {
			n, from, err := lame.ReadFrom(buffer)
			if err != nil {
				return
			}
			if n > 12 {
				_, _ = lame.WriteTo(serverFailure(buffer[:n]), from)
			}
		}
	}()
	return nil
}

// serverFailure answers a DNS question with SERVFAIL (RFC 1035 4.1.1): its header and its name, type and class come back.
func serverFailure(question []byte) []byte {
	end := 12
	for end < len(question) && question[end] != 0 {
		end += 1 + int(question[end])
	}
	answer := slices.Clone(question[:min(end+5, len(question))])
	answer[2] |= 0x80
	answer[3] = 2
	clear(answer[6:12])
	return answer
}
