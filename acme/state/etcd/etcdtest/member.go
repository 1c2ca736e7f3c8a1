package etcdtest

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// Member is one member of a cluster.
type Member struct {
	cluster        *Cluster
	name           string
	clients, peers *Line
	server         server // nil while it is stopped
	watches        watches
}

// server is a member at work: in this process or another one.
type server interface {
	addresses() (clients, peers string)
	ready() error // waits
	stop() error  // waits
}

// plan is how a member is configured. It can be handed to another process.
type plan struct {
	Name, Dir, Token, Clients, Peers, Members string
}

func (m *Member) plan() plan {
	p := plan{Name: m.name, Dir: filepath.Join(m.cluster.dir, m.name), Token: fmt.Sprint(m.cluster.dir, m.cluster.token),
		Clients: m.clients.Address(), Peers: m.peers.Address()}
	var members []string
	for _, other := range m.cluster.Members {
		members = append(members, other.name+"=http://"+other.peers.Address())
	}
	p.Members = strings.Join(members, ",")
	return p
}

// config returns the configuration: elections are quick, and nothing is synced, so that leases of a second are possible on a slow machine.
func (p plan) config() *embed.Config {
	config := embed.NewConfig()
	config.Name, config.Dir = p.Name, p.Dir
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	config.TickMs, config.ElectionMs = 50, 500
	config.UnsafeNoFsync = true
	config.EnableGRPCGateway = false
	config.ListenPeerUrls = []url.URL{{Scheme: "http", Host: loopback + ":0"}}
	config.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: p.Peers}}
	config.ListenClientUrls = []url.URL{{Scheme: "http", Host: loopback + ":0"}}
	config.AdvertiseClientUrls = []url.URL{{Scheme: "http", Host: p.Clients}}
	config.InitialClusterToken, config.InitialCluster = p.Token, p.Members
	return config
}

// embedded is a member in this process.
type embedded struct{ *embed.Etcd }

func (e embedded) addresses() (clients, peers string) {
	return e.Clients[0].Addr().String(), e.Peers[0].Addr().String()
}

func (e embedded) ready() error {
	select {
	case <-e.Server.ReadyNotify():
		return nil
	case err := <-e.Err():
		return err
	case <-time.After(time.Minute):
		return fmt.Errorf("it is not ready after a minute")
	}
}

func (e embedded) stop() error {
	e.Close()
	return nil
}

func (m *Member) launch() {
	t := m.cluster.t
	t.Helper()
	var err error
	if m.cluster.processes {
		var p *process
		p, err = spawn(m.plan())
		m.server = p
	} else {
		config := m.plan().config()
		config.GRPCAdditionalServerOptions = []grpc.ServerOption{grpc.ChainStreamInterceptor(m.watches.intercept)}
		for _, change := range m.cluster.options {
			change(config)
		}
		if config.ClientTLSInfo.CertFile != "" {
			m.cluster.scheme = "https"
			config.ListenClientUrls[0].Scheme, config.AdvertiseClientUrls[0].Scheme = "https", "https"
		}
		var e *embed.Etcd
		e, err = embed.StartEtcd(config)
		m.server = embedded{e}
	}
	if err != nil {
		m.server = nil
		t.Fatalf("start %s: %v", m.name, err)
	}
	clients, peers := m.server.addresses()
	m.clients.lead(clients)
	m.peers.lead(peers)
}

func (m *Member) await() {
	m.cluster.t.Helper()
	if err := m.server.ready(); err != nil {
		m.cluster.t.Fatalf("%s: %v", m.name, err)
	}
}

// URL returns where clients find it.
func (m *Member) URL() string { return m.cluster.scheme + "://" + m.clients.Address() }

// Start starts a member that was stopped or killed, and waits until it serves: the others have to be a quorum with it.
func (m *Member) Start() {
	m.cluster.t.Helper()
	m.cluster.Start(m)
}

// Stop stops a member as an administrator would. What it has stays.
func (m *Member) Stop() { m.end(func() error { return m.server.stop() }) }

// Kill ends the process of a member at once.
func (m *Member) Kill() { m.end(func() error { return m.server.(*process).end(syscall.SIGKILL) }) }

func (m *Member) end(how func() error) {
	m.cluster.t.Helper()
	if m.server == nil {
		return
	}
	m.clients.lead("")
	m.peers.lead("")
	if err := how(); err != nil {
		m.cluster.t.Errorf("stop %s: %v", m.name, err)
	}
	m.server = nil
}

// Pause holds a member, until Resume: its process gets SIGSTOP. If it is in the process of the test, everything that goes to and from it is held
// instead, and its clock runs on.
func (m *Member) Pause() { m.hold(syscall.SIGSTOP, (*Line).Hang) }

// Resume ends Pause.
func (m *Member) Resume() { m.hold(syscall.SIGCONT, (*Line).Heal) }

func (m *Member) hold(signal syscall.Signal, fault func(*Line)) {
	m.cluster.t.Helper()
	if p, ok := m.server.(*process); ok {
		if err := p.cmd.Process.Signal(signal); err != nil {
			m.cluster.t.Error(err)
		}
		return
	}
	fault(m.clients)
	fault(m.peers)
}

// Clients returns the line of all clients to this member.
func (m *Member) Clients() *Line { return m.clients }

// Peers returns the line on which the other members reach this one. While it is cut, this one reaches them only.
func (m *Member) Peers() *Line { return m.peers }

// Line returns a new way for one client to this member, which can be broken without disturbing other clients.
func (m *Member) Line() *Line { return m.LineAt(loopback) }

// LineAt is Line, at another address of the loopback interface.
func (m *Member) LineAt(address string) *Line {
	m.cluster.t.Helper()
	line := newLine(m.cluster.t, address)
	line.lead(m.clients.Address())
	m.cluster.t.Cleanup(line.close)
	return line
}
