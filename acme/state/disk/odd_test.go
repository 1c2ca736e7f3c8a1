package disk_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
)

// oddities are what other programs, or whoever has taken over the service's user, may put in the place of a file.
func oddities(t *testing.T) map[string]func(path string) error {
	t.Helper()
	elsewhere := write(t, `{"version": 1}`, t.TempDir(), "elsewhere")
	link := func(to string) func(string) error { return func(path string) error { return os.Symlink(to, path) } }
	return map[string]func(path string) error{
		"a symbolic link": link(elsewhere), "a symbolic link to nothing": link("none"), "a symbolic link to a device": link("/dev/zero"),
		"a pipe": func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a socket": func(path string) error {
			fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			defer func() { _ = syscall.Close(fd) }()
			return syscall.Bind(fd, &syscall.SockaddrUnix{Name: path})
		},
		"a directory": func(path string) error { return os.MkdirAll(filepath.Join(path, "in", "it"), 0o700) },
	}
}

// inTime fails if work waits: a pipe without a writer lets a reader wait for ever.
func inTime(t *testing.T, what string, work func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); work() }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatalf("%s: it hangs", what)
	}
}

// shortDir is short enough for the name of a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// TestReadsAreBounded: whatever another program has put there, a read follows no link, waits for nobody and ends.
func TestReadsAreBounded(t *testing.T) {
	t.Parallel()
	kinds := oddities(t)
	kinds["a device"] = func(path string) error { return syscall.Mknod(path, syscall.S_IFCHR|0o600, 1<<8|5) } // that of /dev/zero
	kinds["larger than 1 MiB"] = func(path string) error { return os.WriteFile(path, make([]byte, 1<<20+1), 0o600) }
	kinds["as large as a disk"] = func(path string) error {
		return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<40))
	}
	for kind, make := range kinds {
		path := shortDir(t)
		if err := make(filepath.Join(path, "value")); err != nil {
			if kind == "a device" {
				continue // only root can make one
			}
			t.Fatal(err)
		}
		says, _, _ := strings.Cut(kind, " to ")
		if strings.HasPrefix(kind, "as large") {
			says = "larger than 1 MiB"
		}
		inTime(t, kind, func() {
			value, err := disk.At(path).Read("value")
			e, ok := errors.AsType[*state.Error](err)
			if !ok || e.Path != filepath.Join(path, "value") || !errors.Is(err, state.ErrDamaged) || !strings.Contains(err.Error(), "it is "+says) || e.Hint() == "" || len(value) > 0 {
				t.Errorf("%s: %d bytes, %v", kind, len(value), err)
			}
		})
	}
}

// TestFoldersAreBounded: nor does a look at a folder follow a link or wait for a pipe. The state directory itself may be a link.
func TestFoldersAreBounded(t *testing.T) {
	t.Parallel()
	full := makeDir(t, t.TempDir(), "full")
	for kind, make := range oddities(t) {
		path := shortDir(t)
		if kind == "a directory" {
			kind, make = "a link to a directory", func(path string) error { return os.Symlink(full, path) }
		}
		if err := make(filepath.Join(path, "folder")); err != nil {
			t.Fatal(err)
		}
		inTime(t, kind, func() {
			left := write(t, "", full, ".tmp-1")
			_, listErr := disk.At(path).List("folder")
			sweepErr := disk.At(path).Sweep("folder")
			if !errors.Is(listErr, syscall.ENOTDIR) || !errors.Is(sweepErr, syscall.ENOTDIR) {
				t.Errorf("%s: list: %v, sweep: %v", kind, listErr, sweepErr)
			}
			if _, err := os.Lstat(left); err != nil {
				t.Errorf("%s: swept behind it", kind)
			}
			if strings.HasPrefix(kind, "a symbolic link to ") || kind == "a link to a directory" {
				return
			}
			_, openErr := disk.Open(filepath.Join(path, "folder"))
			_, viewErr := disk.View(filepath.Join(path, "folder"))
			if openErr == nil || viewErr == nil {
				t.Errorf("%s is used as a state directory", kind)
			}
		})
	}
	linked := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(makeDir(t, t.TempDir(), "state"), linked); err != nil {
		t.Fatal(err)
	}
	store, err := disk.Open(linked)
	if err != nil {
		t.Fatal(err)
	}
	if names, err := store.List(""); err != nil || len(names) == 0 {
		t.Errorf("behind a link: %q, %v", names, err)
	}
}

// TestWhatIsNoLockIsSetAside: the place of a lock is no reason to stop working.
func TestWhatIsNoLockIsSetAside(t *testing.T) {
	t.Parallel()
	for kind, make := range oddities(t) {
		path := shortDir(t)
		lock := filepath.Join(path, "daemon.lock")
		if err := make(lock); err != nil {
			t.Fatal(err)
		}
		before, err := os.Lstat(lock)
		if err != nil {
			t.Fatal(err)
		}
		inTime(t, kind, func() {
			unlock, err := disk.At(path).Lock(t.Context(), "daemon.lock")
			if err != nil {
				t.Errorf("%s: %v", kind, err)
				return
			}
			defer unlock()
			if _, err := disk.At(path).Lock(ended(t), "daemon.lock"); !errors.Is(err, state.ErrLocked) {
				t.Errorf("%s: a second holder: %v", kind, err)
			}
		})
		if aside := expectAside(t, path, "daemon.lock"); !os.SameFile(aside, before) {
			t.Errorf("%s: another one was set aside", kind)
		}
		found, err := state.New(disk.At(path)).Inspect()
		if err != nil || !hasFinding(found, "state-set-aside", "daemon.lock.damaged-") {
			t.Errorf("%s: doctor finds %+v, %v", kind, found, err)
		}
	}
}

// TestLocksThatAreSetAsideExclude: processes that find the same oddity at once make one lock of it, not several.
func TestLocksThatAreSetAsideExclude(t *testing.T) {
	t.Parallel()
	for round := range 8 {
		path := makeDir(t, t.TempDir(), fmt.Sprint(round))
		makeDir(t, path, "lock", "in", "it")
		var holders sync.WaitGroup
		var inside sync.Mutex
		for range 8 {
			holders.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				unlock, err := disk.At(path).Lock(ctx, "lock")
				if err != nil {
					t.Error(err)
					return
				}
				defer unlock()
				if !inside.TryLock() {
					t.Error("two hold the lock")
					return
				}
				time.Sleep(time.Millisecond)
				inside.Unlock()
			})
		}
		holders.Wait()
		expectAside(t, path, "lock")
	}
}

// TestValuesReplaceWhatIsNone: a note that cannot be stored because something is in its place would be missing for good.
func TestValuesReplaceWhatIsNone(t *testing.T) {
	t.Parallel()
	for kind, make := range oddities(t) {
		path := shortDir(t)
		if err := make(filepath.Join(path, "daemon.json")); err != nil {
			t.Fatal(err)
		}
		store := disk.At(path)
		inTime(t, kind, func() {
			if err := store.Replace("daemon.json", []byte("{}")); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
		})
		if value, err := store.Read("daemon.json"); err != nil || string(value) != "{}" {
			t.Errorf("%s: %q, %v", kind, value, err)
		}
		if kind != "a directory" {
			continue // there is nothing in it that could be lost
		}
		expectAside(t, path, "daemon.json")
		if left, err := filepath.Glob(filepath.Join(path, "daemon.json.damaged-*", "in", "it")); err != nil || len(left) != 1 {
			t.Errorf("what was in the directory: %q, %v", left, err)
		}
	}
}

// expectAside returns what was set aside of a name: one thing.
func expectAside(t *testing.T, path, name string) os.FileInfo {
	t.Helper()
	aside, err := filepath.Glob(filepath.Join(path, name+".damaged-*"))
	if err != nil || len(aside) != 1 {
		t.Fatalf("set aside: %q, %v", aside, err)
	}
	info, err := os.Lstat(aside[0])
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func hasFinding(found []finding.Finding, id, subject string) bool {
	for _, f := range found {
		if f.ID == id && strings.Contains(f.Subject, subject) {
			return true
		}
	}
	return false
}

func ended(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
