package daemon

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/hooks/watch"
)

// A few changes of an hour are looked into at once; later ones when the files are left alone, or after less than a minute;
// those after a failure when they are left alone.
func TestDriftWatchKeepsCalm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "mx.crt")
		c := &watched{name: "mx"}
		d := &driftWatch{log: slog.New(slog.NewTextHandler(io.Discard, nil)), watched: map[string]*watched{"mx": c}}
		roused := make(chan struct{}, 1)
		rouse := func() {
			select {
			case roused <- struct{}{}:
			default: // it is no longer asleep
			}
		}
		d.asleep("mx", rouse)
		n := 0
		change := func() {
			n++
			if err := os.WriteFile(file, []byte(strings.Repeat("x", n)), 0o600); err != nil {
				t.Fatal(err)
			}
			d.look()
			synctest.Wait()
		}
		settled := func() { c.left, c.seen, c.since = watch.Fingerprints([]string{file}), nil, time.Time{} }
		woken := func(want bool, when string) {
			t.Helper()
			select {
			case <-roused:
				settled()
				if !want {
					t.Errorf("%s: woken", when)
				}
			default:
				if want {
					t.Errorf("%s: not woken", when)
				}
			}
		}
		change()
		woken(false, "before anything is known of the files")
		settled()
		for i := range freeWakes {
			change()
			woken(true, fmt.Sprintf("change %d", i+1))
		}
		often := func() (woken int) {
			for range 100 {
				change()
				select {
				case <-roused:
					settled()
					woken++
				default:
				}
				time.Sleep(time.Second)
			}
			return woken
		}
		if n := often(); n != 2 {
			t.Errorf("100 changes in as many seconds: woken %d times", n)
		}
		settled()
		change()
		for range 20 { // others' files change all the same
			time.Sleep(time.Second)
			d.look()
		}
		time.Sleep(calm - 20*time.Second)
		synctest.Wait()
		woken(true, "left alone")
		time.Sleep(time.Hour)
		change()
		woken(true, "after an hour")
		c.uneasy = true
		if n := often(); n != 0 {
			t.Errorf("100 changes in as many seconds after a failure: woken %d times", n)
		}
		time.Sleep(calm)
		synctest.Wait()
		woken(true, "after a failure, left alone")
		d.awake("mx")
		change()
		time.Sleep(calm)
		synctest.Wait()
		woken(false, "while it is awake")
		d.asleep("mx", rouse)
		synctest.Wait()
		woken(true, "as soon as it sleeps")
		c.uneasy, c.busy = false, true
		change()
		woken(false, "while a pass is under way")
	})
}

// Two certificates share an SNI map. While the pass of one may be writing it, the other takes a change of it for no drift; the end
// of that pass looks again.
func TestSharedFileOfAPassUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := filepath.Join(t.TempDir(), "sni.map")
		own := filepath.Join(t.TempDir(), "mx.crt")
		write := func(file, text string) {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(shared, "1")
		write(own, "1")
		mx := &watched{name: "mx", left: watch.Fingerprints([]string{own, shared})}
		other := &watched{name: "other", left: watch.Fingerprints([]string{shared})}
		d := &driftWatch{log: slog.New(slog.NewTextHandler(io.Discard, nil)), watched: map[string]*watched{"mx": mx, "other": other}}
		roused := 0
		d.asleep("mx", func() { roused++ })
		look := func(want int, when string) {
			t.Helper()
			d.look()
			time.Sleep(time.Millisecond)
			synctest.Wait()
			if roused != want {
				t.Errorf("%s: woken %d times, not %d", when, roused, want)
			}
		}
		d.Begin("other")
		write(shared, "22")
		look(0, "the pass of the other certificate is under way")
		write(own, "22")
		look(1, "a file of its own changed meanwhile")
		mx.left = watch.Fingerprints([]string{own})
		mx.left[shared] = "as it was"
		mx.seen = nil
		other.busy = false
		look(2, "the other pass ended, and has not said that it wrote the map")
	})
}

// drifts is a drift watch over certificates whose files are in a directory, and what it has woken.
type drifts struct {
	*driftWatch
	t   *testing.T
	dir string
	log *transcript

	roused chan string
}

func newDrifts(t *testing.T, names ...string) *drifts {
	t.Helper()
	f := &drifts{t: t, dir: t.TempDir(), log: &transcript{}, roused: make(chan string, 100)}
	var certificates []wanted.Certificate
	for _, name := range names {
		certificates = append(certificates, wanted.Certificate{Name: name})
	}
	f.driftWatch = newDriftWatch(newDaemon("", f.log).log, certificates)
	t.Cleanup(f.close)
	for _, name := range names {
		f.asleep(name, func() { f.roused <- name })
	}
	return f
}

func (f *drifts) path(file string) string { return filepath.Join(f.dir, file) }

func (f *drifts) put(file, text string) {
	f.t.Helper()
	if err := os.WriteFile(f.path(file), []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f *drifts) prints(files ...string) map[string]string {
	var paths []string
	for _, file := range files {
		paths = append(paths, f.path(file))
	}
	return watch.Fingerprints(paths)
}

// pass is a pass on a certificate that changes nothing, with something that happens during it.
func (f *drifts) pass(name string, meanwhile func(), files ...string) {
	f.Begin(name)
	f.Left(name, f.prints(files...))
	if meanwhile != nil {
		meanwhile()
	}
	f.End(name, false)
	f.settle()
}

// woken waits for the certificates that are woken; then no timer of another is set.
func (f *drifts) woken(when string, names ...string) {
	f.t.Helper()
	woken := map[string]int{}
	for range names {
		select {
		case name := <-f.roused:
			woken[name]++
		case <-time.After(time.Minute):
		}
	}
	for _, name := range names {
		woken[name]--
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, c := range f.watched {
		due := c.timer != nil && c.timer.Stop()
		if c.timer = nil; woken[name] != 0 || due || len(f.roused) > 0 {
			f.t.Errorf("%s: %s was woken %d times more than it should, and once more soon: %v; log:\n%s", when, name, woken[name], due, f.log)
		}
	}
}

// A pass's own changes wake nothing; those of others do, during it and after it.
func TestDriftAroundAPass(t *testing.T) {
	t.Parallel()
	f := newDrifts(t, "mx")
	f.put("crt", "1")
	f.pass("mx", nil, "crt")
	f.woken("after a pass that changed nothing")

	f.Begin("mx")
	before := f.prints("crt")
	f.put("crt", "its own")
	f.look() // an event arrives before the pass has said what it wrote
	f.Wrote("mx", before, f.prints("crt"))
	f.End("mx", false)
	f.settle()
	f.woken("after its own change")

	f.pass("mx", func() { f.put("crt", "of others, meanwhile") }, "crt")
	f.woken("after a change during a pass", "mx")
	if !f.log.has("level=INFO", "files were changed by others", "certificate=mx", "files="+f.path("crt")) {
		t.Errorf("log:\n%s", f.log)
	}

	f.pass("mx", nil, "crt")
	f.put("crt", "of others, later") // the watcher notices
	f.woken("after a change while it sleeps", "mx")

	f.pass("mx", nil, "crt")
	f.Begin("mx") // a pass that ends before it looks at the files
	f.put("crt", "of others, before the pass looked")
	f.End("mx", false)
	f.settle()
	f.woken("after a pass that knows nothing of the files", "mx")
	if n := f.log.count("files were changed by others"); n != 3 {
		t.Errorf("%d changes in the log", n)
	}
}

// The end of several passes at about the same time is one look at the files.
func TestDriftSettles(t *testing.T) {
	t.Parallel()
	f := newDrifts(t, "a", "b")
	f.put("a", "1")
	f.put("b", "1")
	for _, name := range []string{"a", "b"} {
		f.Begin(name)
		f.Left(name, f.prints(name))
	}
	f.put("b", "2")
	f.End("a", false)
	f.End("b", false)
	f.mu.Lock()
	settling, files := f.settling, len(f.files)
	f.mu.Unlock()
	if !settling || files != 0 {
		t.Errorf("at the end of the passes: %v, %d files are watched", settling, files)
	}
	f.woken("after a moment", "b")
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.settling || len(f.files) != 2 {
		t.Errorf("after a moment: %v, %v are watched", f.settling, f.files)
	}
}

// Several certificates may have entries in one SNI map: who changes it does not wake the others, unless it was changed by somebody
// else before.
func TestDriftOfASharedMap(t *testing.T) {
	t.Parallel()
	f := newDrifts(t, "a", "b", "under way", "elsewhere")
	f.put("map", "1")
	f.put("other", "1")
	for _, name := range []string{"a", "b", "under way"} {
		f.pass(name, nil, "map")
	}
	f.pass("elsewhere", nil, "other")
	f.Begin("under way")
	f.Left("under way", f.prints("map"))
	write := func(text string) {
		f.Begin("a")
		before := f.prints("map")
		f.put("map", text)
		f.Wrote("a", before, f.prints("map"))
		f.End("a", false)
		f.settle()
	}
	write("2 of a")
	f.woken("a has changed the map")
	f.End("under way", false)
	f.settle()
	f.woken("a has changed the map during another pass")

	f.Begin("a") // does not look meanwhile
	f.put("map", "3 of somebody")
	write("4 of a")
	f.woken("a has changed what somebody else had changed", "b", "under way")
	if want := f.prints("other"); !maps.Equal(f.watched["elsewhere"].left, want) {
		t.Errorf("another file is %v, want %v", f.watched["elsewhere"].left, want)
	}
}

// What cannot be watched is said once.
func TestDriftInADirectoryThatMayNotBeEntered(t *testing.T) {
	t.Parallel()
	f := newDrifts(t, "mx")
	if err := os.Mkdir(f.path("secret"), 0o700); err != nil {
		t.Fatal(err)
	}
	f.put("secret/crt", "1")
	f.mu.Lock()
	f.watched["mx"].left = f.prints("secret/crt", "secret/key")
	f.mu.Unlock()
	asOther(t, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.follow()
		f.follow()
	})
	if n := f.log.count("may not enter"); n != 1 || !f.log.has("level=WARN", "the service cannot watch a directory that it may not enter", "directory="+f.path("secret")) {
		t.Errorf("said %d times:\n%s", n, f.log)
	}
	f.warn("trouble", "directory", "/a")
	f.warn("trouble", "directory", "/b")
	f.warn("trouble", "directory", "/a")
	if n := f.log.count("trouble"); n != 2 {
		t.Errorf("two directories are warned of %d times", n)
	}
}

// A hold is new unless an earlier result has said the same, and nothing else.
func TestHeld(t *testing.T) {
	t.Parallel()
	until := time.Now().Add(time.Hour)
	hold := report.Certificate{HeldUntil: until, HeldOnly: true}
	for _, tt := range []struct {
		what    string
		results []report.Certificate
		repeats bool // the last
	}{
		{"all is well", []report.Certificate{{}}, false},
		{"the first", []report.Certificate{hold}, false},
		{"the second", []report.Certificate{hold, hold}, true},
		{"another fight", []report.Certificate{hold, {HeldUntil: until.Add(time.Hour), HeldOnly: true}}, false},
		{"after peace", []report.Certificate{hold, {}, hold}, false},
		{"with a failure beside it", []report.Certificate{hold, {HeldUntil: until}}, false},
		{"after a failure beside it", []report.Certificate{{HeldUntil: until}, hold}, true},
	} {
		d := &driftWatch{watched: map[string]*watched{"mx": {name: "mx"}}}
		repeats := false
		for _, r := range tt.results {
			repeats = d.held("mx", r)
		}
		if repeats != tt.repeats {
			t.Errorf("%s: repeats: %v", tt.what, repeats)
		}
	}
}
