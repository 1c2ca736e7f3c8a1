package dane

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// A lookingHost is a host of a fleet, of which only the looks matter.
type lookingHost struct {
	State
	name     string
	settings Settings
	first    []string      // the records of its first look, for as long as they are there
	since    time.Duration // from when on it knows what was there: its own looks, or those of which it has learned
}

func newLooking(name string, s Settings) *lookingHost {
	return &lookingHost{State: State{Memory: Memory{}}, name: name, settings: s}
}

func (h *lookingHost) look(s seen) { h.Memory.note(mx, s, h.settings) }

// gives is the end of a pass: the host gives what it knows, through the store.
func (h *lookingHost) gives(t testing.TB, c *Shared) {
	t.Helper()
	h.GiveLooks(c, h.name, h.settings)
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	*c = Shared{}
	if err := json.Unmarshal(text, c); err != nil {
		t.Fatal(err)
	}
	c.Clean()
}

// A host that begins to look takes from another what was there before. Where the other does not know it either, it stays careful.
func TestLooksOfAnotherHost(t *testing.T) {
	t.Parallel()
	const h = time.Hour
	rumour := whole(3*h, set(h, "b"))
	rumour.rumour = set(h, "a").Set
	for name, c := range map[string]struct {
		other    []seen
		hold     time.Duration // of the other
		mine     []seen
		now      time.Duration
		want     string
		unshared bool
	}{
		"nothing was there before":                       {other: []seen{whole(0)}, mine: []seen{whole(h, set(h, "a"))}, now: h, want: "a/1h!"},
		"the other has seen them come":                   {other: []seen{whole(0), whole(h, set(h, "a"))}, mine: []seen{whole(2*h, set(h, "a"))}, now: 2 * h, want: "a/1h!"},
		"the TTL was lowered":                            {other: []seen{whole(0), whole(h, set(10*h, "a")), whole(2*h, set(h, "a"))}, mine: []seen{whole(3*h, set(h, "a"))}, now: 3 * h, want: "a/1h! a/10h"},
		"a set was there that is gone":                   {other: []seen{whole(0), whole(h, set(h, "a")), whole(2*h, set(h, "b"))}, mine: []seen{whole(2*h, set(h, "b"))}, now: 2 * h, want: "b/1h! a/1h"},
		"the other guesses as well":                      {other: []seen{whole(0, set(h, "a"))}, mine: []seen{whole(h, set(h, "a"))}, now: h, want: "a/1h! a/24h"},
		"the other began later":                          {other: []seen{whole(2 * h)}, mine: []seen{whole(h, set(h, "a"))}, now: 2 * h, want: "a/1h! a/24h"},
		"the other has stopped for long":                 {other: []seen{whole(0)}, mine: []seen{whole(4*h, set(h, "a"))}, now: 4 * h, want: "a/1h! a/24h"},
		"the other goes on":                              {other: []seen{whole(0), whole(20*h, set(h, "a"))}, mine: []seen{whole(12*h, set(h, "a"))}, now: 20 * h, want: "a/1h!"},
		"the other has had a gap of a day":               {other: []seen{whole(0), whole(30*h, set(h, "a"))}, mine: []seen{whole(20*h, set(h, "a"))}, now: 30 * h, want: "a/1h! a/24h"},
		"the other saw only a part":                      {other: []seen{partial(0)}, mine: []seen{whole(h, set(h, "a"))}, now: h, want: "a/1h! a/24h"},
		"the other sees only a part for a day":           {other: []seen{whole(0), partial(12 * h), partial(24 * h), whole(26*h, set(h, "a"))}, mine: []seen{whole(20*h, set(h, "a"))}, now: 26 * h, want: "a/1h! a/24h"},
		"the other assumes nothing":                      {other: []seen{whole(0)}, hold: -1, mine: []seen{whole(h, set(h, "a"))}, now: h, want: "a/1h! a/24h", unshared: true},
		"the other's clock is far ahead":                 {other: []seen{whole(0), whole(20*h, set(h, "a"))}, mine: []seen{whole(h, set(h, "a"))}, now: h, want: "a/1h! a/24h"},
		"the other began shortly before, says its clock": {other: []seen{whole(30 * time.Minute), whole(2 * h)}, mine: []seen{whole(h, set(h, "a"))}, now: 2 * h, want: "a/1h! a/24h"},
		"the other began shortly before, and is heard":   {other: []seen{whole(30 * time.Minute)}, mine: []seen{whole(h, set(h, "a"))}, now: h + time.Minute, want: "a/1h!"},
		"my own look was in part":                        {other: []seen{whole(0)}, mine: []seen{partial(h, set(h, "a"))}, now: h, want: "a/1h!"},
		"my looks had a gap of a day":                    {other: []seen{whole(20 * h), whole(23 * h)}, mine: []seen{whole(0), whole(25*h, set(h, "a"))}, now: 25 * h, want: "a/1h!"},
		"a resolver has what the other has seen":         {other: []seen{whole(0), whole(h, set(h, "a")), whole(2*h, set(h, "b"))}, mine: []seen{whole(0), rumour}, now: 3 * h, want: "b/1h! a/1h"},
		"a resolver has what nobody has seen":            {other: []seen{whole(0), whole(2*h, set(h, "b"))}, mine: []seen{whole(0), rumour}, now: 3 * h, want: "b/1h! a/24h"},
		"nothing is guessed, so nothing is taken":        {other: []seen{whole(0), whole(h, set(h, "c")), whole(2*h, set(h, "b"))}, mine: []seen{whole(0), whole(2*h, set(h, "b"))}, now: 2 * h, want: "b/1h!"},
		"the zone is not signed any more, here alone":    {other: []seen{whole(0), whole(h, set(h, "a"))}, mine: []seen{whole(0), whole(h, set(h, "a")), {at: moment(2 * h), insecure: true}}, now: 2 * h, want: "a/1h a/24h"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other, mine, together := newLooking("mx1", dayish), newLooking("mx2", dayish), &Shared{}
			if c.hold != 0 {
				other.settings.Hold = 0
			}
			for _, s := range c.other {
				other.look(s)
				other.gives(t, together)
			}
			if len(together.Looks) > 0 && c.unshared {
				t.Fatalf("it shares %+v", together.Looks)
			}
			for _, s := range c.mine {
				mine.look(s)
			}
			for range 2 {
				mine.Memory = reread(t, mine.Memory)
				if mine.Take(together, moment(c.now)); holds(mine.Memory, dayish) != c.want {
					t.Errorf("it holds %q, want %q", holds(mine.Memory, dayish), c.want)
				}
			}
		})
	}
}

// A fleet whose looks change nothing writes what they know once an hour, however many hosts it has.
func TestLooksAreSaidSeldom(t *testing.T) {
	t.Parallel()
	var hosts []*lookingHost
	for i := range 5 {
		hosts = append(hosts, newLooking(fmt.Sprintf("mx%d", i), dayish))
	}
	together, writes, before := &Shared{}, 0, ""
	for n := range 10 * 24 {
		for i, h := range hosts {
			h.look(whole(time.Duration(n)*time.Hour+time.Duration(i)*time.Minute, set(time.Hour, "a")))
			h.Take(together, moment(time.Duration(n)*time.Hour))
			h.gives(t, together)
			if now := fmt.Sprint(together.Looks); now != before {
				writes, before = writes+1, now
			}
		}
	}
	if writes < 220 || writes > 260 {
		t.Errorf("%d writes in ten days", writes)
	}
}

// Whoever controls the zones cannot make it large: the store takes values of a limited size, and the changes of records depend on this one.
func TestLooksAreBounded(t *testing.T) {
	t.Parallel()
	h, together := newLooking("mx1", dayish), &Shared{}
	for owner := range 300 {
		large := Cached{Set: Set{Records: []string{fmt.Sprintf("3 0 0 %06x", owner) + strings.Repeat("00", owner*20)}, TTL: time.Hour}, Given: true}
		h.Memory.note(Owner{fmt.Sprintf("mx%d.example.org", owner), 25}, whole(0), dayish)
		h.Memory.note(Owner{fmt.Sprintf("mx%d.example.org", owner), 25}, whole(time.Hour, large), dayish)
	}
	h.gives(t, together)
	if text := must(json.Marshal(together)); len(together.Looks) < 20 || len(text) > 128<<10 {
		t.Errorf("%d owners, %d bytes", len(together.Looks), len(text))
	}
}

// Random zones, and hosts that come and go at random moments: whoever takes over what another knows is as careful as that one. It holds each set
// that was there since then for at least as long as a sender can, who may have asked at any moment.
func TestLooksOfAnotherHostAreEnough(t *testing.T) {
	t.Parallel()
	learned := 0
	for seed := range uint64(400) {
		pick := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test
		w := &lookWorld{Rand: pick, t: t, seed: seed}
		w.live()
		learned += w.learned
	}
	if learned < 100 {
		t.Errorf("only %d times has a host learned something", learned)
	}
}

// A lookWorld is one zone with one owner, and hosts that look at it.
type lookWorld struct {
	*rand.Rand
	t       *testing.T
	seed    uint64
	learned int
	given   []lookSpan // in order
}

// lookSpan is a set that servers give from a moment on.
type lookSpan struct {
	from time.Duration
	set  Cached
}

func (w *lookWorld) at(d time.Duration) Cached {
	for _, s := range slices.Backward(w.given) {
		if s.from <= d {
			return s.set
		}
	}
	panic("before the beginning")
}

func (w *lookWorld) live() {
	const length = 8 * 24
	for d := time.Duration(0); d < length*time.Hour; d += time.Duration(4+w.IntN(40)) * time.Hour {
		keys := []string{"a", "b", "c"}[w.IntN(3):]
		w.given = append(w.given, lookSpan{d, set([]time.Duration{time.Minute, time.Hour, 6 * time.Hour, day}[w.IntN(4)], keys...)})
	}
	s := Settings{Mode: Check, Hold: time.Minute} // so that a set with a short TTL is held briefly
	hosts := []*lookingHost{newLooking("mx0", s), newLooking("mx1", s), newLooking("mx2", s)}
	away := []time.Duration{0, 0, 0}
	for i := range away {
		away[i] = time.Duration(w.IntN(72)*i) * time.Hour
	}
	together := &Shared{}
	for n := range length {
		for i, h := range hosts {
			d := time.Duration(n)*time.Hour + time.Duration(i)*time.Minute
			if d < away[i] {
				continue
			}
			if w.IntN(40) == 0 { // it goes, and another comes in its place
				away[i], h.Memory = d+time.Duration(w.IntN(72))*time.Hour, Memory{}
				continue
			}
			switch now := w.at(d).Records; {
			case len(h.Memory) == 0:
				h.first, h.since = now, 0 // it guesses
			case !slices.Equal(h.first, now):
				h.first = nil
			}
			if h.look(whole(d, w.at(d))); w.IntN(10) == 0 {
				continue // the store is away
			}
			before := holds(h.Memory, h.settings)
			h.Take(together, moment(d))
			if holds(h.Memory, h.settings) != before {
				w.learned++
				h.since = together.Looks[mx.Name()].Since.Sub(moment(0).At)
			}
			h.gives(w.t, together)
			w.judge(h, d)
		}
	}
}

// judge compares what the host holds with what a sender may hold of the records that are there since the host's first look: with which TTL they were
// there before.
func (w *lookWorld) judge(h *lookingHost, d time.Duration) {
	for i, s := range w.given {
		if s.from > d || !slices.Equal(s.set.Records, h.first) {
			continue
		}
		ends := d
		if i+1 < len(w.given) {
			ends = min(d, w.given[i+1].from)
		}
		left := ends + s.set.TTL - d
		if left <= 0 || ends < h.since { // what was gone before its first look, the other host does not know either
			continue
		}
		if !slices.ContainsFunc(h.Memory.Held(mx, h.settings), func(c Cached) bool { return slices.Equal(c.Records, h.first) && c.left(h.settings) >= left }) {
			w.t.Errorf("seed %d, %v, %s: a sender may hold %v for %v more; it holds %s", w.seed, d, h.name, s.set, left, holds(h.Memory, h.settings))
		}
	}
}
