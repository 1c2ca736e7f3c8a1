package fleet

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/fleet/seal"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/acme/state/etcd"
	"mxcert/acme/state/etcd/etcdtest"
)

// host is a Member with a disk of its own.
type host struct {
	*Member
	t       testing.TB
	dir     string
	line    *etcdtest.Line // to the cluster
	changed chan []string
	stop    context.CancelFunc
	ended   chan struct{}
}

// world is a fleet on a cluster.
type world struct {
	t          testing.TB
	cluster    *etcdtest.Cluster
	identities []*seal.Identity
	all        []seal.Recipient
}

func newWorld(t testing.TB, hosts int) *world {
	t.Helper()
	return newWorldAt(t, hosts, func(t testing.TB) *etcdtest.Cluster { return etcdtest.Start(t, 1) })
}

// newWorldAt is newWorld with a cluster of another kind.
func newWorldAt(t testing.TB, hosts int, start func(testing.TB) *etcdtest.Cluster) *world {
	t.Helper()
	// The client sets the log of gRPC once, and a member in this process reads it.
	first, err := etcd.Open(etcd.Settings{Endpoints: []string{"http://127.0.0.1:1"}, Prefix: "/mxcert/v1/berlin/"})
	must(t, err)
	must(t, first.Close())
	w := &world{t: t, cluster: start(t)}
	for range hosts {
		identity := newIdentity(t)
		w.identities, w.all = append(w.identities, identity), append(w.all, identity.Recipient())
	}
	return w
}

// host makes the i-th host, as its next process would.
func (w *world) host(i int, dir string, change ...func(*Settings)) *host {
	w.t.Helper()
	line := w.cluster.Members[0].Line()
	name := "mx" + string(rune('0'+i))
	store, err := etcd.Open(etcd.Settings{Endpoints: []string{"http://" + line.Address()}, Prefix: "/mxcert/v1/berlin/", Holder: name, Patience: 5 * time.Second, Lease: 5 * time.Second})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = store.Close() })
	return w.member(i, dir, store, line, change...)
}

func (w *world) member(i int, dir string, store state.Shared, line *etcdtest.Line, change ...func(*Settings)) *host {
	w.t.Helper()
	if dir == "" {
		dir = filepath.Join(w.t.TempDir(), "state")
	}
	files, err := disk.Open(dir)
	if err != nil {
		w.t.Fatal(err)
	}
	set := Settings{Name: "berlin", Host: "mx" + string(rune('0'+i)), Identity: w.identities[i], Recipients: w.all, Version: "test"}
	for _, c := range change {
		c(&set)
	}
	m, err := New(set, store, files, slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	return &host{Member: m, t: w.t, dir: dir, line: line, changed: make(chan []string, 1000)}
}

// run starts Run, until the test or halt ends it.
func (h *host) run() *host {
	ctx, cancel := context.WithCancel(context.Background())
	h.stop, h.ended = cancel, make(chan struct{})
	go func() {
		defer close(h.ended)
		h.Run(ctx, func(names []string) {
			select {
			case h.changed <- names:
			default:
			}
		})
	}()
	h.t.Cleanup(h.halt)
	return h
}

func (h *host) halt() {
	if h.stop != nil {
		h.stop()
		<-h.ended
	}
}

// awaits waits until Run has told that something about a certificate is new.
func (h *host) awaits(name string) {
	h.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case names := <-h.changed:
			for _, n := range names {
				if n == name {
					return
				}
			}
		case <-deadline:
			h.t.Fatalf("%s: nothing about %s has changed; %+v", h.set.Host, name, h.Health())
		}
	}
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for range 600 {
		if is() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("it never became so: %s", what)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// issue stores a new certificate on this host's disk, as a pass does after an order.
func (h *host) issue(name string, until time.Time) (state.Generation, *bundle.Bundle) {
	h.t.Helper()
	key, err := bundle.EC256.Generate()
	must(h.t, err)
	b := certify(h.t, name, key, until)
	return h.put1(name, b), b
}

// put1 makes a bundle the current one on this host's disk.
func (h *host) put1(name string, b *bundle.Bundle) state.Generation {
	h.t.Helper()
	l := state.New(h.Store()).Lineage(name)
	g, err := l.Add(b, b.Leaf().DNSNames, "https://ca.example/directory", "https://ca.example/order/"+b.Serial(), time.Now())
	must(h.t, err)
	record, _, err := l.Load()
	must(h.t, err)
	record.Slot(b.KeyType()).Issued(g.ID, time.Now())
	must(h.t, l.Save(record))
	return g
}

// take takes what the fleet has, as a pass does; it returns the serial number, "" if there is nothing new.
func (h *host) take(name string) (string, error) {
	h.t.Helper()
	s, err := h.Take(h.t.Context(), name, bundle.EC256)
	if err != nil || s == nil {
		return "", err
	}
	h.put1(name, s.Bundle)
	must(h.t, h.Taken(name, bundle.EC256, s))
	return s.Bundle.Serial(), nil
}

func (h *host) leads1(name string) *Lead {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 20*time.Second)
	defer cancel()
	lead, err := h.Lead(ctx, name, Danger{})
	must(h.t, err)
	return lead
}

func isErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}
