package report_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/resolve"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/dane"
)

func record(digit string) string { return "3 1 1 " + strings.Repeat(digit, 64) }

func parsed(t *testing.T, text string) resolve.TLSA {
	t.Helper()
	r, err := resolve.ParseTLSA(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// sight has one owner with two servers. The second server lacks the next record, and both have one of somebody else.
func sight(t *testing.T) report.TLSASight {
	owner := dane.Owner{Host: "mx.example.org", Port: 25}
	answer := func(host string, records ...string) resolve.Authoritative[resolve.TLSA] {
		a := resolve.Authoritative[resolve.TLSA]{Server: resolve.Server{Host: host, Address: "192.0.2.1:53"}}
		for _, r := range records {
			a.Records = append(a.Records, parsed(t, r))
		}
		return a
	}
	served := resolve.Served[resolve.TLSA]{Answers: []resolve.Authoritative[resolve.TLSA]{
		answer("ns1.example.org", record("a"), record("b"), record("f")), answer("ns2.example.org", record("a"), record("f"), record("c"))}}
	served.Answers[0].Until = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	key := func(digit string) dane.KeyOf { return dane.KeyOf{Type: bundle.EC256, SPKI: strings.Repeat(digit, 64)} }
	until := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	return report.TLSASight{Mode: dane.Publish,
		State: &dane.State{Keys: map[bundle.KeyType]*dane.Roll{bundle.EC256: {Retired: []dane.Retired{{SPKI: key("c").SPKI}}}},
			Ours: []dane.Ours{{Owner: "tlsa.example.net.", Record: record("b")}}},
		Facts: dane.Facts{Owners: []dane.Owner{owner}, Places: []dane.Place{{Name: "tlsa.example.net."}}, Current: []dane.KeyOf{key("a")}, Next: []dane.KeyOf{key("b")},
			Views: []dane.View{{Owner: owner, Steps: []dane.Step{{Name: owner.Name() + "."}, {Name: "tlsa.example.net.", Served: served, Ignored: []bool{false, true}, Serials: []resolve.ServerState{{Serial: 7}}}}}}},
		Plan: dane.Plan{Phases: map[bundle.KeyType]dane.Phase{bundle.EC256: dane.Spreading}, Waits: map[bundle.KeyType]dane.Wait{bundle.EC256: {For: "ns2 lacks it", Until: until}},
			Show: []dane.Wanted{{Owner: owner, Record: record("a")}, {Owner: owner, Record: record("b")}}}}
}

func TestTLSA(t *testing.T) {
	t.Parallel()
	got := report.NewTLSA(sight(t))
	if got.Mode != "publish" || got.State != "spreading" || got.WaitingFor != "ns2 lacks it" || got.Until == nil || len(got.Ignored) != 1 {
		t.Errorf("%+v", got)
	}
	for i, want := range []struct {
		record, matches string
		ours            bool
		seen, missing   int
	}{
		{record("a"), "current ec256", false, 2, 0},
		{record("b"), "next ec256", true, 1, 1},
		{record("f"), "", false, 2, 0},
		{record("c"), "old ec256", false, 1, 0},
	} {
		r := got.Records[i]
		if r.Owner != "_25._tcp.mx.example.org" || r.Record != want.record || r.Matches != want.matches || r.Ours != want.ours || len(r.SeenBy) != want.seen || len(r.Missing) != want.missing {
			t.Errorf("%d: %+v", i, r)
		}
	}
	if a := got.Records[0].SeenBy; a[0].Serial != 7 || a[0].Fault != "" || a[1].Serial != 0 || a[1].Fault == "" {
		t.Errorf("servers: %+v", a)
	}
	if a := got.Records[0].SeenBy; a[0].SignedUntil == nil || !a[0].SignedUntil.Equal(*got.Until) || a[1].SignedUntil != nil {
		t.Errorf("signatures: %+v", a)
	}
	if k := got.Keys[0]; k.Current != strings.Repeat("a", 64) || k.Next != strings.Repeat("b", 64) {
		t.Errorf("keys: %+v", k)
	}
}

// Whatever is missing, a document has empty lists and not null.
func TestTLSAOfNothing(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(report.NewTLSA(report.TLSASight{Mode: dane.Check}))
	if want := `{"mode":"check","state":"","waiting_for":"","until":null,"records":[],"keys":[],"owners":[]}`; err != nil || string(text) != want {
		t.Errorf("%s, want %s", text, want)
	}
	s := sight(t)
	s.Old = func(spki string) (bundle.KeyType, bool) { return bundle.RSA2048, spki == strings.Repeat("d", 64) }
	if got := s.Matches(record("d")); got != "old rsa2048" {
		t.Errorf("a key of a stored certificate: %q", got)
	}
	for range 20 { // a next key that has become the current one, before it is dropped
		both := s
		both.Facts.Next = both.Facts.Current
		if got := both.Matches(record("a")); got != "current ec256" {
			t.Errorf("a key that is both: %q", got)
		}
	}
	s.State, s.Facts.Places, s.Facts.Views = nil, nil, nil
	if got := report.NewTLSA(s); len(got.Records) != 2 || got.Records[0].SeenBy == nil {
		t.Errorf("without a look: %+v", got)
	}
}

// lacks is an error of one key type that asks for records.
type lacks []string

func (lacks) Error() string       { return "senders do not know the key" }
func (l lacks) Records() []string { return l }

// The document of an error has the records of all key types that wait for one.
func TestRecordsOfJoinedErrors(t *testing.T) {
	t.Parallel()
	e := report.NewError(errors.Join(report.At("deploy", lacks{"a", "b"}), fmt.Errorf("rsa2048: %w", lacks{"b", "c"})))
	if !slices.Equal(e.Publish, []string{"a", "b", "c"}) {
		t.Errorf("%q", e.Publish)
	}
	if e := report.NewError(errors.New("something else")); e.Publish != nil {
		t.Errorf("%q", e.Publish)
	}
}
