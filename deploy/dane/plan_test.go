package dane

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/resolve"
)

const (
	ecKey  = bundle.EC256
	rsaKey = bundle.RSA2048
)

// simple is a host with one zone, and passes at its command.
func simple(types ...bundle.KeyType) (*simWorld, *simZone, *simHost) {
	w := newSimWorld()
	z := w.zone("example.org", time.Minute, 0, 30*time.Second)
	h := newSimHost(w, types, []Owner{{"mx.example.org", 25}}, Settings{Mode: Publish, TTL: time.Minute}, "a", "b")
	return w, z, h
}

const mxName = "_25._tcp.mx.example.org."

// steadily brings a host to the steady state.
func steadily(t *testing.T, h *simHost) {
	t.Helper()
	if !h.until(2*day, h.steady) {
		t.Fatalf("it does not become steady: %v %+v", h.plan.Phases, h.plan.Waits)
	}
}

// judged fails if the model has found a fault.
func judged(t *testing.T, w *simWorld) {
	t.Helper()
	for _, fault := range w.model.faults {
		t.Error(fault)
	}
}

func (z *simZone) has(k *simKey) bool {
	return slices.Contains(z.primary[mxName], Record(k.spki).String())
}

// publishes puts records of others into the zone.
func (w *simWorld) publishes(z *simZone, records ...string) {
	w.edit(z, mxName, func(list []string) []string { return append(list, records...) })
	w.advance(w.now + 10*time.Minute)
}

// TestFirstPublication is one step for all key types, names and ports.
func TestFirstPublication(t *testing.T) {
	t.Parallel()
	w, z, h := simple(ecKey, rsaKey)
	h.owners = append(h.owners, Owner{"mx.example.org", 465}, Owner{"mx2.example.org", 25})
	h.run()
	for _, o := range h.owners {
		if got := z.primary[o.Name()+"."]; len(got) != 4 {
			t.Errorf("%s has %s after the first step", o.Name(), short(got))
		}
	}
	if h.phase(ecKey) != Publishing || h.plan.Next.IsZero() {
		t.Errorf("%v, next pass %v", h.plan.Phases, h.plan.Next)
	}
	steadily(t, h)
	if len(h.state.Ours) != 12 || h.state.Probed.IsZero() || !h.plan.Next.IsZero() {
		t.Errorf("%d records are ours, probed %v, next pass %v", len(h.state.Ours), h.state.Probed, h.plan.Next)
	}
	judged(t, w)
}

// TestFirstPublicationIsRefused if the set would break mail, or could do nothing for it.
func TestFirstPublicationIsRefused(t *testing.T) {
	t.Parallel()
	foreign := newSimKey(ecKey)
	for name, test := range map[string]struct {
		set  func(*simWorld, *simHost)
		want Phase
		why  string
	}{
		"another key is served": {func(w *simWorld, h *simHost) { h.others = []string{"c"}; w.serve("c/ec256", foreign) }, Unprobed, foreign.spki},
		"an address is deaf":    {func(w *simWorld, h *simHost) { w.deaf["b"] = true }, Unprobed, "has answered yet"},
		"the zone is unsigned": {func(w *simWorld, h *simHost) {
			w.alter = func(v *View) { v.Recursive.State = resolve.Insecure; v.Steps[0].Served.Keys.State = resolve.Insecure }
		}, Blocked, "is not signed"},
		"nothing validates": {func(w *simWorld, h *simHost) {
			w.alter = func(v *View) {
				v.Recursive.State, v.Recursive.Validator = resolve.Insecure, ""
				v.Steps[0].Served.Keys.State, v.Steps[0].Served.Keys.Validator = resolve.Insecure, ""
			}
		}, Blocked, "dns.resolvers_trusted"},
		"the service is silent": {func(w *simWorld, h *simHost) { h.mute = true }, Publishing, "has not said which records"},
	} {
		w, z, h := simple(ecKey)
		test.set(w, h)
		for range 3 {
			h.run()
			w.advance(w.now + time.Hour)
		}
		if h.phase(ecKey) != test.want || !strings.Contains(h.plan.Waits[ecKey].For, test.why) || len(z.primary[mxName]) > 0 {
			t.Errorf("%s: %s, %q, published %s", name, h.phase(ecKey), h.plan.Waits[ecKey].For, short(z.primary[mxName]))
		}
	}
}

// TestUselessRecords make no sender check the key, so the publication beside them is the first one.
func TestUselessRecords(t *testing.T) {
	t.Parallel()
	w, z, h := simple(ecKey)
	w.publishes(z, "1 1 1 "+strings.Repeat("00", 32), "3 1 1 "+strings.Repeat("00", 31))
	w.deaf["b"] = true
	h.run()
	warned := strings.Join(h.plan.Warnings, "\n")
	if h.phase(ecKey) != Unprobed || len(z.primary[mxName]) != 2 || strings.Count(warned, "cannot use") != 2 {
		t.Errorf("%s, published %s, warnings %q", h.phase(ecKey), short(z.primary[mxName]), h.plan.Warnings)
	}
	w.deaf["b"] = false
	steadily(t, h)
}

// TestForeignKeyIsPublishedFirst shows the way out.
func TestForeignKeyIsPublishedFirst(t *testing.T) {
	t.Parallel()
	w, z, h := simple(ecKey)
	foreign := newSimKey(ecKey)
	h.others = []string{"c"}
	w.serve("c/ec256", foreign)
	h.run()
	w.serve("c/ec256", nil)
	w.publishes(z, Record(foreign.spki).String(), Record(h.current[ecKey].spki).String())
	w.serve("c/ec256", foreign)
	w.model.alien[Record(foreign.spki).String()] = true
	steadily(t, h)
	judged(t, w)
	if !z.has(foreign) || len(h.state.Ours) != 1 {
		t.Errorf("%s, ours are %d", short(z.primary[mxName]), len(h.state.Ours))
	}
}

// TestEveryCombination prepares each matching type that others have published.
func TestEveryCombination(t *testing.T) {
	t.Parallel()
	w, z, h := simple(ecKey)
	by := formsOf(h.current[ecKey].of(), []uint8{2})
	w.publishes(z, by...)
	for _, r := range by {
		w.model.alien[r] = true
	}
	steadily(t, h)
	next := h.next[ecKey].of()
	for _, record := range formsOf(next, []uint8{1, 2}) {
		if !slices.Contains(z.primary[mxName], record) {
			t.Errorf("the next key has no record %.12s", record)
		}
	}
	if slices.ContainsFunc(h.state.Ours, func(o Ours) bool { return o.Record == by[0] }) {
		t.Error("a record of others became ours")
	}
	w.model.alien = map[string]bool{}
	w.edit(z, mxName, func(list []string) []string {
		return slices.DeleteFunc(list, func(r string) bool { return r == by[0] })
	})
	steadily(t, h)
	if slices.ContainsFunc(z.primary[mxName], func(r string) bool { return strings.HasPrefix(r, "3 1 2") }) {
		t.Errorf("nobody needs SHA-512 any more: %s", short(z.primary[mxName]))
	}
}

// TestAgileSendersAreWaitedFor while some may hold a set whose strongest digest is not of the next key.
func TestAgileSendersAreWaitedFor(t *testing.T) {
	t.Parallel()
	_, _, h := simple(ecKey)
	steadily(t, h)
	current, next := h.current[ecKey].of(), h.next[ecKey].of()
	records := slices.Concat(formsOf(current, []uint8{1, 2}), formsOf(next, []uint8{1}))
	slices.Sort(records)
	f := h.facts()
	for _, history := range h.state.Memory {
		history.Known = append(history.Known, Cached{Set: Set{Records: records, TTL: time.Hour}, Gone: time.Minute})
	}
	h.state.Ask(ecKey, Asked{Reason: "a person asks"})
	plan := h.state.Plan(f)
	if len(plan.Roll) > 0 || plan.Phases[ecKey] != Holding || plan.Waits[ecKey].Until.IsZero() || !strings.Contains(plan.Waits[ecKey].For, "SHA-512") {
		t.Errorf("%v %+v", plan.Phases, plan.Waits)
	}
}

// TestWarnings names what cannot be kept right, and what does not count.
func TestWarnings(t *testing.T) {
	t.Parallel()
	w, z, h := simple(ecKey)
	digest := strings.Repeat("ab", 32)
	z.ttl = 7 * day
	w.publishes(z, Record(h.current[ecKey].spki).String(), "2 1 1 "+digest, "3 0 1 "+digest, "1 1 1 "+digest)
	w.alter = func(v *View) { v.Steps[0].Ignored[1] = true }
	h.run()
	all := strings.Join(h.plan.Warnings, "\n")
	for _, want := range []string{"2 1 1 of an issuer", "3 0 1, which fits one certificate only", "1 1 1, which senders cannot use", "TTL of 7 days", "dane.ignore_servers: ns2.example.org", "1 record of " + strings.TrimSuffix(mxName, ".") + " fits the keys", "`mxcert tlsa publish mx --adopt` takes it over"} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning has %q:\n%s", want, all)
		}
	}
}

// TestKeyLifetime counts from when the key became current.
func TestKeyLifetime(t *testing.T) {
	t.Parallel()
	w, _, h := simple(ecKey)
	h.settings.KeyLifetime = 30 * day
	steadily(t, h)
	since, before := w.now, h.promoted
	w.wall += 3 * 365 * day // the clock alone makes no key older
	h.run()
	if h.state.Keys[ecKey].Asked != nil {
		t.Error("the clock made the key older")
	}
	if !h.until(40*day, func() bool { return h.promoted > before }) || w.now-since < 29*day {
		t.Errorf("it rolled after %v: %v", w.now-since, h.plan.Phases)
	}
	steadily(t, h)
	judged(t, w)
}

// TestPromote makes the key before retired, and uses up the next key.
func TestPromote(t *testing.T) {
	t.Parallel()
	var s State
	a, b, c := spki("a"), spki("b"), spki("c")
	s.Promote([]KeyOf{{Type: ecKey, SPKI: a}}, moment(0))
	s.Keys[ecKey].Next = b
	s.Ask(ecKey, Asked{Reason: "a person asks"})
	s.Promote([]KeyOf{{Type: ecKey, SPKI: a}}, moment(time.Hour))
	if r := s.Keys[ecKey]; r.Since != moment(0) || r.Asked == nil || r.Next != b {
		t.Errorf("nothing has changed: %+v", r)
	}
	s.Promote([]KeyOf{{Type: ecKey, SPKI: b}}, moment(2*time.Hour))
	if r := s.Keys[ecKey]; r.Current != b || r.Next != "" || r.Asked != nil || len(r.Retired) != 1 || r.Retired[0].SPKI != a || r.Retired[0].Compromised {
		t.Errorf("%+v", r)
	}
	s.Promote([]KeyOf{{Type: ecKey, SPKI: a}}, moment(3*time.Hour)) // a rollback
	if r := s.Keys[ecKey]; r.Current != a || len(r.Retired) != 1 || r.Retired[0].SPKI != b {
		t.Errorf("after a rollback: %+v", r)
	}
	s.Ask(ecKey, Asked{Reason: "the key leaked", Emergency: true})
	s.Ask(ecKey, Asked{Reason: "a person asks"})
	if got := s.Keys[ecKey].Asked; !got.Emergency || got.Reason != "the key leaked" || !slices.Equal(got.Leaked, []string{a}) {
		t.Errorf("an emergency stays one: %+v", got)
	}
	s.Promote([]KeyOf{{Type: ecKey, SPKI: c}}, moment(4*time.Hour))
	if r := s.Keys[ecKey]; !r.Retired[1].Compromised || r.Retired[0].Compromised {
		t.Errorf("%+v", r.Retired)
	}
}

// TestEmergency in its three forms.
func TestEmergency(t *testing.T) {
	t.Parallel()
	t.Run("next was held", func(t *testing.T) {
		t.Parallel()
		w, z, h := simple(ecKey)
		steadily(t, h)
		leaked := h.current[ecKey]
		h.state.Ask(ecKey, Asked{Emergency: true, Reason: "the key leaked"})
		h.stored = h.encode()
		h.run()
		if h.current[ecKey] == leaked || z.has(leaked) && !h.until(time.Minute+time.Second, func() bool { return !z.has(leaked) }) {
			t.Errorf("the leaked key is served or published: %v", h.plan.Phases)
		}
		steadily(t, h)
		judged(t, w)
	})
	t.Run("next is not held yet", func(t *testing.T) {
		t.Parallel()
		_, _, h := simple(ecKey)
		steadily(t, h)
		for _, history := range h.state.Memory {
			history.Known = append(history.Known, set(time.Hour, "a"))
			last := &history.Known[len(history.Known)-1]
			last.Given, last.By = false, nil
		}
		f := h.facts()
		h.state.Ask(ecKey, Asked{Emergency: true})
		plan := h.state.Plan(f)
		if len(plan.Roll) > 0 || plan.Waits[ecKey].Until.IsZero() || !strings.Contains(plan.Waits[ecKey].For, "some senders defer mail") || !strings.Contains(plan.Waits[ecKey].For, "--ignore-dane") {
			t.Errorf("%v %+v", plan.Phases, plan.Waits)
		}
		h.state.Ask(ecKey, Asked{Emergency: true, Ignore: true})
		if plan := h.state.Plan(f); !slices.Equal(plan.Roll, []bundle.KeyType{ecKey}) {
			t.Errorf("a person took it upon him: %v %+v", plan.Phases, plan.Waits)
		}
	})
	t.Run("fresh", func(t *testing.T) {
		t.Parallel()
		w, z, h := simple(ecKey)
		steadily(t, h)
		current, next := h.current[ecKey], h.next[ecKey]
		for range 2 {
			h.state.Ask(ecKey, Asked{Emergency: true, Fresh: true})
			h.stored = h.encode()
			h.run()
		}
		steadily(t, h)
		if h.current[ecKey] == current || h.current[ecKey] == next || z.has(current) || z.has(next) || h.next[ecKey] == next {
			t.Errorf("a leaked key is in use: %v", h.plan.Phases)
		}
		judged(t, w)
	})
}

// TestGraceWaitsForEveryEndpoint and counts from the last handshake with the old key.
func TestGraceWaitsForEveryEndpoint(t *testing.T) {
	t.Parallel()
	w, z, h := simple(ecKey)
	steadily(t, h)
	old := h.current[ecKey]
	h.state.Ask(ecKey, Asked{Reason: "a person asks"})
	h.stored = h.encode()
	if !h.until(day, func() bool { return h.promoted == 2 }) {
		t.Fatal(h.plan.Waits)
	}
	w.deaf["b"] = true
	for range 10 {
		h.run()
		w.advance(w.now + time.Hour)
	}
	if !z.has(old) || h.phase(ecKey) != Retiring || !strings.Contains(h.plan.Waits[ecKey].For, "did not answer") {
		t.Errorf("an endpoint is deaf: %v %+v", h.plan.Phases, h.plan.Waits)
	}
	w.deaf["b"] = false
	h.addresses, h.others = []string{"a"}, []string{"b"}
	w.serve("b/ec256", old)
	for range 10 {
		h.run()
		w.advance(w.now + time.Hour)
	}
	if !z.has(old) || !strings.Contains(h.plan.Waits[ecKey].For, "still serves the old key") {
		t.Errorf("something serves the old key: %v %+v", h.plan.Phases, h.plan.Waits)
	}
	w.serve("b/ec256", h.current[ecKey])
	h.run()
	h.applying = true
	f := h.facts()
	f.Listed = map[Place][]string{h.w.place(h.owners[0]): z.primary[mxName]}
	for i := range h.state.Keys[ecKey].Retired {
		h.state.Keys[ecKey].Retired[i].Gone = day
	}
	if plan := h.state.Plan(f); len(plan.Remove) > 0 {
		t.Error("a record is removed while a deployment is under way")
	}
	h.applying = false
	steadily(t, h)
	if z.has(old) {
		t.Error("the old record stays")
	}
	judged(t, w)
}

// TestTurningOff removes own records first. The key is free after the hold.
func TestTurningOff(t *testing.T) {
	t.Parallel()
	w, z, h := simple(ecKey, rsaKey)
	steadily(t, h)
	h.settings.Mode = Off
	h.run()
	if h.state.Effective(h.settings) != Check || h.phase(ecKey) != Retiring || !strings.Contains(h.plan.Waits[ecKey].For, "removes the records") {
		t.Errorf("%s, %v %+v", h.state.Effective(h.settings), h.plan.Phases, h.plan.Waits)
	}
	if !h.until(time.Hour, func() bool { return len(h.state.Ours) == 0 }) || len(z.primary[mxName]) > 0 {
		t.Fatalf("%s, ours are %d: %+v", short(z.primary[mxName]), len(h.state.Ours), h.plan.Waits)
	}
	if h.state.Leaving(h.settings) || h.state.Effective(h.settings) != Check {
		t.Error("senders hold the records for a while")
	}
	if h.phase(ecKey) != Retiring || !h.until(time.Hour, func() bool { return !h.plan.Waits[ecKey].Until.IsZero() }) {
		t.Errorf("nobody knows why the key stays: %v %+v", h.plan.Phases, h.plan.Waits)
	}
	if wait := h.plan.Waits[ecKey]; h.phase(ecKey) != Retiring || !strings.Contains(wait.For, "has removed") || wait.Until.IsZero() || !h.plan.Next.Equal(wait.Until) {
		t.Errorf("nobody knows until when the key stays: %v %+v, next %v", h.plan.Phases, h.plan.Waits, h.plan.Next)
	}
	if !h.until(day, func() bool { return h.state.Effective(h.settings) == Off }) {
		t.Error("the key is never free")
	}
	if len(h.next) > 0 {
		t.Errorf("next keys stay: %v", h.next)
	}
	judged(t, w)
}

// TestTurningOffWithoutTheService says so, and ends when a person has removed the records.
func TestTurningOffWithoutTheService(t *testing.T) {
	t.Parallel()
	w, z, h := simple(ecKey)
	steadily(t, h)
	h.settings.Mode, h.mute = Off, true
	h.run()
	if h.phase(ecKey) != Blocked || !strings.Contains(h.plan.Waits[ecKey].For, "configure dane.publisher") {
		t.Errorf("%v %+v", h.plan.Phases, h.plan.Waits)
	}
	w.edit(z, mxName, func([]string) []string { return nil })
	if !h.until(day, func() bool { return len(h.state.Ours) == 0 }) {
		t.Errorf("%+v", h.plan.Waits)
	}
}

// TestTurningOffWouldLeaveRecordsOfOthers that do not fit: then ours stay, and mxcert says why.
func TestTurningOffWouldLeaveRecordsOfOthers(t *testing.T) {
	t.Parallel()
	w, z, h := simple(ecKey)
	steadily(t, h)
	other := Record(newSimKey(ecKey).spki).String()
	w.publishes(z, other)
	h.settings.Mode = Off
	for range 3 {
		h.run()
		w.advance(w.now + time.Hour)
	}
	if !z.has(h.current[ecKey]) || h.phase(ecKey) != Blocked || !strings.Contains(h.plan.Waits[ecKey].For, other) {
		t.Errorf("%s: %v %+v", short(z.primary[mxName]), h.plan.Phases, h.plan.Waits)
	}
	judged(t, w)
}

// TestANameGoes with its records, after the certificate that has it.
func TestANameGoes(t *testing.T) {
	t.Parallel()
	w, z, h := simple(ecKey)
	h.owners = append(h.owners, Owner{"old.example.org", 25})
	steadily(t, h)
	h.owners, h.names = h.owners[:1], []string{"mx.example.org", "old.example.org"}
	h.run()
	if len(z.primary["_25._tcp.old.example.org."]) != 2 {
		t.Error("the records went before the certificate")
	}
	h.names = []string{"mx.example.org"}
	for range 3 {
		h.run()
	}
	if got := z.primary["_25._tcp.old.example.org."]; len(got) > 0 || len(h.state.Ours) != 2 {
		t.Errorf("%s, ours are %d", short(got), len(h.state.Ours))
	}
	judged(t, w)
}

// TestAnUnknownPlaceIsNotForgotten: the records of a name that cannot be found now stay.
func TestAnUnknownPlaceIsNotForgotten(t *testing.T) {
	t.Parallel()
	_, z, h := simple(ecKey)
	steadily(t, h)
	f := h.facts()
	f.Places = []Place{{}}
	f.Listed = map[Place][]string{h.w.place(h.owners[0]): z.primary[mxName]}
	h.state.Observe(f)
	if plan := h.state.Plan(f); len(plan.Remove) > 0 || len(h.state.Ours) != 2 {
		t.Errorf("removes %+v, ours are %d", plan.Remove, len(h.state.Ours))
	}
}

// TestKeyTypes come and go with the configuration.
func TestKeyTypes(t *testing.T) {
	t.Parallel()
	w, z, h := simple(ecKey, rsaKey)
	steadily(t, h)
	gone, next := h.current[rsaKey], h.next[rsaKey]
	h.types = []bundle.KeyType{ecKey}
	h.run()
	if !z.has(gone) {
		t.Fatal("the record of a key went that is still served")
	}
	for _, a := range h.addresses {
		w.serve(a+"/"+string(rsaKey), nil)
	}
	if !h.until(day, func() bool { return !z.has(gone) && !z.has(next) && h.next[rsaKey] == nil }) {
		t.Fatalf("%s: %v", short(z.primary[mxName]), h.plan.Phases)
	}
	judged(t, w)

	h.types = []bundle.KeyType{ecKey, rsaKey}
	delete(h.current, rsaKey)
	h.run()
	if !slices.Equal(h.plan.Wait, []bundle.KeyType{rsaKey}) || len(h.plan.Roll) > 0 {
		t.Errorf("a new type must not be ordered yet: wait %v, roll %v, %v", h.plan.Wait, h.plan.Roll, h.plan.Phases)
	}
	if !h.until(day, func() bool { return slices.Equal(h.plan.Roll, []bundle.KeyType{rsaKey}) || h.current[rsaKey] != nil }) {
		t.Fatalf("%v %+v", h.plan.Phases, h.plan.Waits)
	}
	steadily(t, h)
	judged(t, w)
}

// TestLostState keeps next keys, takes nothing for its own, and removes it once the operator agrees.
func TestLostState(t *testing.T) {
	t.Parallel()
	w, z, h := simple(ecKey)
	steadily(t, h)
	current, next := h.current[ecKey], h.next[ecKey]
	h.stored = nil
	steadily(t, h)
	if h.next[ecKey] != next || len(h.state.Ours) > 0 {
		t.Errorf("the next key was replaced, or ours are %d", len(h.state.Ours))
	}
	if !strings.Contains(strings.Join(h.plan.Warnings, "\n"), "2 records of "+strings.TrimSuffix(mxName, ".")+" fit the keys") {
		t.Errorf("%q", h.plan.Warnings)
	}
	f := h.facts()
	f.Listed = map[Place][]string{h.w.place(h.owners[0]): z.primary[mxName]}
	if got := h.state.Adopt(f); len(got) != 2 || len(h.state.Ours) != 2 {
		t.Fatalf("adopted %+v", got)
	}
	if got := h.state.Adopt(f); len(got) != 0 {
		t.Errorf("adopted twice: %+v", got)
	}
	h.state.Ask(ecKey, Asked{Reason: "a person asks"})
	h.stored = h.encode()
	if !h.until(day, func() bool { return h.current[ecKey] == next && h.steady() }) || z.has(current) {
		t.Errorf("%s %v", short(z.primary[mxName]), h.plan.Phases)
	}
	judged(t, w)
}

// TestAdoptedRecords of certbot's key stay until the operator agrees.
func TestAdoptedRecords(t *testing.T) {
	t.Parallel()
	w, z, h := simple(ecKey)
	first := h.current[ecKey]
	by := Record(first.spki).String()
	w.publishes(z, by)
	w.model.alien[by] = true
	steadily(t, h)
	h.state.Ask(ecKey, Asked{Reason: "a person asks"})
	h.stored = h.encode()
	if !h.until(day, func() bool { return h.current[ecKey] != first && h.steady() }) {
		t.Fatalf("%v %+v", h.plan.Phases, h.plan.Waits)
	}
	if !z.has(first) {
		t.Error("a record of others was removed")
	}
	judged(t, w)
}

// TestRecordsThatComeBack from the backup of a server are still ours.
func TestRecordsThatComeBack(t *testing.T) {
	t.Parallel()
	w, z, h := simple(ecKey)
	steadily(t, h)
	first := h.current[ecKey]
	h.state.Ask(ecKey, Asked{Reason: "a person asks"})
	h.stored = h.encode()
	if !h.until(day, func() bool { return h.current[ecKey] != first && h.steady() }) {
		t.Fatalf("%v %+v", h.plan.Phases, h.plan.Waits)
	}
	w.publishes(z, Record(first.spki).String())
	steadily(t, h)
	for range 3 {
		h.run()
	}
	if z.has(first) {
		t.Error("the record stays")
	}
	judged(t, w)
}

// TestGateMode shows the operator what to publish, and rolls when it is there.
func TestGateMode(t *testing.T) {
	t.Parallel()
	w, z, h := simple(ecKey)
	h.settings.Mode = ByHand
	first := h.current[ecKey]
	operator := func() {
		w.edit(z, mxName, func([]string) []string {
			var list []string
			for _, s := range h.plan.Show {
				list = append(list, s.Record)
			}
			return list
		})
	}
	h.run()
	h.run()
	if h.phase(ecKey) != Publishing || !strings.Contains(h.plan.Waits[ecKey].For, "you have to publish _25._tcp.mx.example.org IN TLSA 3 1 1 ") || len(h.plan.Add) > 0 {
		t.Fatalf("%v %+v", h.plan.Phases, h.plan.Waits)
	}
	var roles []string
	for _, s := range h.plan.Show {
		roles = append(roles, s.Role)
	}
	if !slices.Equal(roles, []string{"current", "next"}) {
		t.Errorf("it shows %v", roles)
	}
	operator()
	steadily(t, h)
	h.state.Ask(ecKey, Asked{Reason: "a person asks"})
	h.stored = h.encode()
	if !h.until(day, func() bool { return h.current[ecKey] != first && h.phase(ecKey) == Publishing }) {
		t.Fatalf("%v %+v", h.plan.Phases, h.plan.Waits)
	}
	operator()
	steadily(t, h)
	if len(h.state.Ours) > 0 {
		t.Error("something of the operator's became ours")
	}
	judged(t, w)
}

// TestFromPublishToGate hands the records over: they stay, and the operator removes those of old keys.
func TestFromPublishToGate(t *testing.T) {
	t.Parallel()
	w, z, h := simple(ecKey)
	steadily(t, h)
	first := h.current[ecKey]
	h.settings.Mode, h.mute = ByHand, true
	for range 3 {
		h.run()
		w.advance(w.now + time.Hour)
	}
	if len(z.primary[mxName]) != 2 || h.phase(ecKey) != Steady {
		t.Errorf("%s %v", short(z.primary[mxName]), h.plan.Phases)
	}
	h.state.Ask(ecKey, Asked{Reason: "a person asks"})
	h.stored = h.encode()
	if !h.until(day, func() bool {
		return strings.Contains(h.plan.Waits[ecKey].For, "you have to remove the record "+Record(first.spki).String())
	}) {
		t.Fatalf("%v %+v", h.plan.Phases, h.plan.Waits)
	}
	w.edit(z, mxName, func(list []string) []string {
		return slices.DeleteFunc(list, func(r string) bool { return r == Record(first.spki).String() })
	})
	if !h.until(day, func() bool { return h.phase(ecKey) == Publishing }) {
		t.Fatalf("%v %+v", h.plan.Phases, h.plan.Waits)
	}
	w.publishes(z, Record(h.next[ecKey].spki).String())
	steadily(t, h)
	judged(t, w)
}

// TestUnreadableNextKey is never replaced.
func TestUnreadableNextKey(t *testing.T) {
	t.Parallel()
	_, z, h := simple(ecKey)
	steadily(t, h)
	f := h.facts()
	f.Next, f.Unread = nil, map[bundle.KeyType]string{ecKey: "permission denied"}
	f.Listed = map[Place][]string{h.w.place(h.owners[0]): z.primary[mxName]}
	h.state.Observe(f)
	plan := h.state.Plan(f)
	if plan.Phases[ecKey] != Blocked || len(plan.Make)+len(plan.Remove) > 0 || !strings.Contains(plan.Waits[ecKey].For, "permission denied") {
		t.Errorf("%v %+v make %v remove %v", plan.Phases, plan.Waits, plan.Make, plan.Remove)
	}
}

// TestSignaturesMustOutliveTheHold says so while there is time to sign the zone again.
func TestSignaturesMustOutliveTheHold(t *testing.T) {
	t.Parallel()
	w, _, h := simple(ecKey)
	h.settings.Hold = 2 * day
	w.alter = func(v *View) {
		for i := range v.Steps[0].Served.Answers {
			v.Steps[0].Served.Answers[i].Until = v.At.At.Add(day)
		}
	}
	h.state.Promote([]KeyOf{h.current[ecKey].of()}, w.instant())
	f := h.facts()
	h.state.Memory = Memory{h.owners[0].Name(): {First: f.At, Last: f.At, Known: []Cached{{Set: set(time.Hour, "a").Set}}}}
	p := newPlanner(&h.state, f)
	k := newSimKey(ecKey)
	for i := range f.Views[0].Steps[0].Served.Answers {
		f.Views[0].Steps[0].Served.Answers[i].Records = []resolve.TLSA{Record(k.spki)}
	}
	phase, wait := p.spread(k.of())
	if phase != Holding || wait.Until.IsZero() || !strings.Contains(wait.For, "expire before that") {
		t.Errorf("%s %+v", phase, wait)
	}
}

// TestPlanChangesNothing and says the same twice.
func TestPlanChangesNothing(t *testing.T) {
	t.Parallel()
	_, z, h := simple(ecKey, rsaKey)
	for range 40 {
		f := h.facts()
		f.Listed = map[Place][]string{h.w.place(h.owners[0]): slices.Clone(z.primary[mxName])}
		before, _ := json.Marshal(h.state)
		one, two := h.state.Plan(f), h.state.Plan(f)
		after, _ := json.Marshal(h.state)
		a, _ := json.Marshal(one.Waits)
		b, _ := json.Marshal(two.Waits)
		if string(before) != string(after) || string(a) != string(b) || len(one.Add) != len(two.Add) {
			t.Fatalf("%s became %s, %s or %s", before, after, a, b)
		}
		h.run()
		h.sleep()
		if h.steady() {
			h.state.Ask(ecKey, Asked{Reason: "a person asks"})
			h.stored = h.encode()
		}
	}
}
