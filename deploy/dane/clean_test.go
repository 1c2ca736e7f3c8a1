package dane

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"

	"mxcert/acme/bundle"
)

// TestCleanKeepsWhatMxcertWrites, and nothing else.
func TestCleanKeepsWhatMxcertWrites(t *testing.T) {
	t.Parallel()
	_, _, h := simple(bundle.EC256, bundle.RSA2048)
	steadily(t, h)
	h.state.Ask(bundle.EC256, Asked{At: h.w.instant().At, Reason: "the key leaked", Emergency: true})
	h.stored = h.encode()
	for range 3 {
		h.run()
		h.w.advance(h.w.now + time.Minute)
	}
	before, _ := json.Marshal(h.state)
	h.state.Clean()
	if after, _ := json.Marshal(h.state); string(before) != string(after) {
		t.Errorf("%s\nbecame\n%s", before, after)
	}

	bad := State{
		Mode:   "\x1b[31m",
		Memory: Memory{"_25._tcp.a.example.org": {Fault: "a\x1b[2Jb", Final: "\x1b]0;a\a.", Known: []Cached{{Set: Set{Records: []string{"3 1 1 00\n", "3 1 1 0a"}, TTL: -1}, By: make([]string, 50)}}}, "a b": {}, "c": nil},
		Keys:   map[bundle.KeyType]*Roll{"\x1b": {}, bundle.EC256: {Next: "\x1b", Current: strings.Repeat("A", 64), Asked: &Asked{Reason: "\x1b[0m", Leaked: make([]string, 99)}}, bundle.RSA2048: nil},
		Ours:   []Ours{{Owner: "a\x1b", Zone: "b.", Record: "3 1 1 0a"}, {Owner: "a.", Zone: "b.", Record: "x"}, {Owner: "_25._tcp.a.", Zone: "a.", Record: "3 1 1 0a"}},
	}
	for i := range 3000 {
		bad.Memory[fmt.Sprintf("_25._tcp.a%d.example.org", i)] = &History{Known: make([]Cached, 1000)}
		bad.Former = append(bad.Former, Ours{Owner: "a.", Zone: "a.", Record: "3 1 1 0a"})
	}
	bad.Clean()
	if bad.Memory["_25._tcp.a.example.org"] == nil { // the first by name
		t.Error("the owner with the bad texts is gone")
	}
	if len(bad.Memory) != mostOwners || len(bad.Ours) != 1 || len(bad.Former) != mostFormer || len(bad.Keys) != 1 || bad.Mode != "" {
		t.Errorf("%d owners, %d ours, %d former, %d keys, mode %q", len(bad.Memory), len(bad.Ours), len(bad.Former), len(bad.Keys), bad.Mode)
	}
	if r := bad.Keys[bundle.EC256]; r.Next != "" || r.Current != "" || len(r.Asked.Leaked) > 0 {
		t.Errorf("%+v", r)
	}
	printable(t, bad)
}

func printable(t *testing.T, s State) {
	t.Helper()
	check := func(text string) {
		if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q is not safe to print", text)
		}
	}
	check(string(s.Mode))
	for name, h := range s.Memory {
		check(name + h.Fault + h.Final)
		for _, c := range h.Known {
			check(strings.Join(c.Records, "") + strings.Join(c.By, ""))
		}
	}
	for key, r := range s.Keys {
		check(string(key) + r.Next + r.Current)
		if r.Asked != nil {
			check(r.Asked.Reason + strings.Join(r.Asked.Leaked, ""))
		}
	}
	for _, o := range append(s.Ours, s.Former...) {
		check(o.Owner + o.Zone + o.Record + o.SPKI + o.Primary + o.For)
	}
}

// FuzzState reads what another user may have written, and plans with it.
func FuzzState(f *testing.F) {
	_, _, h := simple(bundle.EC256)
	for range 4 {
		h.run()
		f.Add(h.stored)
		h.w.advance(h.w.now + time.Minute)
	}
	f.Add([]byte(`{"keys": {"ec256": null, "rsa2048": {"retired": [{"gone": -1}], "asked": {"fresh": true}}}, "memory": {"_25._tcp.mx.example.org": {"known": [{"records": null, "given": true}]}}}`))
	f.Add([]byte(`{"ours": [{"owner": "_25._tcp.mx.example.org.", "zone": "example.org.", "record": "3 1 1 00", "for": "x"}], "former": [{}]}`))
	facts := h.facts()
	facts.Listed = map[Place][]string{h.w.place(h.owners[0]): {"3 1 1 00"}}
	f.Fuzz(func(t *testing.T, text []byte) {
		var s State
		if json.Unmarshal(text, &s) != nil {
			return
		}
		s.Clean()
		printable(t, s)
		once, _ := json.Marshal(s)
		s.Clean()
		if twice, _ := json.Marshal(s); string(once) != string(twice) {
			t.Errorf("%s became %s", once, twice)
		}
		s.Observe(facts)
		plan := s.Plan(facts)
		for _, e := range plan.Remove {
			for _, record := range e.Records {
				if !strings.Contains(string(text), record) {
					t.Errorf("it removes %q, which is not ours", record)
				}
			}
		}
	})
}
