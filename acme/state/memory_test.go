package state_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/storetest"
)

// memory is a store without files. It shows that the logic needs nothing but the contract, and that the contract needs no
// directory.
type memory struct {
	mutex  sync.Mutex
	values map[string][]byte
	locks  map[string]int // -1: locked; otherwise how many share it
}

func newMemory() *memory { return &memory{values: map[string][]byte{}, locks: map[string]int{}} }

// TestMemory: the contract.
func TestMemory(t *testing.T) {
	storetest.Run(t, func(*testing.T) func() state.Store {
		m := newMemory()
		return func() state.Store { return m }
	})
}

// TestStoreWithoutFiles: a lineage lives in such a store as in any other.
func TestStoreWithoutFiles(t *testing.T) {
	book := state.New(newMemory())
	l := book.Lineage("mx")
	unlock, err := l.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	first, second := newBundle(t, bundle.EC256, 1), newBundle(t, bundle.EC256, 2)
	old, next := add(t, l, first, 1), add(t, l, second, 2)
	var record state.Record
	record.Slot(bundle.EC256).Current = next.ID
	_, noteErr := l.Note(state.Entry{Records: []state.TXT{{Domain: "a", Name: "a.", Zone: "a.", Value: "v"}}, Created: time.Now()})
	_, displaceErr := l.Displace("/etc/exim.key", []byte("key"), time.Now())
	err = errors.Join(l.Save(record), l.SaveOrder(state.Order{KeyType: bundle.EC256}), book.SaveAccount(state.Account{Directory: "https://ca.example/dir"}), noteErr, displaceErr, l.Prune(record, 1))
	if err != nil {
		t.Fatal(err)
	}
	if got := ids(t, l); !slices.Equal(got, []string{next.ID}) {
		t.Errorf("generations: %q, want %s without %s", got, next.ID, old.ID)
	}
	if b, err := l.Bundle(next.ID); err != nil || !b.Same(second) {
		t.Errorf("bundle: %v", err)
	}
	if read, repaired, err := l.Load(); err != nil || repaired != "" || read.Slot(bundle.EC256).Current != next.ID {
		t.Errorf("%+v, %q, %v", read, repaired, err)
	}
	if accounts, err := book.Accounts(); err != nil || len(accounts) != 1 {
		t.Errorf("%+v, %v", accounts, err)
	}
	if names, err := book.JournalLineages(); err != nil || !slices.Equal(names, []string{"mx"}) {
		t.Errorf("%q, %v", names, err)
	}
	if l.Directory(next.ID) != "" || book.Path() != "" {
		t.Error("a store without files has a path")
	}
	if found, err := book.Inspect(); err != nil || len(found) > 0 {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err := l.Generation("none"); err == nil || err.Error() != "read lineages/mx/none/meta.json: file does not exist" {
		t.Error(err)
	}
}

func (m *memory) do(op, key string, valid bool, work func() error) error {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	err := fs.ErrInvalid
	if valid {
		err = work()
	}
	if err != nil {
		return &state.Error{Op: op, Path: key, Err: err}
	}
	return nil
}

func valid(key string) bool {
	return fs.ValidPath(key) && key != "." && !strings.ContainsRune(key, 0) && !strings.Contains("/"+key, "/.tmp-")
}

func (m *memory) Read(key string) (value []byte, err error) {
	err = m.do("read", key, valid(key), func() error {
		v, ok := m.values[key]
		if !ok {
			return fs.ErrNotExist
		}
		if len(v) > 1<<20 {
			return fmt.Errorf("%w: it is larger than 1 MiB", state.ErrDamaged)
		}
		value = bytes.Clone(v)
		return nil
	})
	return value, err
}

func (m *memory) Replace(key string, value []byte) error {
	return m.do("write", key, valid(key), func() error {
		m.values[key] = append([]byte{}, value...)
		return nil
	})
}

func (m *memory) Remove(key string) error {
	return m.do("remove", key, valid(key), func() error {
		maps.DeleteFunc(m.values, func(k string, _ []byte) bool { return k == key || strings.HasPrefix(k, key+"/") })
		return nil
	})
}

func (m *memory) List(folder string) (names []string, err error) {
	err = m.do("list", folder, folder == "" || valid(folder), func() error {
		seen := map[string]string{}
		for key := range m.values {
			if rest, below := strings.CutPrefix("/"+key, strings.TrimSuffix("/"+folder, "/")+"/"); below {
				name, _, isFolder := strings.Cut(rest, "/")
				if seen[name] = name; isFolder {
					seen[name] = name + "/"
				}
			}
		}
		for _, name := range slices.Sorted(maps.Keys(seen)) {
			names = append(names, seen[name])
		}
		return nil
	})
	return names, err
}

func (m *memory) Rename(from, to string) error {
	return m.do("rename", from, valid(from) && valid(to), func() error {
		moved := map[string][]byte{}
		folder := false
		for key, value := range m.values {
			if rest, below := strings.CutPrefix(key, from+"/"); below {
				moved[to+"/"+rest], folder = value, true
			} else if key == from {
				moved[to] = value
			}
		}
		if len(moved) == 0 {
			return fs.ErrNotExist
		}
		for key := range m.values {
			if folder && strings.HasPrefix(key, to+"/") {
				return fs.ErrExist
			}
		}
		maps.DeleteFunc(m.values, func(k string, _ []byte) bool { return k == from || strings.HasPrefix(k, from+"/") })
		maps.Copy(m.values, moved)
		return nil
	})
}

func (m *memory) Lock(ctx context.Context, key string) (func(), error) {
	return m.hold(ctx, key, func(held int) (int, bool) { return -1, held == 0 })
}

func (m *memory) Share(ctx context.Context, key string) (func(), error) {
	return m.hold(ctx, key, func(held int) (int, bool) { return held + 1, held >= 0 })
}

func (m *memory) hold(ctx context.Context, key string, take func(held int) (now int, ok bool)) (func(), error) {
	got := false
	for {
		err := m.do("lock", key, valid(key), func() error {
			if now, ok := take(m.locks[key]); ok {
				m.locks[key], got = now, true
			} else if ctx.Err() != nil {
				return fmt.Errorf("%w (%w)", state.ErrLocked, ctx.Err())
			}
			return nil
		})
		if err != nil || got {
			return sync.OnceFunc(func() { m.release(key) }), err
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Millisecond):
		}
	}
}

func (m *memory) release(key string) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.locks[key] = max(m.locks[key]-1, 0)
}

func (m *memory) Path(string) string { return "" }

// TestLogicKnowsNoFiles: nothing in this package can reach past the contract.
func TestLogicKnowsNoFiles(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{join .Imports \" \"}}", "mxcert/acme/state").Output()
	imports := strings.Fields(string(out))
	if err != nil || !slices.Contains(imports, "path") {
		t.Fatalf("%q, %v", imports, err)
	}
	for _, files := range []string{"os", "path/filepath", "io/ioutil", "golang.org/x/sys/unix"} {
		if slices.Contains(imports, files) {
			t.Errorf("the logic imports %s", files)
		}
	}
}
