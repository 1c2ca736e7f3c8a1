package dane

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
)

// newSimFleet makes a fleet of two to four hosts that already share a certificate.
func newSimFleet(seed uint64, without rule) *simFleet {
	f := &simFleet{Rand: rand.New(rand.NewPCG(seed, 15)), w: newSimWorld(), store: newSimStore(), without: without, forget: 5 * day}
	types := []bundle.KeyType{bundle.EC256, bundle.RSA2048}[:1+f.IntN(2)]
	owners := []Owner{{"mx.example.org", 25}, {"mx2.example.org", 25}}[:1+f.IntN(2)]
	ttl := []time.Duration{5 * time.Minute, time.Hour}[f.IntN(2)]
	var lags []time.Duration
	for range 1 + f.IntN(3) {
		lags = append(lags, time.Duration(f.IntN(1800))*time.Second)
	}
	f.w.zone("example.org", ttl, lags...)
	settings := Settings{Mode: Publish, TTL: ttl, Hold: time.Hour, KeyLifetime: time.Duration(30+f.IntN(60)) * time.Hour}
	first := map[bundle.KeyType]*simKey{}
	for _, key := range types {
		first[key] = f.newKey(key)
		f.store.bundles[key] = simNext{first[key], 1}
	}
	for i := range 2 + f.IntN(3) {
		name := fmt.Sprintf("mx%d", i+1)
		h := &simHost{w: f.w, types: types, owners: owners, settings: settings, addresses: []string{name + "a", name + "b"}[:1+f.IntN(2)]}
		m := &simMember{simHost: h, name: name, fleet: f, skew: time.Duration(f.IntN(600)-300) * time.Second}
		h.yield = m.turn
		m.reset()
		f.hosts = append(f.hosts, m)
	}
	return f
}

// reset is a host that comes into the fleet: it has nothing, and serves nothing.
func (m *simMember) reset() {
	m.stored, m.next, m.current, m.kept, m.applying = nil, map[bundle.KeyType]*simKey{}, map[bundle.KeyType]*simKey{}, map[string]*simKey{}, false
	m.generation = map[bundle.KeyType]int64{}
	for _, a := range m.addresses {
		for _, key := range m.types {
			m.w.serve(a+"/"+string(key), nil)
		}
	}
}

// live lets the fleet live: passes of its hosts go on in turns, and things go wrong.
func (f *simFleet) live(time_ time.Duration) {
	end := f.w.now + time_
	fault := f.w.now + f.pause()
	if f.peace {
		fault = 1 << 62
	}
	for f.w.now < end {
		var ready []*simMember
		next := f.w.now + time.Hour
		for _, m := range f.hosts {
			if m.alive() && !f.store.down {
				m.reached = f.w.now
			} else if m.cut && f.w.now-m.reached > f.forget-day { // a host that serves and is not heard for longer is forgotten
				m.cut = false
			}
			switch {
			case m.running, !m.off && m.wakes <= f.w.now:
				ready = append(ready, m)
			case !m.off:
				next = min(next, m.wakes)
			}
		}
		f.end()
		if f.w.now >= fault {
			f.fault()
			fault = f.w.now + f.pause()
			continue
		}
		if len(ready) == 0 {
			f.w.advance(min(max(next, f.w.now+time.Second), fault))
			continue
		}
		f.step(ready[f.IntN(len(ready))])
		if f.IntN(4) == 0 {
			f.w.advance(f.w.now + time.Duration(f.IntN(20))*time.Second)
		}
	}
}

// step lets one host go on.
func (f *simFleet) step(m *simMember) {
	if !m.running {
		m.begin()
	}
	m.step()
	if m.running {
		return
	}
	f.trace("%s ends: %v %v", m.name, m.plan.Phases, m.plan.Waits)
	m.kill = 0
	if f.store.leader == m.name {
		f.store.leader = ""
	}
	pause := time.Hour
	if next := m.plan.Next; !next.IsZero() {
		pause = min(pause, max(next.Sub(m.instant().At), 20*time.Second))
	}
	if m.refused > 0 { // it tries again soon
		m.refused, pause = 0, min(pause, 5*time.Minute)
	}
	m.wakes = f.w.now + pause
}

// finish ends the pass of a host, without others in between.
func (f *simFleet) finish(m *simMember) {
	for m.running {
		f.step(m)
	}
}

// lasts says for how long something lasts.
func (f *simFleet) lasts(most time.Duration, do func()) {
	f.ends = append(f.ends, yearEnd{f.w.now + time.Duration(f.Float64()*float64(most)), do})
}

// end ends faults.
func (f *simFleet) end() {
	f.ends = slices.DeleteFunc(f.ends, func(e yearEnd) bool {
		if e.at > f.w.now {
			return false
		}
		e.do()
		return true
	})
}

func (f *simFleet) pause() time.Duration { return time.Duration(f.ExpFloat64() * float64(8*time.Hour)) }

// heal ends all faults.
func (f *simFleet) heal() {
	f.store.down, f.ends = false, nil
	for _, m := range f.hosts {
		m.cut, m.noCA, m.broken, m.kill = false, false, 0, 0
		if m.off {
			m.on()
		}
		for _, a := range m.addresses {
			f.w.deaf[a] = false
		}
	}
	for _, z := range f.w.zones {
		z.faults = 0
		for _, s := range z.servers {
			s.silent = false
		}
	}
}

// out switches a host off, mail server and all.
func (m *simMember) out() {
	m.fleet.kill(m)
	m.off, m.offSince = true, m.w.now
	for _, a := range m.addresses {
		for _, key := range m.types {
			m.w.serve(a+"/"+string(key), nil)
		}
	}
}

// on switches it on: its mail server serves what is in its files. A host that was forgotten comes like a new one.
func (m *simMember) on() {
	m.off, m.online, m.wakes = false, m.w.now, m.w.now
	forgotten := m.forgotten
	m.forgotten = false
	if forgotten || m.w.now-m.reached >= m.fleet.forget-day {
		m.reset()
		return
	}
	var said Statement
	if m.stored != nil {
		var s State
		if json.Unmarshal(m.stored, &s) == nil && s.Said != nil {
			said = *s.Said
		}
	}
	for _, key := range m.types { // what was in the files: proven, or about to be
		k := m.current[key]
		if k == nil {
			continue
		}
		served := k
		if !slices.Contains(said.Serves, k.spki) {
			served = nil
			for _, other := range m.fleet.born {
				if m.kept[other.spki] != nil && other.kind == key && slices.Contains(said.Serves, other.spki) {
					served = other
				}
			}
		}
		for _, a := range m.addresses {
			m.w.serve(a+"/"+string(key), served)
		}
		m.fleet.trace("%s comes back with %.6s, said %.6q, current %.6s", m.name, served.of().SPKI, said.Serves, k.spki)
	}
}

// kill kills the pass of a host at its next side effect.
func (f *simFleet) kill(m *simMember) {
	if m.running {
		m.kill, m.after = m.effects+1, f.IntN(2) == 0
		f.finish(m)
	}
}

// fault is one thing that goes wrong.
func (f *simFleet) fault() {
	m := f.hosts[f.IntN(len(f.hosts))]
	z := f.w.zones[0]
	s := z.servers[f.IntN(len(z.servers))]
	kind := f.IntN(16)
	f.trace("fault %d at %s (off %v, cut %v, down %v)", kind, m.name, m.off, m.cut, f.store.down)
	switch kind {
	case 0, 1:
		if !m.off {
			m.out()
			f.lasts(3*day, func() {
				if m.off {
					m.on()
				}
			})
		}
	case 2:
		if !m.cut {
			m.cut, m.cutSince = true, f.w.now
			f.lasts(2*day, func() { m.cut = false })
		}
	case 3:
		f.store.down = true
		f.lasts(day, func() { f.store.down = false })
	case 4:
		if f.IntN(3) == 0 { // wiped
			f.store = newSimStore()
		} else if f.backup != nil { // restored from an old backup
			f.store = f.backup.clone()
			f.backup = nil
		}
	case 5:
		c := f.store.clone()
		c.down, c.leader = false, ""
		f.backup = &c
	case 6:
		if m.off && !f.store.down { // an operator forgets it
			m.forgotten = true
			f.store.forgotten[m.name] = m.instant().At
			delete(f.store.says, m.name)
		}
	case 7:
		m.kill, m.after = m.effects+1+f.IntN(20), f.IntN(2) == 0
	case 8:
		f.kill(m)
	case 9:
		m.backup = &simDisk{stored: m.stored, next: maps.Clone(m.next), generation: maps.Clone(m.generation), current: maps.Clone(m.current)}
	case 10:
		if b := m.backup; b != nil && !m.off { // the state directory is an old one
			f.kill(m)
			m.online = f.w.now // what it says about its disk is that of another
			m.stored, m.next, m.generation, m.current, m.backup = b.stored, maps.Clone(b.next), maps.Clone(b.generation), maps.Clone(b.current), nil
		}
	case 11:
		f.ask(m)
	case 12:
		m.broken, m.halfway = 1+f.IntN(3), f.IntN(2) == 0
	case 13:
		a := m.addresses[f.IntN(len(m.addresses))]
		f.w.deaf[a] = true
		f.lasts(day, func() { f.w.deaf[a] = false })
	case 14:
		s.silent = true
		f.lasts(day/2, func() { s.silent = false })
	case 15:
		if f.IntN(2) == 0 {
			f.rollBack(m)
		} else {
			z.fault, z.faults = updateFault(f.IntN(5)), 1+f.IntN(6)
		}
	}
}

// ask is a person who wants another key.
func (f *simFleet) ask(m *simMember) {
	if m.running || m.stored == nil {
		return
	}
	f.asks(m, m.types[f.IntN(len(m.types))], Asked{At: m.instant().At, Reason: "a person asks", Emergency: f.IntN(3) == 0, Fresh: f.IntN(4) == 0})
}

func (f *simFleet) asks(m *simMember, key bundle.KeyType, a Asked) {
	var s State
	if err := json.Unmarshal(m.stored, &s); err != nil {
		panic(err)
	}
	s.Ask(key, a)
	m.stored, _ = json.Marshal(s)
}

// rollBack makes an older certificate the current one on one host.
func (f *simFleet) rollBack(m *simMember) {
	if m.running || m.off {
		return
	}
	key := m.types[f.IntN(len(m.types))]
	for _, k := range f.born {
		if m.kept[k.spki] != nil && !f.leaked(k) && k.kind == key && k != m.current[key] && f.IntN(2) == 0 {
			m.current[key] = k
			return
		}
	}
}

// leaked reports whether somebody has asked to replace a key because it has leaked.
func (f *simFleet) leaked(k *simKey) bool {
	return slices.ContainsFunc(f.hosts, func(m *simMember) bool {
		var s State
		if m.stored == nil || json.Unmarshal(m.stored, &s) != nil || s.Keys[k.kind] == nil {
			return false
		}
		r := s.Keys[k.kind]
		return r.Asked != nil && slices.Contains(r.Asked.Leaked, k.spki) || slices.ContainsFunc(r.Retired, func(o Retired) bool { return o.SPKI == k.spki && o.Compromised })
	})
}

// converges waits until all hosts serve the same keys and are steady. A last change of keys has to come to its end.
func (f *simFleet) converges() string {
	f.heal()
	for _, m := range f.hosts {
		f.finish(m)
		for key, k := range m.current { // whoever was rolled back goes on with the others
			if b := f.store.bundles[key]; b.key != nil && b.key != k {
				m.generation[key] = min(m.generation[key], b.generation-1)
			}
		}
		m.settings.KeyLifetime = 0
	}
	f.ask(f.hosts[0])
	for end := f.w.now + 20*day; f.w.now < end; {
		for _, m := range f.hosts {
			f.step(m)
			f.finish(m)
		}
		f.w.advance(f.w.now + time.Hour)
		if f.calm() {
			return ""
		}
	}
	text := ""
	for _, m := range f.hosts {
		text += fmt.Sprintf("%s %v %v", m.name, m.plan.Phases, m.plan.Waits)
		for _, key := range m.types {
			text += fmt.Sprintf(" %d:%.6s of %d:%.6s serves %.6q next %.6s %+v; ", m.generation[key], m.current[key].of().SPKI, f.store.bundles[key].generation, f.store.bundles[key].key.spki, m.state.Said.Serves, m.state.Keys[key].Next, *m.state.Keys[key])
			for _, old := range m.state.Keys[key].Retired {
				text += fmt.Sprint("OURS ", slices.DeleteFunc(slices.Clone(m.state.Ours), func(o Ours) bool { return o.SPKI != old.SPKI }), " NEXT ", m.listedFacts().Next, " over ", m.state.over(old, m.listedFacts().together()), m.listedFacts().together().doubt, " all ", m.listedFacts().together().AllSeen)
			}
		}
	}
	return "it does not come to rest: " + text
}

func (f *simFleet) calm() bool {
	for _, m := range f.hosts {
		if !m.steady() {
			return false
		}
		for _, key := range m.types {
			if m.current[key] != f.hosts[0].current[key] {
				return false
			}
		}
	}
	return true
}

// wrong returns what is wrong after some time.
func (f *simFleet) wrong(life time.Duration) string {
	defer func() {
		for _, line := range f.history {
			fmt.Println(line)
		}
	}()
	f.live(life)
	if len(f.w.model.faults)+len(f.faults) > 0 {
		return strings.Join(slices.Concat(f.w.model.faults, f.faults), "\n")
	}
	if f.without != allRules {
		return ""
	}
	why := f.converges()
	return strings.Join(slices.Concat(f.w.model.faults, f.faults, slices.DeleteFunc([]string{why}, func(s string) bool { return s == "" })), "\n")
}

// fleets is how many fleets live. MXCERT_FLEETS says how many, hundreds with make dane.
func fleets(t *testing.T) int {
	n := 4
	if raced || testing.Short() {
		n = 2
	}
	if text := os.Getenv("MXCERT_FLEETS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// TestFleets lives through three weeks of fleets: hosts are switched off and on, cut off, killed, forgotten, restored from old copies; the store is
// lost, restored, away; several hosts change records and keys at once. No sender ever holds records that a served key is not in, and in the end
// all hosts come to rest with the same keys.
func TestFleets(t *testing.T) {
	t.Parallel()
	rolls := 0
	first, _ := strconv.ParseUint(os.Getenv("MXCERT_FLEET_FIRST"), 10, 64)
	for seed := range uint64(fleets(t)) {
		seed += first
		f := newSimFleet(seed, allRules)
		if wrong := f.wrong(21 * day); wrong != "" {
			t.Errorf("fleet %d: %s", seed, wrong)
		}
		for _, m := range f.hosts {
			rolls += m.promoted
		}
	}
	t.Logf("%d fleets, %d changes of keys on hosts", fleets(t), rolls)
	if rolls < 10*fleets(t) {
		t.Errorf("only %d changes of keys: this test sees little", rolls)
	}
}

// race lets one host go back to an old key in the moment in which the other removes its record. Which of them is first is random.
func race(seed uint64, without rule) string {
	f := newSimFleet(seed, allRules)
	f.hosts, f.peace = f.hosts[:2], true
	for _, m := range f.hosts {
		m.settings.KeyLifetime = 0
	}
	f.live(day)
	key := f.hosts[0].types[0]
	old := f.hosts[0].current[key]
	for range 20 {
		if f.hosts[0].current[key] != old && f.hosts[1].current[key] != old {
			break
		}
		f.finish(f.hosts[0])
		f.asks(f.hosts[0], key, Asked{At: f.hosts[0].instant().At, Reason: "a person asks"})
		f.live(3 * time.Hour)
	}
	if f.hosts[0].current[key] == old || len(f.w.model.faults) > 0 {
		return "" // it has not come so far
	}
	for _, m := range f.hosts {
		f.finish(m)
	}
	for place := range f.w.zones[0].primary { // the moment before the removal
		if !slices.Contains(f.w.zones[0].primary[place], "3 1 1 "+old.spki) {
			return ""
		}
	}
	f.without = without
	f.hosts[1].current[key] = old
	f.w.advance(f.w.now + time.Duration(1+f.IntN(3))*time.Hour)
	for _, m := range f.hosts {
		m.wakes = f.w.now
	}
	f.live(4 * time.Hour)
	return strings.Join(f.w.model.faults, "\n")
}

// TestRaces lets hosts race: whoever is first, no sender fails.
func TestRaces(t *testing.T) {
	t.Parallel()
	n := 40
	if raced || testing.Short() {
		n = 10
	}
	for seed := range uint64(n) {
		if wrong := race(seed, allRules); wrong != "" {
			t.Errorf("race %d: %s", seed, wrong)
		}
	}
}

// TestEveryRuleOfAFleetIsNeeded switches each rule off: then some sender fails, or the tests above could not fail. The first fleets are those in
// which that is known to happen soon.
func TestEveryRuleOfAFleetIsNeeded(t *testing.T) {
	t.Parallel()
	lives := func(seed uint64, without rule) string { return newSimFleet(seed, without).wrong(21 * day) }
	for without, c := range map[rule]struct {
		try   func(uint64, rule) string
		first uint64
	}{
		noMarks: {race, 26}, noStatement: {race, 26}, noElsewhere: {lives, 0}, noAway: {lives, 0}, noStored: {lives, 5}, storeIsTruth: {lives, 9},
	} {
		t.Run(strings.ReplaceAll(string(without), " ", "-"), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(300) {
				if wrong := c.try(seed+c.first, without); wrong != "" {
					t.Logf("fleet %d: %s", seed+c.first, wrong)
					return
				}
			}
			t.Errorf("no sender fails without the rule: %s", without)
		})
	}
}
