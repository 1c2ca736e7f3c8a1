// Package watch reports that files have changed. The daemon uses it to read its configuration again, and to check the files that it wrote
// for mail servers.
//
// It watches the directories of the files with inotify(7), because editors and configuration tools replace files instead of writing them.
// An event there is only a reason to look. The package reports a change if the identity, size, times or mode of a file differ from what it
// saw before. This covers a file that is replaced by a rename, files that appear and disappear, symbolic links that are swapped (the ..data
// of Kubernetes), and directories that are removed and made again. A slow poll finds what inotify cannot see: network file systems, mounts,
// links in the middle of a path, and an inotify that has reached its limits.
//
// Not supported: saying which file has changed (callers compare [Fingerprint]), and comparing contents. So a touch counts as a change.
package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// quiet is how long nothing may happen before a change is reported, so that the caller reads a group of files as a whole.
	quiet = 500 * time.Millisecond
	// patience limits the wait for quiet, for directories that are never quiet.
	patience = 5 * time.Second
	// rest is how long a directory is not watched after an event. It is shorter than quiet, so a directory in which something happens all
	// the time is not quiet.
	rest = 200 * time.Millisecond
	// pollEvery is how often the files are checked without an event.
	pollEvery = 30 * time.Second
	// recent is how long ago a file that [Watcher.Set] adds may have changed and still counts as changed.
	recent = 10 * time.Second
)

// Watcher watches a list of files. Make one with [New].
type Watcher struct {
	changes chan struct{}
	stirred chan string // there is a reason to look: the name of an event, or "" for another reason
	done    chan struct{}
	ended   sync.WaitGroup
	close   func()

	mu    sync.Mutex
	files []string
	seen  map[string]string // by file or pattern: the fingerprint of what was last reported
	err   error

	inotify *fsnotify.Watcher // nil if it is not available
}

// New watches files. They need not exist, and may be patterns of filepath.Match such as /etc/mxcert/conf.d/*.yaml. Make the Watcher before
// you read the files, so that you miss no change. New never fails: see [Watcher.Err].
func New(files []string) *Watcher {
	inotify, err := fsnotify.NewWatcher()
	if err != nil {
		err = fmt.Errorf("watching files: changes are noticed only after %s, because inotify cannot be used: %w (fs.inotify.max_user_instances)", pollEvery, err)
	}
	return start(files, inotify, err)
}

// start begins to watch; without inotify it polls.
func start(files []string, inotify *fsnotify.Watcher, err error) *Watcher {
	w := &Watcher{changes: make(chan struct{}, 1), stirred: make(chan string, 1), done: make(chan struct{}),
		files: slices.Clone(files), seen: map[string]string{}, err: err, inotify: inotify}
	w.close = sync.OnceFunc(func() { close(w.done) })
	if inotify != nil {
		w.ended.Go(w.listen)
	}
	w.follow(false)
	for _, file := range w.files {
		w.seen[file] = fingerprint(file)
	}
	w.ended.Go(w.loop)
	return w
}

// Changes delivers a value if at least one file has changed since the last value. While nobody receives, further changes are merged into
// one. The channel is never closed.
func (w *Watcher) Changes() <-chan struct{} { return w.changes }

// Set replaces the list of files. A file that was not in the list counts as changed if it changed within the last ten seconds, because the
// caller may have read it before that change.
func (w *Watcher) Set(files []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := make(map[string]string, len(files))
	for _, file := range files {
		print, known := w.seen[file]
		if !known && !changedSince(file, time.Now().Add(-recent)) {
			print = fingerprint(file)
		}
		seen[file] = print
	}
	w.files, w.seen = slices.Clone(files), seen
	poke(w.stirred, "")
}

// Know accepts the files as they are now: only a difference from this state is a change. Callers need it after they have put a file back.
// Without it, a file that changes twice within half a second, and was put back in between by the caller, would be missed both times.
func (w *Watcher) Know() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, file := range w.files {
		w.seen[file] = fingerprint(file)
	}
}

// Err says why only the slow poll notices changes. It is nil if the kernel reports them.
func (w *Watcher) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Close stops the watch. Nothing is delivered afterwards.
func (w *Watcher) Close() {
	w.close()
	w.ended.Wait()
}

// listen takes every event, so that fsnotify never waits for loop. fsnotify may hold its lock while it delivers an event, and loop may wait
// for that lock.
func (w *Watcher) listen() {
	for {
		var event fsnotify.Event
		var ok bool
		select {
		case event, ok = <-w.inotify.Events:
		case _, ok = <-w.inotify.Errors: // an overflow: events were lost
		}
		if !ok { // closed
			return
		}
		poke(w.stirred, event.Name)
	}
}

// loop waits for a reason to look, then until it is quiet, then looks.
func (w *Watcher) loop() {
	if w.inotify != nil {
		defer w.inotify.Close()
	}
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	settle := time.NewTimer(quiet)
	settle.Stop()
	defer settle.Stop()
	var since time.Time // time of the first event that was not looked into yet
	for {
		select {
		case <-w.done:
			return
		case <-poll.C:
			// If inotify did not see this change, its watches may be broken.
			if unseen := w.changed(false) && since.IsZero(); unseen {
				w.follow(true)
				poke(w.stirred, "")
			} else {
				w.follow(false)
			}
		case name := <-w.stirred:
			w.leaveAlone(name)
			if since.IsZero() {
				since = time.Now()
			}
			if time.Since(since) < patience {
				settle.Reset(quiet)
			}
		case <-settle.C:
			since = time.Time{}
			w.follow(false) // before looking, so that a change after the look is an event
			if w.changed(true) {
				poke(w.changes, struct{}{})
			}
		}
	}
}

// poke leaves a value in a channel of capacity 1, unless there is one already.
func poke[T any](ch chan<- T, value T) {
	select {
	case ch <- value:
	default:
	}
}

// leaveAlone stops the watch of the directory with an event for a while: somebody who changes other files there all the time must cost
// no more than a few events. No change is missed, because follow watches the directory again before the look that the event causes.
func (w *Watcher) leaveAlone(name string) {
	if w.inotify == nil || name == "" {
		return
	}
	for _, dir := range []string{name, filepath.Dir(name)} { // the event may be about the directory itself
		if w.inotify.Remove(dir) == nil {
			time.AfterFunc(rest, func() { _ = w.inotify.Add(dir) }) // if it fails, follow reports it
			return
		}
	}
}

// changed compares all files with what was seen before. It stores the new state if remember is set.
func (w *Watcher) changed(remember bool) (changed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, file := range w.files {
		if print := fingerprint(file); print != w.seen[file] {
			changed = true
			if remember {
				w.seen[file] = print
			}
		}
	}
	return changed
}

// follow makes inotify watch the directories that matter now, and no others. If anew is set, it first drops all old watches.
func (w *Watcher) follow(anew bool) {
	if w.inotify == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	want := directories(w.files)
	for _, dir := range w.inotify.WatchList() {
		if anew || !slices.Contains(want, dir) {
			_ = w.inotify.Remove(dir) // the watch may already be gone
		}
	}
	have := w.inotify.WatchList()
	w.err = nil
	for _, dir := range want {
		if slices.Contains(have, dir) {
			continue
		}
		if err := w.inotify.Add(dir); err != nil {
			setting := ""
			if errors.Is(err, syscall.ENOSPC) {
				setting = " (fs.inotify.max_user_watches)"
			}
			w.err = fmt.Errorf("watching %s: changes are noticed only after %s: %w%s", dir, pollEvery, err, setting)
		}
	}
}

// directories lists the directories in which changes of the files show: those of the files, and those that links lead to.
func directories(files []string) []string {
	var dirs []string
	for _, file := range files {
		dirs = append(dirs, nearest(filepath.Dir(file)))
		for _, match := range matches(file) {
			dirs = append(dirs, nearest(filepath.Dir(match)))
			if target, err := filepath.EvalSymlinks(match); err == nil {
				dirs = append(dirs, filepath.Dir(target))
			}
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// nearest returns the directory itself, or the nearest existing one above it, because the directory will appear there.
func nearest(dir string) string {
	for {
		if info, err := os.Stat(dir); err == nil && info.IsDir() || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// matches lists the files that a pattern stands for; a name that matches nothing stands for itself.
func matches(pattern string) []string {
	if list, err := filepath.Glob(pattern); err == nil && len(list) > 0 {
		return list
	}
	return []string{pattern}
}

// fingerprint returns the fingerprint of all files that a pattern stands for. It is never "", because Set uses that for unknown.
func fingerprint(pattern string) string {
	var text strings.Builder
	for _, file := range matches(pattern) {
		fmt.Fprintf(&text, "%q %s\n", file, Fingerprint(file))
	}
	return text.String()
}

// Fingerprint returns a text that changes if the file is replaced, changed or removed. file is a name, not a pattern. Links are followed.
func Fingerprint(file string) string {
	info, err := os.Stat(file)
	if err != nil {
		return "missing"
	}
	text := fmt.Sprintf("%d %d %d %s", info.Size(), info.ModTime().UnixNano(), changeTime(info).UnixNano(), info.Mode())
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		text += fmt.Sprintf(" %d %d", s.Dev, s.Ino)
	}
	return text
}

// Stamp is what stat(2) says about the content of a file. If two stamps are equal, the file was not written in between. The zero Stamp
// stands for a missing file.
type Stamp struct {
	Size, Modified, Changed int64 // bytes; nanoseconds since 1970
	Device, Inode           uint64
	Mode                    uint32
}

// Stamps returns the stamp of each file. Links are followed.
func Stamps(files []string) map[string]Stamp {
	stamps := make(map[string]Stamp, len(files))
	for _, file := range files {
		stamps[file] = stampOf(file)
	}
	return stamps
}

// Unchanged reports whether all files still have these stamps.
func Unchanged(stamps map[string]Stamp) bool {
	for file, stamp := range stamps {
		if stampOf(file) != stamp {
			return false
		}
	}
	return true
}

func stampOf(file string) Stamp {
	var s syscall.Stat_t
	if err := syscall.Stat(file, &s); err != nil {
		return Stamp{}
	}
	return Stamp{Size: s.Size, Modified: s.Mtim.Nano(), Changed: s.Ctim.Nano(), Device: s.Dev, Inode: s.Ino, Mode: s.Mode}
}

// Fingerprints returns the fingerprint of each file.
func Fingerprints(files []string) map[string]string {
	prints := make(map[string]string, len(files))
	for _, file := range files {
		prints[file] = Fingerprint(file)
	}
	return prints
}

// Differing lists, sorted, the files whose fingerprints have changed.
func Differing(prints map[string]string) (files []string) {
	for file, print := range prints {
		if Fingerprint(file) != print {
			files = append(files, file)
		}
	}
	slices.Sort(files)
	return files
}

// changedSince reports whether a file was changed after a time.
func changedSince(pattern string, t time.Time) bool {
	return slices.ContainsFunc(matches(pattern), func(file string) bool {
		info, err := os.Stat(file)
		return err == nil && changeTime(info).After(t)
	})
}

// changeTime returns the ctime, which nobody can set back.
func changeTime(info fs.FileInfo) time.Time {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(s.Ctim.Unix())
	}
	return info.ModTime()
}
