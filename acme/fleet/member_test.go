package fleet

import (
	"context"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// One host orders, another takes what it has got; an order in flight is adopted from a host that was killed.
func TestACertificateReachesTheOtherHost(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.host(0, "").run(), w.host(1, "").run()
	const name = "mx.example"
	for _, h := range []*host{a, b} {
		h.Merge(t.Context(), name, Wish{Names: []string{name}})
	}
	lead := a.leads1(name)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := b.Lead(ctx, name, Danger{})
	isErr(t, "a second host", err, state.ErrLocked)
	t.Log(err)
	g, issued := a.issue(name, time.Now().Add(90*24*time.Hour))
	must(t, a.Offer(t.Context(), lead, name, g, issued))
	lead.Release()
	lead.Release()
	taken := ""
	eventually(t, "the other host takes it", func() bool { // it hears of the wish of the first host, too
		b.awaits(name)
		var err error
		taken, err = b.take(name)
		must(t, err)
		return taken != ""
	})
	if taken != issued.Serial() {
		t.Fatalf("%q was taken", taken)
	}
	if again, err := b.take(name); again != "" || err != nil {
		t.Errorf("taken twice: %q, %v", again, err)
	}
	if b.mark(bundlePlace(name, bundle.EC256)).Generation != 1 {
		t.Errorf("%+v", b.memory)
	}
	a.Note(name, Deployed{OnDisk: []string{issued.SPKI()}, Certain: true})
	b.Note(name, Deployed{OnDisk: []string{issued.SPKI()}, Certain: true})
	eventually(t, "the first host knows that the second one has the key", func() bool {
		hosts, err := a.Hosts(t.Context(), name)
		return err == nil && len(hosts) == 2 && hosts[1].Host == "mx1" && hosts[1].Alive && len(hosts[1].OnDisk) == 1
	})
}

func TestAnOrderIsAdopted(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.host(0, ""), w.host(1, "")
	const name = "mx.example"
	order := orderFor(t, name)
	isErr(t, "without a lead", state.New(a.Store()).Lineage(name).SaveOrder(order), state.ErrLocked)
	lead := a.leads1(name)
	must(t, state.New(a.Store()).Lineage(name).SaveOrder(order))
	order.Finalized = true
	must(t, state.New(a.Store()).Lineage(name).SaveOrder(order))
	lead.lose() // as a host does that is killed
	lead = b.leads1(name)
	got, ok, err := state.New(b.Store()).Lineage(name).Order(bundle.EC256)
	if err != nil || !ok || got.URL != order.URL || !got.Finalized || got.Key != order.Key {
		t.Fatalf("%+v %v %v", got, ok, err)
	}
	must(t, state.New(b.Store()).Lineage(name).DropOrder(bundle.EC256))
	lead.Release()
	must(t, state.New(a.disk).Lineage(name).DropOrder(bundle.EC256))
	a.leads1(name).Release()
	if _, ok, _ := state.New(a.Store()).Lineage(name).Order(bundle.EC256); ok {
		t.Error("an order that was dropped is adopted")
	}
}

func orderFor(t testing.TB, name string) state.Order {
	t.Helper()
	key, err := bundle.EC256.Generate()
	must(t, err)
	text, err := bundle.MarshalKey(key)
	must(t, err)
	return state.Order{URL: "https://ca.example/order/1", Directory: "https://ca.example/directory", Account: "https://ca.example/account/1",
		Names: []string{name}, KeyType: bundle.EC256, Key: string(text), Created: time.Now().UTC().Truncate(time.Second)}
}
