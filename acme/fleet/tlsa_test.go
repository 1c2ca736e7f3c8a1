package fleet

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

func ec() []bundle.KeyType { return []bundle.KeyType{bundle.EC256} }

// Hosts change what they remember together at once, and no change is lost. What each says is seen by all, and one next key comes of several.
func TestKeysAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	var all []*Keys
	for i := range 3 {
		all = append(all, w.host(i, t.TempDir()).Keys("mx"))
	}
	const rounds = 5
	var group sync.WaitGroup
	for i, k := range all {
		group.Go(func() {
			for range rounds {
				err := k.Change(t.Context(), func(text []byte, _ map[string]time.Time) ([]byte, error) {
					n := 0
					_, _ = fmt.Sscan(string(text), &n)
					return fmt.Append(nil, n+1), nil
				})
				if err != nil {
					t.Error(err)
				}
			}
			must(t, k.Say(t.Context(), int64(i+1), fmt.Appendf(nil, `{"host": %d}`, i)))
			pem, spki := newKey(t)
			if err := k.Offer(t.Context(), bundle.EC256, NextKey{SPKI: spki, Generation: 1, PEM: pem}); err != nil && !errors.Is(err, state.ErrChanged) {
				t.Error(err)
			}
		})
	}
	group.Wait()
	var spki string
	for _, k := range all {
		s, err := k.Look(t.Context(), ec())
		must(t, err)
		next := s.Next[bundle.EC256]
		if string(s.Together) != fmt.Sprint(3*rounds) || len(s.Hosts) != 3 || len(s.Refused) > 0 || next.Generation != 1 || spki != "" && next.SPKI != spki {
			t.Errorf("%s: %q, %+v, %+v, refused %v", k.Host(), s.Together, s.Hosts, next, s.Refused)
		}
		if found, err := spkiOf(next.PEM); err != nil || found != next.SPKI {
			t.Errorf("the key is %s, %v", found, err)
		}
		spki = next.SPKI
	}
	pem, other := newKey(t)
	if err := all[0].Offer(t.Context(), bundle.EC256, NextKey{SPKI: other, Generation: 2, PEM: pem}); err != nil {
		t.Fatal(err)
	}
	if s, err := all[1].Look(t.Context(), ec()); err != nil || s.Next[bundle.EC256].SPKI != other {
		t.Errorf("a later key does not take the place: %v", err)
	}
}

// Whoever can write to the store cannot say anything for a host, nor move what a host has said to another place: it is refused, and told.
func TestKeysForged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	k := w.host(0, t.TempDir()).Keys("mx")
	other := w.host(1, t.TempDir()).Keys("other")
	pem, spki := newKey(t)
	for _, one := range []*Keys{k, other} {
		must(t, one.Say(t.Context(), 1, []byte(`{}`)))
		must(t, one.Offer(t.Context(), bundle.EC256, NextKey{SPKI: spki, Generation: 1, PEM: pem}))
		must(t, one.Change(t.Context(), func([]byte, map[string]time.Time) ([]byte, error) { return []byte(`{"version": 1}`), nil }))
	}
	evil := w.stranger()
	for name, forge := range map[string]func(place string) []byte{
		"garbage": func(string) []byte { return []byte("garbage") },
		"of a stranger": func(place string) []byte {
			return must2(vault{fleet: "berlin", host: "mx0", identity: evil.identity}.note(place, 9, time.Now(), 1))
		},
		"moved from else": func(place string) []byte { return evil.get("certificate/other" + place[len("certificate/mx"):]) },
	} {
		for _, place := range []string{k.together(), k.next(bundle.EC256)} {
			before := evil.get(place)
			evil.put(place, forge(place))
			s, err := k.Look(t.Context(), ec())
			if err != nil || len(s.Refused) != 1 || place == k.together() && s.Together != nil || place == k.next(bundle.EC256) && len(s.Next) > 0 {
				t.Errorf("%s at %s: %+v, %v", name, place, s, err)
			}
			evil.put(place, before)
		}
	}
	evil.put(k.says("mx1"), evil.get(k.says("mx0"))) // what one host has said, for another
	if s, err := k.Look(t.Context(), ec()); err != nil || len(s.Refused) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

// A host that was forgotten by hand is known as such, though what it said is gone. A host that has lost its lease only is not.
func TestKeysForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	h := w.host(0, t.TempDir())
	k, gone := h.Keys("mx"), w.host(1, t.TempDir()).Keys("mx")
	must(t, k.Change(t.Context(), func([]byte, map[string]time.Time) ([]byte, error) { return []byte(`{}`), nil }))
	must(t, gone.Say(t.Context(), 1, []byte(`{}`)))
	s, err := k.Look(t.Context(), ec())
	if must(t, err); len(s.Hosts) != 1 || s.Hosts[0].Alive || len(s.Forgotten) > 0 {
		t.Fatalf("%+v", s)
	}
	must(t, h.ForgetTLSA(t.Context(), "mx1"))
	s, err = k.Look(t.Context(), ec())
	if must(t, err); len(s.Hosts) != 0 || s.Forgotten["mx1"].IsZero() || string(s.Together) != "{}" {
		t.Errorf("%+v", s)
	}
}

// Without the store each question ends soon, with the error that callers expect.
func TestKeysAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	k := w.host(0, t.TempDir()).Keys("mx")
	w.cluster.Members[0].Stop()
	if _, err := k.Look(t.Context(), ec()); !errors.Is(err, state.ErrAway) {
		t.Errorf("%v", err)
	}
	if err := k.Say(t.Context(), 1, []byte(`{}`)); !errors.Is(err, state.ErrAway) {
		t.Errorf("%v", err)
	}
}

func must2(value []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return value
}
