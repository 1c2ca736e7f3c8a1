package dane

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// A simulated fleet: hosts with disks and mail servers of their own, one zone, and a store that they share. Passes of several hosts run at once:
// before each of its side effects, and each time it asks the store, another host may go on. It does what package pass does, in that order.

// simStore is the store that hosts share: one value for what they remember together, and each change of it by compare-and-swap.
type simStore struct {
	down      bool
	together  []byte
	says      map[string][]byte
	next      map[bundle.KeyType]simNext
	bundles   map[bundle.KeyType]simNext
	forgotten map[string]time.Time
	leader    string
}

// simNext is a key with its generation.
type simNext struct {
	key        *simKey
	generation int64
}

func (s *simStore) clone() simStore {
	c := *s
	c.says, c.next, c.bundles, c.forgotten = maps.Clone(s.says), maps.Clone(s.next), maps.Clone(s.bundles), maps.Clone(s.forgotten)
	return c
}

func newSimStore() simStore {
	return simStore{says: map[string][]byte{}, next: map[bundle.KeyType]simNext{}, bundles: map[bundle.KeyType]simNext{}, forgotten: map[string]time.Time{}}
}

// rule is a rule of a fleet that a test switches off.
type rule string

const (
	allRules     rule = ""
	noMarks      rule = "the marks of changes"
	noStatement  rule = "the statement before another key is served"
	noAway       rule = "hosts that are away count"
	noElsewhere  rule = "what other hosts serve counts"
	noStored     rule = "every host has the key on its disk"
	storeIsTruth rule = "the disk remembers hosts that the store has lost"
)

// simFleet is the fleet, and what happens to it.
type simFleet struct {
	*rand.Rand
	w       *simWorld
	store   simStore
	backup  *simStore
	hosts   []*simMember
	without rule
	forget  time.Duration
	peace   bool // nothing goes wrong
	born    []*simKey
	ends    []yearEnd
	faults  []string
	history []string // if traced
}

// simMember is a host in the fleet.
type simMember struct {
	*simHost
	name       string
	fleet      *simFleet
	skew       time.Duration
	cut        bool // it does not reach the store
	off        bool // it does not run, and serves nothing
	cutSince   time.Duration
	reached    time.Duration // when it was last heard
	offSince   time.Duration
	forgotten  bool          // by an operator
	online     time.Duration // since when it is at work
	generation map[bundle.KeyType]int64
	backup     *simDisk

	resume, paused chan struct{}
	running        bool
	wakes          time.Duration

	unknown string
	shared  Shared
	number  int64
	mark    *Mark
	unsure  bool // whether a change was made is not known
	views   []View
}

// simDisk is a copy of the state directory.
type simDisk struct {
	stored     []byte
	next       map[bundle.KeyType]*simKey
	generation map[bundle.KeyType]int64
	current    map[bundle.KeyType]*simKey
}

// trace keeps what happens, for a person who looks for a fault.
func (f *simFleet) trace(format string, args ...any) {
	if traced {
		f.history = append(f.history, fmt.Sprintf("%v ", f.w.now)+fmt.Sprintf(format, args...))
	}
}

// newKey makes a key, and remembers which came first: what happens must not depend on their random names.
func (f *simFleet) newKey(key bundle.KeyType) *simKey {
	k := newSimKey(key)
	f.born = append(f.born, k)
	return k
}

// alive reports whether the lease of the host is there.
func (m *simMember) alive() bool { return !m.off && !m.cut }

// reaches reports whether the host can ask the store.
func (m *simMember) reaches() bool { return !m.cut && !m.fleet.store.down }

// turn lets other hosts go on.
func (m *simMember) turn() {
	m.paused <- struct{}{}
	<-m.resume
}

// begin starts a pass; step lets it go on until its next side effect.
func (m *simMember) begin() {
	m.running, m.resume, m.paused = true, make(chan struct{}), make(chan struct{})
	m.effects = 0
	go func() {
		<-m.resume
		defer func() {
			if v := recover(); v != nil && v != errKilled {
				m.fleet.faults = append(m.fleet.faults, fmt.Sprint("panic: ", v))
			}
			m.running = false
			close(m.paused)
		}()
		m.pass()
	}()
}

func (m *simMember) step() {
	m.resume <- struct{}{}
	<-m.paused
}

// instant is what the host knows about time.
func (m *simMember) instant() state.Instant {
	i := m.fleet.w.instant()
	i.At = i.At.Add(m.skew)
	return i
}

func (m *simMember) pass() {
	m.state, m.unknown, m.shared, m.mark, m.number = State{}, "the store was not asked", Shared{}, nil, 0
	m.unsure = false
	if m.stored != nil {
		if err := json.Unmarshal(m.stored, &m.state); err != nil {
			panic(err)
		}
	}
	if m.state.Memory == nil {
		m.state.Memory = Memory{}
	}
	if m.state.Keys == nil {
		m.state.Keys = map[bundle.KeyType]*Roll{}
	}
	m.take()
	m.look()
	m.save()
	m.plan = m.state.Plan(m.facts())
	m.order()
	m.deploy()
	m.tell()
	m.publish()
}

// look looks at DNS.
func (m *simMember) look() {
	m.views = nil
	for _, o := range m.owners {
		v := m.w.look(o)
		v.At = m.instant()
		m.views = append(m.views, v)
		m.state.Memory.Note(v, m.settings)
	}
}

func (m *simMember) facts() Facts {
	f := m.simHost.facts()
	f.At = m.instant()
	if len(m.views) > 0 {
		f.Views, f.At = m.views, m.views[0].At
	}
	f.Next = slices.DeleteFunc(f.Next, func(k KeyOf) bool { return m.state.Shared[k.Type].SPKI != k.SPKI })
	f.Elsewhere = m.state.Elsewhere(m.unknown)
	switch m.fleet.without {
	case noElsewhere:
		f.Elsewhere.Hosts = nil
	case noAway:
		f.Elsewhere.Hosts = slices.DeleteFunc(f.Elsewhere.Hosts, func(h Host) bool { return !h.Alive })
	}
	return f
}

// hear asks the store.
func (m *simMember) hear() {
	if m.turn(); !m.reaches() {
		m.unknown = "the store is away"
		return
	}
	s := &m.fleet.store
	m.unknown, m.shared, m.number = "", Shared{}, 0
	if s.together != nil {
		if err := json.Unmarshal(s.together, &m.shared); err != nil {
			panic(err)
		}
	}
	var list []Heard
	for _, other := range m.fleet.hosts {
		text := s.says[other.name]
		var said Statement
		if text != nil {
			if err := json.Unmarshal(text, &said); err != nil {
				panic(err)
			}
		}
		if other == m {
			m.number = said.Number
			continue
		}
		h := Heard{Host: other.name, Alive: other.alive(), Member: other.alive() || m.w.now-max(other.offSince, other.cutSince) < m.fleet.forget, Forgotten: s.forgotten[other.name]}
		if text != nil {
			h.Statement = &said
		}
		if text != nil || !h.Forgotten.IsZero() {
			list = append(list, h)
		}
	}
	m.state.Take(&m.shared, m.instant())
	if m.fleet.without == storeIsTruth {
		m.state.Peers = nil
	}
	m.state.Hear(list, m.instant(), m.fleet.forget)
	for _, key := range m.types {
		m.takeNext(key)
	}
}

func (m *simMember) takeNext(key bundle.KeyType) {
	known, s := m.state.Shared[key], &m.fleet.store
	n, there := s.next[key]
	if !there || n.generation < known.Generation {
		if k := m.next[key]; k != nil && k.spki == known.SPKI {
			s.next[key] = simNext{k, known.Generation}
		}
		return
	}
	if m.state.Shared == nil {
		m.state.Shared = map[bundle.KeyType]SharedNext{}
	}
	m.state.Shared[key] = SharedNext{n.key.spki, n.generation}
	if m.next[key] == n.key || !m.unspent(key, n.key.spki) {
		return
	}
	m.effect(func() { m.next[key] = n.key })
	m.state.roll(key).Next, m.state.roll(key).Made = n.key.spki, m.instant().At
}

func (m *simMember) unspent(key bundle.KeyType, spki string) bool {
	r := m.state.roll(key)
	return (m.current[key] == nil || m.current[key].spki != spki) && r.Current != spki && !r.retired(spki) && (r.Asked == nil || !slices.Contains(r.Asked.Leaked, spki))
}

// change changes what hosts remember together: by compare-and-swap, so reading and writing are one.
func (m *simMember) change() (done bool) {
	m.effect(func() {
		if !m.reaches() {
			return
		}
		done = true
		var shared Shared
		if text := m.fleet.store.together; text != nil {
			if err := json.Unmarshal(text, &shared); err != nil {
				panic(err)
			}
		}
		m.state.Give(&shared)
		m.state.GiveLooks(&shared, m.name, m.settings)
		for by, mark := range shared.Marks {
			if at, gone := m.fleet.store.forgotten[by]; gone && mark.At.Before(at) {
				delete(shared.Marks, by)
			}
		}
		if delete(shared.Marks, m.name); m.mark != nil {
			if shared.Marks == nil {
				shared.Marks = map[string]Mark{}
			}
			shared.Marks[m.name] = *m.mark
		}
		text, err := json.Marshal(shared)
		if err != nil {
			panic(err)
		}
		m.fleet.store.together = text
	})
	return done
}

// say makes a statement.
func (m *simMember) say(proven bool, more ...string) bool {
	s := Statement{Version: 1, Host: m.name, Mode: m.settings.Mode, At: m.instant().At}
	serves := slices.Clone(more)
	s.Certain = proven && !m.applying
	for _, a := range m.addresses {
		if m.w.deaf[a] {
			s.Certain = false
			continue
		}
		for _, key := range m.types {
			if k := m.w.served[a+"/"+string(key)]; k != nil {
				serves = append(serves, k.spki)
			}
		}
	}
	for _, k := range m.current {
		serves = append(serves, k.spki)
	}
	if !s.Certain && m.state.Said != nil {
		serves = append(serves, m.state.Said.Serves...)
	}
	slices.Sort(serves)
	s.Serves = slices.Compact(serves)
	for spki := range m.kept {
		s.Has = append(s.Has, spki)
	}
	for _, k := range m.next {
		s.Has = append(s.Has, k.spki)
	}
	slices.Sort(s.Has)
	s.Has = slices.Compact(s.Has)
	if said := m.state.Said; said != nil && said.Number == m.number && s.Says(*said) {
		return true
	}
	s.Number = max(m.instant().At.UnixNano(), m.number+1)
	if m.state.Said != nil {
		s.Number = max(s.Number, m.state.Said.Number+1)
	}
	m.state.Said = &s
	m.save()
	text, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	done := false
	m.effect(func() {
		if done = m.reaches(); done {
			m.fleet.store.says[m.name] = text
		}
	})
	m.number = s.Number
	m.fleet.trace("%s says %v: serves %.6q certain %v", m.name, done, s.Serves, s.Certain)
	return done
}

// take takes the newest certificates that others have ordered.
func (m *simMember) take() {
	if m.turn(); !m.reaches() {
		return
	}
	for _, key := range m.types {
		b := m.fleet.store.bundles[key]
		switch {
		case b.key != nil && b.generation > m.generation[key]:
			m.effect(func() { m.kept[b.key.spki] = b.key; m.current[key] = b.key; m.generation[key] = b.generation })
		case m.generation[key] > b.generation && m.current[key] != nil: // the store has lost it
			m.effect(func() {
				if m.reaches() && m.fleet.store.bundles[key].generation < m.generation[key] {
					m.fleet.store.bundles[key] = simNext{m.current[key], m.generation[key]}
				}
			})
		}
	}
}

// order orders what has to be rolled, if no other host does.
func (m *simMember) order() {
	for _, key := range m.plan.Roll {
		if m.noCA || !m.reaches() || m.fleet.store.leader != "" {
			continue
		}
		m.fleet.store.leader = m.name
		m.take()
		m.hear()
		m.plan = m.state.Plan(m.facts())
		if k := m.next[key]; m.unknown == "" && k != nil && slices.Contains(m.plan.Roll, key) && m.current[key] != k && m.state.Shared[key].SPKI == k.spki {
			generation := m.generation[key] + 1
			m.effect(func() { m.kept[k.spki] = k; m.current[key] = k; m.generation[key] = generation })
			m.effect(func() {
				if m.reaches() && m.fleet.store.bundles[key].generation < generation {
					m.fleet.store.bundles[key] = simNext{k, generation}
				}
			})
		}
		m.fleet.store.leader = ""
	}
}

// mayServe is what a fleet asks before another key is served.
func (m *simMember) mayServe(spkis []string) bool {
	if m.hear(); m.unknown != "" {
		return false
	}
	for _, spki := range spkis {
		if m.fleet.without != noStored && len(m.state.Elsewhere("").Lacks(spki)) > 0 {
			m.say(false)
			return false
		}
	}
	if m.fleet.without != noStatement && !m.say(false, spkis...) {
		return false
	}
	if m.hear(); m.unknown != "" {
		return false
	}
	for _, spki := range spkis {
		if m.fleet.without != noMarks && (m.shared.Forbids(m.name, spki) != "" || m.state.Withdrawn(m.owners, spki)) {
			return false
		}
	}
	m.look()
	return true
}

func (m *simMember) deploy() {
	var changes []Change
	var moved bool
	var spkis []string
	f := m.facts()
	for _, key := range m.types {
		k := m.current[key]
		if k == nil {
			return
		}
		var old [][]*x509.Certificate
		for _, a := range m.addresses {
			s := m.w.served[a+"/"+string(key)]
			if s != nil {
				old = append(old, []*x509.Certificate{s.cert})
			}
			if s != k {
				moved = true
				if !slices.Contains(spkis, k.spki) {
					spkis = append(spkis, k.spki)
				}
			}
		}
		changes = append(changes, Change{Names: []string{"mx.example.org"}, Key: string(key), Old: old, New: []*x509.Certificate{k.cert}})
	}
	if len(changes[0].Old) == 0 && slices.ContainsFunc(m.owners, func(o Owner) bool {
		return slices.ContainsFunc(spkis, func(spki string) bool { ok, _, _ := m.state.Memory.Ready(o, spki, m.settings, m.instant()); return !ok })
	}) {
		return // a host that serves nothing yet: the gate lets it serve a key that senders refuse, because that makes nothing worse
	}
	if !moved {
		m.prove(f.AllSeen || m.heardAll())
		return
	}
	if !m.mayServe(spkis) {
		m.refused++
		return
	}
	var all []Change
	for i, o := range m.owners {
		for _, c := range changes {
			c.Owner = o
			if v := m.views[i]; v.Fault() != "" && len(v.Sets()) == 0 {
				c.Unknown = errors.New(v.Fault())
			}
			all = append(all, c)
		}
	}
	if m.state.Memory.Gate(all, m.settings, m.instant()) != nil {
		m.refused++
		return
	}
	m.fleet.judgeStored(m, spkis)
	m.effect(func() { m.applying = true })
	before := m.simHost.take()
	if m.broken > 0 {
		m.broken--
		if m.halfway {
			m.effect(func() { m.show(m.addresses[0], m.current) })
		}
		m.effect(func() {
			for a, keys := range before {
				m.show(a, keys)
			}
		})
		m.effect(func() { m.applying = false })
		return
	}
	for _, a := range m.addresses {
		m.effect(func() {
			m.show(a, m.current)
			for _, k := range m.current {
				m.fleet.trace("%s shows %.6s at %s", m.name, k.spki, a)
			}
		})
	}
	m.prove(m.heardAll())
}

// heardAll reports whether every endpoint of this host answers.
func (m *simMember) heardAll() bool {
	return !slices.ContainsFunc(m.addresses, func(a string) bool { return m.w.deaf[a] })
}

// prove notes that the current certificates are in service.
func (m *simMember) prove(seen bool) {
	if !seen {
		return
	}
	if m.applying {
		m.effect(func() { m.applying = false })
	}
	var current []KeyOf
	changed := false
	for _, key := range m.types {
		k := m.current[key]
		current = append(current, k.of())
		changed = changed || m.state.Keys[key] == nil || m.state.Keys[key].Current != k.spki
	}
	m.state.Promote(current, m.instant())
	if changed {
		m.promoted++
		m.save()
	}
	for _, key := range m.types {
		if k := m.next[key]; k != nil && m.state.Keys[key].Current == k.spki {
			m.effect(func() { delete(m.next, key) })
		}
	}
}

// tell says what this host serves at the end of a pass.
func (m *simMember) tell() {
	if m.hear(); m.unknown == "" {
		m.say(m.heardAll())
	}
}

// publish carries out the plan at the service.
func (m *simMember) publish() {
	for range 3 {
		f := m.listedFacts()
		m.observe(f)
		m.plan = m.state.Plan(f)
		made := false
		for _, key := range m.plan.Make {
			made = m.make(key) || made
		}
		for _, key := range m.plan.Free {
			m.effect(func() { delete(m.next, key) })
			m.state.roll(key).Next = ""
			m.save()
		}
		if made {
			continue
		}
		m.save()
		m.edit(f)
		return
	}
}

func (m *simMember) listedFacts() Facts {
	f := m.facts()
	f.Listed = map[Place][]string{}
	for _, p := range m.state.Places(f.Places) {
		f.Listed[p] = slices.Clone(m.w.zoneOf(p).primary[p.Name])
	}
	return f
}

// make makes the next key of the fleet.
func (m *simMember) make(key bundle.KeyType) bool {
	if m.unknown != "" {
		return false
	}
	k := m.next[key]
	if k == nil || !m.unspent(key, k.spki) || m.state.Shared[key].SPKI == k.spki {
		k = m.fleet.newKey(key)
		m.effect(func() { m.next[key] = k })
	}
	generation := max(m.state.Shared[key].Generation, m.fleet.store.next[key].generation) + 1
	taken, done := false, false
	m.effect(func() {
		if !m.reaches() {
			return
		}
		if taken = m.fleet.store.next[key].generation >= generation; !taken {
			m.fleet.store.next[key], done = simNext{k, generation}, true
		}
	})
	if taken {
		m.hear()
		return m.next[key] != nil && m.state.Shared[key].SPKI == m.next[key].spki
	}
	if !done {
		return false
	}
	if m.state.Shared == nil {
		m.state.Shared = map[bundle.KeyType]SharedNext{}
	}
	m.state.Shared[key] = SharedNext{k.spki, generation}
	m.state.roll(key).Next, m.state.roll(key).Made = k.spki, m.instant().At
	m.save()
	return true
}

func (m *simMember) edit(f Facts) {
	if len(m.plan.Add)+len(m.plan.Remove) > 0 && m.announce(f) {
		for _, e := range m.plan.Remove {
			m.effect(func() {
				m.fleet.trace("%s removes %.6q at %s (unknown %q, peers %+v)", m.name, e.Keys, e.Place.Name, m.unknown, m.state.Elsewhere("").Hosts)
				err := m.w.update(e.Place, func(list []string) []string {
					return slices.DeleteFunc(list, func(r string) bool { return slices.Contains(e.Records, r) })
				})
				if m.unsure = m.unsure || err != nil; err == nil {
					m.state.Removed(e)
				}
			})
		}
		for _, e := range m.plan.Add {
			m.state.Claim(e, m.instant().At)
			m.state.Found(e, f, m.name)
		}
		m.save()
		if m.unknown != "" || m.change() {
			for _, e := range m.plan.Add {
				m.effect(func() {
					m.fleet.trace("%s adds %.6q at %s narrows %.6q (unknown %q)", m.name, e.Keys, e.Place.Name, m.plan.Narrows, m.unknown)
					_ = m.w.update(e.Place, func(list []string) []string { return slices.Concat(list, e.Records) })
				})
			}
		}
	}
	if m.unknown == "" {
		if !m.unsure {
			m.mark = nil
		}
		m.change()
	}
}

// announce announces a change, and looks again whether it is still right.
func (m *simMember) announce(f Facts) bool {
	if m.unknown != "" {
		return len(m.plan.Remove) == 0
	}
	if m.fleet.without == noMarks {
		return true
	}
	mark := m.plan.Mark(m.instant().At)
	m.mark = &mark
	if !m.change() {
		return false
	}
	m.hear()
	f2 := m.facts()
	f2.Listed = f.Listed
	m.plan = m.state.Plan(f2)
	return m.unknown == "" && m.plan.Covered(mark)
}

// judgeStored is the rule about disks: at the moment at which a host begins to serve a key, all that have been at work for long have it.
func (f *simFleet) judgeStored(by *simMember, spkis []string) {
	for _, other := range f.hosts {
		if other == by || !other.alive() || f.w.now-other.online < 6*time.Hour || f.store.says[other.name] == nil {
			continue
		}
		for _, spki := range spkis {
			has := other.kept[spki] != nil
			for _, k := range other.next {
				has = has || k.spki == spki
			}
			if !has {
				f.faults = append(f.faults, fmt.Sprintf("%v: %s serves %.6s, which %s does not have", f.w.now, by.name, spki, other.name))
			}
		}
	}
}
