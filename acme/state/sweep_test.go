package state_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"mxcert/acme/state"
)

// TestSweepKnowsItsOwn: the half-written files of a lineage that is locked go at once, those of others stay; what is
// written under a lock goes unless somebody holds it.
func TestSweepKnowsItsOwn(t *testing.T) {
	dir := open(t)
	ca := makeDir(t, dir.Path(), "accounts", "ca.example_dir")
	gone := []string{
		write(t, "key", dir.Path(), "orders", ".tmp-mx.a.ec256.json~1"), write(t, "key", dir.Path(), "orders", ".tmp-mx.a.rsa2048.json~22"),
		write(t, "txt", dir.Path(), "journal", ".tmp-mx.a.20260101T000000000Z-00000000.json~3"),
	}
	kept := []string{
		write(t, "key", dir.Path(), "orders", ".tmp-mx.ec256.json~1"), write(t, "key", dir.Path(), "orders", ".tmp-mx.a.b.ec256.json~1"),
		write(t, "key", dir.Path(), "orders", ".tmp-a.ec256.json~1"), write(t, "key", dir.Path(), "orders", ".tmp-mx.a.json~1"), write(t, "key", dir.Path(), "orders", ".tmp-1"),
	}
	account, usage := write(t, "key", ca, ".tmp-account.json~1"), write(t, "note", ca, ".tmp-usage.json~1")
	unlock, err := dir.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kept, gone = append(kept, account), append(gone, usage)
	if err := dir.Lineage("mx.a").Prune(state.Record{}, 3); err != nil {
		t.Fatal(err)
	}
	for _, path := range gone {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is still there", filepath.Base(path))
		}
	}
	for _, path := range kept {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("%s is gone", filepath.Base(path))
		}
	}
	unlock()
	if err := dir.Lineage("mx.a").Prune(state.Record{}, 3); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(account); err == nil {
		t.Error("the account's is still there")
	}
}

// TestSweepTakesEmptyDirectories: a run that was killed while it made a directory leaves an empty one, which goes at once.
// Another process whose directory is taken away makes it again.
func TestSweepTakesEmptyDirectories(t *testing.T) {
	dir := open(t)
	left := []string{makeDir(t, dir.Path(), ".tmp-1"), makeDir(t, dir.Path(), "lineages", ".tmp-2"), makeDir(t, dir.Path(), "accounts", ".tmp-3")}
	if err := dir.Lineage("mx").Prune(state.Record{}, 3); err != nil {
		t.Fatal(err)
	}
	for _, path := range left {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is still there", path)
		}
	}
	done := make(chan struct{})
	var sweeping sync.WaitGroup
	sweeping.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				if err := dir.Lineage("mx").Prune(state.Record{}, 3); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for i := range 100 {
		lineage := dir.Lineage(fmt.Sprintf("host%d", i))
		unlock, err := lineage.Lock(t.Context())
		if err != nil {
			t.Error(err)
			break
		}
		unlock()
	}
	close(done)
	sweeping.Wait()
}
