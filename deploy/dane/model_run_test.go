package dane

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"mxcert/acme/resolve"
	"mxcert/acme/state"
)

// without is a product that lacks one rule. It breaks the memory or the looks, as the product without the rule would.
type without string

const (
	nothing         without = "nothing"                                  // all rules are in force
	noHold          without = "the hold"                                 // a set that no server gives is forgotten at once
	noUnknownTTL    without = "the unknown TTL of the first look"        // its TTL counts as it is seen
	noIncomplete    without = "incomplete looks"                         // a silent server counts as one that gives nothing
	noRestart       without = "the restart of a run"                     // a set that a server gives again goes on to be forgotten
	noCountedTime   without = "counted time"                             // the clock is believed
	noUnknown       without = "the wait of new keys after a failed look" // what is not known counts as nothing
	noGate          without = "the gate"
	onlyNewestChain without = "the chains of other endpoints"
)

// driver connects the model with the product.
type driver struct {
	*universe
	without  without
	settings Settings
	memory   Memory
	chains   map[string][]*x509.Certificate
	allowed  int // changes of keys that were allowed
	refused  int
	reliable bool // no look fails
}

// certificates makes a real chain for each certificate of the model, once.
var certificates = sync.OnceValue(func() map[string][]*x509.Certificate {
	p, list := world(), map[string][]*x509.Certificate{}
	for _, key := range []string{"a", "b", "c"} {
		for issuer, by := range map[string]*issuer{"1": p.first, "2": p.second} {
			for _, serial := range []string{"1", "2"} {
				list[cert{key, issuer, serial}.id()] = p.chain(key, by, start.Add(3000*day))
			}
		}
	}
	return list
})

// zoneFile writes a set of the model as records.
func (d *driver) zoneFile(s rrset) Set {
	set := Set{TTL: s.ttl}
	for _, r := range s.records {
		switch r.kind {
		case "311":
			set.Records = append(set.Records, record(3, 1, 1, d.chains[r.of+"11"][0]))
		case "312":
			set.Records = append(set.Records, record(3, 1, 2, d.chains[r.of+"11"][0]))
		case "301":
			set.Records = append(set.Records, record(3, 0, 1, d.chains[r.of][0]))
		case "211":
			set.Records = append(set.Records, record(2, 1, 1, d.chains["a"+r.of+"1"][1]))
		case "111":
			set.Records = append(set.Records, "1 1 1 "+spki("x"))
		}
	}
	return set.sorted()
}

// instant is what the host's clocks say.
func (d *driver) instant() state.Instant {
	i := state.Instant{At: start.Add(d.real + d.ahead), Boot: fmt.Sprint(d.boots), Up: d.up, Awake: d.up - d.asleep}
	if d.without == noCountedTime {
		i.Up, i.Awake = i.At.Sub(start), i.At.Sub(start)
	}
	return i
}

// look is a look of the product at the servers of the model.
func (d *driver) look() (failed error) {
	v := View{Owner: mx, At: d.instant(), Steps: []Step{{Name: mx.Name() + ".", Ignored: make([]bool, len(d.servers))}}}
	v.Recursive.State, v.Recursive.Validator = resolve.Secure, "127.0.0.1:53"
	served := &v.Steps[0].Served
	served.Zone, served.Keys.State = "example.org.", resolve.Secure
	if !d.reliable && d.rng.IntN(25) == 0 {
		failed = errors.New("the zone was not found")
		v.Err, v.Steps = failed, nil
	}
	for i := range d.servers {
		answer := resolve.Authoritative[resolve.TLSA]{Server: resolve.Server{Host: fmt.Sprint("ns", i, ".example.org"), Address: "192.0.2.1:53"}, Signature: resolve.Signed}
		switch server := &d.servers[i]; {
		case failed != nil:
		case server.silent && d.without != noIncomplete:
			answer.Silent, answer.Fault = true, "no answer came"
		case server.silent:
		default:
			d.meets(server)
			set := d.zoneFile(server.gives)
			answer.Records, answer.TTL = set.TLSA(), set.TTL
		}
		served.Servers, served.Answers = append(served.Servers, answer.Server), append(served.Answers, answer)
	}
	first := d.memory[mx.Name()] == nil || d.memory[mx.Name()].First.IsZero()
	before := map[string]Cached{}
	if h := d.memory[mx.Name()]; h != nil {
		for _, c := range h.Known {
			before[fmt.Sprint(c.Set)] = c
		}
	}
	d.memory.Note(v, d.settings)
	d.cripple(first, before)
	return failed
}

// cripple does to the memory what the lack of a rule would.
func (d *driver) cripple(first bool, before map[string]Cached) {
	h := d.memory[mx.Name()]
	switch d.without {
	case noHold:
		h.Known = slices.DeleteFunc(h.Known, func(c Cached) bool { return !c.Given })
	case noUnknownTTL:
		if first {
			h.Known = slices.DeleteFunc(h.Known, func(c Cached) bool { return len(c.By) == 0 && before[fmt.Sprint(c.Set)].TTL == 0 })
		}
	case noRestart:
		for i, c := range h.Known {
			if old, ok := before[fmt.Sprint(c.Set)]; ok && !old.Given && c.Given {
				h.Known[i].Given, h.Known[i].Gone = false, old.Gone+time.Minute
			}
		}
	}
}

// try lets the product change what is served, if its gate allows it. It returns what is wrong with that.
func (d *driver) try(failed error) string {
	next := d.cert()
	c := Change{Owner: mx, Names: []string{mx.Host}, Key: "ec256", New: d.chains[next.id()], Unknown: failed}
	for _, old := range d.served {
		c.Old = append(c.Old, d.chains[old.id()])
	}
	if d.without == onlyNewestChain {
		c.Old = c.Old[len(c.Old)-1:]
	}
	refusal := d.memory.Gate([]Change{c}, d.settings, d.instant())
	if refusal != nil && d.without != noGate && !(refusal.Unknown && d.without == noUnknown) {
		d.refused++
		return ""
	}
	// The same key may go on although a look has failed. Nobody can then know of records of the certificate or of its issuer that came since.
	sameKey := !slices.ContainsFunc(d.served, func(old cert) bool { return old.key != next.key })
	if s := d.breaks(next, sameKey && d.memory[mx.Name()].Fault != ""); s != nil {
		return fmt.Sprintf("after %v, %v was served and is now %v, but a sender holds %v; memory: %+v", d.real, d.served, next, s, d.memory[mx.Name()])
	}
	if next.key != d.served[0].key {
		d.allowed++
	}
	if d.rng.IntN(8) > 0 {
		d.served = []cert{next}
	} else { // one endpoint was not reloaded
		d.served = append(d.served[:1:1], next)
	}
	return ""
}

func newDriver(seed uint64, w without) *driver {
	hold := []time.Duration{day, 0, 6 * hour}[seed%3]
	return &driver{universe: newUniverse(seed, hold), without: w, settings: Settings{Mode: Check, Hold: hold}, memory: Memory{}, chains: certificates()}
}

// history runs one random history, and returns what is wrong.
func (d *driver) history() string {
	failed := d.look()
	for range 60 {
		for range 2 {
			if wrong := d.try(failed); wrong != "" {
				return wrong
			}
		}
		d.pass()
		failed = d.look()
	}
	return ""
}

// calm lets a month pass in which every look is complete, and nothing changes. Then the gate has to say what the model says of the records that
// are there: it refuses nothing for what nobody holds.
func (d *driver) calm() string {
	for i := range d.servers {
		d.servers[i].gives, d.servers[i].silent = d.servers[0].gives, false
	}
	d.reliable = true
	for range 31 {
		d.real, d.up = d.real+day, d.up+day
		d.look()
	}
	d.caches = map[string]cached{}
	for id, chain := range d.chains {
		next := cert{id[:1], id[1:2], id[2:]}
		c := Change{Owner: mx, Names: []string{mx.Host}, Key: "ec256", New: chain}
		for _, old := range d.served {
			c.Old = append(c.Old, d.chains[old.id()])
		}
		refusal, breaks := d.memory.Gate([]Change{c}, d.settings, d.instant()), d.breaks(next, false)
		if (refusal != nil) != (breaks != nil) {
			return fmt.Sprintf("served %v, next %v, records %v: the gate says %v, the model %v", d.served, next, d.servers[0].gives, refusal, breaks)
		}
	}
	return ""
}

// histories is how many TestNoSenderFails runs. MXCERT_HISTORIES says how many, thousands with make dane.
func histories(t *testing.T) int {
	n := 250
	if raced || testing.Short() {
		n = 100
	}
	if text := os.Getenv("MXCERT_HISTORIES"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// TestNoSenderFails runs random histories: whatever the gate allows, no sender fails who passed before.
func TestNoSenderFails(t *testing.T) {
	t.Parallel()
	n, allowed, refused := histories(t), 0, 0
	for seed := range uint64(n) {
		d := newDriver(seed, nothing)
		if wrong := d.history(); wrong != "" {
			t.Fatalf("history %d: %s", seed, wrong)
		}
		if wrong := d.calm(); wrong != "" {
			t.Fatalf("history %d: in the end: %s", seed, wrong)
		}
		allowed, refused = allowed+d.allowed, refused+d.refused
	}
	t.Logf("%d histories: %d changes of keys allowed, %d plans refused", n, allowed, refused)
	if allowed < n || refused < n {
		t.Errorf("%d changes of keys were allowed and %d plans refused: this test sees little", allowed, refused)
	}
}

// TestEveryRuleIsNeeded switches each rule off: then some sender fails, or the test above could not fail.
func TestEveryRuleIsNeeded(t *testing.T) {
	t.Parallel()
	for _, w := range []without{noHold, noUnknownTTL, noIncomplete, noRestart, noCountedTime, noUnknown, noGate, onlyNewestChain} {
		t.Run(strings.ReplaceAll(string(w), " ", "-"), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(3000) {
				if wrong := newDriver(seed, w).history(); wrong != "" {
					t.Logf("history %d: %s", seed, wrong)
					return
				}
			}
			t.Errorf("no sender fails without %s", w)
		})
	}
}
