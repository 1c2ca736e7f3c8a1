package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"mxcert/packaging/e2e/mailhost"
	"mxcert/packaging/e2e/world"
)

// A member is one of etcd's. Its data is on a file system of its own, which can be filled.
type member struct {
	*world.Host
	plug

	town    *town
	process *world.Process
}

// dataDirectory is a small file system: 64 MB of it are what etcd takes for its log at once, twice.
const dataDirectory = "/var/lib/etcd"

func (w *town) newMember(number int) *member {
	w.t.Helper()
	name, address := fmt.Sprintf("e%d", number), fmt.Sprintf(memberAddress, number)
	m := &member{Host: world.Alone(w.t, name, world.Etcd), town: w}
	m.plug = plug{name: name, address: address, pid: m.PID}
	w.check(w.connect(w.t.Context(), &m.plug))
	w.credentials(m.Host, "member", w.ca.issue(name, 24*time.Hour, address, "127.0.0.1"))
	w.credentials(m.Host, "root", w.ca.clients["root"]) // the operator
	_, err := m.Must(w.t.Context(), "sh", "-ec", "mkdir -p "+dataDirectory+"; mount -t tmpfs -o size=200m,mode=0700 etcd "+dataDirectory)
	w.check(err)
	w.t.Cleanup(func() {
		if w.t.Failed() && m.process != nil {
			w.t.Logf("%s: %s", name, tail(m.process.Output(), 30))
		}
	})
	return m
}

// credentials puts a certificate below /etc/etcd of a host.
func (w *town) credentials(h *world.Host, name string, p pair) {
	w.t.Helper()
	w.check(h.Write("/etc/etcd/ca.pem", string(w.ca.root()), 0o644))
	w.check(h.Write("/etc/etcd/"+name+".pem", string(p.certificate), 0o644))
	w.check(h.Write("/etc/etcd/"+name+".key", string(p.key), 0o600))
}

// peers are the members, as etcd's --initial-cluster wants them.
func (w *town) peers() string {
	var list []string
	for i := range 3 {
		list = append(list, fmt.Sprintf("e%d=https://"+memberAddress+":2380", i+1, i+1))
	}
	return strings.Join(list, ",")
}

// endpoints are the URLs of the members for clients.
func (w *town) endpoints() (list []string) {
	for i := range 3 {
		list = append(list, fmt.Sprintf("https://"+memberAddress+":2379", i+1))
	}
	return list
}

// start starts the member: state is "new" or "existing", as etcd's --initial-cluster-state wants it.
func (m *member) start(ctx context.Context, state string) (err error) {
	peer, client := "https://"+m.address+":2380", "https://"+m.address+":2379"
	m.process, err = m.Start("etcd", "--name", m.name, "--data-dir", dataDirectory+"/data", "--logger", "zap", "--log-level", "warn",
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--listen-client-urls", client, "--advertise-client-urls", client,
		"--initial-cluster", m.town.peers(), "--initial-cluster-state", state, "--initial-cluster-token", "town",
		"--client-cert-auth", "--trusted-ca-file", "/etc/etcd/ca.pem", "--cert-file", "/etc/etcd/member.pem", "--key-file", "/etc/etcd/member.key",
		"--peer-client-cert-auth", "--peer-trusted-ca-file", "/etc/etcd/ca.pem", "--peer-cert-file", "/etc/etcd/member.pem", "--peer-key-file", "/etc/etcd/member.key")
	if err != nil {
		return err
	}
	if err := m.AwaitPort(ctx, m.address+":2379"); err != nil {
		return fmt.Errorf("%w\n%s", err, tail(m.process.Output(), 20))
	}
	return nil
}

// kill ends the member at once; what it had not synced is lost with a file system in memory, as its log is synced at each write.
func (m *member) kill() { m.process.Stop() }

// freeze stops all threads of the member, or lets them go on.
func (m *member) freeze(frozen bool) error {
	if frozen {
		return m.process.Signal(syscall.SIGSTOP)
	}
	return m.process.Signal(syscall.SIGCONT)
}

// fill leaves no byte free on the member's disk; free undoes it.
func (m *member) fill(ctx context.Context) error {
	r, err := m.Run(ctx, "dd", "if=/dev/zero", "of="+dataDirectory+"/full", "bs=64k")
	if err == nil && !strings.Contains(r.Stderr, "No space left") {
		err = errors.New("the disk is not full: " + r.Stderr)
	}
	return err
}

func (m *member) free(ctx context.Context) error {
	_, err := m.Must(ctx, "rm", "-f", dataDirectory+"/full")
	return err
}

// etcdctl runs the operator's program on the first member's host, as root of etcd.
func (w *town) etcdctl(ctx context.Context, arguments ...string) (mailhost.Result, error) {
	return w.members[0].Run(ctx, slices.Concat([]string{"env"}, w.operator(), []string{"etcdctl"}, arguments)...)
}

// etcdReady waits until all members answer with a leader.
func (w *town) etcdReady(ctx context.Context) error {
	return wait(ctx, 60*time.Second, func() error {
		r, err := w.etcdctl(ctx, "endpoint", "health")
		if err == nil && r.Code != 0 {
			err = errors.New(r.Stdout + r.Stderr)
		}
		return err
	})
}

// eachMember does something with all members at once.
func (w *town) eachMember(do func(*member) error) {
	w.t.Helper()
	failed := make([]error, len(w.members))
	var all sync.WaitGroup
	for i, m := range w.members {
		all.Go(func() { failed[i] = do(m) })
	}
	all.Wait()
	w.check(errors.Join(failed...))
}

// tail is the end of a log.
func tail(text string, lines int) string {
	list := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(list[max(0, len(list)-lines):], "\n")
}
