// Package storetest tests that a store keeps what [state.Store] promises. Each store runs it in its own tests:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) func() state.Store {
//			path := filepath.Join(t.TempDir(), "state")
//			return func() state.Store { return disk.At(path) }
//		})
//	}
//
// It does not test what only a killed process or a power cut can show: packaging/crash does that for the store in a directory.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mxcert/acme/state"
)

// Make prepares a new, empty store for one test, and returns the function that opens it: each call as another process would.
type Make func(t *testing.T) (open func() state.Store)

// Run tests a store.
func Run(t *testing.T, prepare Make) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, open func() state.Store)
	}{
		{"Values", testValues}, {"TooLarge", testTooLarge}, {"Missing", testMissing}, {"InvalidKeys", testInvalidKeys}, {"OddKeys", testOddKeys}, {"List", testList},
		{"RenameValue", testRenameValue}, {"RenameFolder", testRenameFolder}, {"RemoveFolder", testRemoveFolder}, {"Errors", testErrors},
		{"ReplaceIsAtomic", testReplaceIsAtomic}, {"FolderAppearsWhole", testFolderAppearsWhole}, {"FolderDisappearsAtOnce", testFolderDisappears},
		{"LockExcludes", testLockExcludes}, {"LockIsHandedOn", testLockIsHandedOn}, {"ShareAdmitsReaders", testShare}, {"LocksAreApart", testLocksAreApart},
		{"SweepDisturbsNobody", testSweep}, {"Path", testPath},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, prepare(t)) })
	}
}

// replace, must and expect keep the tests below short.
func replace(t *testing.T, s state.Store, key, value string) {
	t.Helper()
	must(t, s.Replace(key, []byte(value)))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, s state.Store, key, want string) {
	t.Helper()
	if got, err := s.Read(key); err != nil || string(got) != want {
		t.Errorf("%q has the value %.80q (%v), want %.80q", key, got, err, want)
	}
}

func expectMissing(t *testing.T, s state.Store, key string) {
	t.Helper()
	if got, err := s.Read(key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%q has the value %.80q (%v), want none", key, got, err)
	}
}

func expectList(t *testing.T, s state.Store, folder string, want ...string) {
	t.Helper()
	got, err := s.List(folder)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("below %q are %q (%v), want %q", folder, got, err, want)
	}
}

// testValues: any bytes come back, in every process, and no slice is shared.
func testValues(t *testing.T, open func() state.Store) {
	here, there := open(), open()
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for name, value := range map[string][]byte{"text": []byte("one\n"), "empty": {}, "nil": nil, "zeros": make([]byte, 5000), "not UTF-8": {0xff, 0xfe, '\r', '\n'}, "1 MiB": large} {
		key := "values/" + name
		must(t, here.Replace(key, value))
		expect(t, there, key, string(value))
		replace(t, there, key, "another")
		expect(t, here, key, "another")
	}
	value := []byte("first")
	must(t, here.Replace("shared", value))
	value[0] = 'F'
	expect(t, here, "shared", "first")
	got, err := here.Read("shared")
	must(t, err)
	got[0] = 'X'
	expect(t, here, "shared", "first")
	if got = append(got, "more"...); len(got) != 9 {
		t.Error("a value cannot be appended to")
	}
	expect(t, there, "shared", "first")
}

// testTooLarge: no process reads more than 1 MiB, whoever stored it.
func testTooLarge(t *testing.T, open func() state.Store) {
	s := open()
	replace(t, s, "large", "before")
	if err := s.Replace("large", make([]byte, 1<<20+1)); err != nil {
		expect(t, s, "large", "before")
		return
	}
	if value, err := open().Read("large"); !errors.Is(err, state.ErrDamaged) || len(value) > 0 || !strings.Contains(err.Error(), "1 MiB") {
		t.Errorf("read %d bytes: %v", len(value), err)
	}
	must(t, s.Rename("large", "aside"))
	replace(t, s, "large", "again")
	expect(t, s, "large", "again")
	must(t, s.Remove("aside"))
	expectMissing(t, s, "aside")
}

// testMissing: a missing key is fs.ErrNotExist if that matters, and otherwise no error.
func testMissing(t *testing.T, open func() state.Store) {
	s := open()
	expectMissing(t, s, "none")
	expectMissing(t, s, "no/such/folder")
	must(t, s.Remove("none"))
	must(t, s.Remove("no/such/folder"))
	expectList(t, s, "no/such/folder")
	if err := s.Rename("none", "other"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("rename of nothing: %v", err)
	}
	replace(t, s, "there", "value")
	if err := s.Rename("none", "there"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("rename of nothing: %v", err)
	}
	expect(t, s, "there", "value")
	must(t, s.Remove("there"))
	expectMissing(t, s, "there")
	must(t, s.Remove("there"))
}

// testInvalidKeys: no key leads out of the store.
func testInvalidKeys(t *testing.T, open func() state.Store) {
	s := open()
	replace(t, s, "a/b", "value")
	for _, key := range []string{"", ".", "..", "/", "/a", "a/", "a//b", "./a", "a/.", "../a", "a/..", "a/../a/b", "a/\x00", "a\xff", ".tmp-a", "a/.tmp-b", "a/.tmp-/b"} {
		_, readErr := s.Read(key)
		_, lockErr := s.Lock(t.Context(), key)
		_, shareErr := s.Share(t.Context(), key)
		for what, err := range map[string]error{
			"read": readErr, "lock": lockErr, "share": shareErr, "replace": s.Replace(key, nil), "remove": s.Remove(key), "rename from": s.Rename(key, "c"), "rename to": s.Rename("a/b", key),
		} {
			if !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("%s %q: %v", what, key, err)
			}
		}
		if _, err := s.List(key); key != "" && !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("list %q: %v", key, err)
		}
	}
	expect(t, s, "a/b", "value")
	expectList(t, s, "a", "b")
}

// testOddKeys: all other names are only names.
func testOddKeys(t *testing.T, open func() state.Store) {
	s := open()
	names := []string{"a", "A", " ", "-rf", "...", ".hidden", ".new-x", "a b", "a*", "a?", "[a]", `a\b`, "a\nb", "~", "ä", "日本", "a:b", "%2F", "a~1", strings.Repeat("x", 255), "lock.json"}
	for _, name := range names {
		replace(t, s, "odd/"+name, name)
		replace(t, s, "folders/"+name+"/"+name, name)
	}
	for _, name := range names {
		expect(t, s, "odd/"+name, name)
		expect(t, s, "folders/"+name+"/"+name, name)
	}
	slices.Sort(names)
	expectList(t, s, "odd", names...)
	for _, name := range names {
		must(t, s.Remove("odd/"+name))
		must(t, s.Remove("folders/"+name))
	}
	expectList(t, s, "odd")
	deep := strings.Repeat("d/", 60) + "value"
	replace(t, s, deep, "deep")
	expect(t, s, deep, "deep")
}

// testList: the names directly below a folder, in order; similar folders are others.
func testList(t *testing.T, open func() state.Store) {
	s := open()
	for _, key := range []string{"l/b", "l/a", "l/c/x", "l/c/y", "l/c/d/z", "l/ab", "la", "l.x/y", "top"} {
		replace(t, s, key, key)
	}
	expectList(t, s, "l", "a", "ab", "b", "c/")
	expectList(t, s, "l/c", "d/", "x", "y")
	expectList(t, s, "l/c/d", "z")
	top, err := s.List("")
	must(t, err)
	for _, name := range []string{"l/", "la", "l.x/", "top"} {
		if !slices.Contains(top, name) {
			t.Errorf("the top holds %q, not %q", top, name)
		}
	}
	must(t, s.Remove("l/b"))
	replace(t, s, "l/a", "again")
	expectList(t, s, "l", "a", "ab", "c/")
}

func testRenameValue(t *testing.T, open func() state.Store) {
	s := open()
	replace(t, s, "r/old", "moved")
	replace(t, s, "r/new", "replaced")
	must(t, s.Rename("r/old", "r/new"))
	expect(t, s, "r/new", "moved")
	expectMissing(t, s, "r/old")
	must(t, s.Rename("r/new", "another/folder/name"))
	expect(t, s, "another/folder/name", "moved")
	must(t, s.Rename("another/folder/name", "another/folder/name"))
	expect(t, s, "another/folder/name", "moved")
}

func testRenameFolder(t *testing.T, open func() state.Store) {
	s := open()
	replace(t, s, "r/.new-1/a", "a")
	replace(t, s, "r/.new-1/in/b", "b")
	replace(t, s, "r/.new-10", "not below")
	must(t, s.Rename("r/.new-1", "r/1"))
	expect(t, s, "r/1/a", "a")
	expect(t, s, "r/1/in/b", "b")
	expectMissing(t, s, "r/.new-1/a")
	expectList(t, s, "r", ".new-10", "1/")
	replace(t, s, "r/.new-2/a", "other")
	if err := s.Rename("r/.new-2", "r/1"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("onto a folder with keys: %v", err)
	}
	expect(t, s, "r/1/a", "a")
	expect(t, s, "r/.new-2/a", "other")
	must(t, s.Rename("r/1", "elsewhere/far/1"))
	expect(t, s, "elsewhere/far/1/in/b", "b")
}

func testRemoveFolder(t *testing.T, open func() state.Store) {
	s := open()
	for _, key := range []string{"r/g/a", "r/g/in/b", "r/g2", "r/gg/a"} {
		replace(t, s, key, key)
	}
	must(t, s.Remove("r/g"))
	expectMissing(t, s, "r/g/a")
	expectMissing(t, s, "r/g/in/b")
	expectList(t, s, "r/g")
	expectList(t, s, "r", "g2", "gg/")
	replace(t, s, "r/g/a", "again")
	expectList(t, s, "r/g", "a")
}

// testErrors: an error names the operation and the place.
func testErrors(t *testing.T, open func() state.Store) {
	s := open()
	_, err := s.Read("a/none")
	e, ok := errors.AsType[*state.Error](err)
	if !ok || e.Op == "" || !strings.HasSuffix(e.Path, "a/none") || e.Hint() == "" || e.Stage() == "" {
		t.Errorf("%#v", err)
	}
	unlock, err := s.Lock(t.Context(), "a/lock")
	must(t, err)
	defer unlock()
	_, err = s.Lock(ended(t), "a/lock")
	if e, ok = errors.AsType[*state.Error](err); !ok || !strings.HasSuffix(e.Path, "a/lock") || e.Kind() != "locked" || e.Stage() != "lock" || !e.Temporary() {
		t.Errorf("%#v", err)
	}
}

// testReplaceIsAtomic: readers see whole values, never older ones than before, and after the last writer the last value.
func testReplaceIsAtomic(t *testing.T, open func() state.Store) {
	const rounds = 60
	value := func(i int) []byte { return bytes.Repeat(fmt.Appendf(nil, "%08d", i), 3000+i) }
	s := open()
	must(t, s.Replace("atomic/value", value(0)))
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			reader, last := open(), 0
			for {
				got, err := reader.Read("atomic/value")
				var now int
				if len(got) >= 8 {
					_, _ = fmt.Sscanf(string(got[:8]), "%d", &now)
				}
				if err != nil || !bytes.Equal(got, value(now)) || now < last {
					t.Errorf("after %d a reader sees %d bytes, %d (%v)", last, len(got), now, err)
					return
				}
				last = now
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := 1; i <= rounds; i++ {
		if err := s.Replace("atomic/value", value(i)); err != nil {
			t.Error(err)
			break
		}
	}
	close(done)
	readers.Wait()
	expect(t, open(), "atomic/value", string(value(rounds)))
	testWriters(t, open)
}

// testWriters: one of several writers wins, completely, and all of them may make new folders at once.
func testWriters(t *testing.T, open func() state.Store) {
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			writer := open()
			for round := range 8 {
				shared := fmt.Sprintf("race/%d/value", round)
				if err := errors.Join(writer.Replace(shared, bytes.Repeat([]byte{byte('a' + i)}, 2000)), writer.Replace(fmt.Sprintf("race/%d/own/%d", round, i), nil)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	s := open()
	for round := range 8 {
		got, err := s.Read(fmt.Sprintf("race/%d/value", round))
		if err != nil || len(got) != 2000 || strings.Trim(string(got), string(got[:1])) != "" {
			t.Errorf("a mixture of %d bytes: %v", len(got), err)
		}
		expectList(t, s, fmt.Sprintf("race/%d", round), "own/", "value")
		expectList(t, s, fmt.Sprintf("race/%d/own", round), "0", "1", "2", "3", "4", "5", "6", "7")
	}
}

// members returns the keys of a folder that appears and disappears as a whole.
func members() []string { return []string{"cert", "chain", "fullchain", "meta", "privkey"} }

// testFolderAppearsWhole: a reader that sees a renamed folder sees all of it.
func testFolderAppearsWhole(t *testing.T, open func() state.Store) {
	s, reader := open(), open()
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for ended := false; !ended; {
			select {
			case <-done:
				ended = true // after one more look
			default:
			}
			for _, name := range visible(t, reader, "whole") {
				expectList(t, reader, "whole/"+name, members()...)
				for _, m := range members() {
					expect(t, reader, "whole/"+name+"/"+m, m)
				}
			}
		}
	})
	for i := range 15 {
		staged := fmt.Sprintf("whole/.new-%d", i)
		for _, m := range members() {
			replace(t, s, staged+"/"+m, m)
		}
		must(t, s.Rename(staged, fmt.Sprintf("whole/%d", i)))
	}
	close(done)
	watching.Wait()
	if n := len(visible(t, reader, "whole")); n != 15 {
		t.Errorf("%d folders", n)
	}
}

// visible lists the folders without a leading dot.
func visible(t *testing.T, s state.Store, folder string) (list []string) {
	t.Helper()
	names, err := s.List(folder)
	if err != nil {
		t.Error(err)
	}
	for _, name := range names {
		if name, isFolder := strings.CutSuffix(name, "/"); isFolder && !strings.HasPrefix(name, ".") {
			list = append(list, name)
		}
	}
	return list
}

// testFolderDisappears: as soon as a key of a folder is gone, the folder is no longer listed.
func testFolderDisappears(t *testing.T, open func() state.Store) {
	s, reader := open(), open()
	for i := range 15 {
		for _, m := range members() {
			replace(t, s, fmt.Sprintf("at once/%02d/%s", i, m), m)
		}
	}
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			for _, name := range visible(t, reader, "at once") {
				for _, m := range members() {
					_, err := reader.Read("at once/" + name + "/" + m)
					if errors.Is(err, fs.ErrNotExist) && slices.Contains(visible(t, reader, "at once"), name) {
						t.Errorf("%s of %s is gone, and the folder is listed", m, name)
					}
				}
			}
		}
	})
	for i := range 15 {
		must(t, s.Remove(fmt.Sprintf("at once/%02d", i)))
	}
	close(done)
	watching.Wait()
	if left := visible(t, reader, "at once"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func testPath(t *testing.T, open func() state.Store) {
	s := open()
	if s.Path("") == "" {
		if got := s.Path("a/b"); got != "" {
			t.Errorf("a store without files has a file %q", got)
		}
		return
	}
	if got := s.Path("a/b"); !strings.HasPrefix(got, s.Path("")) || !strings.HasSuffix(got, "a/b") {
		t.Errorf("the path of a/b is %q, that of the store %q", got, s.Path(""))
	}
}

// testSweep: a sweep does not disturb others that write, lock and make folders.
func testSweep(t *testing.T, open func() state.Store) {
	keeper, ok := open().(state.Housekeeper)
	if !ok {
		return // it has nothing to sweep
	}
	must(t, keeper.Sweep("no/such/folder"))
	done := make(chan struct{})
	var sweeping sync.WaitGroup
	sweeping.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			for _, folder := range []string{"", "swept", "swept/in"} {
				if err := keeper.Sweep(folder); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	s := open()
	for i := range 100 {
		name := fmt.Sprintf("swept/in/%d", i)
		replace(t, s, name+"/value", name)
		replace(t, s, name+".json", name)
		unlock, err := s.Lock(t.Context(), name+".lock")
		must(t, err)
		unlock()
		expect(t, s, name+"/value", name)
		expect(t, s, name+".json", name)
	}
	close(done)
	sweeping.Wait()
	if found, err := keeper.Inspect(); err != nil || len(found) > 0 {
		t.Errorf("%+v, %v", found, err)
	}
}

func ended(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}
