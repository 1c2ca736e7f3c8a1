package resolve_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert-lab/nameserver"
)

// family is a resolver, the servers of the zone example, and those of its child many.example: ns1, ns2 and ns3 at
// 127.0.0.11 and on, each of which serves the child whoever names it.
type family struct {
	*fleet
	parent *nameserver.Server
}

func newFamily(t testing.TB, parent, child []string) *family {
	t.Helper()
	addresses := []string{"ns1 A 127.0.0.11", "ns2 A 127.0.0.12", "ns3 A 127.0.0.13"}
	w := world(t, map[string][]string{
		"example":      append(parent, "@ NS ns.nic", "ns.nic A 127.0.0.20"),
		"many.example": append(append(child, addresses...), `_acme-challenge.mx TXT "one"`),
		"elsewhere":    {"@ NS ns1.many.example.", "ns A 127.0.0.13"},
	})
	f := &family{fleet: &fleet{world: w}, parent: listen(t, w, "127.0.0.20:0", "example")}
	known := []string{f.parent.Address()}
	for _, host := range []string{"127.0.0.11:0", "127.0.0.12:0", "127.0.0.13:0"} {
		s := listen(t, w, host, "many.example")
		f.servers, known = append(f.servers, s), append(known, s.Address())
	}
	f.Resolver = resolve.New([]string{listen(t, w, "127.0.0.1:0").Address()}, known...)
	return f
}

// teller collects what is told of progress.
type teller struct {
	mu    sync.Mutex
	lines []string
}

func (l *teller) tell(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, text)
}

// has reports whether a line has all the words.
func (l *teller) has(words ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.lines, func(line string) bool {
		return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) })
	})
}

// TestParentAndChild: whoever is named by either side may be asked by a CA, and so has to serve the record.
func TestParentAndChild(t *testing.T) {
	t.Parallel()
	two := []string{"@ NS ns1", "@ NS ns2"}
	glued := func(hosts ...string) (records []string) {
		for _, host := range hosts {
			label, _, _ := strings.Cut(host, ".")
			records = append(records, "many NS "+host, label+".many A "+map[string]string{"ns1": "127.0.0.11", "ns2": "127.0.0.12", "ns3": "127.0.0.13"}[label])
		}
		return records
	}
	behind := nameserver.Faults{Lag: time.Hour}
	for _, tt := range []struct {
		what          string
		parent, child []string
		faults        []nameserver.Faults // of ns1, ns2, ns3
		parentFaults  nameserver.Faults
		require       resolve.Require
		says          []string // of the error; nil: none
		hint          string   // of the error
		tells         [][]string
		silent        []string // what is not told
	}{
		{what: "both agree", parent: glued("ns1.many", "ns2.many"), child: two, silent: []string{"ns3", "warning", "parent"}},
		{what: "the parent names one more", parent: glued("ns1.many", "ns2.many", "ns3.many"), child: two,
			tells: [][]string{{"warning", "ns3.many.example is named by the parent and not by the zone"}, {"ns3.many.example [127.0.0.13:", "only by the parent zone", "serves them"}}},
		{what: "the one more is stale", parent: glued("ns1.many", "ns2.many", "ns3.many"), child: two, faults: []nameserver.Faults{{}, {}, behind},
			says: []string{"ns3.many.example", "only by the parent zone", "it serves 1 of 2 values"}, hint: "delegation"},
		{what: "the one more is stale, quorum", parent: glued("ns1.many", "ns2.many", "ns3.many"), child: two, faults: []nameserver.Faults{{}, {}, behind}, require: resolve.Quorum},
		{what: "the one more is lame", parent: glued("ns1.many", "ns2.many", "ns3.many"), child: two, faults: []nameserver.Faults{{}, {}, {Lame: true}},
			says: []string{"ns3.many.example", "only by the parent zone", "REFUSED"}, hint: "delegation"},
		{what: "the one more is dead", parent: glued("ns1.many", "ns2.many", "ns3.many"), child: two, faults: []nameserver.Faults{{}, {}, {Dead: true}},
			says: []string{"ns3.many.example", "no answer"}, hint: "delegation"},
		{what: "the one more has no address", parent: append(glued("ns1.many", "ns2.many"), "many NS gone.elsewhere."), child: two,
			tells: [][]string{{"warning", "gone.elsewhere", "it cannot be asked"}}},
		{what: "the zone names one more", parent: glued("ns1.many", "ns2.many"), child: append(two, "@ NS ns3"),
			tells: [][]string{{"warning", "ns3.many.example is named by the zone and not by its parent"}, {"ns3.many.example [127.0.0.13:", "serves them"}}},
		{what: "the zone's own is behind", parent: glued("ns1.many", "ns2.many"), child: append(two, "@ NS ns3"), faults: []nameserver.Faults{{}, {}, behind},
			says: []string{"ns3.many.example"}, hint: "NOTIFY"},
		{what: "old glue", parent: []string{"many NS ns1.many", "ns1.many A 127.0.0.13"}, child: []string{"@ NS ns1"},
			tells: [][]string{{"warning", "ns1.many.example is at 127.0.0.13"}, {"[127.0.0.13:", "serves them"}}},
		{what: "old glue with old data", parent: []string{"many NS ns1.many", "ns1.many A 127.0.0.13"}, child: []string{"@ NS ns1"}, faults: []nameserver.Faults{{}, {}, behind},
			says: []string{"ns1.many.example [127.0.0.13:", "an address that only the parent zone has"}, hint: "delegation"},
		{what: "no delegation", child: two, tells: [][]string{{"warning", "example does not delegate many.example"}}},
		{what: "the parent is dead", parent: glued("ns1.many", "ns2.many"), child: two, parentFaults: nameserver.Faults{Dead: true}, tells: [][]string{{"parent zone of many.example cannot be asked"}}},
		{what: "the parent fails", parent: glued("ns1.many", "ns2.many"), child: two, parentFaults: nameserver.Faults{Rcode: dns.RcodeServerFailure}, tells: [][]string{{"parent zone of many.example cannot be asked", "SERVFAIL"}}},
		{what: "the parent truncates", parent: glued("ns1.many", "ns2.many", "ns3.many"), child: two, parentFaults: nameserver.Faults{Truncate: true}, tells: [][]string{{"ns3.many.example is named by the parent"}}},
		{what: "one answers without authority", parent: glued("ns1.many", "ns2.many"), child: two, faults: []nameserver.Faults{{}, {NoAA: true}},
			says: []string{"ns2.many.example", "lame"}, hint: "NOTIFY"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			f := newFamily(t, tt.parent, tt.child)
			for i, faults := range tt.faults {
				f.servers[i].SetFaults(faults)
			}
			f.parent.SetFaults(tt.parentFaults)
			if err := f.world.Add(challenge + ` 60 IN TXT "new"`); err != nil {
				t.Fatal(err)
			}
			timeout := 10 * time.Second
			if tt.says != nil {
				timeout = 700 * time.Millisecond
			}
			if tt.require == "" {
				tt.require = resolve.All
			}
			var told teller
			err := f.AwaitTXT(t.Context(), wanted("one", "new"), tt.require, timeout, told.tell)
			if tt.says == nil && err != nil {
				t.Error(err)
			}
			if tt.says != nil {
				e, ok := errors.AsType[*resolve.Error](err)
				if !ok || e.Kind() != "propagation" || !strings.Contains(e.Hint(), tt.hint) || strings.Count(e.Reason, "; ") != 0 {
					t.Fatalf("got %v", err)
				}
				for _, s := range tt.says {
					if !strings.Contains(err.Error(), s) {
						t.Errorf("%q does not say %q", err, s)
					}
				}
			}
			for _, words := range tt.tells {
				if !told.has(words...) {
					t.Errorf("%q is not told: %q", words, told.lines)
				}
			}
			for _, word := range tt.silent {
				if told.has(word) {
					t.Errorf("%q is told: %q", word, told.lines)
				}
			}
		})
	}
}

// TestServersWithoutIPv4 are asked like the others.
func TestServersWithoutIPv4(t *testing.T) {
	t.Parallel()
	w := world(t, map[string][]string{"six.example": {"@ NS ns1", "@ NS ns2", "ns1 A 127.0.0.11", "ns2 AAAA ::1", `_acme-challenge TXT "one"`}})
	four := listen(t, w, "127.0.0.11:0", "six.example")
	six, err := w.Listen("[::1]:0", "six.example")
	if err != nil {
		requireOrSkip(t, "this host has no ::1: "+err.Error())
	}
	t.Cleanup(func() { _ = six.Close() })
	r := resolve.New([]string{listen(t, w, "127.0.0.1:0").Address()}, four.Address(), six.Address())
	var told teller
	records := []resolve.TXT{{Name: "_acme-challenge.six.example.", Zone: "six.example.", Values: []string{"one"}}}
	if err := r.AwaitTXT(t.Context(), records, resolve.All, 10*time.Second, told.tell); err != nil || !told.has("ns2.six.example [[::1]:", "serves them") {
		t.Errorf("%v, told %q", err, told.lines)
	}
	six.SetFaults(nameserver.Faults{Rcode: dns.RcodeServerFailure})
	err = r.AwaitTXT(t.Context(), records, resolve.All, 500*time.Millisecond, nil)
	if err == nil || !strings.Contains(err.Error(), "[::1]") {
		t.Errorf("the server at ::1 fails: %v", err)
	}
}
