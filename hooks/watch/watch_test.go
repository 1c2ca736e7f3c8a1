package watch

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
)

// TestMain lets more tests run at once than there are processors: they wait nearly all the time.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "32"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// must fails the test when one of the preparations did.
func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// watching starts a real watcher.
func watching(t *testing.T, files ...string) *Watcher {
	t.Helper()
	w := New(files)
	t.Cleanup(w.Close)
	must(t, w.Err())
	return w
}

// assertChange wants one value soon, and no second one. Less than a poll: inotify must have seen it.
func assertChange(t *testing.T, w *Watcher) {
	t.Helper()
	awaitChange(t, w)
	assertSilence(t, w)
}

func awaitChange(t *testing.T, w *Watcher) {
	t.Helper()
	select {
	case <-w.Changes():
	case <-time.After(pollEvery / 2):
		t.Fatal("the change was not seen")
	}
}

func assertSilence(t *testing.T, w *Watcher) {
	t.Helper()
	select {
	case <-w.Changes():
		t.Error("a change is reported that was none")
	case <-time.After(quiet + 200*time.Millisecond):
	}
}

// TestChanges has a file, its directory, and what people and programs do to them.
func TestChanges(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, dir, file string){
		"written": func(t *testing.T, dir, file string) { write(t, file, "new") },
		"replaced": func(t *testing.T, dir, file string) {
			write(t, file+".tmp", "new")
			must(t, os.Rename(file+".tmp", file))
		},
		"moved away and written, as vim does": func(t *testing.T, dir, file string) {
			must(t, os.Rename(file, file+"~"))
			write(t, file, "new")
			must(t, os.Remove(file+"~"))
		},
		"removed":      func(t *testing.T, dir, file string) { must(t, os.Remove(file)) },
		"mode changed": func(t *testing.T, dir, file string) { must(t, os.Chmod(file, 0o640)) },
		"old times, same size": func(t *testing.T, dir, file string) {
			info, err := os.Stat(file)
			must(t, err)
			write(t, file, "new")
			must(t, os.Chtimes(file, info.ModTime(), info.ModTime()))
		},
		"directory made again": func(t *testing.T, dir, file string) {
			must(t, os.RemoveAll(dir), os.Mkdir(dir, 0o700))
			write(t, file, "new")
		},
		"directory exchanged": func(t *testing.T, dir, file string) {
			must(t, os.Mkdir(dir+".new", 0o700))
			write(t, filepath.Join(dir+".new", "conf"), "new")
			must(t, os.Rename(dir, dir+".old"), os.Rename(dir+".new", dir))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "etc")
			file := filepath.Join(dir, "conf")
			must(t, os.Mkdir(dir, 0o700))
			write(t, file, "old")
			w := watching(t, file)
			began := time.Now()
			change(t, dir, file)
			took := time.Since(began)
			awaitChange(t, w)
			if took > quiet/2 { // a busy machine: there may have been quiet enough in the middle, so that it is two changes
				select {
				case <-w.Changes():
				case <-time.After(quiet + 200*time.Millisecond):
				}
			}
			assertSilence(t, w)
			write(t, file, "and it goes on") // also in a directory that is another one now
			assertChange(t, w)
		})
	}
}

func TestDirectoryGoneForAWhile(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	file := filepath.Join(top, "a", "b", "conf")
	must(t, os.MkdirAll(filepath.Dir(file), 0o700))
	write(t, file, "old")
	w := watching(t, file)
	must(t, os.RemoveAll(filepath.Join(top, "a")))
	assertChange(t, w)
	must(t, os.Mkdir(filepath.Join(top, "a"), 0o700))
	assertSilence(t, w)
	must(t, os.Mkdir(filepath.Dir(file), 0o700))
	assertSilence(t, w)
	write(t, file, "new")
	assertChange(t, w)
}

func TestFileThatDoesNotExistYet(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "later", "conf")
	w := watching(t, file)
	assertSilence(t, w)
	must(t, os.Mkdir(filepath.Dir(file), 0o700))
	write(t, file, "new")
	assertChange(t, w)
}

// TestSwappedLink is how Kubernetes delivers a configuration: conf -> ..data/conf, ..data -> ..1, replaced at once.
func TestSwappedLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, version := range []string{"..1", "..2"} {
		must(t, os.Mkdir(filepath.Join(dir, version), 0o700))
		write(t, filepath.Join(dir, version, "conf"), version)
	}
	must(t, os.Symlink("..1", filepath.Join(dir, "..data")), os.Symlink("..data/conf", filepath.Join(dir, "conf")))
	w := watching(t, filepath.Join(dir, "conf"))
	must(t, os.Symlink("..2", filepath.Join(dir, "..tmp")), os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")))
	assertChange(t, w)
	must(t, os.RemoveAll(filepath.Join(dir, "..1")))
	assertSilence(t, w)
	write(t, filepath.Join(dir, "..2", "conf"), "in place")
	assertChange(t, w)
}

func TestTargetOfALinkElsewhere(t *testing.T) {
	t.Parallel()
	here, there := t.TempDir(), t.TempDir()
	write(t, filepath.Join(there, "real"), "old")
	must(t, os.Symlink(filepath.Join(there, "real"), filepath.Join(here, "conf")))
	w := watching(t, filepath.Join(here, "conf"))
	write(t, filepath.Join(there, "real"), "new")
	assertChange(t, w)
}

func TestPattern(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "conf.d")
	must(t, os.Mkdir(dir, 0o700))
	w := watching(t, filepath.Join(dir, "*.yaml"))
	write(t, filepath.Join(dir, ".a.yaml.swp"), "an editor at work")
	assertSilence(t, w)
	write(t, filepath.Join(dir, "a.yaml"), "new")
	assertChange(t, w)
	must(t, os.Remove(filepath.Join(dir, "a.yaml")))
	assertChange(t, w)
}

func TestOtherFilesDoNotMatter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "conf")
	write(t, file, "old")
	w := watching(t, file)
	write(t, filepath.Join(dir, "other"), "new")
	if _, err := os.ReadFile(file); err != nil {
		t.Error(err)
	}
	assertSilence(t, w)
}

// TestQuiet: changes are reported once they are over, or when they never are. The fake clock has no inotify, so the
// events are made by hand.
func TestQuiet(t *testing.T) {
	file := filepath.Join(t.TempDir(), "conf")
	write(t, file, "old")
	for events, want := range map[int]time.Duration{
		1:   quiet,
		5:   4*(quiet-time.Millisecond) + quiet,
		100: patience + quiet, // at most: the clock runs from the first event on
	} {
		synctest.Test(t, func(t *testing.T) {
			w := start([]string{file}, nil, nil)
			defer w.Close()
			begin := time.Now()
			go func() {
				for i := range events {
					write(t, file, fmt.Sprint(events, i))
					poke(w.stirred, "")
					time.Sleep(quiet - time.Millisecond)
				}
			}()
			<-w.Changes()
			if took := time.Since(begin); took > want || took < want-quiet {
				t.Errorf("%d events: reported after %s, want %s", events, took, want)
			}
			time.Sleep(100 * quiet) // until the writer has ended
		})
	}
}

func TestSet(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b, c := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(t.TempDir(), "c")
	write(t, a, "old")
	w := watching(t, a)
	w.Set([]string{a, c}) // c is to come
	assertSilence(t, w)
	write(t, c, "new")
	assertChange(t, w)
	write(t, b, "just written, perhaps after it was read")
	w.Set([]string{b, c})
	assertChange(t, w)
	write(t, a, "nobody cares")
	assertSilence(t, w)
	write(t, a, "pending")
	w.Set([]string{b, c, c})
	write(t, c, "both")
	assertChange(t, w)
}

func TestSetKeepsWhatIsPending(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "conf")
	write(t, file, "old")
	w := watching(t, file)
	write(t, file, "new")
	w.Set([]string{file})
	assertChange(t, w)
}

func TestClose(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "conf")
	w := New([]string{file})
	w.Close()
	w.Close()
	write(t, file, "new")
	w.Set([]string{file})
	assertSilence(t, w)
}

// TestKnow: a file that is gone, was put back by the caller and is gone again has changed since it was put back.
func TestKnow(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "mx.key")
	write(t, file, "key")
	w := watching(t, file)
	must(t, os.Remove(file))
	assertChange(t, w)
	write(t, file, "key")
	w.Know()
	must(t, os.Remove(file))
	assertChange(t, w)
	write(t, file, "key")
	w.Know()
	assertSilence(t, w)
}

// TestPoll is the watcher without inotify, under the fake clock.
func TestPoll(t *testing.T) {
	file := filepath.Join(t.TempDir(), "conf")
	write(t, file, "old")
	synctest.Test(t, func(t *testing.T) {
		w := start([]string{file}, nil, nil)
		defer w.Close()
		begin := time.Now()
		time.Sleep(time.Second)
		write(t, file, "new one")
		<-w.Changes()
		if took := time.Since(begin); took != pollEvery+quiet {
			t.Errorf("reported after %s", took)
		}
		time.Sleep(10 * pollEvery)
		select {
		case <-w.Changes():
			t.Error("reported twice")
		default:
		}
	})
}

// TestStaleWatch: a directory whose parent was moved is watched no longer, and nothing tells; the poll repairs it.
func TestStaleWatch(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	file := filepath.Join(top, "a", "b", "conf")
	for _, parent := range []string{"a", "new"} {
		must(t, os.MkdirAll(filepath.Join(top, parent, "b"), 0o700))
		write(t, filepath.Join(top, parent, "b", "conf"), parent)
	}
	w := watching(t, file)
	must(t, os.Rename(filepath.Join(top, "a"), filepath.Join(top, "old")), os.Rename(filepath.Join(top, "new"), filepath.Join(top, "a")))
	if !w.changed(false) {
		t.Fatal("the poll would not see it")
	}
	w.follow(true) // what the poll does then
	poke(w.stirred, "")
	assertChange(t, w)
	write(t, file, "newer")
	assertChange(t, w)
}

func TestChangedSince(t *testing.T) {
	file := filepath.Join(t.TempDir(), "conf")
	if changedSince(file, time.Time{}) {
		t.Error("a file that does not exist has changed")
	}
	write(t, file, "x")
	if !changedSince(file, time.Now().Add(-time.Minute)) || changedSince(file, time.Now().Add(time.Minute)) {
		t.Error("the time of a new file is not now")
	}
}

func TestDirectories(t *testing.T) {
	top := t.TempDir()
	must(t, os.Mkdir(filepath.Join(top, "conf.d"), 0o700))
	write(t, filepath.Join(top, "conf.d", "a.yaml"), "")
	got := directories([]string{
		filepath.Join(top, "mxcert.yaml"), filepath.Join(top, "conf.d", "*.yaml"), filepath.Join(top, "none", "deep", "x"), filepath.Join(top, "[", "x"),
	})
	if want := []string{top, filepath.Join(top, "conf.d")}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestFlood: something changes other files in the directory, as fast as it can. Nearly all of its events never reach this process, and a
// change of the file is still seen.
func TestFlood(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, other := filepath.Join(dir, "conf"), filepath.Join(dir, "other")
	write(t, file, "old")
	inotify, err := fsnotify.NewWatcher()
	must(t, err)
	counted, events := *inotify, atomic.Int64{}
	counted.Events = make(chan fsnotify.Event)
	go func() {
		defer close(counted.Events)
		for event := range inotify.Events {
			events.Add(1)
			counted.Events <- event
		}
	}()
	w := start([]string{file}, &counted, nil)
	t.Cleanup(w.Close)
	const changes = 2_000 // each is at least one event
	for i := range changes {
		if write(t, other, "x"); i == changes/2 {
			write(t, file, "new")
		}
		time.Sleep(100 * time.Microsecond)
	}
	assertChange(t, w)
	if n := events.Load(); n > changes/4 {
		t.Errorf("%d changes of another file are %d events", changes, n)
	}
	write(t, file, "newer")
	assertChange(t, w)
}
