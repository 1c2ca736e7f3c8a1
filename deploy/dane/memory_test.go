package dane

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/state"
)

const day = 24 * time.Hour

var (
	mx     = Owner{Host: "mx.example.org", Port: 25}
	dayish = Settings{Mode: Check, Hold: day}
	brief  = Settings{Mode: Check}
)

// moment is some time after the start of the tests, on a host whose clocks are right.
func moment(d time.Duration) state.Instant {
	up := time.Hour + d
	return state.Instant{At: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC).Add(d), Boot: "a", Up: up, Awake: up}
}

// spki is the digest of a key that a test names by a letter.
func spki(name string) string { return strings.Repeat(fmt.Sprintf("%02x", name[0]), 32) }

// set is a set with the records 3 1 1 of keys, given by a server.
func set(ttl time.Duration, keys ...string) Cached {
	c := Cached{Set: Set{TTL: ttl}, Given: true, By: []string{"ns.example.org [192.0.2.1:53]"}}
	for _, k := range keys {
		c.Records = append(c.Records, Record(spki(k)).String())
	}
	slices.Sort(c.Records)
	return c
}

// whole is a complete look, at a time after the start.
func whole(d time.Duration, sets ...Cached) seen { return seen{at: moment(d), sets: sets} }

// partial is a look that was not complete.
func partial(d time.Duration, sets ...Cached) seen {
	return seen{at: moment(d), sets: sets, fault: "ns2.example.org does not answer"}
}

// holds writes the sets that senders may hold as a person would: "AB/1h".
func holds(m Memory, s Settings) string {
	var list []string
	for _, c := range m.Held(mx, s) {
		text := ""
		for _, r := range c.Records {
			var letter byte
			fmt.Sscanf(r[6:8], "%02x", &letter)
			text += string(letter)
		}
		text += "/" + strings.TrimSuffix(strings.TrimSuffix(c.TTL.String(), "0s"), "0m")
		if c.Given {
			text += "!"
		}
		list = append(list, text)
	}
	return strings.Join(list, " ")
}

func TestHold(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		ttl, least, want time.Duration
	}{
		{2 * time.Second, 0, 5 * time.Second},
		{0, 0, time.Second},
		{-time.Hour, 0, time.Second},
		{time.Hour, 0, 2*time.Hour + 6*time.Minute},
		{time.Hour, day, day},
		{day, day, 2*day + 10*time.Minute},
		{7 * day, day, 14*day + 10*time.Minute},
		{1 << 62, day, 14*day + 10*time.Minute},
	} {
		if got := Hold(test.ttl, Settings{Hold: test.least}); got != test.want {
			t.Errorf("TTL %v, at least %v: %v, want %v", test.ttl, test.least, got, test.want)
		}
	}
}

// TestNote folds looks and asks what senders may hold after each of them.
func TestNote(t *testing.T) {
	t.Parallel()
	const h, m = time.Hour, time.Minute
	const second = time.Second
	jumped := whole(3*h, set(h, "b"))
	jumped.at.At = jumped.at.At.Add(1000 * h)
	asleep := whole(3*h, set(h, "b"))
	asleep.at.Awake -= 2 * h
	insecure := func(d time.Duration) seen { return seen{at: moment(d), insecure: true} }
	rumour := whole(h, set(h, "b"))
	rumour.rumour = set(m, "z").Set
	type step struct {
		look seen
		want string
	}
	for name, test := range map[string]struct {
		settings Settings
		steps    []step
	}{
		"nothing is there":                                   {dayish, []step{{whole(0), ""}, {whole(h), ""}}},
		"a first look, without a hold":                       {brief, []step{{whole(0, set(h, "a")), "a/1h!"}}},
		"the TTL of a first look is not known":               {dayish, []step{{whole(0, set(h, "a")), "a/1h! a/24h"}, {whole(h, set(h, "a")), "a/1h! a/24h"}, {whole(49*h, set(h, "a")), "a/1h!"}}},
		"a first look finds a longer TTL":                    {dayish, []step{{whole(0, set(48*h, "a")), "a/48h!"}}},
		"records come later":                                 {dayish, []step{{whole(0), ""}, {whole(h, set(h, "a")), "a/1h!"}}},
		"records come after a day without a look":            {dayish, []step{{whole(0), ""}, {whole(25*h, set(h, "a")), "a/1h! a/24h"}}},
		"no look was complete before":                        {dayish, []step{{partial(0, set(h, "a")), "a/1h! a/24h!"}, {partial(h, set(h, "b")), "b/1h! a/1h! a/24h! b/24h!"}}},
		"records are replaced":                               {brief, []step{{whole(0, set(h, "a")), "a/1h!"}, {whole(h, set(h, "b")), "b/1h! a/1h"}, {whole(3*h, set(h, "b")), "b/1h! a/1h"}, {whole(3*h+6*m, set(h, "b")), "b/1h!"}}},
		"a hold ends at its length":                          {brief, []step{{whole(0, set(h, "a")), "a/1h!"}, {whole(h), "a/1h"}, {whole(3*h + 6*m - second), "a/1h"}, {whole(3*h + 6*m), ""}}},
		"a server gives it again":                            {brief, []step{{whole(0, set(h, "a")), "a/1h!"}, {whole(h, set(h, "b")), "b/1h! a/1h"}, {whole(2*h, set(h, "b"), set(h, "a")), "a/1h! b/1h!"}, {whole(3*h, set(h, "b")), "b/1h! a/1h"}, {whole(5*h, set(h, "b")), "b/1h! a/1h"}, {whole(5*h+6*m, set(h, "b")), "b/1h!"}}},
		"a look is not complete":                             {brief, []step{{whole(0, set(h, "a")), "a/1h!"}, {whole(h, set(h, "b")), "b/1h! a/1h"}, {partial(3*h, set(h, "b")), "b/1h! a/1h!"}, {whole(4*h, set(h, "b")), "b/1h! a/1h"}, {whole(6*h+6*m, set(h, "b")), "b/1h!"}}},
		"the TTL is lowered before the records are replaced": {brief, []step{{whole(0, set(10*h, "a")), "a/10h!"}, {whole(h, set(m, "a")), "a/1m! a/10h"}, {whole(2*h, set(m, "b")), "b/1m! a/1m a/10h"}, {whole(3*h, set(m, "b")), "b/1m! a/10h"}, {whole(21*h+10*m, set(m, "b")), "b/1m!"}}},
		"the clock jumps":                                    {brief, []step{{whole(0, set(h, "a")), "a/1h!"}, {whole(h, set(h, "b")), "b/1h! a/1h"}, {jumped, "b/1h! a/1h"}}},
		"the host sleeps":                                    {brief, []step{{whole(0, set(h, "a")), "a/1h!"}, {whole(h, set(h, "b")), "b/1h! a/1h"}, {asleep, "b/1h! a/1h"}}},
		"senders stop to use the records":                    {dayish, []step{{whole(0, set(h, "a")), "a/1h! a/24h"}, {insecure(49 * h), "a/1h a/24h"}, {insecure(73 * h), "a/24h"}, {insecure(98 * h), ""}}},
		"an insecure zone is signed":                         {dayish, []step{{insecure(0), ""}, {whole(h, set(h, "a")), "a/1h! a/24h"}}},
		"a resolver has what no server gives":                {dayish, []step{{whole(0), ""}, {rumour, "b/1h! z/24h"}}},
	} {
		t.Run(name, func(t *testing.T) {
			memory := Memory{}
			for i, s := range test.steps {
				memory = reread(t, memory)
				if memory.note(mx, s.look, test.settings); holds(memory, test.settings) != s.want {
					t.Fatalf("after look %d senders may hold %q, want %q", i, holds(memory, test.settings), s.want)
				}
			}
		})
	}
}

// reread stores a memory and reads it, as each pass does.
func reread(t *testing.T, m Memory) Memory {
	t.Helper()
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var again Memory
	if err := json.Unmarshal(data, &again); err != nil {
		t.Fatal(err)
	}
	return again
}

func TestReady(t *testing.T) {
	t.Parallel()
	const h = time.Hour
	useless := Cached{Set: Set{Records: []string{"1 1 1 " + spki("u")}, TTL: h}, Given: true}
	for name, test := range map[string]struct {
		looks []seen
		until time.Time
		why   string
	}{
		"never looked":           {nil, time.Time{}, "mxcert has not looked at _25._tcp.mx.example.org yet"},
		"no records":             {[]seen{whole(0)}, time.Time{}, ""},
		"it is there":            {[]seen{whole(0, set(h, "b", "c"))}, time.Time{}, ""},
		"nobody uses the others": {[]seen{whole(0, useless)}, time.Time{}, ""},
		"it is not there":        {[]seen{whole(0, set(h, "a"))}, time.Time{}, "ns.example.org [192.0.2.1:53] gives records of _25._tcp.mx.example.org without that of the new key"},
		"held":                   {[]seen{whole(0, set(h, "a")), whole(h, set(h, "a", "b")), whole(2*h, set(h, "a", "b"))}, moment(3*h + 6*time.Minute).At, "senders may still hold records of _25._tcp.mx.example.org without that of the new key"},
		"a look fails":           {[]seen{whole(0, set(h, "a")), whole(h, set(h, "b")), partial(2*h, set(h, "b"))}, time.Time{}, "the last look at _25._tcp.mx.example.org was not complete: ns2.example.org does not answer"},
		"held long enough":       {[]seen{whole(0, set(h, "a")), whole(h, set(h, "b")), whole(4*h, set(h, "b"))}, time.Time{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m, now := Memory{}, moment(0)
			for _, look := range test.looks {
				m.note(mx, look, brief)
				now = look.at
			}
			ok, until, why := m.Ready(mx, spki("b"), brief, now)
			if ok != (test.why == "") || !until.Equal(test.until) || why != test.why {
				t.Errorf("%v until %v: %q; want until %v: %q", ok, until, why, test.until, test.why)
			}
		})
	}
}

// TestMemoryIsBounded has a zone with other records, or another TTL, at each look. Nothing grows, and no hold ends early.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	random := func(i int) Cached {
		c := Cached{Set: Set{TTL: 7 * day}, Given: true}
		for j := range 40 {
			c.Records = append(c.Records, fmt.Sprintf("3 0 0 %s%08x", strings.Repeat("30", 400), i*100+j))
		}
		return c
	}
	small := func(i int) Cached {
		return Cached{Set: Set{Records: []string{fmt.Sprintf("3 1 1 %064x", i)}, TTL: 7 * day}, Given: true}
	}
	fading := func(i int) Cached { return set(7*day-time.Duration(i)*time.Second, "a") }
	for name, make := range map[string]func(int) Cached{"large": random, "small": small, "TTL": fading} {
		t.Run(name, func(t *testing.T) {
			m := Memory{}
			for i := range 300 {
				m.note(mx, whole(time.Duration(i)*time.Hour, make(i)), dayish)
				data, err := json.Marshal(m)
				if err != nil || len(data) > 400<<10 {
					t.Fatalf("%d bytes, %v", len(data), err)
				}
			}
			if len(m[mx.Name()].Known) > mostSets {
				t.Errorf("%d sets", len(m[mx.Name()].Known))
			}
			for day1 := range 13 {
				d := 300*time.Hour + time.Duration(day1)*day
				m.note(mx, whole(d, set(time.Hour, "b")), dayish)
				if ok, until, _ := m.Ready(mx, spki("b"), dayish, moment(d)); ok || !until.After(moment(313*time.Hour).At) {
					t.Fatalf("after %d days the key may be served: %v, until %v", day1, ok, until)
				}
			}
			m.note(mx, whole(300*time.Hour+15*day, set(time.Hour, "b")), dayish)
			if ok, _, why := m.Ready(mx, spki("b"), dayish, moment(300*time.Hour+15*day)); !ok {
				t.Errorf("the hold does not end: %s", why)
			}
		})
	}
}

func TestKeep(t *testing.T) {
	t.Parallel()
	gone := Owner{Host: "old.example.org", Port: 25}
	m := Memory{}
	m.note(gone, whole(0, set(time.Hour, "a")), dayish) // and a copy with a TTL of a day
	for hour := range 48 {
		m.note(mx, whole(time.Duration(hour)*time.Hour, set(time.Hour, "a")), dayish)
		m = reread(t, m)
		if m.Keep([]Owner{mx}, dayish); m[gone.Name()] == nil {
			t.Fatalf("forgotten after %d hours", hour)
		}
	}
	late := whole(1000*time.Hour, set(time.Hour, "a"))
	late.at.Up, late.at.Awake = time.Minute, time.Minute // another start of the host: it does not count
	m.note(mx, late, dayish)
	if m.Keep([]Owner{mx}, dayish); m[gone.Name()] == nil {
		t.Fatal("forgotten because the clock jumped")
	}
	late.at.At, late.at.Up, late.at.Awake = late.at.At.Add(2*time.Hour), late.at.Up+2*time.Hour, late.at.Awake+2*time.Hour
	m.note(mx, late, dayish)
	if m.Keep([]Owner{mx}, dayish); m[gone.Name()] != nil || m[mx.Name()] == nil {
		t.Errorf("remembered: %v", m)
	}
}
