package resolve_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/miekg/dns"

	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/nameserver"
	"mxcert/cmd/mxcert-lab/port"
)

// TestDevicesOnTheWay: what drops, refuses or changes questions and answers costs time, and no answer.
func TestDevicesOnTheWay(t *testing.T) {
	t.Parallel()
	dropsEDNS := func(request, reply *dns.Msg) *dns.Msg {
		if request.IsEdns0() != nil {
			return nil
		}
		return reply
	}
	refusesEDNS := func(request, reply *dns.Msg) *dns.Msg {
		if request.IsEdns0() != nil {
			reply.Rcode, reply.Answer, reply.Ns, reply.Extra = dns.RcodeFormatError, nil, nil, nil
		}
		return reply
	}
	shouts := func(_, reply *dns.Msg) *dns.Msg {
		reply.Question[0].Name = strings.ToUpper(reply.Question[0].Name)
		return reply
	}
	for what, faults := range map[string]nameserver.Faults{
		"drops EDNS": {Edit: dropsEDNS}, "refuses EDNS": {Edit: refusesEDNS}, "changes the case": {Edit: shouts}, "truncates": {Truncate: true},
		"loses datagrams": {NoUDP: true}, "resets connections": {NoTCP: true},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := listen(t, judged(t), "127.0.0.1:0")
			var extended atomic.Int32 // answers to questions with EDNS
			if edit := faults.Edit; edit != nil {
				faults.Edit = func(request, reply *dns.Msg) *dns.Msg {
					if request.IsEdns0() != nil {
						extended.Add(1)
					}
					return edit(request, reply)
				}
			}
			s.SetFaults(faults)
			r := ask(s)
			if got := r.LookIPv4(t.Context(), "mx1.secure.test"); got.State != resolve.Secure || len(got.Records) != 2 {
				t.Errorf("%+v", got)
			}
			before := extended.Load()
			if got := r.LookIPv4(t.Context(), "none.secure.test"); got.State != resolve.Secure || !got.Denied() {
				t.Errorf("%+v", got)
			}
			if again := extended.Load() - before; strings.Contains(what, "EDNS") && (before == 0 || again > 0) {
				t.Errorf("EDNS was tried %d times, and %d times again", before, again)
			}
		})
	}
}

// TestMixedCase: nobody can guess how the name of a question is written.
func TestMixedCase(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	spellings := map[string]bool{}
	server := answering(t, func(w dns.ResponseWriter, question *dns.Msg) {
		mu.Lock()
		spellings[question.Question[0].Name] = true
		mu.Unlock()
		reply := new(dns.Msg).SetReply(question)
		reply.Answer = records("mx.a-long-name.example. 60 IN A 192.0.2.1")
		_ = w.WriteMsg(reply)
	})
	for range 10 {
		if got := resolve.New([]string{server}).LookIPv4(t.Context(), "mx.a-long-name.example"); len(got.Records) != 1 {
			t.Fatalf("%+v", got)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(spellings) < 9 { // of 2^16
		t.Errorf("%v", spellings)
	}
}

// hostile is a server of UDP and TCP on one port, which answer a question with speak.
func hostile(t testing.TB, datagram func(question []byte) []byte, stream func(conn net.Conn, question []byte)) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", port.Address(t))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = conn.Close(), listener.Close() })
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, peer, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			if reply := datagram(buffer[:n]); reply != nil {
				_, _ = conn.WriteTo(reply, peer)
			}
		}
	}()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				question := make([]byte, 4096)
				if n, err := c.Read(question); err == nil && n > 2 {
					stream(c, question[2:n])
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// TestHostileServers: each question ends in time and within little memory, with an error.
func TestHostileServers(t *testing.T) {
	truncated := func(question []byte) []byte {
		reply := append([]byte(nil), question[:12]...)
		reply[2], reply[3] = 0x82, 0
		return append(reply, question[12:]...)
	}
	header := func(question []byte, answers uint16) []byte {
		reply := append([]byte(nil), question...)
		reply[2], reply[3] = 0x80, 0
		binary.BigEndian.PutUint16(reply[6:], answers)
		binary.BigEndian.PutUint16(reply[10:], 0)
		return reply
	}
	for _, tt := range []struct {
		what     string
		datagram func([]byte) []byte
		stream   func(net.Conn, []byte)
	}{
		{"garbage", func(q []byte) []byte { return append(q[:2:2], strings.Repeat("\xff", 500)...) }, func(c net.Conn, q []byte) { _, _ = c.Write([]byte(strings.Repeat("\xff", 1<<16))) }},
		{"a pointer to itself", func(q []byte) []byte { return append(header(q[:12:12], 1), 0xc0, 12, 0, 1, 0, 1) }, func(c net.Conn, q []byte) {}},
		{"many records announced", func(q []byte) []byte { return header(q, 0xffff) }, func(c net.Conn, q []byte) {}},
		{"a length and nothing", truncated, func(c net.Conn, q []byte) { _, _ = c.Write([]byte{0xff, 0xff}); time.Sleep(time.Minute) }},
		{"one byte a second", truncated, func(c net.Conn, q []byte) {
			_, _ = c.Write([]byte{0xff, 0xff})
			for range 60 {
				if _, err := c.Write([]byte{0}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}},
		{"endless other answers", truncated, func(c net.Conn, q []byte) {
			other := header(q, 0)
			other[0] ^= 0xff
			message := append([]byte{byte(len(other) >> 8), byte(len(other))}, other...)
			for {
				if _, err := c.Write(message); err != nil {
					return
				}
			}
		}},
		{"a flood", truncated, func(c net.Conn, _ []byte) { _, _ = io.Copy(c, endless{}) }},
		{"64 KiB of records", truncated, func(c net.Conn, q []byte) {
			end := 12 + strings.IndexByte(string(q[12:]), 0) + 5
			reply := header(q[:end:end], 0)
			n := 0
			for ; len(reply) < 65000; n++ {
				reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, byte(n>>8), byte(n))
			}
			binary.BigEndian.PutUint16(reply[6:], uint16(n))
			_, _ = c.Write(append([]byte{byte(len(reply) >> 8), byte(len(reply))}, reply...))
		}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			server := hostile(t, tt.datagram, tt.stream)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			r := resolve.New([]string{server})
			got := r.LookIPv4(t.Context(), "mx.example.org")
			runtime.ReadMemStats(&after)
			if got.State != resolve.Failed || got.Err == nil || got.Denied() {
				t.Errorf("%+v", got)
			}
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("it took %s", took)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 8<<20 {
				t.Errorf("it took %d bytes", used)
			}
			if strings.ContainsFunc(got.Err.Error(), func(r rune) bool { return r < ' ' || r == utf8.RuneError }) || len(got.Err.Error()) > 400 {
				t.Errorf("said as %q", got.Err.Error())
			}
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			start = time.Now()
			if r.LookIPv6(ctx, "mx.example.org"); time.Since(start) > 1800*time.Millisecond { // a datagram is waited for longer
				t.Errorf("the end of the context came %s too late", time.Since(start))
			}
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestMemoryOfAnswers: many large answers of a hostile zone are not all kept.
func TestMemoryOfAnswers(t *testing.T) {
	s := listen(t, judged(t), "127.0.0.1:0")
	s.SetFaults(nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
		reply.Rcode, reply.Ns, reply.Answer = dns.RcodeSuccess, nil, many(request.Question[0].Name, 900)
		return reply
	}})
	r := ask(s)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	var wait sync.WaitGroup
	for i := range 300 {
		wait.Go(func() { r.LookIPv4(t.Context(), fmt.Sprintf("h%d.secure.test", i)) })
	}
	wait.Wait()
	if used := int64(heap()) - int64(before); used > 16<<20 {
		t.Errorf("%d bytes are kept", used)
	}
	runtime.KeepAlive(r)
}
