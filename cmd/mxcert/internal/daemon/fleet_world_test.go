package daemon

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"mxcert/acme/state/etcd/etcdtest"
	"mxcert/cmd/mxcert-lab/lab"
)

// town is a fleet of hosts in one mail world, with a real etcd.
type town struct {
	world *host // of the CA and the name servers; no host of the fleet
	etcd  *etcdtest.Cluster
	hosts []*host
}

func newTown(t testing.TB, names ...string) *town {
	t.Helper()
	w := newHost(t, lab.Options{}, lab.ConfigOptions{})
	c := &town{world: w, etcd: etcdtest.Start(t, 1)}
	var identities, recipients []string
	for range names {
		identity, err := age.GenerateX25519Identity()
		w.check(err)
		identities, recipients = append(identities, identity.String()), append(recipients, identity.Recipient().String())
	}
	for i, name := range names {
		l := w.Neighbour(t, name)
		text := fmt.Sprintf("fleet:\n  name: berlin\n  host: %s\n  etcd: {endpoints: [%q]}\n  identity: %q\n  recipients: [%s]\n", name,
			c.etcd.Members[0].URL(), "file:"+l.Path("credentials", "age"), strings.Join(recipients, ", "))
		h := &host{Lab: l, t: t, config: l.Path("mxcert.yaml")}
		h.writeTo("credentials/age", identities[i]+"\n")
		h.write(l.Config(lab.ConfigOptions{Extra: text}))
		c.hosts = append(c.hosts, h)
	}
	return c
}

// serve reports whether all hosts serve one serial number, and which.
func (c *town) serves() (serial string, all bool) {
	for _, h := range c.hosts {
		s := h.shown()
		if s == "" || serial != "" && s != serial {
			return "", false
		}
		serial = s
	}
	return serial, true
}

// awaitOther waits until all hosts serve the same certificate, and another one than before.
func (c *town) awaitOther(t testing.TB, before string) (serial string) {
	t.Helper()
	eventually(t, "all hosts serve a certificate other than "+before, func() bool {
		s, all := c.serves()
		serial = s
		return all && s != before
	})
	return serial
}

// medianOf returns the middle of some durations, in milliseconds.
func medianOf(list []time.Duration) float64 {
	return float64(list[len(list)/2].Microseconds()) / 1000
}
