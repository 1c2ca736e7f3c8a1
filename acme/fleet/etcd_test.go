package fleet

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/etcd/etcdtest"
	"mxcert/acme/state/storetest"
)

// The store of a host's book keeps the promises of every store: with the store of the fleet, beside other hosts' leads, and without it.
func TestStore(t *testing.T) {
	w := newWorld(t, 2)
	for what, prepare := range map[string]func(h *host){
		"up": func(*host) {}, "away": func(h *host) { h.line.Cut() },
	} {
		t.Run(what, func(t *testing.T) {
			w := &world{t: t, cluster: w.cluster, identities: w.identities, all: w.all}
			storetest.Run(t, func(t *testing.T) func() state.Store {
				w.t = t
				other := w.host(1, "").leads1("mx.example")
				t.Cleanup(other.Release)
				dir := filepath.Join(t.TempDir(), "state")
				return func() state.Store {
					h := w.host(0, dir)
					prepare(h)
					return h.Store()
				}
			})
		})
	}
}

// Hosts that are due at the same time order one after the other, and a porcupine finds no order in which a generation went backward or an
// offer was accepted of a host whose right to order was lost.
func TestGenerationsAreLinearizable(t *testing.T) {
	w := newWorld(t, 3)
	const name = "mx.example"
	h := &operations{}
	var working sync.WaitGroup
	for i := range 3 {
		host := w.host(i, "")
		working.Go(func() {
			for round := range 4 {
				if err := h.round(host, i, name, round); err != nil {
					t.Error(err)
				}
			}
		})
	}
	working.Wait()
	if result := porcupine.CheckOperations(generations(), h.list); !result {
		t.Errorf("not linearizable: %+v", h.list)
	}
	if len(h.list) < 20 {
		t.Errorf("only %d operations", len(h.list))
	}
	// The check sees what it must: an old holder's offer after the next one's, and a generation that is seen again.
	for what, bad := range map[string][]porcupine.Operation{
		"stale": {op(0, 1, did{"lead", "a", 0}), op(2, 3, did{"lead", "b", 0}), op(4, 5, did{"offer", "a", 1})},
		"twice": {op(0, 1, did{"lead", "a", 0}), op(2, 3, did{"offer", "a", 1}), op(4, 5, did{"offer", "a", 1})},
		"older": {op(0, 1, did{"lead", "a", 0}), op(2, 3, did{"offer", "a", 1}), op(4, 5, did{"see", "", 0})},
	} {
		if porcupine.CheckOperations(generations(), bad) {
			t.Errorf("%s: it passes", what)
		}
	}
}

// did is what a host did: it got the right to order, offered a generation, or saw one.
type did struct {
	what       string
	token      string
	generation int64
}

// operations is what hosts did, with when.
type operations struct {
	mu   sync.Mutex
	list []porcupine.Operation
	from time.Time
}

func (h *operations) note(client int, call time.Time, d did) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.from.IsZero() {
		h.from = call.Add(-time.Hour)
	}
	h.list = append(h.list, porcupine.Operation{ClientId: client, Input: d, Call: int64(call.Sub(h.from)), Output: d, Return: int64(time.Since(h.from))})
}

func op(call, end int64, d did) porcupine.Operation {
	return porcupine.Operation{Input: d, Call: call, Output: d, Return: end}
}

type register struct {
	token      string
	generation int64
}

// generations is what a fleet must look like from outside: a register whose generation grows by one with each offer of who leads.
func generations() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return register{} },
		Step: func(before, input, _ any) (bool, any) {
			r, d := before.(register), input.(did)
			switch d.what {
			case "lead":
				return true, register{d.token, r.generation}
			case "offer":
				return d.token == r.token && d.generation == r.generation+1, register{r.token, d.generation}
			}
			return d.generation == r.generation, r
		},
	}
}

// round is an order of a host, and a look at what the fleet has.
func (h *operations) round(host *host, client int, name string, round int) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	start := time.Now()
	lead, err := host.Lead(ctx, name, Danger{})
	if err != nil {
		return err
	}
	defer lead.Release()
	token := fmt.Sprint(client, " ", round)
	h.note(client, start, did{"lead", token, 0})
	g, b := host.issue(name, time.Now().Add(90*24*time.Hour))
	start = time.Now()
	if err := host.Offer(ctx, lead, name, g, b); err != nil {
		return err
	}
	place := bundlePlace(name, bundle.EC256)
	h.note(client, start, did{"offer", token, host.mark(place).Generation})
	start = time.Now()
	v, err := host.get(ctx, place)
	if err != nil {
		return err
	}
	s, err := host.vault().openBundle(v.Value, name, bundle.EC256, 0)
	if err != nil {
		return err
	}
	h.note(client, start, did{"see", "", s.Generation})
	return nil
}

// A leader whose link hangs loses its right; the next one adopts its order, and what the first one writes afterwards is refused.
func TestALeaderThatIsCutOff(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.host(0, ""), w.host(1, "")
	const name = "mx.example"
	lead := a.leads1(name)
	order := orderFor(t, name)
	must(t, state.New(a.Store()).Lineage(name).SaveOrder(order))
	a.line.Hang()
	next := b.leads1(name)
	adopted, ok, _ := state.New(b.Store()).Lineage(name).Order(bundle.EC256)
	if !ok || adopted.URL != order.URL {
		t.Fatal("the order is not adopted")
	}
	a.line.Heal()
	order.Finalized = true
	isErr(t, "an order", state.New(a.Store()).Lineage(name).SaveOrder(order), state.ErrLocked)
	g, issued := a.issue(name, time.Now().Add(90*24*time.Hour))
	isErr(t, "a certificate", a.Offer(t.Context(), lead, name, g, issued), state.ErrLocked)
	g, issued = b.issue(name, time.Now().Add(90*24*time.Hour))
	must(t, b.Offer(t.Context(), next, name, g, issued))
	next.Release()
}

// Losing etcd and finding it empty, or a watch whose revision is compacted, changes nothing that hosts have; they fill it again, and learn what
// is new.
func TestEtcdIsLostAndCompacted(t *testing.T) {
	w := newWorld(t, 3)
	const name = "mx.example"
	a, b := w.host(0, "").run(), w.host(1, "").run()
	for _, h := range []*host{a, b} {
		h.Merge(t.Context(), name, Wish{Names: []string{name}})
	}
	order := func(days int) *bundle.Bundle {
		t.Helper()
		lead := a.leads1(name)
		defer lead.Release()
		g, issued := a.issue(name, time.Now().Add(time.Duration(days)*24*time.Hour))
		must(t, a.Offer(t.Context(), lead, name, g, issued))
		return issued
	}
	arrives := func(what string, want *bundle.Bundle) {
		t.Helper()
		eventually(t, what, func() bool { serial, _ := b.take(name); return serial == want.Serial() })
	}
	arrives("the first certificate arrives", order(30))
	b.line.Cut()
	client, err := clientv3.New(clientv3.Config{Endpoints: w.cluster.Endpoints(), DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	must(t, err)
	defer client.Close()
	second := order(40)
	now, err := client.Get(t.Context(), "x")
	must(t, err)
	_, err = client.Compact(t.Context(), now.Header.Revision)
	must(t, err)
	b.line.Heal()
	arrives("what was changed before the compaction arrives", second)

	w.cluster.Wipe()
	c := w.host(2, "")
	eventually(t, "a host without anything gets the certificate", func() bool {
		g, bundle := a.issued(name)
		_ = a.Offer(t.Context(), nil, name, g, bundle) // as each pass does
		serial, _ := c.take(name)
		return serial == second.Serial()
	})
	eventually(t, "all is well", func() bool { return a.Health().Up && b.Health().Up })
	if g := c.mark(bundlePlace(name, bundle.EC256)).Generation; g != 2 {
		t.Errorf("generation %d", g)
	}
	if serial, err := b.take(name); serial != "" || err != nil {
		t.Errorf("another host takes %q, %v", serial, err)
	}
}

// issued returns what is current on this host's disk.
func (h *host) issued(name string) (state.Generation, *bundle.Bundle) {
	h.t.Helper()
	l := state.New(h.Store()).Lineage(name)
	record, _, err := l.Load()
	must(h.t, err)
	id := record.Slot(bundle.EC256).Current
	g, err := l.Generation(id)
	must(h.t, err)
	b, err := l.Bundle(id)
	must(h.t, err)
	return g, b
}

// An etcd that is full takes no changes: a host says so, orders nothing, and goes on with what it has.
func TestEtcdIsFull(t *testing.T) {
	w := newWorld(t, 1)
	w.cluster = etcdtest.Start(t, 1, func(c *embed.Config) { c.QuotaBackendBytes = 4 << 20 })
	const name = "mx.example"
	a := w.host(0, "")
	a.leads1(name).Release()
	client, err := clientv3.New(clientv3.Config{Endpoints: w.cluster.Endpoints(), DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	must(t, err)
	defer client.Close()
	for i := 0; ; i++ {
		if _, err := client.Put(t.Context(), fmt.Sprint("/foreign/", i), string(make([]byte, 1<<20))); err != nil {
			break
		}
	}
	a = w.host(0, a.dir)
	_, err = a.Lead(t.Context(), name, Danger{})
	if _, ok := errors.AsType[*Held](err); !ok {
		t.Errorf("%v", err)
	}
	if h := a.Health(); h.Up || h.Reason == "" || h.Hint == "" {
		t.Errorf("%+v", h)
	}
	if _, err := a.take(name); err != nil {
		t.Errorf("reading: %v", err)
	}
	if a.Health().Up {
		t.Error("because it can be read, it does not count as full")
	}
}
