package state_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"mxcert/acme/state"
)

// TestJournalOfSimilarNames: names hold dots, and one may begin with another.
func TestJournalOfSimilarNames(t *testing.T) {
	dir := open(t)
	names := []string{"mx", "mx.example", "mx.example.org", "mx.20260101T000000000Z-01234567", "m", "x.mx"}
	for i, name := range names {
		for j := range 2 {
			record := state.TXT{Domain: name, Name: "_acme-challenge." + name + ".", Zone: name + ".", Value: fmt.Sprint(i), Token: "t", KeyAuth: "k"}
			if _, err := dir.Lineage(name).Note(state.Entry{Provider: "rfc2136", Records: []state.TXT{record}, Created: time.Now().Add(time.Duration(j) * time.Second)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, name := range names {
		l := dir.Lineage(name)
		entries, err := l.Journal()
		if err != nil || len(entries) != 2 || !entries[0].Created.Before(entries[1].Created) {
			t.Fatalf("%s: %d entries, %v", name, len(entries), err)
		}
		want := []state.TXT{{Domain: name, Name: "_acme-challenge." + name + ".", Zone: name + ".", Value: fmt.Sprint(i), Token: "t", KeyAuth: "k"}}
		for _, e := range entries {
			if e.Lineage != name || e.Provider != "rfc2136" || !reflect.DeepEqual(e.Records, want) {
				t.Errorf("%s: %+v", name, e)
			}
		}
		if err := l.Forget(entries[0]); err != nil {
			t.Fatal(err)
		}
		if left, err := l.Journal(); err != nil || len(left) != 1 || left[0].Created != entries[1].Created {
			t.Errorf("%s: after forgetting the first: %v, %v", name, left, err)
		}
	}
}

func TestNoteIsForgotten(t *testing.T) {
	l := open(t).Lineage("mx")
	forget, err := l.Note(state.Entry{Provider: "exec", Records: []state.TXT{{Domain: "a", Name: "a.", Zone: "a.", Value: "v"}}, Created: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // forgetting twice is fine
		if err := forget(); err != nil {
			t.Error(err)
		}
	}
	if entries, err := l.Journal(); err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// TestDamagedJournalIsReported: what it said is lost, and records may be left behind in the DNS.
func TestDamagedJournalIsReported(t *testing.T) {
	for name, damage := range map[string]string{
		"half": `{"version": 1, "rec`, "no records": `{"version": 1, "lineage": "mx", "provider": "rfc2136"}`,
		"a record without a place": `{"version": 1, "lineage": "mx", "provider": "rfc2136", "records": [{"domain": "mx.example.org", "value": "v"}]}`,
	} {
		dir := open(t)
		l := dir.Lineage("mx")
		if _, err := l.Note(state.Entry{Provider: "rfc2136", Records: []state.TXT{{Domain: "a", Name: "a.", Zone: "a.", Value: "v"}}, Created: time.Now()}); err != nil {
			t.Fatal(err)
		}
		path := write(t, damage, dir.Path(), "journal", "mx.20260101T000000000Z-01234567.json")
		entries, err := l.Journal()
		if len(entries) != 1 || err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: %d entries, %v", name, len(entries), err)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s: the damaged file is still there", name)
		}
		if entries, err = l.Journal(); len(entries) != 1 || err != nil {
			t.Errorf("%s: then: %d entries, %v", name, len(entries), err)
		}
	}
	other := filepath.Join(open(t).Path(), "journal")
	if files, err := os.ReadDir(other); err != nil || len(files) != 0 {
		t.Errorf("%v, %v", files, err)
	}
}

func TestJournalLineages(t *testing.T) {
	dir := open(t)
	for _, name := range []string{"mx", "mx.example.org", "mx"} {
		if _, err := dir.Lineage(name).Note(state.Entry{Records: []state.TXT{{Domain: "a", Name: "a.", Zone: "a.", Value: "v"}}, Created: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	write(t, "half", dir.Path(), "journal", ".tmp-1")
	if names, err := dir.JournalLineages(); err != nil || !slices.Equal(names, []string{"mx", "mx.example.org"}) {
		t.Errorf("%q, %v", names, err)
	}
}
