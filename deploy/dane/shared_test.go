package dane

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

func ourRecord(spki string, added int) Ours {
	return Ours{Owner: "_25._tcp.mx.example.org.", Zone: "example.org.", Record: "3 1 1 " + spki, SPKI: spki, Added: simStart.Add(time.Duration(added) * time.Hour), For: "_25._tcp.mx.example.org"}
}

// What two hosts remember becomes one, whatever the order, and no record is left out.
func TestUnite(t *testing.T) {
	t.Parallel()
	a, b := spki("a"), spki("b")
	for name, c := range map[string]struct {
		ours, former, moreOurs, moreFormer []Ours
		wantOurs, wantFormer               []Ours
	}{
		"each has one":               {ours: []Ours{ourRecord(a, 1)}, moreOurs: []Ours{ourRecord(b, 2)}, wantOurs: []Ours{ourRecord(a, 1), ourRecord(b, 2)}},
		"one has seen it go":         {ours: []Ours{ourRecord(a, 1)}, moreFormer: []Ours{ourRecord(a, 1)}, wantFormer: []Ours{ourRecord(a, 1)}},
		"it was added again":         {ours: []Ours{ourRecord(a, 3)}, moreFormer: []Ours{ourRecord(a, 1)}, wantOurs: []Ours{ourRecord(a, 3)}},
		"an old copy has it":         {former: []Ours{ourRecord(a, 3)}, moreOurs: []Ours{ourRecord(a, 1)}, wantFormer: []Ours{ourRecord(a, 3)}},
		"both have removed it":       {former: []Ours{ourRecord(a, 1)}, moreFormer: []Ours{ourRecord(a, 2)}, wantFormer: []Ours{ourRecord(a, 2)}},
		"two claims of one record":   {ours: []Ours{ourRecord(a, 1)}, moreOurs: []Ours{ourRecord(a, 2)}, wantOurs: []Ours{ourRecord(a, 2)}},
		"the other has lost its all": {ours: []Ours{ourRecord(a, 1)}, former: []Ours{ourRecord(b, 1)}, wantOurs: []Ours{ourRecord(a, 1)}, wantFormer: []Ours{ourRecord(b, 1)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, turned := range []bool{false, true} {
				ours, former := unite(c.ours, c.former, c.moreOurs, c.moreFormer)
				if turned {
					ours, former = unite(c.moreOurs, c.moreFormer, c.ours, c.former)
				}
				sortOurs(ours)
				sortOurs(former)
				if sortOurs(c.wantOurs); !reflect.DeepEqual(ours, c.wantOurs) || !reflect.DeepEqual(former, c.wantFormer) {
					t.Errorf("turned %v: ours %+v, former %+v", turned, ours, former)
				}
			}
		})
	}
}

func sortOurs(list []Ours) {
	slices.SortFunc(list, func(a, b Ours) int { return slices.Compare([]string{a.SPKI}, []string{b.SPKI}) })
}

// A request reaches the hosts that still have the key that is to be replaced, and no host that has replaced it already.
func TestAskedTogether(t *testing.T) {
	t.Parallel()
	old, next := spki("old"), spki("next")
	asking := State{Keys: map[bundle.KeyType]*Roll{bundle.EC256: {Current: old, Next: next, Since: state.Instant{At: simStart}}}}
	asking.Ask(bundle.EC256, Asked{At: simStart.Add(time.Hour), Reason: "it has leaked", Emergency: true, Fresh: true, Ignore: true})
	var together Shared
	asking.Give(&together)
	text, err := json.Marshal(together)
	if err != nil {
		t.Fatal(err)
	}
	for current, want := range map[string]bool{old: true, next: false, "": false} {
		for range 2 {
			var read Shared
			if err := json.Unmarshal(text, &read); err != nil {
				t.Fatal(err)
			}
			read.Clean()
			host := State{Keys: map[bundle.KeyType]*Roll{bundle.EC256: {Current: current, Since: state.Instant{At: simStart}}}}
			host.Take(&read, state.Instant{At: simStart})
			got := host.Keys[bundle.EC256].Asked
			if (got != nil) != want || want && (!got.Emergency || !got.Fresh || !got.Ignore || !slices.Contains(got.Leaked, next) || got.Reason != "it has leaked") {
				t.Errorf("a host with the key %.6s has %+v", current, got)
			}
		}
	}
	back := State{Keys: map[bundle.KeyType]*Roll{bundle.EC256: {Current: old, Since: state.Instant{At: simStart.Add(2 * time.Hour)}}}}
	if back.Take(&together, state.Instant{At: simStart}); back.Keys[bundle.EC256].Asked != nil {
		t.Error("a host that was rolled back after the request rolls again because of it")
	}
}

// A host that is away counts until it was not at work for the given time, as far as this host has seen; a store that has lost it forgets nothing.
func TestHear(t *testing.T) {
	t.Parallel()
	at := func(h int) state.Instant {
		up := time.Duration(h) * time.Hour
		return state.Instant{At: simStart.Add(up), Boot: "1", Up: up, Awake: up}
	}
	says := &Statement{Host: "mx2", Number: 7, Serves: []string{spki("a")}, Certain: true}
	var s State
	s.Hear([]Heard{{Host: "mx2", Alive: true, Member: true, Statement: says}}, at(0), 14*day)
	if e := s.Elsewhere(""); len(e.Hosts) != 1 || e.doubt() != "" {
		t.Fatalf("%+v", e)
	}
	for h := 1; h < 14*24; h++ {
		s.Hear(nil, at(h), 14*day) // the store was lost
		if e := s.Elsewhere(""); len(e.Hosts) != 1 || e.doubt() == "" {
			t.Fatalf("after %d hours: %+v", h, e)
		}
	}
	s.Hear(nil, at(14*24+2), 14*day)
	if e := s.Elsewhere(""); len(e.Hosts) != 0 {
		t.Errorf("it is not forgotten: %+v", e)
	}
	s.Hear([]Heard{{Host: "mx2", Alive: true, Member: true, Statement: &Statement{Host: "mx2", Number: 8}}}, at(14*24+3), 14*day)
	if e := s.Elsewhere(""); len(e.Hosts) != 1 {
		t.Errorf("it is back: %+v", e)
	}
	s.Hear([]Heard{{Host: "mx2", Alive: true, Member: true, Statement: says}}, at(14*24+4), 14*day)
	if e := s.Elsewhere(""); e.doubt() == "" {
		t.Errorf("an old statement is believed: %+v", e)
	}
	s.Hear([]Heard{{Host: "mx2", Forgotten: at(14*24 + 5).At}}, at(14*24+5), 14*day)
	if e := s.Elsewhere(""); len(e.Hosts) != 0 {
		t.Errorf("an operator has forgotten it: %+v", e)
	}
}

// After the store was away for long, nobody knows who was at work meanwhile.
func TestHearAfterAGap(t *testing.T) {
	t.Parallel()
	at := func(h int) state.Instant {
		up := time.Duration(h) * time.Hour
		return state.Instant{At: simStart.Add(up), Boot: "1", Up: up, Awake: up}
	}
	away := []Heard{{Host: "mx2", Member: true, Statement: &Statement{Host: "mx2", Number: 7}}}
	var s State
	for _, h := range []int{0, 1, 500} {
		s.Hear(away, at(h), 14*day)
	}
	if e := s.Elsewhere(""); len(e.Hosts) != 1 {
		t.Errorf("forgotten: %+v", s.Peers["mx2"])
	}
}

// A mark keeps other hosts from a key whose record goes, and from any other key while the first records come.
func TestForbids(t *testing.T) {
	t.Parallel()
	a, b := spki("a"), spki("b")
	for name, c := range map[string]struct {
		mark Mark
		want []string // that are forbidden
	}{
		"removal": {Mark{Without: []string{a}}, []string{a}},
		"first":   {Mark{Only: []string{a}}, []string{b}},
		"nothing": {Mark{}, nil},
	} {
		together := Shared{Marks: map[string]Mark{"mx1": c.mark}}
		for _, spki := range []string{a, b} {
			want := ""
			if slices.Contains(c.want, spki) {
				want = "mx1"
			}
			if got := together.Forbids("mx2", spki); got != want {
				t.Errorf("%s: %.4s: %q, want %q", name, spki, got, want)
			}
			if got := together.Forbids("mx1", spki); got != "" {
				t.Errorf("%s: a host keeps itself from a key: %q", name, got)
			}
		}
	}
}

// A set that a host has found counts as held once: not again when many others were found since, however many names and hosts there are.
func TestFoundSetsAreTakenOnce(t *testing.T) {
	t.Parallel()
	finds, looks, together := State{Memory: Memory{}}, State{Memory: Memory{}}, &Shared{}
	letter := func(n int) string { return string(rune('a' + n%26)) }
	for n := range 60 {
		at, now := time.Duration(n)*8*time.Hour, set(time.Hour, letter(n), letter(n+1))
		for owner := range 20 {
			o := Owner{fmt.Sprintf("mx%d.example.org", owner), 25}
			looks.Memory.note(o, whole(at, now), brief)
			by, late := fmt.Sprintf("mx%d", n%2), time.Duration(1+540*(n%2))*time.Minute // two hosts, whose clocks differ
			finds.before(Before{set(time.Hour, letter(n-1+26), letter(n)).Set, o.Name(), moment(at).At.Add(-late), by})
		}
		finds.Give(together)
		text := must(json.Marshal(together))
		if *together = (Shared{}); json.Unmarshal(text, together) != nil {
			t.Fatal("it cannot be read")
		}
		together.Clean()
		looks.Take(together, moment(at))
		looks.Clean()
		for owner := range 20 {
			o := Owner{fmt.Sprintf("mx%d.example.org", owner), 25}
			for later := range 3 {
				looks.Memory.note(o, whole(at+time.Duration(1+3*later)*time.Hour, now), brief)
			}
			looks.Take(together, moment(at+7*time.Hour+time.Minute))
			if held := looks.Memory.Held(o, brief); len(held) != 1 {
				t.Fatalf("after %d edits, %s: %+v", n, o.Name(), held)
			}
		}
	}
	if text := must(json.Marshal(together)); len(text) > 1<<20 {
		t.Errorf("%d bytes", len(text))
	}
}
