package issued_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/issued"
	"mxcert/acme/state"
)

var none state.Generation

// A look shows what is current, of each wanted key type, and writes nothing.
func TestLook(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if l := w.look(bundle.EC256); l.Any() || len(l.Notes) > 0 || l.Bundles[0] != nil || !l.WasServed() || l.RolledBack() {
		t.Errorf("nothing is stored: %+v", l)
	}
	first, second := w.good(bundle.EC256), w.good(bundle.EC256)
	w.current(second, first, none)
	before := w.text()
	l := w.look(bundle.RSA2048, bundle.EC256)
	if !l.Any() || l.Bundles[0] != nil || l.Bundles[1].Serial() != second.Serial || len(l.Notes) > 0 {
		t.Errorf("%+v", l)
	}
	if g, err := l.Current(bundle.EC256); err != nil || g.ID != second.ID || g.Directory != directory {
		t.Errorf("%+v, %v", g, err)
	}
	if _, err := l.Current(bundle.RSA2048); err == nil {
		t.Error("a key type without a certificate is described")
	}
	if l.WasServed() || w.text() != before {
		t.Errorf("in service: %v; the record is now\n%s", l.WasServed(), w.text())
	}
	w.current(second, second, first)
	if !w.look(bundle.RSA2048, bundle.EC256).WasServed() {
		t.Error("it was served")
	}
}

// A description that is lost is made again, with a note. Only the CA is then unknown.
func TestLostDescription(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.good(bundle.EC256)
	w.current(g, g, none)
	w.spoil(g, "meta.json")
	read := func(l *issued.Lineage, says string) {
		t.Helper()
		again, err := l.Current(bundle.EC256)
		if err != nil || again.Directory != state.UnknownCA || !issued.SameNames(again.Names, names) || again.Serial != g.Serial {
			t.Errorf("%+v, %v", again, err)
		}
		if len(l.Notes) != 1 || !strings.Contains(l.Notes[0], says) {
			t.Errorf("notes: %q", l.Notes)
		}
	}
	before := w.text()
	if read(w.look(bundle.EC256), "was read from the certificate"); w.text() != before {
		t.Error("a look has changed the record")
	}
	l := w.load(bundle.EC256)
	read(l, "was made again from the certificate")
	if events := l.Record.Events; len(events) != 1 || events[0].Event != "repaired" || events[0].Message != l.Notes[0] {
		t.Errorf("the history has %+v", events)
	}
	if l := w.look(bundle.EC256); len(l.Notes) > 0 {
		t.Errorf("after it was made again: %q", l.Notes)
	}
}

// A record that is lost is made again from what is stored: by a look for the moment, by a load for good.
func TestLostRecord(t *testing.T) {
	t.Parallel()
	for damage, says := range map[string]string{"": "was missing", "{": "was damaged"} {
		w := newWorld(t)
		w.good(bundle.EC256)
		newest := w.good(bundle.EC256)
		path := filepath.Join(w.dir, "lineages", "mx", "record.json")
		if damage != "" {
			w.check(os.WriteFile(path, []byte(damage), 0o600))
		}
		l := w.look(bundle.EC256)
		if l.Bundles[0].Serial() != newest.Serial || w.text() != damage || (len(l.Notes) == 1) != (damage != "") {
			t.Errorf("%q: a look: %+v, %q", damage, l.Notes, w.text())
		}
		l = w.load(bundle.EC256)
		if l.ReadBundles(); l.Bundles[0].Serial() != newest.Serial || len(l.Notes) != 1 || !strings.Contains(l.Notes[0], says) {
			t.Errorf("%q: a load: %q", damage, l.Notes)
		}
		if events := l.Record.Events; len(events) != 1 || events[0].Event != "repaired" || events[0].Message != l.Notes[0] {
			t.Errorf("%q: the history has %+v", damage, events)
		}
		if damage != "" {
			if _, err := os.Stat(path); !os.IsNotExist(err) {
				t.Errorf("the damaged record is still in its place: %v", err)
			}
		}
	}
	w := newWorld(t)
	w.check(os.WriteFile(filepath.Join(w.dir, "lineages", "mx", "record.json"), []byte(`{"version": 99}`), 0o600))
	if _, err := issued.Look(w.lineage, nil); err == nil {
		t.Error("a look reads a record of a later version")
	}
	if _, err := issued.Load(w.lineage, nil); err == nil {
		t.Error("a load reads a record of a later version")
	}
}

// A certificate that was stored, and not noted before a crash, becomes current; its order is not in flight any more.
func TestAdopt(t *testing.T) {
	t.Parallel()
	const url = directory + "/order/7"
	for _, tt := range []struct {
		what  string
		order string // of the stored certificate
		key   bundle.KeyType
		adopt bool
	}{
		{"the certificate of the order", url, bundle.EC256, true},
		{"one of another order", directory + "/order/6", bundle.EC256, false},
		{"one of another key type", url, bundle.RSA2048, false},
	} {
		w := newWorld(t)
		old := w.good(bundle.EC256)
		w.current(old, old, none)
		w.check(w.lineage.SaveOrder(state.Order{URL: url, Directory: directory, Names: names, KeyType: bundle.EC256}))
		stored := w.add(w.sign(tt.key, nil, 0, 90*day), tt.order)
		if l := w.look(bundle.EC256); l.Bundles[0].Serial() != old.Serial {
			t.Errorf("%s: a look has adopted it", tt.what)
		}
		l := w.load(bundle.EC256)
		l.ReadBundles()
		got, want := l.Bundles[0].Serial(), old.Serial
		if tt.adopt {
			want = stored.Serial
		}
		_, inFlight, err := w.lineage.Order(bundle.EC256)
		if got != want || inFlight == tt.adopt || err != nil || !strings.Contains(w.text(), l.Record.Slot(bundle.EC256).Current) {
			t.Errorf("%s: current is %s, want %s; the order is in flight: %v, %v", tt.what, got, want, inFlight, err)
		}
		if slot := l.Record.Slot(bundle.EC256); slot.Served != old.ID || slot.RenewAt.IsZero() {
			t.Errorf("%s: %+v", tt.what, slot)
		}
	}
	w := newWorld(t) // the key is made, the order is not placed
	w.good(bundle.EC256)
	w.check(w.lineage.SaveOrder(state.Order{Directory: directory, Names: names, KeyType: bundle.EC256}))
	w.load(bundle.EC256)
	if _, ok, err := w.lineage.Order(bundle.EC256); !ok || err != nil {
		t.Errorf("an order that was not placed is forgotten: %v", err)
	}
}

// What takes the place of a certificate that cannot be read: the one that was served, the one before, then the newest good one.
func TestFallBack(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what    string
		prepare func(w *world, previous, served, newest state.Generation)
		want    int // 0 none, 1 previous, 2 served, 3 the newest
	}{
		{"the one that was served", func(*world, state.Generation, state.Generation, state.Generation) {}, 2},
		{"the one before", func(w *world, _, served, _ state.Generation) { w.spoil(served, "fullchain.pem") }, 1},
		{"the newest", func(w *world, previous, served, _ state.Generation) {
			w.spoil(served, "privkey.pem")
			w.spoil(previous, "privkey.pem")
		}, 3},
		{"not a revoked one", func(w *world, _, served, _ state.Generation) {
			w.check(w.lineage.SaveRevocation(served.ID, state.Revocation{Done: time.Now()}))
		}, 1},
		{"not one that is about to be revoked", func(w *world, previous, served, _ state.Generation) {
			w.check(w.lineage.SaveRevocation(served.ID, state.Revocation{}))
			w.check(w.lineage.SaveRevocation(previous.ID, state.Revocation{KeyCompromised: true}))
		}, 3},
		{"none is good", func(w *world, previous, served, newest state.Generation) {
			for _, g := range []state.Generation{previous, served, newest} {
				w.spoil(g, "fullchain.pem")
			}
		}, 0},
	} {
		w := newWorld(t)
		expired := w.add(w.sign(bundle.EC256, nil, -91*day, -day), "")
		previous, served, newest := w.good(bundle.EC256), w.good(bundle.EC256), w.good(bundle.EC256)
		other := w.good(bundle.RSA2048)
		broken := w.good(bundle.EC256)
		w.current(broken, served, previous)
		w.spoil(broken, "fullchain.pem")
		tt.prepare(w, previous, served, newest)
		l := w.look(bundle.EC256)
		want := []state.Generation{{}, previous, served, newest}[tt.want]
		switch b := l.Bundles[0]; {
		case b == nil && tt.want != 0:
			t.Errorf("%s: none is found: %q", tt.what, l.Notes)
		case b != nil && b.Serial() != want.Serial:
			t.Errorf("%s: %s of %+v, expired %s, other %s", tt.what, b.Serial(), want, expired.Serial, other.Serial)
		}
		if len(l.Notes) != 1 || !strings.Contains(l.Notes[0], broken.ID+" cannot be used") {
			t.Errorf("%s: %q", tt.what, l.Notes)
		}
		if slot := l.Record.Slot(bundle.EC256); tt.want != 0 && (slot.Current != want.ID || slot.RenewAt.IsZero()) {
			t.Errorf("%s: %+v", tt.what, slot)
		}
	}
}

// What is this lineage's own, in each of its forms.
func TestOwns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.sign(bundle.EC256, nil, -day, day)
	w.add(b, "")
	damaged := w.good(bundle.EC256)
	content, err := w.lineage.Bundle(damaged.ID)
	w.check(err)
	w.spoil(damaged, "fullchain.pem")
	l := w.look(bundle.EC256)
	for what, tt := range map[string]struct {
		content []byte
		own     bool
	}{
		"the chain": {b.FullchainPEM(), true}, "the key": {b.KeyPEM(), true}, "both": {b.CombinedPEM(), true},
		"a part": {b.KeyPEM()[1:], false}, "nothing": {nil, false}, "a key that cannot be read any more": {content.KeyPEM(), false},
	} {
		if own, err := l.Owns(tt.content); own != tt.own || err != nil {
			t.Errorf("%s: %v, %v", what, own, err)
		}
	}
}

// What there is to go back to after a deployment that failed.
func TestServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old, now := w.good(bundle.EC256), w.good(bundle.EC256)
	expired := w.add(w.sign(bundle.EC256, nil, -91*day, -day), "")
	for _, tt := range []struct {
		what   string
		served state.Generation
		says   string
	}{
		{"another one", old, ""},
		{"none", none, "no other certificate"},
		{"the current one", now, "no other certificate"},
		{"one that has expired", expired, "has expired"},
		{"one that is not stored any more", state.Generation{ID: "20200101T000000000Z-00000000"}, "cannot be read"},
	} {
		w.current(now, tt.served, none)
		bundles, err := w.look(bundle.EC256).Served()
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) || err == nil && bundles[0].Serial() != tt.served.Serial {
			t.Errorf("%s: %v, %v", tt.what, bundles, err)
		}
	}
	rsa := w.good(bundle.RSA2048)
	w.current(now, old, none)
	w.current(rsa, rsa, none)
	if _, err := w.look(bundle.EC256, bundle.RSA2048).Served(); err == nil {
		t.Error("one of two key types has nothing to go back to")
	}
}

// A rollback is to the certificates that were served before, of the key types that have one, and only to good ones.
func TestStepBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old, now := w.good(bundle.EC256), w.good(bundle.EC256)
	expired := w.add(w.sign(bundle.EC256, nil, -91*day, -day), "")
	revoked := w.good(bundle.EC256)
	w.check(w.lineage.SaveRevocation(revoked.ID, state.Revocation{}))
	rsa := w.good(bundle.RSA2048)
	w.current(rsa, rsa, none)
	for _, tt := range []struct {
		what     string
		previous state.Generation
		says     string
	}{
		{"a good one", old, ""},
		{"none", none, "no earlier certificate of mx"},
		{"one that is not stored any more", state.Generation{ID: "20200101T000000000Z-00000000"}, "no earlier certificate of mx"},
		{"one that has expired", expired, "going back would break mail"},
		{"a revoked one", revoked, "serial " + revoked.Serial + ") was revoked"},
	} {
		w.current(now, now, tt.previous)
		before := w.text()
		l := w.look(bundle.RSA2048, bundle.EC256)
		err := l.StepBack()
		slot := *l.Record.Slot(bundle.EC256)
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) || l.RolledBack() != (err == nil) {
			t.Errorf("%s: %v, %+v", tt.what, err, slot)
		}
		if err == nil && (slot.Current != old.ID || slot.Previous != "" || slot.Served != now.ID || !slot.RenewAt.IsZero() || l.Record.Slot(bundle.RSA2048).Current != rsa.ID) {
			t.Errorf("%s: %+v", tt.what, slot)
		}
		if w.text() != before {
			t.Errorf("%s: the record was stored", tt.what)
		}
	}
}

// Who rolls back twice is at the newest certificate again, and no rollback holds its renewal back.
func TestStepBackTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old, now := w.good(bundle.EC256), w.good(bundle.EC256)
	w.current(now, now, old)
	l := w.look(bundle.EC256)
	w.check(l.StepBack())
	slot := l.Record.Slot(bundle.EC256)
	if slot.Served, slot.Previous = slot.Current, now.ID; slot.Current != old.ID || !l.RolledBack() { // as a pass notes it
		t.Errorf("%+v", *slot)
	}
	w.check(l.StepBack())
	if slot.Current != now.ID || l.RolledBack() {
		t.Errorf("%+v", *slot)
	}
}

// A rollback ends at the newest certificate that is good; without one it stands.
func TestStepForward(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old := w.good(bundle.EC256)
	if l := w.look(bundle.EC256); l.StepForward() {
		t.Error("forward from nothing")
	}
	rolledBack := func() *issued.Lineage {
		w.current(old, old, none)
		w.remember(func(r *state.Record) { r.Slot(bundle.EC256).RolledBack = true })
		return w.look(bundle.EC256)
	}
	if l := rolledBack(); l.StepForward() || !l.RolledBack() {
		t.Error("forward from the newest")
	}
	now := w.good(bundle.EC256)
	revoked := w.good(bundle.EC256)
	w.check(w.lineage.SaveRevocation(revoked.ID, state.Revocation{}))
	w.add(w.sign(bundle.EC256, nil, -91*day, -day), "") // has expired
	w.good(bundle.RSA2048)
	l := rolledBack()
	slot := l.Record.Slot(bundle.EC256)
	if !l.StepForward() || slot.Current != now.ID || slot.Served != old.ID || l.RolledBack() || l.Record.Events[0].Event != "rolled-forward" || l.Record.Events[0].Serial != now.Serial {
		t.Errorf("%+v", *slot)
	}
	w.current(old, old, none)
	if l := w.look(bundle.EC256); l.StepForward() {
		t.Error("forward, although nobody has rolled back")
	}
}

// A record that no pass has changed need not be stored.
func TestUnchanged(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(*state.Record){
		"a failure":                   func(r *state.Record) { r.Failure = &state.Failure{} },
		"what is current":             func(r *state.Record) { r.Slot(bundle.EC256).Served = "x" },
		"a file":                      func(r *state.Record) { r.Files["/tls/mx.crt"] = state.File{Mode: 0o600} },
		"a repair":                    func(r *state.Record) { r.Heals.At[0] = r.Heals.At[0].Add(time.Second) },
		"the history":                 func(r *state.Record) { r.Log(state.Event{At: time.Now(), Event: "served"}) },
		"a key type that was not yet": func(r *state.Record) { r.Slot(bundle.EC384).Current = "x" },
	} {
		w := newWorld(t)
		g := w.good(bundle.EC256)
		w.current(g, g, none)
		w.remember(func(r *state.Record) {
			r.Slot(g.Key).RenewAt = time.Now()
			r.Files, r.Heals.At = map[string]state.File{"/tls/mx.crt": {Mode: 0o640}}, []time.Time{time.Now()}
			for range 250 { // more than are kept
				r.Log(state.Event{At: time.Now(), Event: "healed"})
			}
		})
		l := w.load(bundle.EC256)
		if l.ReadBundles(); !l.Unchanged() {
			t.Errorf("nothing has changed: %+v", l.Record)
		}
		if change(&l.Record); l.Unchanged() {
			t.Errorf("%s has changed", what)
		}
	}
}

// A look depends on the record, and on each current certificate with what was noted about it.
func TestSources(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.good(bundle.EC256)
	w.current(g, g, none)
	sources := w.look(bundle.EC256).Sources()
	for _, file := range []string{"record.json", g.ID + "/fullchain.pem", g.ID + "/privkey.pem", g.ID + "/meta.json", g.ID + "/revoked.json"} {
		if !slices.Contains(sources, filepath.Join(w.dir, "lineages", "mx", file)) {
			t.Errorf("%s is not in %q", file, sources)
		}
	}
}
