package state

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// minutes after some start of the host.
func minute(m int) Instant {
	return Instant{At: time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC).Add(time.Duration(m) * time.Minute), Boot: "a", Up: time.Duration(m) * time.Minute}
}

func look(names ...string) (l Look) {
	for _, name := range names {
		if name == "?" {
			l.Unsure = true
			continue
		}
		l.Names = append(l.Names, SeenName{Name: name, Reason: "MX of example.org"})
	}
	return l
}

func wantedNames(n *Names) string {
	var list []string
	for _, s := range n.Wanted() {
		list = append(list, s.Name)
	}
	return strings.Join(list, " ")
}

func TestFold(t *testing.T) {
	t.Parallel()
	type step struct {
		at   int
		look Look
		want string
	}
	for what, steps := range map[string][]step{
		"two looks an hour apart":            {{0, look("mx"), ""}, {60, look("mx"), "mx"}},
		"fifty-nine minutes are not enough":  {{0, look("mx"), ""}, {59, look("mx"), ""}, {61, look("mx"), "mx"}},
		"a look without it starts anew":      {{0, look("mx"), ""}, {30, look(), ""}, {60, look("mx"), ""}, {119, look("mx"), ""}, {120, look("mx"), "mx"}},
		"an error changes nothing":           {{0, look("mx"), ""}, {30, look("?"), ""}, {60, look("mx"), "mx"}, {61, look("?"), "mx"}, {600, look("?"), "mx"}},
		"gone after two looks":               {{0, look("mx"), ""}, {60, look("mx"), "mx"}, {120, look(), "mx"}, {179, look(), "mx"}, {180, look(), ""}},
		"gone and back":                      {{0, look("mx"), ""}, {60, look("mx"), "mx"}, {120, look(), "mx"}, {150, look("mx"), "mx"}, {180, look(), "mx"}, {239, look(), "mx"}, {240, look(), ""}},
		"an error between, when it is gone":  {{0, look("mx"), ""}, {60, look("mx"), "mx"}, {120, look(), "mx"}, {150, look("?"), "mx"}, {180, look("?"), "mx"}, {181, look(), ""}},
		"each name has its own time":         {{0, look("a"), ""}, {30, look("b", "a"), ""}, {60, look("b", "a"), "a"}, {90, look("b", "a"), "b a"}},
		"one that is seen despite an error":  {{0, look("a", "?"), ""}, {60, look("a", "?"), "a"}},
		"a flapping record never gets there": {{0, look("a"), ""}, {50, look(), ""}, {100, look("a"), ""}, {150, look(), ""}, {200, look("a"), ""}},
	} {
		var n Names
		for _, s := range steps {
			before := wantedNames(&n)
			changed := n.Fold(s.look, minute(s.at), time.Hour, false)
			if got := wantedNames(&n); got != s.want || changed != (got != before) {
				t.Errorf("%s: after minute %d %q is wanted, want %q; changed %v", what, s.at, got, s.want, changed)
			}
		}
	}
}

// A person who asks for it need not wait to add a name; dropping one waits all the same.
func TestFoldAtOnce(t *testing.T) {
	t.Parallel()
	var n Names
	n.Fold(look("a"), minute(0), time.Hour, true)
	if wantedNames(&n) != "a" {
		t.Errorf("%+v", n)
	}
	n.Fold(look(), minute(1), time.Hour, true)
	if wantedNames(&n) != "a" {
		t.Errorf("dropped at once: %+v", n)
	}
}

// The clock may be set: an hour stays an hour while the host runs, and a clock that was ahead does not block for ever.
func TestFoldAndTheClock(t *testing.T) {
	t.Parallel()
	ahead := func(i Instant) Instant { i.At = i.At.Add(1000 * time.Hour); return i }
	boot := func(i Instant) Instant { i.Boot, i.Up = "b", time.Minute; return i }
	for what, tt := range map[string]struct {
		looks []Instant
		want  string
	}{
		"set forward":                      {[]Instant{minute(0), ahead(minute(1))}, ""},
		"set forward, an hour later":       {[]Instant{minute(0), ahead(minute(60))}, "mx"},
		"set back":                         {[]Instant{ahead(minute(0)), minute(60)}, "mx"},
		"restarted after an hour":          {[]Instant{minute(0), boot(minute(60))}, "mx"},
		"restarted after a minute":         {[]Instant{minute(0), boot(minute(1))}, ""},
		"restarted, and set back":          {[]Instant{ahead(minute(0)), boot(minute(60))}, ""},
		"restarted, set back and an hour":  {[]Instant{ahead(minute(0)), boot(minute(60)), minute(61), minute(121)}, "mx"},
		"without a way to tell the start":  {[]Instant{{At: minute(0).At}, {At: minute(60).At}}, "mx"},
		"without one, and clock set back":  {[]Instant{{At: minute(60).At}, {At: minute(0).At}, {At: minute(59).At}}, ""},
		"without one, and an hour of that": {[]Instant{{At: minute(60).At}, {At: minute(0).At}, {At: minute(60).At}}, "mx"},
	} {
		var n Names
		for _, at := range tt.looks {
			n.Fold(look("mx"), at, time.Hour, false)
		}
		if got := wantedNames(&n); got != tt.want {
			t.Errorf("%s: %q, want %q", what, got, tt.want)
		}
	}
}

// However resolvers fail, lie for a while or flap: a name is wanted only if two looks have found it that are at least an hour apart, with
// none between them that was sure and did not; and the same for a name that is not wanted any more.
func TestFoldAtRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 12))
		var n Names
		type sight struct {
			at   int
			says int // 1: found, -1: surely gone, 0: unsure
		}
		history := map[string][]sight{}
		streak := func(name string, says int) int {
			last, first := -1, -1
			for _, s := range slices.Backward(history[name]) {
				if s.says == -says {
					break
				}
				if s.says == says {
					first = s.at
					last = max(last, s.at)
				}
			}
			return last - first
		}
		is := map[string]bool{}
		for at := 0; at < 3000; at += 1 + random.IntN(50) {
			var l Look
			l.Unsure = random.IntN(4) == 0
			for _, name := range []string{"a", "b", "c"} {
				says := -1
				if stays := at/200%2 == 0; random.IntN(10) > 0 == stays {
					says = 1
					l.Names = append(l.Names, SeenName{Name: name, Reason: "MX of example.org"})
				} else if l.Unsure {
					says = 0
				}
				history[name] = append(history[name], sight{at, says})
			}
			n.Fold(l, minute(at), time.Hour, false)
			for name := range history {
				now := slices.ContainsFunc(n.Wanted(), named(name))
				says := -1
				if now {
					says = 1
				}
				if now != is[name] && streak(name, says) < 60 {
					t.Fatalf("seed %d, minute %d: %s changed to %v after %d minutes: %+v", seed, at, name, now, streak(name, says), history[name])
				}
				if now == is[name] && history[name][len(history[name])-1].says == -says && streak(name, -says) >= 60 {
					t.Fatalf("seed %d, minute %d: %s does not change, after %d minutes: %+v", seed, at, name, streak(name, -says), history[name])
				}
				is[name] = now
			}
		}
	}
}

func TestNextLook(t *testing.T) {
	t.Parallel()
	var n Names
	if _, ok := n.Next(minute(0), time.Hour); ok || !n.Due(minute(0), time.Hour) {
		t.Error("without a look")
	}
	n.Fold(look("a"), minute(0), time.Hour, false)
	n.Fold(look("a", "b"), minute(10), time.Hour, false)
	if in, ok := n.Next(minute(20), time.Hour); !ok || in != 40*time.Minute {
		t.Errorf("%v, %v", in, ok)
	}
	if n.Due(minute(20), time.Hour) || !n.Due(minute(20), 10*time.Minute) {
		t.Error("the last look was ten minutes ago")
	}
	if n.Fold(look("a", "b"), minute(200), time.Hour, false); n.Seen[0].Since != (Instant{}) {
		t.Errorf("%+v", n)
	}
	if _, ok := n.Next(minute(200), time.Hour); ok {
		t.Error("all agree")
	}
}
