package state_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/acme/state"
)

// What looks have found is kept; a damaged file, or none, is made again from the certificates.
func TestNamesAreKept(t *testing.T) {
	t.Parallel()
	book := open(t)
	l := book.Lineage("mx")
	change := func(change func(*state.Names) bool) {
		t.Helper()
		if err := l.ChangeNames(context.Background(), change); err != nil {
			t.Fatal(err)
		}
	}
	now := state.Instant{At: time.Now().UTC(), Boot: "a", Up: time.Hour}
	long := state.Look{Names: []state.SeenName{{Name: "mx2.example.org", Reason: "MX of example.org"}}}
	long.Findings = []finding.Finding{finding.New("x", finding.Error, "%s", strings.Repeat("x", 100_000))}
	change(func(n *state.Names) bool { n.Fold(long, now, time.Hour, false); return true })
	change(func(n *state.Names) bool { n.Seen = nil; return false }) // not stored
	if info, err := os.Stat(l.NamesFile()); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	names, repaired, err := l.Names()
	if err != nil || repaired != "" || len(names.Seen) != 1 || names.Seen[0].Name != "mx2.example.org" || len(names.Findings[0].Message) > 3000 {
		t.Errorf("%+v, %q, %v", names, repaired, err)
	}
	b := newBundle(t, bundle.EC256, 1)
	g, err := l.AddFound(b, []string{"mx.example.org", "mx2.example.org"}, map[string]string{"mx2.example.org": "MX of example.org"}, "https://ca.example", "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	record := state.Record{}
	record.Slot(b.KeyType()).Current = g.ID
	if err := l.Save(record); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "{", "[]", `{"version":0}`} {
		if text == "" {
			err = os.Remove(l.NamesFile())
		} else {
			err = os.WriteFile(l.NamesFile(), []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		names, repaired, err := l.Names()
		if want := "[{mx2.example.org MX of example.org true"; err != nil || !strings.HasPrefix(fmt.Sprint(names.Seen), want) || (repaired != "") != (text != "") {
			t.Errorf("%q: %+v, %q, %v", text, names, repaired, err)
		}
	}
	if found, err := book.Inspect(); err != nil || len(found) != 1 || !strings.Contains(found[0].Subject, l.NamesFile()) {
		t.Errorf("%+v, %v", found, err)
	}
	change(func(n *state.Names) bool { n.Fold(state.Look{}, now, time.Hour, false); return true }) // repairs it
	if found, err := book.Inspect(); err != nil || len(found) != 0 {
		t.Errorf("%+v, %v", found, err)
	}
	if err := os.WriteFile(l.NamesFile(), []byte(`{"version":99}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Names(); err == nil || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("a later version: %v", err)
	}
}
