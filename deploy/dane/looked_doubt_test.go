package dane

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// A host that assumed nothing about the time before its first look, and is told to be careful later, does not say that it knows that time.
func TestLooksOfAHostThatWasCareless(t *testing.T) {
	t.Parallel()
	for hours, want := range map[int]string{3: "a/1h! a/24h", 30: "a/1h!"} {
		other, mine, together := newLooking("mx1", Settings{Mode: Check}), newLooking("mx2", dayish), &Shared{}
		for n := range hours + 1 {
			if n > 0 {
				other.settings = dayish
			}
			other.look(whole(time.Duration(n)*time.Hour, set(time.Hour, "a")))
			other.gives(t, together)
		}
		now := time.Duration(hours) * time.Hour
		mine.look(whole(now, set(time.Hour, "a")))
		if mine.Take(together, moment(now)); holds(mine.Memory, dayish) != want {
			t.Errorf("after %d hours it holds %q, want %q", hours, holds(mine.Memory, dayish), want)
		}
	}
}

// A host that may ignore a silent server does not say that it knows what that one gives: the others may hear it.
func TestLooksPastAServer(t *testing.T) {
	t.Parallel()
	w, z, h := simple(ecKey)
	h.settings.Hold = time.Hour
	w.alter = func(v *View) { v.Steps[0].Ignored[1] = true }
	steadily(t, h)
	for _, silent := range []bool{false, true} {
		z.servers[1].silent = silent
		h.run()
		var together Shared
		if h.state.GiveLooks(&together, "mx1", dayish); (len(together.Looks) == 0) != silent {
			t.Errorf("silent: %v, it says %+v", silent, together.Looks)
		}
	}
}

// What another mxcert has written, and this one does not know, is no knowledge.
func TestLooksOfAnotherVersion(t *testing.T) {
	t.Parallel()
	records := Record(spki("a")).String()
	for name, text := range map[string]string{
		"no beginning":  `{"by": "mx1", "last": "2026-11-01T12:00:00Z"}`,
		"another guess": `{"by": "mx1", "since": "2026-10-01T12:00:00Z", "last": "2026-11-01T12:00:00Z", "known": [{"records": ["` + records + `"], "ttl": 60000000000, "guess": "new"}]}`,
	} {
		var together Shared
		if err := json.Unmarshal([]byte(`{"version": 1, "looks": {"`+mx.Name()+`": `+text+`}}`), &together); err != nil {
			t.Fatal(err)
		}
		together.Clean()
		mine := newLooking("mx2", dayish)
		mine.look(whole(0, set(time.Hour, "a")))
		if mine.Take(&together, moment(0)); holds(mine.Memory, dayish) != "a/1h! a/24h" {
			t.Errorf("%s: it holds %q", name, holds(mine.Memory, dayish))
		}
	}
}

// Each change of what is said wakes the other hosts. Hosts whose clocks differ by hours do not wake each other all the time, nor do two that look at
// zones whose servers answer differently each time.
func TestLooksDoNotWakeHostsForEver(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ahead time.Duration // the clock of one host
		zone  func(n int) Cached
	}{
		"a clock is ahead": {3 * time.Hour, func(int) Cached { return set(time.Hour, "a") }},
		"answers differ":   {0, func(n int) Cached { return set(time.Hour, []string{"a", "b"}[n%2]) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other := Owner{"mx.example.com", 25}
			hosts, together, passes := []*lookingHost{newLooking("mx0", dayish), newLooking("mx1", dayish)}, &Shared{}, 0
			for start := time.Duration(0); start < 4*time.Hour; start += time.Hour {
				for i, woken := 0, true; woken && passes < 10_000; i, passes = 1-i, passes+1 {
					at := start + time.Duration(passes)*time.Second
					if i == 0 {
						at += c.ahead
					}
					h, before := hosts[i], fmt.Sprint(together.Looks)
					owners := []Owner{mx, other}
					if start == 0 {
						owners = owners[i:][:1] // each is the first that says something about one of them
					}
					for _, o := range owners {
						h.Memory.note(o, whole(at, c.zone(passes/2)), h.settings)
					}
					h.Take(together, moment(at))
					h.gives(t, together)
					h.Memory = reread(t, h.Memory)
					woken = fmt.Sprint(together.Looks) != before || start == 0 && i == 0
				}
			}
			if passes > 400 {
				t.Errorf("%d passes in four hours", passes)
			}
		})
	}
}

// A host whose clock was far ahead at its first look has looked earlier than it noted: who began after that knows nothing about it.
func TestLooksOfAHostWhoseClockWasAhead(t *testing.T) {
	t.Parallel()
	other, mine, together := newLooking("mx1", dayish), newLooking("mx2", dayish), &Shared{}
	first := whole(0, set(time.Hour, "a"))
	first.at.At = first.at.At.Add(12 * time.Hour)
	mine.look(first)
	for at := 2 * time.Hour; at < 20*time.Hour; at += time.Hour {
		other.look(whole(at, set(time.Hour, "b"))) // the records have changed before it began
		other.gives(t, together)
		mine.look(whole(at, set(time.Hour, "b")))
		if mine.Take(together, moment(at)); holds(mine.Memory, dayish) != "b/1h! a/1h a/24h" {
			t.Fatalf("after %v it holds %q", at, holds(mine.Memory, dayish))
		}
	}
}
