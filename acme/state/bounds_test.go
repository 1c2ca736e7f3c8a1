package state_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// Another user than the one who reads may have written the state. A record of many values is damaged, before memory is used for them.
func TestRecordsOfManyValues(t *testing.T) {
	t.Parallel()
	for what, text := range map[string]string{
		"objects": `{"version": 1, "events": [` + strings.Repeat("{},", 300_000) + `{}]}`,
		"lists":   `{"version": 1, "x": [` + strings.Repeat("[],", 300_000) + `[]]}`,
		"depth":   `{"version": 1, "x": ` + strings.Repeat("[", 500_000) + strings.Repeat("]", 500_000) + `}`,
	} {
		dir := open(t)
		if err := dir.Lineage("mx").Save(state.Record{}); err != nil {
			t.Fatal(err)
		}
		write(t, text, dir.Path(), "lineages", "mx", "record.json")
		write(t, text, dir.Path(), "daemon.json")
		if _, repaired, err := dir.Lineage("mx").Look(); err != nil || repaired == "" {
			t.Errorf("%s: %q, %v", what, repaired, err)
		}
		var anything struct{ Events []struct{} }
		if err := dir.Daemon(&anything); !errors.Is(err, state.ErrDamaged) || len(anything.Events) > 0 {
			t.Errorf("%s: %v, %d events", what, err, len(anything.Events))
		}
	}
}

// Nor does a folder with any number of entries keep a reader for any time: hard links cost nothing.
func TestFoldersOfManyEntries(t *testing.T) {
	t.Parallel()
	dir := open(t)
	l := dir.Lineage("mx")
	newest := add(t, l, newBundle(t, bundle.EC256, 1), 1)
	entry := write(t, strings.Repeat("x", 1000), dir.Path(), "journal", "mx.20260101T000000000Z-ffffffff.json")
	for i := range 300 {
		made := filepath.Join(dir.Path(), "lineages", "mx", fmt.Sprintf("20200101T000000000Z-%08x", i))
		if err := errors.Join(os.Mkdir(made, 0o700), os.Link(filepath.Join(l.Directory(newest.ID), "meta.json"), filepath.Join(made, "meta.json")),
			os.Link(filepath.Join(l.Directory(newest.ID), "fullchain.pem"), filepath.Join(made, "fullchain.pem")),
			os.Link(filepath.Join(l.Directory(newest.ID), "privkey.pem"), filepath.Join(made, "privkey.pem")),
			os.Link(entry, filepath.Join(dir.Path(), "journal", fmt.Sprintf("mx.20260101T000000000Z-%08x.json", i)))); err != nil {
			t.Fatal(err)
		}
	}
	generations, err := l.Generations()
	if err != nil || len(generations) != 100 || generations[99].ID != newest.ID {
		t.Errorf("%d generations, the last of them %+v, %v", len(generations), generations[len(generations)-1], err)
	}
	if err := l.Prune(state.Record{}, 3); err != nil {
		t.Error(err)
	}
	for left := 201; left > 0; left -= 100 {
		if entries, err := l.Journal(); len(entries) > 0 || err == nil {
			t.Errorf("%d entries, %v", len(entries), err)
		}
		if names, err := os.ReadDir(filepath.Join(dir.Path(), "journal")); err != nil || len(names) != left {
			t.Errorf("%d files are left, want %d, %v", len(names), left, err)
		}
	}
}
