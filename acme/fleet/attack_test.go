package fleet

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/fleet/seal"
	"mxcert/acme/state"
	"mxcert/acme/state/etcd"
)

// stranger can write to the store and has the identity of no host. It has everything that was ever there when [stranger.copy] was called.
type stranger struct {
	t        testing.TB
	store    state.Shared
	identity *seal.Identity
	archive  map[string][][]byte
}

func (w *world) stranger() *stranger {
	w.t.Helper()
	store, err := etcd.Open(etcd.Settings{Endpoints: w.cluster.Endpoints(), Prefix: "/mxcert/v1/berlin/", Holder: "stranger"})
	must(w.t, err)
	w.t.Cleanup(func() { _ = store.Close() })
	return &stranger{t: w.t, store: store, identity: newIdentity(w.t), archive: map[string][][]byte{}}
}

// all returns what is in the store.
func (s *stranger) all() map[string][]byte {
	s.t.Helper()
	values, _, err := s.store.Below(s.t.Context(), "")
	must(s.t, err)
	all := map[string][]byte{}
	for _, v := range values {
		all[v.Key] = v.Value
	}
	return all
}

func (s *stranger) copy() {
	for key, value := range s.all() {
		s.archive[key] = append(s.archive[key], value)
	}
}

func (s *stranger) put(key string, value []byte) {
	s.t.Helper()
	must(s.t, s.store.Replace(key, value))
}

func (s *stranger) get(key string) []byte {
	s.t.Helper()
	value, err := s.store.Get(s.t.Context(), key)
	must(s.t, err)
	return value.Value
}

// wipe removes everything.
func (s *stranger) wipe() {
	s.t.Helper()
	top, err := s.store.List("")
	must(s.t, err)
	for _, name := range top {
		must(s.t, s.store.Remove(strings.TrimSuffix(name, "/")))
	}
}

// forge makes a bundle of the stranger's own, which every host could open.
func (s *stranger) forge(name string, to []seal.Recipient) []byte {
	s.t.Helper()
	b := newBundle(s.t, name)
	hands := vault{fleet: "berlin", host: "mx0", identity: s.identity, trust: newTrust("berlin", s.identity.Recipient(), to)}
	value, err := hands.sealBundle(name, 1000, generationOf(b), b)
	must(s.t, err)
	return value
}

// serves returns the serial number of the current generation on a host's disk.
func (h *host) serves(name string) string {
	h.t.Helper()
	l := state.New(h.disk).Lineage(name)
	record, _, err := l.Look()
	must(h.t, err)
	if slot := record.Keys[bundle.EC256]; slot != nil {
		g, err := l.Generation(slot.Current)
		must(h.t, err)
		return g.Serial
	}
	return ""
}

// offers gives the fleet what is on this host's disk, as each pass does.
func (h *host) offers(name string) error {
	h.t.Helper()
	l := state.New(h.disk).Lineage(name)
	record, _, err := l.Look()
	must(h.t, err)
	g, err := l.Generation(record.Keys[bundle.EC256].Current)
	must(h.t, err)
	b, err := l.Bundle(g.ID)
	must(h.t, err)
	return h.Offer(h.t.Context(), nil, name, g, b)
}

// issues orders a certificate for the fleet.
func (h *host) issues(name string, until time.Time) *bundle.Bundle {
	h.t.Helper()
	lead := h.leads1(name)
	defer lead.Release()
	g, b := h.issue(name, until)
	must(h.t, h.Offer(h.t.Context(), lead, name, g, b))
	return b
}

func (h *host) hasFault(words ...string) bool {
	return slices.ContainsFunc(h.Health().Faults, func(fault string) bool {
		return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(fault, word) })
	})
}

// Whatever a stranger writes in the place of a bundle is refused and reported; what is on the disks stays, and replaces it.
func TestAStrangersBundlesAreRefusedAndReplaced(t *testing.T) {
	w := newWorld(t, 3)
	a, b, late := w.host(0, "").run(), w.host(1, "").run(), w.host(2, "")
	s := w.stranger()
	const name, other = "mx.example", "other.example"
	end := time.Now().Add(90 * 24 * time.Hour)
	for _, h := range []*host{a, b} {
		h.Merge(t.Context(), name, Wish{Names: []string{name}})
	}
	a.issues(name, end.Add(-time.Hour))
	s.copy()
	newest := a.issues(name, end)
	a.issues(other, end)
	eventually(t, "the other host has the newest certificate", func() bool {
		_, err := b.take(name)
		return err == nil && b.serves(name) == newest.Serial()
	})
	place := bundlePlace(name, bundle.EC256)
	good := s.get(place)
	for _, c := range []struct {
		what, id string
		value    []byte
	}{
		{"a forged bundle", Forged, s.forge(name, w.all)},
		{"a replayed one", Replayed, s.archive[place][0]},
		{"one of another certificate", Swapped, s.get(bundlePlace(other, bundle.EC256))},
		{"a truncated one", Truncated, good[:len(good)/2]},
		{"garbage", Truncated, []byte("\x1b[31mgarbage\x00")},
		{"a very long one", Truncated, bytes.Repeat([]byte("["), maxValue)},
		{"another payload", Forged, change(t, good, "payload", payloadOf(t, s.forge(name, w.all)))},
		{"the key of an account", Forged, sign(t, s.identity, kindAccount, json.RawMessage(payloadOf(t, good)))},
	} {
		s.put(place, c.value)
		eventually(t, c.what+" is refused and reported", func() bool {
			serial, err := b.take(name)
			return serial == "" && isRefused(err, c.id) && b.hasFault(place, c.id)
		})
		if c.id != Replayed { // who joins now cannot know that there was a later one
			if serial, err := late.take(name); serial != "" || !isRefused(err, c.id) {
				t.Errorf("%s: a host that joins took %q, %v", c.what, serial, err)
			}
		}
		if a.serves(name) != newest.Serial() || b.serves(name) != newest.Serial() {
			t.Fatalf("%s: another certificate is served", c.what)
		}
		b.overtaken = map[string]time.Time{} // ten minutes have passed
		must(t, b.offers(name))
		d, _, err := a.vault().describe(s.get(place), place2(name), 2)
		if err != nil || d.Serial != newest.Serial() {
			t.Fatalf("%s: it is not replaced: %v", c.what, err)
		}
		eventually(t, c.what+": the report ends", func() bool { _, err := b.take(name); return err == nil && !b.hasFault(place) })
	}
	// What a later mxcert wrote, or a stranger in its name, is left alone.
	s.put(place, change(t, good, "version", 2))
	eventually(t, "a later version is refused and reported", func() bool {
		_, err := b.take(name)
		return isRefused(err, LaterVersion) && b.hasFault(place, LaterVersion)
	})
	if err := b.offers(name); !isRefused(err, LaterVersion) {
		t.Errorf("a later version is written over: %v", err)
	}
	if a.serves(name) != newest.Serial() || b.serves(name) != newest.Serial() {
		t.Fatal("another certificate is served")
	}
}

func place2(name string) place { return place{kindBundle, name, bundle.EC256} }

// A host that joins while a stranger rules the store, who puts back an earlier bundle, cannot know better; but it takes nothing that is forged,
// and nothing earlier once it has seen the newest one, also after a restart.
func TestNothingGoesBackwardAfterARestart(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.host(0, ""), w.host(1, "")
	s := w.stranger()
	const name = "mx.example"
	end := time.Now().Add(90 * 24 * time.Hour)
	a.issues(name, end.Add(-time.Hour))
	s.copy()
	newest := a.issues(name, end)
	if serial, err := b.take(name); err != nil || serial != newest.Serial() {
		t.Fatalf("%q, %v", serial, err)
	}
	b = w.host(1, b.dir)
	for range 2 {
		s.put(bundlePlace(name, bundle.EC256), s.archive[bundlePlace(name, bundle.EC256)][0])
		if serial, err := b.take(name); serial != "" || !isRefused(err, Replayed) {
			t.Errorf("after a restart: %q, %v", serial, err)
		}
		must(t, b.disk.Remove("fleet.json")) // the memory is lost as well: what is served must not end sooner
		b = w.host(1, b.dir)
		if serial, err := b.take(name); serial != "" {
			t.Errorf("without its memory: %q, %v", serial, err)
		}
		must(t, a.offers(name))
		if serial, err := b.take(name); serial != "" || err != nil {
			t.Errorf("the newest again: %q, %v", serial, err)
		}
	}
	if b.serves(name) != newest.Serial() {
		t.Error("another certificate is served")
	}
}

// Everything is removed, again and again: hosts fill the store from their disks, and nothing changes on them.
func TestAnEmptiedStoreIsFilledFromTheDisks(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.host(0, "").run(), w.host(1, "").run()
	s := w.stranger()
	const name = "mx.example"
	for _, h := range []*host{a, b} {
		h.Merge(t.Context(), name, Wish{Names: []string{name}})
	}
	newest := a.issues(name, time.Now().Add(90*24*time.Hour))
	eventually(t, "the other host has it", func() bool { _, err := b.take(name); return err == nil && b.serves(name) == newest.Serial() })
	for range 3 {
		s.wipe()
		eventually(t, "the bundle is there again", func() bool {
			for _, h := range []*host{a, b} {
				if serial, err := h.take(name); serial != "" || err != nil {
					t.Errorf("%s took %q from an empty store: %v", h.set.Host, serial, err)
				}
				_ = h.offers(name)
			}
			_, there := s.all()[bundlePlace(name, bundle.EC256)]
			return there
		})
		for _, h := range []*host{a, b} {
			if h.serves(name) != newest.Serial() {
				t.Fatal("another certificate is served")
			}
		}
	}
}

// Every value that the store has is replaced with each kind of rubbish; a host that works with all of it neither stops nor changes anything.
func TestRubbishInEveryPlace(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.host(0, "").run(), w.host(1, "").run()
	s := w.stranger()
	const name = "mx.example"
	account := state.Account{Directory: "https://ca.example/directory", URL: "https://ca.example/account/1", Key: orderFor(t, name).Key, Created: time.Now().UTC()}
	must(t, state.New(a.Store()).SaveAccount(account))
	for _, h := range []*host{a, b} {
		h.Merge(t.Context(), name, Wish{Names: []string{name}})
		h.Note(name, Deployed{OnDisk: []string{"aa"}, Certain: true})
	}
	newest := a.issues(name, time.Now().Add(90*24*time.Hour))
	must(t, a.AddRecipient(t.Context(), newIdentity(t).Recipient(), "mx9"))
	eventually(t, "the other host has it", func() bool { _, err := b.take(name); return err == nil && b.serves(name) == newest.Serial() })
	eventually(t, "all is noted", func() bool {
		_, there := s.all()["host/mx1/deployed/"+name]
		return there
	})
	s.copy()
	keys := slices.Sorted(maps.Keys(s.archive))
	for _, kind := range []string{"cluster", "hosts", "host/mx0/alive", "host/mx0/seen", "host/mx1/deployed/", "certificate/", "account/", "recipient/"} {
		if !slices.ContainsFunc(keys, func(key string) bool { return strings.HasPrefix(key, kind) }) {
			t.Fatalf("the store has nothing as %s: %v", kind, keys)
		}
	}
	for i, rubbish := range []func(string) []byte{
		func(string) []byte { return nil },
		func(string) []byte { return []byte(`{"version":1}`) },
		func(key string) []byte { return change(t, s.archive[key][0], "version", 2) },
		func(key string) []byte { return s.archive[key][0][:len(s.archive[key][0])-20] },
		func(key string) []byte { return s.archive[keys[(slices.Index(keys, key)+1)%len(keys)]][0] },
		func(key string) []byte {
			return sign(t, s.identity, kindNote, json.RawMessage(payloadOf(t, s.archive[key][0])))
		},
	} {
		for _, key := range keys {
			if !strings.HasPrefix(key, "lock/") {
				s.put(key, rubbish(key))
			}
		}
		c := w.host(1, "") // another process, which reads all of it
		_, _ = c.take(name)
		_, _ = c.Hosts(t.Context(), name)
		_, _ = c.Overview(t.Context())
		for _, h := range []*host{a, b} {
			if serial, err := h.take(name); serial != "" {
				t.Errorf("rubbish %d: %s took %q, %v", i, h.set.Host, serial, err)
			}
			h.Merge(t.Context(), name, Wish{Names: []string{name}})
			if h.serves(name) != newest.Serial() {
				t.Fatalf("rubbish %d: another certificate is served", i)
			}
		}
		eventually(t, "it is reported", func() bool {
			_, _ = b.take(name)
			return len(b.Health().Faults) > 0 || !b.Health().Up
		})
	}
	for key, old := range s.archive {
		s.put(key, old[0])
	}
	eventually(t, "all is well again", func() bool {
		_, err := b.take(name)
		return err == nil && b.Health().Up && !b.hasFault(bundlePlace(name, bundle.EC256))
	})
}
