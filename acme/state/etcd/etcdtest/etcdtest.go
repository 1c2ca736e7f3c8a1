// Package etcdtest runs real members of etcd for tests, with lines between them and to them that the test can break. The members are in the
// process of the test ([Start]), or in processes of their own that can be stopped and killed by signals ([StartProcesses]).
//
// No test has to guess a free port: each member listens where the kernel puts it, behind a line that has its address for the whole test, also
// while the member is down. The members advertise the addresses of lines to each other, so that they can be kept apart, too.
package etcdtest

import (
	"fmt"
	"os"
	"testing"

	"go.etcd.io/etcd/server/v3/embed"
)

const loopback = "127.0.0.1"

// Cluster is one or more members.
type Cluster struct {
	Members   []*Member
	t         testing.TB
	dir       string
	token     int
	scheme    string
	processes bool
	options   []func(*embed.Config)
}

// Start starts members and waits until they serve. options change how each member is configured: quotas, TLS.
func Start(t testing.TB, members int, options ...func(*embed.Config)) *Cluster {
	t.Helper()
	return start(&Cluster{t: t, options: options}, members)
}

// StartProcesses is Start, with a process for each member. TestMain has to call [Main].
func StartProcesses(t testing.TB, members int) *Cluster {
	t.Helper()
	return start(&Cluster{t: t, processes: true}, members)
}

func start(c *Cluster, members int) *Cluster {
	c.t.Helper()
	c.dir, c.scheme = c.t.TempDir(), "http"
	for i := range members {
		c.Members = append(c.Members, &Member{cluster: c, name: fmt.Sprintf("m%d", i), clients: newLine(c.t, loopback), peers: newLine(c.t, loopback)})
	}
	c.t.Cleanup(c.stop)
	c.Start(c.Members...)
	return c
}

// Start starts members that were stopped, together, and waits until they serve.
func (c *Cluster) Start(members ...*Member) {
	c.t.Helper()
	for _, m := range members {
		m.launch()
	}
	for _, m := range members {
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
		if err := os.RemoveAll(m.plan().Dir); err != nil {
			c.t.Fatal(err)
		}
	}
	c.token++
	c.Start(c.Members...)
}
