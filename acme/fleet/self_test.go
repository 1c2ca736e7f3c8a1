package fleet

import (
	"errors"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/fleet/seal"
	"mxcert/acme/state"
)

// lost is an identity in a file that cannot be read until found is set.
type lost struct {
	identity *seal.Identity
	found    atomic.Bool
}

func (l *lost) read() (*seal.Identity, error) {
	if l.found.Load() {
		return l.identity, nil
	}
	return nil, &lostError{&fs.PathError{Op: "open", Path: "/etc/mxcert/credentials/age", Err: fs.ErrNotExist}}
}

func (l *lost) settings(set *Settings) { set.Identity, set.Identify = nil, l.read }

type lostError struct{ error }

func (e *lostError) Unwrap() error { return e.error }
func (*lostError) Hint() string    { return "chmod 0640 it" }

// A host whose identity cannot be read goes on as if the store were away, and says why: it takes, orders and offers nothing, and writes nothing to
// the store. When the file is there, the same process takes part, and is believed by the others.
func TestALostIdentity(t *testing.T) {
	pair(t, 2, func(t *testing.T, s *storm) {
		h, other := s.hosts[0], s.hosts[1]
		first := h.start(false)
		served := h.orders(first, 30*24*time.Hour)
		before := s.store.snapshot()

		file := &lost{identity: h.identity}
		for _, daemon := range []bool{false, true} {
			m := h.start(daemon, file.settings)
			time.Sleep(time.Second)
			if got := h.takes(m); got != served.Serial() {
				t.Errorf("it has %q", got)
			}
			_, err := m.Overview(t.Context())
			isErr(t, "an overview", err, state.ErrAway)
			if errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "/etc/mxcert/credentials/age") {
				t.Errorf("a file that is missing here looks like a value that is missing in the store: %v", err)
			}
			_, err = m.Lead(t.Context(), stormName, Danger{NotAfter: time.Now().Add(time.Minute), Life: time.Hour})
			if held, ok := errors.AsType[*Held](err); !ok || !held.Temporary() || !strings.Contains(held.Why, "/etc/mxcert/credentials/age") || !strings.Contains(held.Hint(), "chmod 0640 it") {
				t.Errorf("it may order: %v", err)
			}
			if health := m.Health(); health.Up || health.Since.IsZero() || !strings.Contains(health.Reason, "/etc/mxcert/credentials/age") || health.Hint != "chmod 0640 it" {
				t.Errorf("%+v", health)
			}
			if known := Known(h.disk.process()); known.Up || !known.Since.Equal(m.Health().Since) || known.Reason != m.Health().Reason || known.Hint != "chmod 0640 it" {
				t.Errorf("on the disk: %+v", known)
			}
			for _, r := range m.Recipients() {
				if r.Source == "this host" {
					t.Errorf("it says that it is %s", r.Recipient)
				}
			}
			isErr(t, "a removal", errOf(m.RemoveRecipient(t.Context(), other.identity.Recipient())), state.ErrAway)
			must(t, state.New(m.Store()).SaveAccount(accountFor(t, "https://ca.example/account/1")))
			if now := s.store.snapshot(); len(now) != len(before) {
				t.Errorf("something was written: %d values became %d", len(before), len(now))
			}
			if daemon {
				comesBack(t, s, m, file)
			}
		}
	})
}

func errOf(_ []string, err error) error { return err }

// comesBack has the identity of a daemon be readable again.
func comesBack(t *testing.T, s *storm, m *Member, file *lost) {
	t.Helper()
	file.found.Store(true)
	time.Sleep(probeLast * 2)
	if health := m.Health(); !health.Up || health.Reason != "" {
		t.Fatalf("%+v", health)
	}
	newest := s.hosts[0].orders(m, 40*24*time.Hour)
	b := s.hosts[1].start(false)
	if got := s.hosts[1].takes(b); got != newest.Serial() || len(b.Health().Faults) > 0 {
		t.Errorf("the other host has %q, want %s: %+v", got, newest.Serial(), b.Health())
	}
}

// With fleet.alone a host that cannot read its identity orders late, as without the store, and stores the order on its disk.
func TestAloneWithoutAnIdentity(t *testing.T) {
	pair(t, 1, func(t *testing.T, s *storm) {
		file := &lost{}
		m := s.hosts[0].start(false, file.settings, func(set *Settings) { set.Alone = true })
		const life = 90 * 24 * time.Hour
		early := Danger{NotAfter: time.Now().Add(life / 2), Life: life, Serial: "01"}
		late := Danger{NotAfter: time.Now().Add(life/5 - 25*time.Hour), Life: life, Serial: "01"}
		managed := late
		managed.Managed = true
		for what, danger := range map[string]Danger{"early": early, "managed": managed} {
			if _, err := m.Lead(t.Context(), stormName, danger); !errors.As(err, new(*Held)) {
				t.Errorf("%s: %v", what, err)
			}
		}
		lead, err := m.Lead(t.Context(), stormName, late)
		must(t, err)
		if !lead.Alone {
			t.Error("it is not alone")
		}
		must(t, state.New(m.Store()).Lineage(stormName).SaveOrder(orderFor(t, stormName)))
		lead.Release()
		if n := len(s.store.snapshot()); n != 0 {
			t.Errorf("%d values were written to the store", n)
		}
	})
}

// Whoever has no identity signs and opens nothing, whatever it is asked to.
func TestNothingWithoutAnIdentity(t *testing.T) {
	t.Parallel()
	v := vault{fleet: "berlin", host: "mx0", trust: newTrust("berlin", "", nil)}
	_, err := v.note("hosts", 0, time.Now(), hostList{})
	isErr(t, "a note", err, state.ErrAway)
	with := vault{fleet: "berlin", host: "mx0", identity: newIdentity(t)}
	with.trust = newTrust("berlin", with.identity.Recipient(), nil)
	sealed, err := with.write(place{kindNext, "mx", bundle.EC256}, described{Generation: 1}, inside{})
	must(t, err)
	v.trust = with.trust
	_, _, err = v.open(sealed, place{kindNext, "mx", bundle.EC256}, 0)
	isErr(t, "a secret", err, state.ErrAway)
	if _, err := New(Settings{Name: "berlin", Host: "mx0"}, nil, newMemoryDisk().process(), nil); err == nil {
		t.Error("a host without an identity, and without a way to read one")
	}
}
