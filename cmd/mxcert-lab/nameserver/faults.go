package nameserver

import (
	"net"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Faults are the ways in which a server misbehaves. The zero value is a good server.
type Faults struct {
	Dead      bool          // it takes everything and answers nothing
	NoUDP     bool          // datagrams are lost
	NoTCP     bool          // connections are reset
	DropEvery int           // every n-th datagram is lost
	Truncate  bool          // every answer over UDP is empty and has TC set
	Delay     time.Duration // before each answer
	Lag       time.Duration // updates become visible here this much later
	Lame      bool          // it refuses questions without RD, as a server that lost the zone
	NoAA      bool          // answers without RD lack authority, as those of a cache
	// As an authoritative server, without RD:
	AsOf          time.Time // it has the zones as they were then, as a secondary that gets no transfers; zero: as they are
	Unsigned      bool      // it has signed zones without their signatures and keys
	BadSignatures bool      // its signatures do not fit what they are on
	SignedUntil   time.Time // its signatures expire then, whatever the others have
	// NegativeCache makes it, as a resolver, repeat for this long that a name does not exist (RFC 2308 section 5), whatever
	// was made there since.
	NegativeCache time.Duration

	Rcode       int // answer to all questions, e.g. dns.RcodeServerFailure; 0 = none of it
	UpdateRcode int // answer to all updates, e.g. dns.RcodeRefused; 0 = none of it

	// Before is called with each message before the server handles it, and may take its time.
	Before func(request *dns.Msg)
	// Edit may change a finished reply (a copy) before it is signed and sent; nil from it is silence.
	Edit func(request, reply *dns.Msg) *dns.Msg
}

// SetFaults changes how the server misbehaves from the next message on.
func (s *Server) SetFaults(f Faults) { s.faults.Store(&f) }

// Faults returns how the server misbehaves now.
func (s *Server) Faults() Faults { return *s.faults.Load() }

// silent reports whether a message is lost, and waits out the delay if it is not.
func (s *Server) silent(f Faults, udp bool) bool {
	if f.Dead || (udp && f.NoUDP) {
		return true
	}
	if udp && f.DropEvery > 0 && s.datagrams.Add(1)%int64(f.DropEvery) == 0 {
		return true
	}
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-s.closed:
			return true
		}
	}
	return false
}

// denied is the memory of a resolver for names that do not exist.
type denied struct {
	mu    sync.Mutex
	until map[string]time.Time
}

// holds reports whether a name was found not to exist a short while ago.
func (d *denied) holds(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Now().Before(d.until[name])
}

func (d *denied) note(name string, life time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.until == nil {
		d.until = map[string]time.Time{}
	}
	d.until[name] = time.Now().Add(life)
}

// listener resets the connections that come while TCP is out of order.
type listener struct {
	net.Listener
	server *Server
}

// Accept returns the next connection that is admitted.
func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil || !l.server.Faults().NoTCP {
			return conn, err
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
}
