package nameserver_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/cmd/mxcert-lab/nameserver"
)

// silence is how long a test waits for an answer that must not come.
const silence = 150 * time.Millisecond

// try asks once and tells whether an answer came in time.
func try(network, address string, timeout time.Duration) (*dns.Msg, error) {
	ctx, stop := context.WithTimeout(context.Background(), timeout)
	defer stop()
	client := dns.Client{Net: network, Timeout: timeout}
	reply, _, err := client.ExchangeContext(ctx, new(dns.Msg).SetQuestion("mx.example.org.", dns.TypeA), address)
	return reply, err
}

func TestSilentFaults(t *testing.T) {
	s := listen(t, newWorld(t))
	tests := []struct {
		what     string
		faults   nameserver.Faults
		udp, tcp bool
	}{
		{"well", nameserver.Faults{}, true, true},
		{"dead", nameserver.Faults{Dead: true}, false, false},
		{"no UDP", nameserver.Faults{NoUDP: true}, false, true},
		{"no TCP", nameserver.Faults{NoTCP: true}, true, false},
		{"all datagrams dropped", nameserver.Faults{DropEvery: 1}, false, true},
		{"edited away", nameserver.Faults{Edit: func(_, _ *dns.Msg) *dns.Msg { return nil }}, false, false},
		{"well again", nameserver.Faults{}, true, true},
	}
	for _, test := range tests {
		s.SetFaults(test.faults)
		for network, want := range map[string]bool{"udp": test.udp, "tcp": test.tcp} {
			timeout := silence
			if want {
				timeout = time.Minute
			}
			if _, err := try(network, s.Address(), timeout); (err == nil) != want {
				t.Errorf("%s over %s: %v", test.what, network, err)
			}
		}
	}
}

func TestEveryThirdDatagramIsLost(t *testing.T) {
	s := listen(t, newWorld(t))
	s.SetFaults(nameserver.Faults{DropEvery: 3})
	for i := range 6 {
		timeout, want := time.Minute, true
		if i%3 == 2 {
			timeout, want = silence, false
		}
		if _, err := try("udp", s.Address(), timeout); (err == nil) != want {
			t.Errorf("question %d: %v", i+1, err)
		}
	}
}

func TestLoudFaults(t *testing.T) {
	w := newWorld(t)
	s := listen(t, w)
	s.SetFaults(nameserver.Faults{Rcode: dns.RcodeServerFailure})
	if reply := ask(t, "udp", s.Address(), "mx.example.org", dns.TypeA, true); reply.Rcode != dns.RcodeServerFailure {
		t.Errorf("the answer is %s", dns.RcodeToString[reply.Rcode])
	}
	s.SetFaults(nameserver.Faults{Truncate: true})
	if reply := ask(t, "udp", s.Address(), "mx.example.org", dns.TypeA, true); !reply.Truncated || len(reply.Answer) != 0 {
		t.Errorf("over UDP: %v", reply)
	}
	if reply := ask(t, "tcp", s.Address(), "mx.example.org", dns.TypeA, true); reply.Truncated || len(reply.Answer) != 1 {
		t.Errorf("over TCP: %v", reply)
	}
	s.SetFaults(nameserver.Faults{Edit: func(request, reply *dns.Msg) *dns.Msg {
		if request.Question[0].Qtype == dns.TypeA {
			reply.Answer = nil
		}
		return reply
	}})
	if reply := ask(t, "udp", s.Address(), "mx.example.org", dns.TypeA, true); len(reply.Answer) != 0 {
		t.Errorf("edited: %v", reply)
	}
	for _, rcode := range []int{dns.RcodeRefused, dns.RcodeNotAuth, dns.RcodeNotZone} {
		s.SetFaults(nameserver.Faults{UpdateRcode: rcode})
		update := new(dns.Msg).SetUpdate("example.org.")
		update.Insert(records(t, "a.example.org. 60 TXT x"))
		if got := send(t, s, update); got != rcode {
			t.Errorf("the update is answered with %s, want %s", dns.RcodeToString[got], dns.RcodeToString[rcode])
		}
	}
	if w.Serial("example.org") != 1 {
		t.Error("a refused update changed the zone")
	}
}

func TestLag(t *testing.T) {
	w := newWorld(t)
	primary, secondary := listen(t, w), listen(t, w)
	secondary.SetFaults(nameserver.Faults{Lag: time.Hour})
	insert(t, primary, "example.org.", "a.example.org. 60 TXT x")
	visible := func(s *nameserver.Server) bool {
		reply := ask(t, "udp", s.Address(), "a.example.org", dns.TypeTXT, false)
		return len(reply.Answer) == 1
	}
	serial := func(s *nameserver.Server) uint32 {
		return ask(t, "udp", s.Address(), "example.org", dns.TypeSOA, false).Answer[0].(*dns.SOA).Serial
	}
	if !visible(primary) || visible(secondary) {
		t.Errorf("visible at the primary %v, at the secondary that lags %v", visible(primary), visible(secondary))
	}
	if serial(primary) != 2 || serial(secondary) != 1 {
		t.Errorf("serials %d and %d", serial(primary), serial(secondary))
	}
	secondary.SetFaults(nameserver.Faults{Lag: silence})
	deadline := time.Now().Add(time.Minute)
	for !visible(secondary) {
		if time.Now().After(deadline) {
			t.Fatal("the secondary never catches up")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestDelay(t *testing.T) {
	s := listen(t, newWorld(t))
	s.SetFaults(nameserver.Faults{Delay: silence})
	start := time.Now()
	if _, err := try("udp", s.Address(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < silence {
		t.Errorf("answered after %s, want at least %s", took, silence)
	}
}

// TestCloseDoesNotWait closes a server while an answer is delayed and a connection is open.
func TestCloseDoesNotWait(t *testing.T) {
	w := newWorld(t)
	s, err := w.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.SetFaults(nameserver.Faults{Delay: time.Hour})
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	question := new(dns.Msg).SetQuestion("mx.example.org.", dns.TypeA)
	if err := (&dns.Conn{Conn: conn}).WriteMsg(question); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); len(w.Queries()) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the question never arrives")
		}
	}
	start := time.Now()
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("closing took %s", took)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
	if _, err := try("tcp", s.Address(), silence); err == nil {
		t.Error("a closed server answers")
	}
}

// TestEverythingAtOnce is for the race detector.
func TestEverythingAtOnce(t *testing.T) {
	w := newWorld(t)
	s := listen(t, w)
	var tasks sync.WaitGroup
	for _, task := range []func(){
		func() { _ = w.Replace("a.example.org. 60 TXT y") },
		func() { s.SetFaults(nameserver.Faults{Delay: time.Millisecond}) },
		func() { _, _ = try("udp", s.Address(), 5*time.Second) },
		func() { _, _, _ = w.TXT("a.example.org"), w.Challenges(), w.Updates() },
		func() { _ = w.SetTrust("example.org", nameserver.Secure) },
	} {
		tasks.Go(func() {
			for range 20 {
				task()
			}
		})
	}
	for range 20 {
		insert(t, s, "example.org.", "a.example.org. 60 TXT x")
	}
	tasks.Wait()
	if w.UpdateCount("example.org") != 20 {
		t.Errorf("%d updates are counted, want 20", w.UpdateCount("example.org"))
	}
}
