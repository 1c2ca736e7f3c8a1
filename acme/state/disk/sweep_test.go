package disk_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
)

// TestSweepKnowsTheLiving: what a process is writing stays, whatever its age; what a killed one has left goes, and so do half
// removed folders. Files that have their name stay.
func TestSweepKnowsTheLiving(t *testing.T) {
	dir := open(t)
	ca, gen := makeDir(t, dir.Path(), "accounts", "ca.example_dir"), makeDir(t, dir.Path(), "lineages", "mx", "20260101T000000000Z-00000000")
	makeDir(t, dir.Path(), "lineages", "mx", "displaced")
	var left, held, kept []string
	var release []func()
	before := time.Now().Add(-2 * time.Hour)
	for _, folder := range []string{"", "orders", "journal", "accounts", ca[len(dir.Path()):], "lineages", "lineages/mx", "lineages/mx/displaced", gen[len(dir.Path()):]} {
		left = append(left, write(t, "key", dir.Path(), folder, ".tmp-1"), makeDir(t, dir.Path(), folder, ".tmp-2"))
		write(t, "key", makeDir(t, dir.Path(), folder, ".tmp-3"), "privkey.pem")
		left = append(left, filepath.Join(dir.Path(), folder, ".tmp-3"))
		path := write(t, "key", dir.Path(), folder, ".tmp-4")
		if err := os.Chtimes(path, before, before); err != nil {
			t.Fatal(err)
		}
		held, release = append(held, path), append(release, hold(t, path))
		kept = append(kept, write(t, "key", dir.Path(), folder, "mx.tmp-5.json"))
	}
	look := func(when string, there bool, paths ...string) {
		for _, path := range paths {
			if _, err := os.Lstat(path); (err == nil) != there {
				t.Errorf("%s: %s: %v", when, path, err)
			}
		}
	}
	if err := dir.Lineage("mx").Prune(state.Record{}, 3); err != nil {
		t.Fatal(err)
	}
	look("first", false, left...)
	look("first", true, append(held, kept...)...)
	for _, f := range release {
		f()
	}
	if err := dir.Lineage("mx").Prune(state.Record{}, 3); err != nil {
		t.Fatal(err)
	}
	look("then", false, held...)
	look("then", true, kept...)
}

// hold keeps a flock on a file, as the process that writes it does.
func hold(t *testing.T, path string) (release func()) {
	t.Helper()
	file, err := os.Open(path)
	if err == nil {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = file.Close() }
}

// TestSweepOfALock: a process that was killed when it had just given a lock's file its name leaves the other name, which
// goes although the lock is held.
func TestSweepOfALock(t *testing.T) {
	dir := open(t)
	unlock, err := dir.Lineage("mx").Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	left := filepath.Join(dir.Path(), "lineages", "mx", ".tmp-1")
	if err := os.Link(filepath.Join(dir.Path(), "lineages", "mx", "lock"), left); err != nil {
		t.Fatal(err)
	}
	if err := dir.Lineage("mx").Prune(state.Record{}, 3); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(left); err == nil {
		t.Error("it is still there")
	}
	once, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := dir.Lineage("mx").Lock(once); !errors.Is(err, state.ErrLocked) {
		t.Errorf("the lock is lost: %v", err)
	}
}

// TestSweepOfWhatItMayNotOpen: a file that this process may not open stays while it may be a living process's.
func TestSweepOfWhatItMayNotOpen(t *testing.T) {
	store, err := disk.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	young, old := filepath.Join(store.Path("orders"), ".tmp-1"), filepath.Join(store.Path("orders"), ".tmp-2")
	before := time.Now().Add(-2 * time.Hour)
	for _, path := range []string{young, old} {
		write(t, "key", path)
		if err := os.Chmod(path, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(old, before, before); err != nil {
		t.Fatal(err)
	}
	asOwner(t, store.Path(""), func() {
		if err := store.Sweep("orders"); err != nil {
			t.Error(err)
		}
	})
	if _, err := os.Lstat(young); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(old); err == nil {
		t.Error("the old one is still there")
	}
}

// TestSweepFollowsNoLink, and waits for no pipe: the owner of the directory may have put them there.
func TestSweepFollowsNoLink(t *testing.T) {
	store, err := disk.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	file, outside := write(t, "mine", t.TempDir(), "file"), t.TempDir()
	write(t, "mine", outside, "file")
	for name, err := range map[string]error{
		"a link": os.Symlink(file, store.Path("orders/.tmp-1")), "a link to a directory": os.Symlink(outside, store.Path("orders/.tmp-2")), "a pipe": syscall.Mkfifo(store.Path("orders/.tmp-3"), 0o600),
	} {
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if err := store.Sweep("orders"); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(store.Path("orders")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	for _, path := range []string{file, filepath.Join(outside, "file")} {
		if text, err := os.ReadFile(path); err != nil || string(text) != "mine" {
			t.Errorf("%s: %q, %v", path, text, err)
		}
	}
}

// TestSweepBesideOthers: a process whose half-made directory or file is swept away makes it again.
func TestSweepBesideOthers(t *testing.T) {
	dir := open(t)
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
		if err := errors.Join(lineage.SaveOrder(state.Order{KeyType: bundle.EC256}), dir.SaveAccount(state.Account{Directory: fmt.Sprint(i)})); err != nil {
			t.Error(err)
		}
		unlock()
	}
	close(done)
	sweeping.Wait()
}
