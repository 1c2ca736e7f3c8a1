package dane

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/resolve"
)

// answer is what one server of the tests says.
func answer(n int, ttl time.Duration, records ...string) resolve.Authoritative[resolve.TLSA] {
	a := resolve.Authoritative[resolve.TLSA]{TTL: ttl, Signature: resolve.Signed,
		Server: resolve.Server{Host: fmt.Sprintf("ns%d.example.org", n), Address: fmt.Sprintf("192.0.2.%d:53", n)}}
	for _, text := range records {
		a.Records = append(a.Records, must(resolve.ParseTLSA(text)))
	}
	return a
}

// view is a look at servers of a signed zone.
func view(d time.Duration, answers ...resolve.Authoritative[resolve.TLSA]) View {
	v := View{Owner: mx, At: moment(d), Steps: []Step{{Name: mx.Name() + ".", Ignored: make([]bool, len(answers))}}}
	v.Recursive.State, v.Recursive.Validator = resolve.Secure, "127.0.0.1:53"
	served := &v.Steps[0].Served
	served.Zone, served.Keys.State, served.Answers = "example.org.", resolve.Secure, answers
	for _, a := range answers {
		served.Servers = append(served.Servers, a.Server)
	}
	return v
}

// TestNoteOfLooks folds looks as they are made, and not only what they tell the memory.
func TestNoteOfLooks(t *testing.T) {
	t.Parallel()
	a, b := Record(spki("a")).String(), Record(spki("b")).String()
	silent := answer(2, 0)
	silent.Fault, silent.Silent = "no answer came", true
	insecure := func(v View) View {
		v.Recursive.State, v.Steps[0].Served.Keys.State = resolve.Insecure, resolve.Insecure
		return v
	}
	unvalidated := func(v View) View {
		v = insecure(v)
		v.Recursive.Validator = ""
		return v
	}
	contradicts := view(0, answer(1, hour, a))
	contradicts.Recursive.State, contradicts.Recursive.Records = resolve.Insecure, contradicts.Steps[0].Served.Answers[0].Records
	ignored := view(0, answer(1, hour, a), silent)
	ignored.Steps[0].Ignored[1] = true
	old := view(0, answer(1, hour, a), answer(2, hour, b))
	old.Steps[0].Ignored[1] = true
	failed := View{Owner: mx, At: moment(0), Err: errors.New("SERVFAIL")}
	cached := view(0, answer(1, hour, a))
	cached.Recursive.Records, cached.Recursive.TTL = []resolve.TLSA{Record(spki("z"))}, time.Minute
	known := cached
	known.Recursive.Records = []resolve.TLSA{Record(spki("a"))}
	alias := answer(1, 5*hour)
	alias.Alias = "tlsa.example.net"
	aliased := view(0, alias)
	target := view(0, answer(3, hour, a)).Steps[0]
	target.Name = "tlsa.example.net."
	aliased.Steps = append(aliased.Steps, target)
	for name, test := range map[string]struct {
		look              View
		held, by, fault   string
		final             string
		withoutValidators bool
	}{
		"one set":                               {view(0, answer(1, hour, a), answer(2, hour, a)), "a/1h!", "ns1.example.org [192.0.2.1:53] and ns2.example.org [192.0.2.2:53]", "", "_25._tcp.mx.example.org.", false},
		"none":                                  {view(0, answer(1, hour)), "", "", "", "_25._tcp.mx.example.org.", false},
		"one server is silent":                  {view(0, answer(1, hour, a), silent), "a/1h!", "ns1.example.org [192.0.2.1:53]", "ns2.example.org [192.0.2.2:53]: no answer came", "_25._tcp.mx.example.org.", false},
		"the silent server is ignored":          {ignored, "a/1h!", "ns1.example.org [192.0.2.1:53]", "", "_25._tcp.mx.example.org.", false},
		"an ignored server still gives another": {old, "a/1h! b/1h!", "ns1.example.org [192.0.2.1:53]", "", "_25._tcp.mx.example.org.", false},
		"insecure":                              {insecure(view(0, answer(1, hour, a))), "", "", "", "", false},
		"insecure, and a server is silent":      {insecure(view(0, answer(1, hour, a), silent)), "", "", "", "", false},
		"nobody validates":                      {unvalidated(view(0, answer(1, hour, a))), "a/1h!", "ns1.example.org [192.0.2.1:53]", "", "_25._tcp.mx.example.org.", false},
		"validators contradict themselves":      {contradicts, "a/1h!", "ns1.example.org [192.0.2.1:53]", "127.0.0.1:53 vouches for the keys of the zone, and not for the records", "_25._tcp.mx.example.org.", false},
		"the look failed":                       {failed, "", "", "SERVFAIL", "", false},
		"a resolver has another set":            {cached, "a/1h! z/1m", "ns1.example.org [192.0.2.1:53]", "", "_25._tcp.mx.example.org.", false},
		"a resolver has the set":                {known, "a/1h!", "ns1.example.org [192.0.2.1:53]", "", "_25._tcp.mx.example.org.", false},
		"behind an alias with a longer TTL":     {aliased, "a/5h!", "ns3.example.org [192.0.2.3:53]", "", "tlsa.example.net.", false},
	} {
		t.Run(name, func(t *testing.T) {
			m := Memory{}
			m.Note(test.look, brief)
			h, by := m[mx.Name()], ""
			if held := m.Held(mx, brief); len(held) > 0 {
				by = listed(held[0].By)
			}
			if holds(m, brief) != test.held || by != test.by || h.Fault != test.fault || h.Final != test.final || !h.First.IsZero() != (test.fault == "" && test.final != "") {
				t.Errorf("%q by %q, fault %q, at %q, first %v; want %q by %q, fault %q, at %q", holds(m, brief), by, h.Fault, h.Final, h.First.At, test.held, test.by, test.fault, test.final)
			}
		})
	}
}

// FuzzMemory reads any memory, folds looks at any records into it, and asks it everything: nothing panics, nothing grows without a limit, and a set
// that a server gives is always among those that senders may hold.
func FuzzMemory(f *testing.F) {
	m := looked(dayish, set(hour, "a"), set(day, "b"))
	m[mx.Name()].Crowded = &Cached{Set: Set{TTL: hour}}
	seed := must(json.Marshal(m))
	f.Add(seed, Record(spki("a")).String(), Record(spki("c")).String(), int64(hour), int64(2*hour))
	f.Add([]byte(`{"_25._tcp.mx.example.org":null,"x":{"known":null,"crowded":{}}}`), "3 1 1 00", "2 0 0 30", int64(-1), int64(1)<<62)
	f.Add([]byte(`{"_25._tcp.mx.example.org":{"known":[{"records":["3 1 1","x",""],"ttl":-9223372036854775808,"gone":9223372036854775807}]}}`), "1 1 1 ff", "255 255 255 00", int64(0), int64(0))
	chain, other := world().chain("a", world().first, far()), world().chain("b", world().other, far())
	f.Fuzz(func(t *testing.T, stored []byte, one, two string, ttl, later int64) {
		var m Memory
		if json.Unmarshal(stored, &m) != nil || m == nil {
			m = Memory{}
		}
		for _, s := range []Settings{brief, dayish} {
			for i, text := range []string{one, two, one} {
				r, err := resolve.ParseTLSA(text)
				if err != nil {
					continue
				}
				m.Note(view(time.Duration(i)*time.Duration(later%int64(100*day)), answer(1, time.Duration(ttl), r.String())), s)
				if given := m.Held(mx, s); !slices.ContainsFunc(given, func(c Cached) bool { return c.Given && slices.Contains(c.Records, r.String()) }) {
					t.Fatalf("%s is given, and not among %+v", r, given)
				}
				if h := m[mx.Name()]; len(h.Known) > mostSets {
					t.Fatalf("%d sets", len(h.Known))
				}
			}
			m.Keep([]Owner{mx}, s)
			m.Ready(mx, spki("a"), s, moment(hour))
			if r := m.Gate([]Change{change(chain, chain)}, s, moment(hour)); r != nil && !r.Unknown && r.Reason == "" {
				t.Errorf("%+v", r)
			}
			if r := m.Gate([]Change{change(chain, other)}, s, moment(hour)); r != nil && (r.Error() == "" || strings.Contains(r.Hint(), "\n")) {
				t.Errorf("%+v", r)
			}
		}
	})
}
