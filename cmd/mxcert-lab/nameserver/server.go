package nameserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// Server answers for a world on one address, over UDP and TCP on the same port.
type Server struct {
	world     *World
	served    map[string]bool // nil: all zones
	address   string
	faults    atomic.Pointer[Faults]
	datagrams atomic.Int64
	denied    denied
	closed    chan struct{}
	close     sync.Once
	running   []*dns.Server
}

// Listen starts a server. address is address:port, where port 0 takes a free one. It is authoritative for the named zones, or
// for all that the world has or will have if none is named; it answers questions with RD from all zones.
func (w *World) Listen(address string, zones ...string) (*Server, error) {
	tcp, udp, err := bind(address)
	if err != nil {
		return nil, fmt.Errorf("start a name server: %w", err)
	}
	s := &Server{world: w, address: tcp.Addr().String(), closed: make(chan struct{})}
	s.SetFaults(Faults{})
	for _, apex := range zones {
		if s.served == nil {
			s.served = map[string]bool{}
		}
		s.served[dns.CanonicalName(apex)] = true
	}
	s.running = []*dns.Server{{PacketConn: udp}, {Listener: &listener{Listener: tcp, server: s}}}
	for _, server := range s.running {
		started := make(chan struct{})
		server.Handler = dns.HandlerFunc(s.serve)
		server.TsigProvider = signer{w}
		server.MsgAcceptFunc = accept
		server.UDPSize = dns.MaxMsgSize
		server.MaxTCPQueries = -1
		server.ReadTimeout = 10 * time.Second
		server.NotifyStartedFunc = func() { close(started) }
		go func() { _ = server.ActivateAndServe() }() // ends with an error at Close
		<-started
	}
	return s, nil
}

// bind opens both sockets on one port. A free TCP port may be taken for UDP, so another is tried then.
func bind(address string) (net.Listener, net.PacketConn, error) {
	var config net.ListenConfig
	var all error
	for range 10 {
		tcp, err := config.Listen(context.Background(), "tcp", address)
		if err != nil {
			return nil, nil, err
		}
		udp, err := config.ListenPacket(context.Background(), "udp", tcp.Addr().String())
		if err == nil {
			return tcp, udp, nil
		}
		_ = tcp.Close()
		all = errors.Join(all, err)
	}
	return nil, nil, all
}

// accept lets in questions and updates; the package's own rule refuses updates.
func accept(h dns.Header) dns.MsgAcceptAction {
	if h.Bits&(1<<15) != 0 { // QR: a reply
		return dns.MsgIgnore
	}
	switch opcode := int(h.Bits>>11) & 0xF; {
	case opcode != dns.OpcodeQuery && opcode != dns.OpcodeUpdate:
		return dns.MsgRejectNotImplemented
	case h.Qdcount != 1:
		return dns.MsgReject
	}
	return dns.MsgAccept
}

// Address is where the server listens, "address:port".
func (s *Server) Address() string { return s.address }

// Close stops the server: its address refuses connections from now on.
func (s *Server) Close() error {
	var all []error
	s.close.Do(func() {
		close(s.closed)
		for _, server := range s.running {
			all = append(all, server.Shutdown())
		}
	})
	return errors.Join(all...)
}

func (s *Server) serve(w dns.ResponseWriter, request *dns.Msg) {
	faults := s.Faults()
	_, udp := w.RemoteAddr().(*net.UDPAddr)
	tsig, status := request.IsTsig(), w.TsigStatus()
	s.world.log.question(s, request, udp)
	if !udp && faults.NoTCP {
		_ = w.Close() // the connection is older than the fault
		return
	}
	if s.silent(faults, udp) {
		return
	}
	restore := lowerCase(request)
	if faults.Before != nil {
		faults.Before(request)
	}
	reply := new(dns.Msg).SetReply(request)
	reply.RecursionAvailable = true
	switch {
	case request.Opcode == dns.OpcodeUpdate:
		s.update(faults, request, reply, status, udp)
	case status != nil: // sign says so
	default:
		s.query(faults, request, reply, udp)
	}
	if faults.Edit != nil {
		if reply = faults.Edit(request, reply); reply == nil {
			return
		}
	}
	restore(reply)
	if tsig != nil {
		sign(reply, tsig, status)
	}
	_ = w.WriteMsg(reply) // it does not matter if the client is gone
}

// lowerCase writes the name of a question in lower case, so that faults can compare it. Clients mix upper and lower case against forgery:
// restore gives a reply their spelling, unless a fault has changed the name.
func lowerCase(request *dns.Msg) (restore func(reply *dns.Msg)) {
	if request.Opcode != dns.OpcodeQuery {
		return func(*dns.Msg) {}
	}
	spelling := request.Question[0].Name
	lower := dns.CanonicalName(spelling)
	request.Question[0].Name = lower
	return func(reply *dns.Msg) {
		if len(reply.Question) == 1 && reply.Question[0].Name == lower {
			reply.Question[0].Name = spelling
		}
	}
}

func (s *Server) update(faults Faults, request, reply *dns.Msg, status error, udp bool) {
	signer := ""
	if tsig := request.IsTsig(); tsig != nil && status == nil {
		signer = dns.CanonicalName(tsig.Hdr.Name)
	}
	switch {
	case status != nil:
		reply.Rcode = dns.RcodeNotAuth
	case faults.UpdateRcode != 0:
		reply.Rcode = faults.UpdateRcode
	case signer == "":
		reply.Rcode = dns.RcodeRefused
	default:
		reply.Rcode = s.world.update(request, signer, s.served)
	}
	s.world.log.update(s, request, udp, reply.Rcode, signer)
}

func (s *Server) query(faults Faults, request, reply *dns.Msg, udp bool) {
	asked := request.Question[0]
	size := dns.MinMsgSize
	wantsTrust, wantsProof := request.AuthenticatedData, false
	if opt := request.IsEdns0(); opt != nil {
		size = max(size, int(opt.UDPSize()))
		wantsTrust, wantsProof = wantsTrust || opt.Do(), opt.Do()
		reply.SetEdns0(1232, opt.Do())
	}
	switch {
	case faults.Truncate && udp:
		reply.Truncated = true
		return
	case faults.Rcode != 0:
		reply.Rcode = faults.Rcode
		return
	case asked.Qclass != dns.ClassINET, faults.Lame && !request.RecursionDesired:
		reply.Rcode = dns.RcodeRefused
		return
	}
	name := dns.CanonicalName(asked.Name)
	cached := faults.NegativeCache > 0 && request.RecursionDesired && s.denied.holds(name)
	q := &question{
		world: s.world, served: s.served, seenAt: time.Now().Add(-faults.Lag), recursive: request.RecursionDesired,
		qtype: asked.Qtype, checkOff: request.CheckingDisabled, faults: faults, wantsProof: wantsProof, reply: reply,
	}
	if !q.recursive && !faults.AsOf.IsZero() && faults.AsOf.Before(q.seenAt) {
		q.seenAt = faults.AsOf
	}
	s.world.mu.RLock()
	if q.answer(name); cached {
		q.deny(name)
	}
	s.world.mu.RUnlock()
	if faults.NegativeCache > 0 && request.RecursionDesired && !cached && reply.Rcode == dns.RcodeNameError {
		s.denied.note(name, faults.NegativeCache)
	}
	reply.Authoritative = reply.Authoritative && (request.RecursionDesired || !faults.NoAA)
	reply.AuthenticatedData = reply.AuthenticatedData && wantsTrust // RFC 6840 section 5.7
	if udp {
		reply.Truncate(size)
	}
}
