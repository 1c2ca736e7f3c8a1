package publishtest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mxcert/acme/resolve"
	"mxcert/deploy/dane"
)

func addAndRemove(t *testing.T, s Service) {
	p, at := s.open(t), s.place("life")
	s.holds(t, p, at, "at first")
	for _, step := range []struct {
		what        string
		add, remove []resolve.TLSA
		want        []int
	}{
		{"remove from nothing", nil, values(1), nil},
		{"add", values(1), nil, []int{1}},
		{"the same again", values(1), nil, []int{1}},
		{"several in one step, one is there", values(3, 1, 2), nil, []int{1, 2, 3}},
		{"one twice in a step", values(4, 4), nil, []int{1, 2, 3, 4}},
		{"nothing", nil, nil, []int{1, 2, 3, 4}},
		{"remove", nil, values(2), []int{1, 3, 4}},
		{"the same again", nil, values(2), []int{1, 3, 4}},
		{"remove several, one is not there", nil, values(3, 2, 4), []int{1}},
		{"add again", values(2), nil, []int{1, 2}},
		{"remove the rest", nil, values(1, 2), nil},
		{"add to an empty name", values(5), nil, []int{5}},
	} {
		if step.add != nil || step.remove == nil {
			if err := p.Add(t.Context(), at, step.add, time.Hour); err != nil {
				t.Fatalf("%s: %v", step.what, err)
			}
		}
		if step.remove != nil {
			if err := p.Remove(t.Context(), at, step.remove); err != nil {
				t.Fatalf("%s: %v", step.what, err)
			}
		}
		s.holds(t, p, at, step.what, records(values(step.want...)...)...)
	}
}

func recordsOfOthers(t *testing.T, s Service) {
	p, at := s.open(t), s.place("others")
	foreign := []string{
		"TLSA 3 0 1 " + strings.Repeat("a1", 32), "TLSA 2 1 1 " + strings.Repeat("b2", 32), "TLSA 3 1 2 " + strings.Repeat("c3", 64), "TLSA 0 0 1 " + strings.Repeat("d4", 32),
		"TLSA 3 1 1 " + strings.Repeat("e5", 32), "TLSA 3 1 0 3059", "TLSA 9 8 7 0102",
	}
	for _, text := range foreign {
		kind, value, _ := strings.Cut(text, " ")
		s.Put(t, at.Name, 7200, kind, value)
	}
	s.Put(t, at.Name, 7200, "TXT", `"beside"`)
	all := append(slices.Clone(foreign), `TXT "beside"`)
	s.holds(t, p, at, "at first", all...)
	if err := p.Add(t.Context(), at, values(1, 2), time.Minute); err != nil {
		t.Fatal(err)
	}
	s.holds(t, p, at, "after an addition", append(records(values(1, 2)...), all...)...)
	if _, ttl, err := p.List(t.Context(), at); err != nil || ttl != 2*time.Hour {
		t.Errorf("the TTL of others is now %s, %v", ttl, err)
	}
	if err := p.Remove(t.Context(), at, values(1, 2, 3)); err != nil {
		t.Fatal(err)
	}
	s.holds(t, p, at, "after a removal", all...)
	if _, ttl, err := p.List(t.Context(), at); err != nil || ttl != 2*time.Hour {
		t.Errorf("the TTL of others is now %s, %v", ttl, err)
	}
}

func timeToLive(t *testing.T, s Service) {
	p := s.open(t)
	for i, ttl := range []time.Duration{time.Minute, 2*time.Hour + 500*time.Millisecond, 24 * time.Hour} {
		at := s.place(fmt.Sprintf("ttl%d", i))
		if err := p.Add(t.Context(), at, values(1), ttl); err != nil {
			t.Fatal(err)
		}
		if _, got, err := p.List(t.Context(), at); err != nil || got != max(ttl.Truncate(time.Second), s.LeastTTL) {
			t.Errorf("a TTL of %s became %s, %v", ttl, got, err)
		}
	}
	for _, ttl := range []time.Duration{0, -time.Second, 999 * time.Millisecond, 1 << 62} {
		at := s.place("nottl")
		if err := p.Add(t.Context(), at, values(1), ttl); kind(err) != "dns-config" {
			t.Errorf("a TTL of %s: %v", ttl, err)
		}
		s.holds(t, p, at, "after an impossible TTL")
	}
}

func upperCase(t *testing.T, s Service) {
	p, at := s.open(t), s.place("case")
	r := resolve.TLSA{Usage: 3, Selector: 1, MatchingType: 1, Data: []byte(strings.Repeat("\xab\xcd", 16))}
	s.Put(t, at.Name, 3600, "TLSA", "3 1 1 "+strings.ToUpper(hex.EncodeToString(r.Data)))
	if err := p.Add(t.Context(), at, []resolve.TLSA{r, Value(1)}, time.Hour); err != nil {
		t.Fatal(err)
	}
	s.holds(t, p, at, "added", records(r, Value(1))...)
	if err := p.Remove(t.Context(), at, []resolve.TLSA{r}); err != nil {
		t.Fatal(err)
	}
	s.holds(t, p, at, "removed", records(Value(1))...)
}

func manyRecords(t *testing.T, s Service) {
	p, at := s.open(t), s.place("many")
	var all []resolve.TLSA
	for n := range 60 {
		all = append(all, Value(n))
	}
	if err := p.Add(t.Context(), at, all, time.Hour); err != nil {
		t.Fatal(err)
	}
	s.holds(t, p, at, "added", records(all...)...)
	if err := p.Remove(t.Context(), at, all[1:]); err != nil {
		t.Fatal(err)
	}
	s.holds(t, p, at, "removed", records(all[0])...)
}

func inTurns(t *testing.T, s Service) {
	one, two, at := s.open(t), s.open(t), s.place("turns")
	for n := range 3 {
		if err := errors.Join(one.Add(t.Context(), at, values(n), time.Hour), two.Add(t.Context(), at, values(10+n), 2*time.Hour)); err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			if err := errors.Join(two.Remove(t.Context(), at, values(10+n-1)), one.Remove(t.Context(), at, values(n-1))); err != nil {
				t.Fatal(err)
			}
		}
		s.holds(t, one, at, "in turns", records(values(n, 10+n)...)...)
	}
}

// atOnce lets one publisher add while another removes.
func atOnce(t *testing.T, s Service) {
	one, two, at := s.open(t), s.open(t), s.place("once")
	foreign := "TLSA 2 1 1 " + strings.Repeat("b2", 32)
	s.Put(t, at.Name, 3600, "TLSA", strings.TrimPrefix(foreign, "TLSA "))
	if err := two.Add(t.Context(), at, values(11, 12, 13), time.Hour); err != nil {
		t.Fatal(err)
	}
	run := func() {
		var wg sync.WaitGroup
		for n := range 3 {
			wg.Go(func() { repeat(t, func() error { return one.Add(t.Context(), at, values(1+n), time.Hour) }) })
			wg.Go(func() { repeat(t, func() error { return two.Remove(t.Context(), at, values(11+n)) }) })
		}
		wg.Wait()
	}
	run()
	if s.Replaces { // what the next pass does
		run()
	}
	s.holds(t, one, at, "at once", append(records(values(1, 2, 3)...), foreign)...)
}

// repeat does what the next passes do after an error that is temporary, such as a conflict.
func repeat(t *testing.T, f func() error) {
	var err error
	for range 10 {
		if err = f(); err == nil {
			return
		}
		if k := kind(err); k != "dns-conflict" && k != "dns-condition" && !temporary(err) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error(err)
}

func alias(t *testing.T, s Service) {
	p, at := s.open(t), s.place("alias")
	s.Put(t, at.Name, 3600, "CNAME", "_dane.elsewhere."+s.Zone)
	_, _, listed := p.List(t.Context(), at)
	for what, err := range map[string]error{
		"list": listed, "add": p.Add(t.Context(), at, values(1), time.Hour), "remove": p.Remove(t.Context(), at, values(1)), "probe": p.Probe(t.Context(), at),
	} {
		if err == nil || temporary(err) || !strings.Contains(err.Error(), "CNAME") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got := s.Held(t, at.Name); len(got) != 1 || !strings.HasPrefix(got[0], "CNAME ") {
		t.Errorf("the service holds %q", got)
	}
}

func anotherZone(t *testing.T, s Service) {
	p := s.open(t)
	for what, at := range map[string]dane.Place{
		"no such zone":         {Zone: "not-there.test.", Name: "_25._tcp.mx.not-there.test.", Primary: s.Primary},
		"outside the zone":     {Zone: s.Zone, Name: "_25._tcp.mx.not-there.test.", Primary: s.Primary},
		"not fully qualified":  {Zone: s.Zone, Name: "_25._tcp.mx." + strings.TrimSuffix(s.Zone, "."), Primary: s.Primary},
		"upper case":           {Zone: s.Zone, Name: "_25._tcp.MX." + s.Zone, Primary: s.Primary},
		"a path in the name":   {Zone: s.Zone, Name: "../../x." + s.Zone, Primary: s.Primary},
		"a query in the name":  {Zone: s.Zone, Name: "x?y=z." + s.Zone, Primary: s.Primary},
		"no zone":              {Name: "_25._tcp.mx.not-there.test.", Primary: s.Primary},
		"a line in the name":   {Zone: s.Zone, Name: "x\ny." + s.Zone, Primary: s.Primary},
		"the name is too long": {Zone: s.Zone, Name: strings.Repeat("a.", 130) + s.Zone, Primary: s.Primary},
	} {
		_, _, listed := p.List(t.Context(), at)
		for op, err := range map[string]error{"list": listed, "add": p.Add(t.Context(), at, values(1), time.Hour), "remove": p.Remove(t.Context(), at, values(1)), "probe": p.Probe(t.Context(), at)} {
			if err == nil || temporary(err) {
				t.Errorf("%s: %s: %v", what, op, err)
			}
		}
	}
	if err := p.Add(t.Context(), s.place("empty"), []resolve.TLSA{{Usage: 3, Selector: 1, MatchingType: 1}}, time.Hour); kind(err) != "dns-config" {
		t.Errorf("a record without data: %v", err)
	}
}

func probe(t *testing.T, s Service) {
	p, at := s.open(t), s.place("probe")
	for _, want := range [][]resolve.TLSA{nil, values(1)} {
		if err := p.Probe(t.Context(), at); err != nil {
			t.Error(err)
		}
		s.holds(t, p, at, "after a probe", records(want...)...)
		if err := p.Add(t.Context(), at, values(1), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if p.String() == "" {
		t.Error("the service has no name")
	}
}

func wrongSecret(t *testing.T, s Service) {
	if s.Wrong == nil {
		return
	}
	p, at := s.watch(t, s.Wrong(t)), s.place("wrong")
	_, _, listed := p.List(t.Context(), at)
	for op, err := range map[string]error{"list": listed, "add": p.Add(t.Context(), at, values(1), time.Hour), "remove": p.Remove(t.Context(), at, values(1)), "probe": p.Probe(t.Context(), at)} {
		if err == nil || temporary(err) || kind(err) != "dns-auth" && kind(err) != "tsig" {
			t.Errorf("%s: %v (%s)", op, err, kind(err))
		}
	}
	s.holds(t, s.open(t), at, "after a wrong secret")
}

func cancelled(t *testing.T, s Service) {
	p, at := s.open(t), s.place("cancelled")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, listed := p.List(ctx, at)
	for op, err := range map[string]error{"list": listed, "add": p.Add(ctx, at, values(1), time.Hour), "remove": p.Remove(ctx, at, values(1)), "probe": p.Probe(ctx, at)} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", op, err)
		}
	}
	s.holds(t, p, at, "after a cancellation")
}
