package pass

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/lab"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/dane"
)

// daneTown is a fleet whose hosts publish TLSA records in one signed zone. Each host has a mail server at a port of its own, and all look after
// the records of all ports.
type daneTown struct {
	*town
	hosts []*daneCitizen
}

// daneCitizen is a host of it, with a daemon that keeps it alive.
type daneCitizen struct {
	*daneHost
	*citizen
	stop func() // the daemon
}

func newDANETown(t testing.TB, settings string, names ...string) *daneTown {
	t.Helper()
	c := &daneTown{town: newTownIn(t, lab.Options{Signed: true}, lab.ConfigOptions{Domains: []string{"mx.example.org"}}, names...)}
	var ports []string
	for _, h := range c.town.hosts {
		_, port, _ := net.SplitHostPort(h.SMTP.Address())
		ports = append(ports, port)
	}
	for _, h := range c.town.hosts {
		h.edit("  agree_tos: true\n", "  agree_tos: true\n  limits: none\n")
		h.edit("    keys: [", fmt.Sprintf("    dane: {%s, hold: 0s, ttl: 1s, ports: [%s]}\n    keys: [", settings, strings.Join(ports, ", ")))
		one := &daneCitizen{daneHost: &daneHost{h.host, time.Second}, citizen: h}
		c.hosts = append(c.hosts, one)
	}
	for _, h := range c.hosts {
		h.starts()
	}
	return c
}

// starts makes the host a member that is at work.
func (h *daneCitizen) starts() {
	h.citizen.t.Helper()
	h.session = "of " + h.name + fmt.Sprint(time.Now().UnixNano())
	h.leave()
	h.join()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	member, leave := h.member, h.leave
	go func() {
		defer close(ended)
		member.Run(ctx, func([]string) {})
	}()
	h.stop = func() {
		cancel()
		<-ended
		leave()
	}
	h.citizen.t.Cleanup(h.stop)
	h.citizen.t.Log(h.name, "is at work")
}

// goes switches the host off as a power cut would, but for its mail server: nobody is told, and its leases end.
func (c *daneTown) goes(h *daneCitizen) {
	c.t.Helper()
	h.stop()
	c.world.check(c.town.hosts[0].store.Shared.Remove("host/" + h.name + "/alive")) // the end of the lease, after three minutes
}

// round makes a pass of the daemon on each host that is at work.
func (c *daneTown) round(hosts ...*daneCitizen) (all []report.Certificate) {
	c.t.Helper()
	for _, h := range hosts {
		all = append(all, h.run(c.t.Context(), byDaemon))
	}
	return all
}

// until makes rounds until a condition holds.
func (c *daneTown) until(what string, hosts []*daneCitizen, done func([]report.Certificate) bool) []report.Certificate {
	c.t.Helper()
	deadline := time.Now().Add(2 * patience)
	for {
		all := c.round(hosts...)
		if done(all) {
			return all
		}
		if time.Now().After(deadline) {
			for i, r := range all {
				c.t.Logf("%s: %+v, %+v, %q; said: %s", hosts[i].name, r.TLSA, r.Error, r.Warnings, strings.Join(hosts[i].daneHost.said, "\n"))
			}
			c.t.Fatalf("%s: not so in time", what)
		}
		time.Sleep(300 * time.Millisecond)
	}
}

// steady waits until all hosts serve one key, and are steady.
func (c *daneTown) steady(hosts ...*daneCitizen) {
	c.t.Helper()
	c.until("steady", hosts, func(all []report.Certificate) bool {
		for i, r := range all {
			if r.TLSA == nil || r.TLSA.State != string(dane.Steady) || hosts[i].spki() != hosts[0].spki() {
				return false
			}
		}
		return true
	})
}

// keys are the SPKIs of which a record is published at the port of a host.
func (h *daneCitizen) keys() (list []string) {
	h.citizen.t.Helper()
	for _, r := range h.published() {
		list = append(list, strings.TrimPrefix(r, "3 1 1 "))
	}
	slices.Sort(list)
	return list
}

// next is the next key that the host has stored.
func (h *daneCitizen) next() string {
	h.citizen.t.Helper()
	next, err := readNext(h.daneHost.lineage(), bundle.EC256)
	h.daneHost.check(err)
	return next.SPKI
}

// watch watches I4 at all hosts.
func (c *daneTown) watch() (stop func()) {
	var all []func()
	for _, h := range c.hosts {
		all = append(all, h.watchI4())
	}
	return func() {
		for _, one := range all {
			one()
		}
	}
}

func rollNow() Options {
	return Options{Daemon: true, Roll: &dane.Asked{At: time.Now(), Reason: "a test wants it"}}
}
