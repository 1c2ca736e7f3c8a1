package dane

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// The checker finds each kind of fault, and nothing in a right rollover.
func TestChecker(t *testing.T) {
	zero := time.Now()
	at := func(seconds float64) time.Time { return zero.Add(time.Duration(seconds * float64(time.Second))) }
	record := func(key string) string { return fmt.Sprintf("3 1 1 %x", sha256.Sum256([]byte(key))) }
	seen := func(from, to float64, set string) sight {
		return sight{server: "a", owner: "o", given: given{set: set, ttl: 2 * time.Second, signed: true}, first: at(from), last: at(to)}
	}
	serve := func(t float64, key string) shake {
		return shake{address: "b", owners: []string{"o"}, begin: at(t), end: at(t + .1), leaf: [][]byte{[]byte("certificate"), []byte(key)}}
	}
	old, both, fresh := record("old"), record("old")+"; "+record("new"), record("new")
	unsigned := seen(0, 10, old)
	unsigned.signed = false
	cached := seen(0, 10, old)
	cached.cache = true
	for _, c := range []struct {
		name   string
		sights []sight
		shakes []shake
		broken bool
	}{
		{"a right rollover", []sight{seen(0, 10, old), seen(10, 30, both), seen(30, 40, fresh)}, []shake{serve(1, "old"), serve(14.5, "new"), serve(39, "new")}, false},
		{"switched before publication", []sight{seen(0, 10, old), seen(10, 30, both)}, []shake{serve(9, "new")}, true},
		{"switched while the old set is held", []sight{seen(0, 10, old), seen(10, 30, both)}, []shake{serve(13, "new")}, true},
		{"one server is late", []sight{seen(0, 10, old), seen(10, 30, both), seen(0, 14, old)}, []shake{serve(16, "new")}, true},
		{"switched one TTL after every server has the record", []sight{seen(0, 10, old), seen(10, 30, both)}, []shake{serve(12.1, "new")}, true},
		{"switched two TTLs after that", []sight{seen(0, 10, old), seen(10, 30, both)}, []shake{serve(14.1, "new")}, false},
		{"one server never updates", []sight{seen(0, 30, old), seen(10, 30, both)}, []shake{serve(29, "new")}, true},
		{"one server is restored from a backup", []sight{seen(0, 10, old), seen(10, 60, both), seen(40, 41, old)}, []shake{serve(44, "new")}, true},
		{"the old record removed while one address serves the key", []sight{seen(0, 10, both), seen(10, 30, fresh)}, []shake{serve(11, "new"), serve(29, "old")}, true},
		{"a resolver holds the old set", []sight{cached}, []shake{serve(11.5, "new")}, true},
		{"a resolver held it", []sight{cached}, []shake{serve(12.1, "new")}, false},
		{"the old record removed too early", []sight{seen(0, 10, both), seen(10, 30, fresh)}, []shake{serve(11, "old")}, true},
		{"no record", []sight{seen(0, 10, "")}, []shake{serve(5, "any")}, false},
		{"unsigned", []sight{unsigned}, []shake{serve(5, "any")}, false},
		{"none that senders use", []sight{seen(0, 10, "1 1 1 00; 3 1 9 00")}, []shake{serve(5, "any")}, false},
		{"no handshake", []sight{seen(0, 10, old)}, []shake{{owners: []string{"o"}, begin: at(5), end: at(5), failed: "454"}}, true},
		{"another name", []sight{seen(0, 10, old)}, []shake{{owners: []string{"p"}, begin: at(5), end: at(5)}}, false},
	} {
		if found := (recording{c.sights, c.shakes}).check(nil); len(found) > 0 != c.broken {
			t.Errorf("%s: %v", c.name, found)
		}
	}
	if found := (recording{[]sight{seen(0, 10, old), seen(10, 30, both)}, []shake{serve(17, "new")}}).check(map[string]time.Duration{"o": 9 * time.Second}); len(found) == 0 {
		t.Error("a cache that holds everything for nine seconds is forgotten")
	}
}

// Of rollovers at random, of which the recorder sees as little as on a busy machine, the checker finds each in which a key was switched too
// early, or a record removed too early, for longer than a few rounds of the recorder take; and nothing in the others.
func TestCheckerAtRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, seed)) //nolint:gosec // a test
	zero := time.Now()
	after := func(d time.Duration) time.Time { return zero.Add(d) }
	span := func(from, to time.Duration) time.Duration {
		return from + time.Duration(random.Int64N(int64(to-from)+1))
	}
	old, fresh := fmt.Sprintf("3 1 1 %x", sha256.Sum256([]byte("old"))), fmt.Sprintf("3 1 1 %x", sha256.Sum256([]byte("new")))
	right, wrong := 0, 0
	for range 300 {
		ttl := time.Duration(1+random.IntN(8)) * time.Second
		every := span(100*time.Millisecond, ttl/3) // a round of the recorder
		var added, removed []time.Duration
		for range 3 { // servers
			added = append(added, span(10*time.Second, 15*time.Second))
			removed = append(removed, span(30*time.Second, 60*time.Second))
		}
		all, first := max(added[0], added[1], added[2]), min(removed[0], removed[1], removed[2])
		switched := all + []time.Duration{-ttl, 0, ttl, 2*ttl - 2*every, 2 * ttl, 3 * ttl, first - all + ttl}[random.IntN(7)]
		r := &recorder{sights: map[[2]string][]sight{}, silent: map[string]int{}, lost: map[[2]string]bool{}}
		for i := range added {
			for at := span(0, every); at < 70*time.Second; at += span(every/2, every) {
				g, err := given{set: old + "; " + fresh, ttl: ttl, signed: true}, error(nil)
				switch {
				case at < added[i]:
					g.set = old
				case at >= removed[i]:
					g.set = fresh
				}
				if random.IntN(20) == 0 {
					err = errors.New("no answer")
				}
				r.note(source{address: fmt.Sprint(i)}, "o", g, after(at), after(at+every/10), err)
			}
		}
		seen := recording{}
		for _, list := range r.sights {
			seen.sights = append(seen.sights, list...)
		}
		for at := span(0, every); at < 70*time.Second; at += span(every/2, every) {
			h := shake{address: "b", owners: []string{"o"}, begin: after(at), end: after(at + every/10), leaf: [][]byte{nil, []byte("old")}}
			if at >= switched {
				h.leaf[1] = []byte("new")
			}
			seen.shakes = append(seen.shakes, h)
		}
		early := max(all+2*ttl-switched, switched-first) // for how long a sender may have been refused
		found := seen.check(nil)
		switch {
		case early <= 0 && len(found) > 0:
			t.Fatalf("seed %d: a right rollover (TTL %v, on all servers after %v, switched after %v, removed after %v): %v", seed, ttl, all, switched, first, found)
		case early > 6*every && len(found) == 0:
			t.Fatalf("seed %d: nothing found, though the key did not fit for %v (TTL %v, on all servers after %v, switched after %v, removed after %v, a round takes %v)",
				seed, early, ttl, all, switched, first, every)
		case early <= 0:
			right++
		case early > 6*every:
			wrong++
		}
	}
	if right < 30 || wrong < 30 {
		t.Errorf("only %d right ones and %d wrong ones", right, wrong)
	}
}
