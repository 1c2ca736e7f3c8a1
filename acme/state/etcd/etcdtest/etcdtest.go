// Package etcdtest runs real members of etcd in the process of a test, with lines between them and to them that the test can break.
//
// No test has to guess a free port: each member listens where the kernel puts it, behind a line that has its address for the whole test, also
// while the member is down. The members advertise the addresses of lines to each other, so that a link between two of them can be cut, too.
//
// A pause is not SIGSTOP: the member is in the process of the test, so its lines are held, and its clock runs on.
package etcdtest

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

const loopback = "127.0.0.1"

// Cluster is one or more members.
type Cluster struct {
	Members []*Member
	t       testing.TB
	dir     string
	token   int
	options []func(*embed.Config)
}

// Start starts members and waits until they serve. options change how each member is configured: quotas, TLS.
func Start(t testing.TB, members int, options ...func(*embed.Config)) *Cluster {
	t.Helper()
	c := &Cluster{t: t, dir: t.TempDir(), options: options}
	for i := range members {
		m := &Member{cluster: c, name: fmt.Sprintf("m%d", i)}
		m.clients, m.peers = newLine(t, loopback), newLine(t, loopback)
		c.Members = append(c.Members, m)
	}
	t.Cleanup(c.stop)
	c.start()
	return c
}

func (c *Cluster) start() {
	c.t.Helper()
	for _, m := range c.Members {
		m.launch()
	}
	for _, m := range c.Members {
		m.await()
	}
}

func (c *Cluster) stop() {
	for _, m := range c.Members {
		m.Stop()
	}
	for _, m := range c.Members {
		m.clients.close()
		m.peers.close()
	}
}

// Endpoints returns the URLs of all members.
func (c *Cluster) Endpoints() (urls []string) {
	for _, m := range c.Members {
		urls = append(urls, m.URL())
	}
	return urls
}

// Wipe stops all members, removes what they have, and starts them as a new cluster at the same addresses.
func (c *Cluster) Wipe() {
	c.t.Helper()
	for _, m := range c.Members {
		m.Stop()
		if err := os.RemoveAll(m.dir()); err != nil {
			c.t.Fatal(err)
		}
	}
	c.token++
	c.start()
}

// Member is one member.
type Member struct {
	cluster        *Cluster
	name           string
	clients, peers *Line
	server         *embed.Etcd
	tls            bool
}

func (m *Member) dir() string { return filepath.Join(m.cluster.dir, m.name) }

// URL returns where clients find it.
func (m *Member) URL() string {
	if m.tls {
		return "https://" + m.clients.Address()
	}
	return "http://" + m.clients.Address()
}

// Start starts a member that was stopped, and waits until it serves.
func (m *Member) Start() {
	m.cluster.t.Helper()
	m.launch()
	m.await()
}

func (m *Member) launch() {
	m.cluster.t.Helper()
	config := m.config()
	server, err := embed.StartEtcd(config)
	if err != nil {
		m.cluster.t.Fatalf("start %s: %v", m.name, err)
	}
	m.server = server
	m.clients.lead(server.Clients[0].Addr().String())
	m.peers.lead(server.Peers[0].Addr().String())
}

func (m *Member) await() {
	m.cluster.t.Helper()
	select {
	case <-m.server.Server.ReadyNotify():
	case err := <-m.server.Err():
		m.cluster.t.Fatalf("%s: %v", m.name, err)
	case <-time.After(time.Minute):
		m.cluster.t.Fatalf("%s is not ready after a minute", m.name)
	}
}

func (m *Member) config() *embed.Config {
	config := embed.NewConfig()
	config.Name, config.Dir = m.name, m.dir()
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	config.TickMs, config.ElectionMs = 50, 500
	config.UnsafeNoFsync = true
	config.EnableGRPCGateway = false
	config.ListenPeerUrls = []url.URL{anyPort("http")}
	config.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: m.peers.Address()}}
	config.ListenClientUrls = []url.URL{anyPort("http")}
	config.AdvertiseClientUrls = []url.URL{{Scheme: "http", Host: m.clients.Address()}}
	config.InitialClusterToken = fmt.Sprint(m.cluster.dir, m.cluster.token)
	var peers []string
	for _, p := range m.cluster.Members {
		peers = append(peers, p.name+"=http://"+p.peers.Address())
	}
	config.InitialCluster = strings.Join(peers, ",")
	for _, change := range m.cluster.options {
		change(config)
	}
	if m.tls = config.ClientTLSInfo.CertFile != ""; m.tls {
		config.ListenClientUrls[0].Scheme, config.AdvertiseClientUrls[0].Scheme = "https", "https"
	}
	return config
}

func anyPort(scheme string) url.URL { return url.URL{Scheme: scheme, Host: "127.0.0.1:0"} }

// Stop stops a member as an administrator would. What it has stays.
func (m *Member) Stop() {
	if m.server == nil {
		return
	}
	m.clients.lead("")
	m.peers.lead("")
	m.server.Close()
	m.server = nil
}

// Pause holds everything that goes to and from a member.
func (m *Member) Pause() {
	m.clients.Hang()
	m.peers.Hang()
}

// Resume lets go what Pause holds.
func (m *Member) Resume() {
	m.clients.Heal()
	m.peers.Heal()
}

// Line returns a new way for one client to this member, which can be broken without disturbing other clients.
func (m *Member) Line() *Line { return m.LineAt(loopback) }

// LineAt is Line, at another address of the loopback interface.
func (m *Member) LineAt(address string) *Line {
	line := newLine(m.cluster.t, address)
	line.lead(m.clients.Address())
	m.cluster.t.Cleanup(line.close)
	return line
}
