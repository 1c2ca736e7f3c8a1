package etcdtest

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Line is a TCP address from which connections lead to another one. Its faults apply to the connections that there are and to new ones.
type Line struct {
	listener net.Listener

	mu       sync.Mutex
	changed  *sync.Cond
	target   string // "" refuses
	cut      bool
	hang     bool
	delay    time.Duration
	accepted int
	conns    map[net.Conn]struct{}
	closed   bool
	serving  sync.WaitGroup
	carried  atomic.Int64
}

func newLine(t testing.TB, address string) *Line {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	l := &Line{listener: listener, conns: map[net.Conn]struct{}{}}
	l.changed = sync.NewCond(&l.mu)
	l.serving.Go(l.serve)
	return l
}

// Address returns where to connect.
func (l *Line) Address() string { return l.listener.Addr().String() }

// URL returns where a client without TLS connects.
func (l *Line) URL() string { return "http://" + l.Address() }

// Accepted returns how many connections were made so far.
func (l *Line) Accepted() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.accepted
}

// Carried returns how many bytes went to and fro so far.
func (l *Line) Carried() int64 { return l.carried.Load() }

// Refuse closes the address for good.
func (l *Line) Refuse() {
	_ = l.listener.Close()
	l.fault(l.drop)
}

// Cut ends all connections, and new ones at once.
func (l *Line) Cut() { l.fault(func() { l.cut = true; l.drop() }) }

// Drop ends all connections; new ones are accepted.
func (l *Line) Drop() { l.fault(l.drop) }

// Hang holds everything that is sent: nobody is refused, and nobody gets an answer.
func (l *Line) Hang() { l.fault(func() { l.hang = true }) }

// Delay holds everything that is sent for a time.
func (l *Line) Delay(d time.Duration) { l.fault(func() { l.delay = d }) }

// Heal ends all faults. What was held goes on.
func (l *Line) Heal() { l.fault(func() { l.cut, l.hang, l.delay = false, false, 0 }) }

func (l *Line) fault(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	l.changed.Broadcast()
}

func (l *Line) drop() {
	for c := range l.conns {
		_ = c.Close()
	}
}

// lead makes connections lead to another target, and ends those to the one before.
func (l *Line) lead(target string) { l.fault(func() { l.target = target; l.drop() }) }

func (l *Line) close() {
	_ = l.listener.Close()
	l.fault(func() { l.closed = true; l.drop() })
	l.serving.Wait()
}

func (l *Line) serve() {
	for {
		conn, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.fault(func() { l.accepted++ })
		l.serving.Go(func() { l.connect(conn) })
	}
}

func (l *Line) connect(client net.Conn) {
	defer func() { _ = client.Close() }()
	target, ok := l.enter(client)
	defer l.leave(client)
	if !ok {
		return
	}
	server, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(context.Background(), "tcp", target)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	if _, ok := l.enter(server); !ok {
		return
	}
	defer l.leave(server)
	var copying sync.WaitGroup
	copying.Go(func() { l.copy(server, client) })
	copying.Go(func() { l.copy(client, server) })
	copying.Wait()
}

// enter notes a connection, if it may be.
func (l *Line) enter(conn net.Conn) (target string, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.cut || l.target == "" {
		return "", false
	}
	l.conns[conn] = struct{}{}
	return l.target, true
}

func (l *Line) leave(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, conn)
}

// copy hands on what is sent, with the faults of the moment.
func (l *Line) copy(to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		l.carried.Add(int64(n))
		if n > 0 && !l.pass() {
			return
		}
		if _, writeErr := to.Write(buffer[:n]); writeErr != nil || err != nil {
			return
		}
	}
}

// pass waits as long as the line holds. It reports whether the line is still there.
func (l *Line) pass() bool {
	l.mu.Lock()
	delay := l.delay
	l.mu.Unlock()
	time.Sleep(delay)
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.hang && !l.closed && !l.cut {
		l.changed.Wait()
	}
	return !l.closed && !l.cut
}
