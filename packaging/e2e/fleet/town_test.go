// Package fleet proves a fleet on real hosts: three members of etcd (Debian's, with mutual TLS and roles) and three mail hosts (Exim, Exim,
// Postfix) in network namespaces on one switch, with a name server and a certification authority that all of them share. Every request to the
// authority is recorded before it, every host is asked all the time what it serves, and faults are put between: processes, hosts, links, disks.
package fleet

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"mxcert/packaging/e2e/mailhost"
	"mxcert/packaging/e2e/world"
)

// Addresses on the switch. Members and hosts have those that follow.
const (
	townAddress   = "10.15.0.1" // name server and authority
	memberAddress = "10.15.0.1%d"
	hostAddress   = "10.15.0.2%d"
)

// A town is a switch with all that a fleet needs.
type town struct {
	t       testing.TB
	began   time.Time
	center  *world.Host // name server, authority, the switch
	members []*member
	hosts   []*host
	ca      *pki // of etcd and of the authority's own HTTPS
	orders  *recorder

	anchors string   // trust anchors of the zone, for BIND
	all     []string // recipients: of the hosts, and the recovery key
	cables  int
	dane    bool // mxcert publishes TLSA records of the certificate
	lookers *lookers

	generations map[string]int64 // that were seen last, by certificate and key type
}

// newTown starts the center and the members of etcd, which let hosts with these names in. It boots none of them yet.
func newTown(t testing.TB, hosts ...string) *town {
	t.Helper()
	mailhost.Require(t)
	w := &town{t: t, began: time.Now(), center: world.Alone(t, "center", world.Etcd), generations: map[string]int64{}}
	w.ip(w.center.PID(), "link", "add", "switch", "type", "bridge")
	w.ip(w.center.PID(), "address", "add", townAddress+"/24", "dev", "switch")
	w.ip(w.center.PID(), "link", "set", "switch", "up")
	w.ca = w.newPKI(hosts...)
	w.serveZone()
	w.serveAuthority()
	for i := range 3 {
		w.members = append(w.members, w.newMember(i+1))
	}
	w.eachMember(func(m *member) error { return m.start(w.t.Context(), "new") })
	w.check(w.etcdReady(t.Context()))
	w.letIn(hosts...)
	w.say("name server, authority and %d members of etcd", len(w.members))
	return w
}

func (w *town) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// say tells a reader of the log how far it is.
func (w *town) say(format string, arguments ...any) {
	w.t.Helper()
	w.t.Logf("%s "+format, append([]any{time.Since(w.began).Round(time.Millisecond)}, arguments...)...)
}

// ip runs ip(8) in the network of a process.
func (w *town) ip(pid int, arguments ...string) {
	w.t.Helper()
	w.check(ip(w.t.Context(), pid, arguments...))
}

func ip(ctx context.Context, pid int, arguments ...string) error {
	argv := append([]string{"--target", fmt.Sprint(pid), "--net", "--", "ip"}, arguments...)
	out, err := exec.CommandContext(ctx, "nsenter", argv...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(arguments, " "), err, out)
	}
	return nil
}

// A plug is where a member or a host is connected to the switch.
type plug struct {
	name, address string
	pid           func() int
	port          string // of the switch
}

// connect lays a cable from the switch. A host that was booted again needs a new one.
func (w *town) connect(ctx context.Context, p *plug) error {
	w.cables++
	p.port = fmt.Sprintf("%s-%d", p.name, w.cables)
	pid := p.pid()
	out, err := exec.CommandContext(ctx, "ip", "link", "add", "name", "net0", "netns", fmt.Sprint(pid), "type", "veth",
		"peer", "name", p.port, "netns", fmt.Sprint(w.center.PID())).CombinedOutput()
	if err != nil {
		return fmt.Errorf("the cable of %s: %w: %s", p.name, err, out)
	}
	for _, step := range []struct {
		pid       int
		arguments string
	}{
		{w.center.PID(), "link set " + p.port + " master switch up"},
		{pid, "address add " + p.address + "/24 dev net0"},
		{pid, "link set net0 up"},
	} {
		if err := ip(ctx, step.pid, strings.Fields(step.arguments)...); err != nil {
			return err
		}
	}
	return nil
}

// pull takes the cable out, or puts it back.
func (w *town) pull(ctx context.Context, p *plug, state string) error {
	return ip(ctx, w.center.PID(), "link", "set", p.port, state)
}

// cut drops what two of them send to each other, without a word to the senders: they send to a neighbour that does not exist.
func (w *town) cut(ctx context.Context, a, b *plug) error {
	for _, end := range [][2]*plug{{a, b}, {b, a}} {
		if err := ip(ctx, end[0].pid(), "neighbour", "replace", end[1].address, "lladdr", "02:00:00:00:00:01", "dev", "net0", "nud", "permanent"); err != nil {
			return err
		}
	}
	return nil
}

// mend undoes cut.
func (w *town) mend(ctx context.Context, a, b *plug) error {
	for _, end := range [][2]*plug{{a, b}, {b, a}} {
		if err := ip(ctx, end[0].pid(), "neighbour", "del", end[1].address, "dev", "net0"); err != nil {
			return err
		}
	}
	return nil
}

// within waits until something holds. The limit is for a busy machine.
func (w *town) within(limit time.Duration, what string, holds func() error) {
	w.t.Helper()
	if err := wait(w.t.Context(), limit, holds); err != nil {
		w.t.Fatalf("after %v it is not so: %s: %v", limit, what, err)
	}
}

func wait(ctx context.Context, limit time.Duration, holds func() error) error {
	for end := time.Now().Add(limit); ; {
		err := holds()
		if err == nil || ctx.Err() != nil || time.Now().After(end) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// figure prints a number that a reader wants to see.
func figure(t testing.TB, format string, arguments ...any) {
	fmt.Fprintf(os.Stdout, "figure: %s: %s\n", t.Name(), fmt.Sprintf(format, arguments...))
}
