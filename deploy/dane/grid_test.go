package dane

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
)

// gridCase is one life of a certificate, with what goes wrong in it.
type gridCase struct {
	kill   int
	after  bool
	fault  updateFault
	clock  string // "", forward, back, reboot
	deploy string // "", fails, halfway
}

func (c gridCase) String() string {
	when := "before"
	if c.after {
		when = "after"
	}
	return fmt.Sprintf("killed %s effect %d, updates %d, clock %s, deployment %s", when, c.kill, c.fault, c.clock, c.deploy)
}

// gridRules are the rules of the product that a grid switches off.
type gridRules struct{ gate, hold, grace bool }

const mostEffects = 140

// gridCases lists every stride-th case.
func gridCases(stride int) (list []gridCase) {
	n := 0
	for kill := range mostEffects {
		for _, after := range []bool{false, true} {
			for fault := updateWorks; fault <= updateNoAnswer; fault++ {
				for _, clock := range []string{"", "forward", "back", "reboot"} {
					for _, deploy := range []string{"", "fails", "halfway"} {
						if n++; n%stride == 0 {
							list = append(list, gridCase{kill + 1, after, fault, clock, deploy})
						}
					}
				}
			}
		}
	}
	return list
}

// TestGrid lives through a first publication, a roll, a roll of the other type in an emergency, a rollback, a second mxcert on the same name,
// and the end of publication: with a kill before or after each side effect, updates that fail, clocks that jump, and deployments that fail.
// The model judges. MXCERT_GRID=all runs every case.
func TestGrid(t *testing.T) {
	t.Parallel()
	stride := 41 // a prime, as all strides: one that the loops of gridCases divide would choose the same clock and deployment each time
	if raced {
		stride = 491 // the whole runs without the race detector
	}
	if os.Getenv("MXCERT_GRID") == "all" {
		stride = 1
	}
	cases := gridCases(stride)
	if len(cases) < 400 && !raced {
		t.Fatalf("%d cases", len(cases))
	}
	if kinds := kindsOf(cases); kinds != 2+int(updateNoAnswer-updateWorks+1)+4*3 {
		t.Fatalf("%d kinds of kills, updates, and clocks with deployments", kinds)
	}
	bad := 0
	for _, c := range cases {
		if faults := c.live(gridRules{}); len(faults) > 0 {
			if bad++; bad <= 5 {
				t.Errorf("%v: %v", c, faults)
			}
		}
	}
	t.Logf("%d cases, %d bad", len(cases), bad)
}

// kindsOf counts what goes wrong in some case, and the pairs of clocks and deployments.
func kindsOf(cases []gridCase) int {
	kinds := map[any]bool{}
	for _, c := range cases {
		kinds[c.after], kinds[c.fault], kinds[[2]string{c.clock, c.deploy}] = true, true, true
	}
	return len(kinds)
}

// TestGridSeesEachRule switches one rule of the product off in turn: then the grid has to fail.
func TestGridSeesEachRule(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string]gridRules{"gate": {gate: true}, "hold": {hold: true}, "grace": {grace: true}} {
		bad := 0
		stride := 1201
		if raced {
			stride = 2999
		}
		cases := gridCases(stride)
		for _, c := range cases {
			if slices.ContainsFunc(c.live(rules), func(fault string) bool { return strings.Contains(fault, "I4") }) {
				bad++
			}
		}
		if bad == 0 {
			t.Errorf("without the %s, the grid finds nothing", name)
		}
		t.Logf("without the %s, %d of %d cases are bad", name, bad, len(cases))
	}
}

// live is the life of one case. It returns what the model says, and what did not end.
func (c gridCase) live(rules gridRules) []string {
	const ttl = time.Minute
	ec, rsa := bundle.EC256, bundle.RSA2048
	w := newSimWorld()
	z := w.zone("example.org", ttl, 0, 40*time.Second, 90*time.Second)
	w.zone("example.net", ttl, 10*time.Second)
	owners := []Owner{{"mx.example.org", 25}, {"mx.example.org", 465}, {"mx.example.net", 25}}
	w.model.limit = 4
	h := newSimHost(w, []bundle.KeyType{ec, rsa}, owners, Settings{Mode: Publish, Ports: []int{25}, TTL: ttl}, "a", "b")
	h.others = []string{"c"}
	h.kill, h.after, h.off = c.kill, c.after, rules
	for _, z := range w.zones {
		z.fault, z.faults = c.fault, 2
	}
	life := &gridLife{c: c, w: w, h: h, z: z}
	life.step("first publication", h.steady)
	life.clock()
	life.other()
	h.state.Ask(ec, Asked{Reason: "a person asks"})
	h.stored = h.encode()
	life.deployment()
	life.silence()
	life.step("the next roll", func() bool { return h.promoted >= 2 })
	life.flap(ec)
	life.clock()
	life.rollback(ec)
	life.step("the end of the roll", h.steady)
	for _, z := range w.zones {
		z.faults = 2
	}
	h.state.Ask(rsa, Asked{Reason: "the key leaked", Emergency: true})
	h.stored = h.encode()
	w.model.limit = 6 // an emergency does not wait for the records of old keys
	life.step("the emergency", h.steady)
	life.clock()
	h.state.Ask(ec, Asked{Reason: "the keys leaked", Emergency: true, Fresh: true})
	h.stored = h.encode()
	life.step("a fresh key", h.steady)
	w.model.limit = 4
	life.backup()
	life.step("after the backup", h.steady)
	life.leave()
	h.settings.Mode = Off
	life.step("the end", func() bool { return len(h.state.Ours) == 0 && h.plan.Phases != nil })
	return append(life.stuck, w.model.faults...)
}

type gridLife struct {
	c     gridCase
	w     *simWorld
	h     *simHost
	z     *simZone
	stuck []string
	alien *simKey
}

func (l *gridLife) step(what string, done func() bool) {
	if traced {
		fmt.Println(l.w.now, what)
	}
	if len(l.stuck) == 0 && !l.h.until(2*24*time.Hour, done) {
		l.stuck = append(l.stuck, fmt.Sprintf("%s does not end: %v %+v", what, l.h.plan.Phases, l.h.plan.Waits))
	}
}

// clock changes the host's clock, or starts it again.
func (l *gridLife) clock() {
	switch l.c.clock {
	case "forward":
		l.w.wall += 100 * time.Hour
	case "back":
		l.w.wall -= 50 * time.Hour
	case "reboot":
		l.w.boot++
		l.w.advance(l.w.now + time.Minute)
		l.w.since = l.w.now
	}
}

// other is a second mxcert that publishes the record of its key beside ours, and serves it at another address.
func (l *gridLife) other() {
	l.alien = newSimKey(bundle.EC256)
	record := Record(l.alien.spki).String()
	l.w.model.alien[record] = true
	for _, o := range l.h.owners {
		p := l.w.place(o)
		l.w.edit(l.w.zoneOf(p), p.Name, func(list []string) []string { return append(list, record) })
	}
	l.w.advance(l.w.now + 10*time.Minute)
	l.w.serve("c/ec256", l.alien)
}

// leave is its end. The operator also removes the record that nobody knows any more.
func (l *gridLife) leave() {
	l.w.serve("c/ec256", nil)
	aliens := l.w.model.alien
	l.w.model.alien = map[string]bool{}
	for _, o := range l.h.owners {
		p := l.w.place(o)
		l.w.edit(l.w.zoneOf(p), p.Name, func(list []string) []string {
			return slices.DeleteFunc(list, func(r string) bool { return aliens[r] })
		})
	}
	l.w.advance(l.w.now + 10*time.Minute)
}

// deployment makes the next deployment fail.
func (l *gridLife) deployment() {
	if l.c.deploy != "" {
		l.h.broken, l.h.halfway = 2, l.c.deploy == "halfway"
	}
}

// silence is a server that does not answer for a while, and one that loses the newest records.
func (l *gridLife) silence() {
	l.z.servers[1].silent = true
	l.h.run()
	l.w.advance(l.w.now + time.Minute)
	l.h.run()
	l.z.servers[1].silent = false
	l.z.servers[2].unsigned = true
	l.h.run()
	l.z.servers[2].unsigned = false
}

// flap is a host that serves the old key once more, soon after the proof.
func (l *gridLife) flap(key bundle.KeyType) {
	r := l.h.state.Keys[key]
	if r == nil || len(r.Retired) == 0 {
		return
	}
	old := l.h.kept[r.Retired[0].SPKI]
	for range 2 {
		l.h.run()
		l.w.advance(l.w.now + 40*time.Second)
	}
	l.w.serve("b/"+string(key), old)
	l.w.advance(l.w.now + 5*time.Second)
	l.w.serve("b/"+string(key), l.h.current[key])
}

// rollback is an operator who wants the key back that was served first, when its record is gone.
func (l *gridLife) rollback(key bundle.KeyType) {
	r := l.h.state.Keys[key]
	if r == nil || len(r.Retired) == 0 {
		return
	}
	old, current := l.h.kept[r.Retired[0].SPKI], l.h.current[key]
	if !l.h.until(2*24*time.Hour, l.h.steady) {
		return // step says so
	}
	l.h.rollback, l.h.proven, l.h.current = true, maps.Clone(l.h.current), maps.Clone(l.h.current)
	l.h.current[key] = old
	l.h.run()
	l.h.rollback = false
	if l.w.served["a/"+string(key)] == current { // it was killed before the gate
		l.h.current = l.h.proven
	}
}

// backup is a state directory that is restored from a backup made before the last roll.
func (l *gridLife) backup() {
	stored, next, current := l.h.stored, l.h.next[bundle.EC256], l.h.current[bundle.EC256]
	l.h.state.Ask(bundle.EC256, Asked{Reason: "a person asks"})
	l.h.stored = l.h.encode()
	before := l.h.promoted
	l.step("a roll before the backup comes back", func() bool { return l.h.promoted > before && l.h.steady() })
	lost := Record(l.h.next[bundle.EC256].spki).String() // nobody remembers whose it is
	l.w.model.alien[lost] = true
	l.h.stored, l.h.next[bundle.EC256], l.h.current[bundle.EC256] = stored, next, current
	for range 5 {
		l.h.run()
		l.w.advance(l.w.now + time.Hour)
	}
}

func (h *simHost) encode() []byte {
	before := h.kill
	h.kill = 0
	h.save()
	h.effects--
	h.kill = before
	return h.stored
}
