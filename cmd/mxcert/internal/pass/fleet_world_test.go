package pass

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"mxcert/acme/fleet"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/acme/state/etcd"
	"mxcert/acme/state/etcd/etcdtest"
	"mxcert/cmd/mxcert-lab/lab"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// town is a fleet of hosts in one mail world, with a real etcd.
type town struct {
	t     testing.TB
	world *host // of the CA and the name servers; no host of the fleet
	etcd  *etcdtest.Cluster
	hosts []*citizen
}

// citizen is a host of a fleet, with a state directory, a configuration and a mail server of its own.
type citizen struct {
	*host
	name   string
	town   *town
	member *fleet.Member
	store  *watched // what the member asks
	leave  func()

	session string // of a daemon; "" for a command, which is a process of its own
}

func newTown(t testing.TB, names ...string) *town {
	t.Helper()
	return newTownIn(t, lab.Options{}, lab.ConfigOptions{}, names...)
}

func newTownIn(t testing.TB, world lab.Options, config lab.ConfigOptions, names ...string) *town {
	t.Helper()
	w := newHost(t, world, config)
	c := &town{t: t, world: w, etcd: etcdtest.Start(t, 1)}
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
		h := &host{Lab: l, t: t}
		h.put("credentials/age", identities[i]+"\n")
		own := config
		own.Extra += text
		h.config = l.WriteConfig(t, own)
		c.hosts = append(c.hosts, &citizen{host: h, name: name, town: c})
	}
	for _, h := range c.hosts {
		h.join()
	}
	return c
}

// join makes the host a member, as a process that starts does.
func (h *citizen) join() {
	h.t.Helper()
	files, err := disk.Open(h.Path("state"))
	h.check(err)
	h.member, h.store = memberAt(h.wants().Fleet, files, h.session)
	opened := h.store.Shared
	h.leave = sync.OnceFunc(func() { _ = opened.Close() })
	h.t.Cleanup(h.leave)
}

// memberOf is the member of a process of its own; nil without a fleet.
func memberOf(of *wanted.Fleet, files state.Store) *fleet.Member {
	if of == nil {
		return nil
	}
	member, _ := memberAt(of, files, "")
	return member
}

// memberAt joins a fleet. Its locks end soon after a process that is killed.
func memberAt(of *wanted.Fleet, files state.Store, session string) (*fleet.Member, *watched) {
	settings, err := of.Settings()
	if err != nil {
		panic(err)
	}
	opened, err := etcd.Open(etcd.Settings{Endpoints: of.Endpoints, Prefix: "/mxcert/v1/" + of.Name + "/", Holder: of.Host, Patience: 3 * time.Second, Lease: 2 * time.Second})
	if err != nil {
		panic(err)
	}
	settings.Session = session
	store := &watched{Shared: opened, calls: &calls{}}
	member, err := fleet.New(settings, store, files, slog.New(slog.DiscardHandler))
	if err != nil {
		panic(err)
	}
	return member, store
}

// serves makes the member that of a daemon, which does not run yet.
func (h *citizen) serves() {
	h.t.Helper()
	h.leave()
	h.session = "of a daemon"
	h.join()
}

// runs keeps the host alive in the fleet, and returns where it hears of changes.
func (h *citizen) runs() <-chan []string {
	h.t.Helper()
	heard := make(chan []string, 100)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.member.Run(ctx, func(names []string) {
			select {
			case heard <- names:
			default:
			}
		})
	}()
	h.t.Cleanup(func() {
		cancel()
		<-ended
	})
	return heard
}

// fleetRunner is what a process of this host makes passes with.
func (h *citizen) fleetRunner() *Runner {
	h.t.Helper()
	r, err := New(h.wants(), state.New(h.member.Store()), "0.0.0-dev")
	h.check(err)
	h.t.Cleanup(r.Close)
	r.Fleet = h.member
	return r
}

// pass makes one pass; the exit code must be the wanted one.
func (h *citizen) pass(code report.Code, options Options) report.Certificate {
	h.t.Helper()
	c := h.run(h.t.Context(), options)
	if c.Code != code {
		h.t.Fatalf("%s: the exit code of %+v is %d, want %d: %+v, %+v\n%s", h.name, options, c.Code, code, c, c.Error, strings.Join(h.said, "\n"))
	}
	return c
}

func (h *citizen) run(ctx context.Context, options Options) report.Certificate {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if h.session == "" {
		h.leave()
		h.join()
	}
	r := h.fleetRunner()
	h.mu.Lock()
	h.said = nil
	h.mu.Unlock()
	if options.Asked.IsZero() && (options.Force || options.NewKey) {
		options.Asked = time.Now()
	}
	return r.Run(ctx, r.Host.Certificates[0], options, h.say)
}

// placed counts the orders that the CA has taken from all hosts.
func (c *town) placed() int { return c.world.placed() }

// served is the serial number that all mail servers of the town show; the test ends if they differ.
func (c *town) served() (serial string) {
	c.t.Helper()
	for _, h := range c.hosts {
		s := h.look(report.CodeOK).Endpoints[0].Serial
		if serial != "" && s != serial {
			c.t.Fatalf("%s serves %s, and another host %s", h.name, s, serial)
		}
		serial = s
	}
	return serial
}

// calls notes what a member asks of its store, and stops all of it while it hangs: such a call ends neither with its context nor with the
// store's patience, so that whoever waits for it waits until the end of the test.
type calls struct {
	mu   sync.Mutex
	list []string
	hang chan struct{} // nil if nothing hangs
}

func (c *calls) note(what string) {
	c.mu.Lock()
	c.list = append(c.list, what)
	hang := c.hang
	c.mu.Unlock()
	if hang != nil {
		<-hang
	}
}

// hangs stops all calls, until over is called.
func (c *calls) hangs() (over func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	hang := make(chan struct{})
	c.hang, c.list = hang, nil
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.hang = nil
		close(hang)
	})
}

func (c *calls) made() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.list...)
}

// watched is a store that notes what it is asked.
type watched struct {
	state.Shared
	calls *calls
}

func (w *watched) Holder() state.Shared { return &watched{w.Shared.Holder(), w.calls} }

func (w *watched) Read(key string) ([]byte, error) {
	w.calls.note("read " + key)
	return w.Shared.Read(key)
}

func (w *watched) Replace(key string, value []byte) error {
	w.calls.note("replace " + key)
	return w.Shared.Replace(key, value)
}

func (w *watched) Remove(key string) error {
	w.calls.note("remove " + key)
	return w.Shared.Remove(key)
}

func (w *watched) List(folder string) ([]string, error) {
	w.calls.note("list " + folder)
	return w.Shared.List(folder)
}

func (w *watched) Rename(from, to string) error {
	w.calls.note("rename " + from)
	return w.Shared.Rename(from, to)
}

func (w *watched) Lock(ctx context.Context, key string) (func(), error) {
	w.calls.note("lock " + key)
	return w.Shared.Lock(ctx, key)
}

func (w *watched) Get(ctx context.Context, key string) (state.Versioned, error) {
	w.calls.note("get " + key)
	return w.Shared.Get(ctx, key)
}

func (w *watched) Many(ctx context.Context, keys []string) ([]state.Versioned, error) {
	w.calls.note("many " + strings.Join(keys, " "))
	return w.Shared.Many(ctx, keys)
}

func (w *watched) Below(ctx context.Context, folder string) ([]state.Versioned, int64, error) {
	w.calls.note("below " + folder)
	return w.Shared.Below(ctx, folder)
}

func (w *watched) Swap(ctx context.Context, key string, revision int64, value []byte) (int64, error) {
	w.calls.note("swap " + key)
	return w.Shared.Swap(ctx, key, revision, value)
}

func (w *watched) Identity(ctx context.Context) (string, error) {
	w.calls.note("identity")
	return w.Shared.Identity(ctx)
}
