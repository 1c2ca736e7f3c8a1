// Package watch reports when files have changed, so that the daemon can read its configuration again and look at the files that
// it has written for mail servers.
//
// It watches the directories of the files with inotify(7), because editors and configuration tools replace files rather
// than write them, and treats every event there only as a reason to look: it reports a change if the identity, size, times or
// mode of a file differ from those seen before. This covers files that are replaced by a rename, files that come and go,
// symbolic links that are swapped (the ..data of Kubernetes), and directories that are removed and created again. A slow poll
// finds what inotify cannot: network file systems, mounts, links in the middle of a path, an exhausted inotify.
//
// Not supported: saying which file changed (callers compare [Fingerprint]), and comparing contents; a touch counts as a change.
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
	// quiet is how long it must be quiet before a change is reported, so that a group of files is read as a whole.
	quiet = 500 * time.Millisecond
	// patience limits the wait for quiet in a directory that is never quiet.
	patience = 5 * time.Second
	// pollEvery is how often the watcher looks at files without a reason.
	pollEvery = 30 * time.Second
	// recent is how long ago a file that [Watcher.Set] adds may have changed to count as changed.
	recent = 10 * time.Second
)

// Watcher watches a list of files. Make one with [New].
type Watcher struct {
	changes chan struct{}
	stirred chan struct{} // there is a reason to look
	done    chan struct{}
	ended   sync.WaitGroup
	close   func()

	mu    sync.Mutex
	files []string
	seen  map[string]string // by file or pattern: the fingerprint of what was last reported
	err   error

	inotify *fsnotify.Watcher // nil if inotify cannot be used
}

// New watches files, which need not exist, and may be patterns of filepath.Match such as /etc/mxcert/conf.d/*.yaml.
// Make the Watcher before you read the files, so that it misses no change. New never fails: see [Watcher.Err].
func New(files []string) *Watcher {
	inotify, err := fsnotify.NewWatcher()
	if err != nil {
		err = fmt.Errorf("watching files: changes are noticed only after %s, because inotify cannot be used: %w (fs.inotify.max_user_instances)", pollEvery, err)
	}
	return start(files, inotify, err)
}

// start starts to watch; without inotify it polls.
func start(files []string, inotify *fsnotify.Watcher, err error) *Watcher {
	w := &Watcher{changes: make(chan struct{}, 1), stirred: make(chan struct{}, 1), done: make(chan struct{}),
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

// Changes delivers a value when at least one file has changed since the last value; if nobody receives, changes are merged into
// one. The channel is never closed.
func (w *Watcher) Changes() <-chan struct{} { return w.changes }

// Set replaces the list of files. A file that was not in the list counts as changed if it did change within the last
// ten seconds: the caller has read it before calling Set, and may have seen the old content.
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
	poke(w.stirred)
}

// Know makes the present state of the files the known one: only later differences are changes. Without it, the watcher would
// not notice a file that is removed twice within the half second before a look and restored by the caller in between: it would
// be missing before and after.
func (w *Watcher) Know() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, file := range w.files {
		w.seen[file] = fingerprint(file)
	}
}

// Err says why only the slow poll notices changes; nil if the kernel reports them.
func (w *Watcher) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Close ends the watch. Afterwards Changes delivers nothing.
func (w *Watcher) Close() {
	w.close()
	w.ended.Wait()
}

// listen takes every event, so that fsnotify, which may hold its lock while it delivers one, never waits for loop, which
// may wait for that lock.
func (w *Watcher) listen() {
	for {
		var ok bool
		select {
		case _, ok = <-w.inotify.Events:
		case _, ok = <-w.inotify.Errors: // an overflow: events were lost
		}
		if !ok { // closed
			return
		}
		poke(w.stirred)
	}
}

// loop waits for a reason to look, then for quiet, then looks.
func (w *Watcher) loop() {
	if w.inotify != nil {
		defer w.inotify.Close()
	}
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	settle := time.NewTimer(quiet)
	settle.Stop()
	defer settle.Stop()
	var since time.Time // of the first event that has not led to a look yet
	for {
		select {
		case <-w.done:
			return
		case <-poll.C:
			// If inotify missed a change, its watches are doubtful.
			if unseen := w.changed(false) && since.IsZero(); unseen {
				w.follow(true)
				poke(w.stirred)
			} else {
				w.follow(false)
			}
		case <-w.stirred:
			if since.IsZero() {
				since = time.Now()
			}
			if time.Since(since) < patience {
				settle.Reset(quiet)
			}
		case <-settle.C:
			since = time.Time{}
			w.follow(false) // before the look: a change after it is an event
			if w.changed(true) {
				poke(w.changes)
			}
		}
	}
}

// poke leaves a value in a channel of capacity 1, unless there is one already.
func poke(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// changed compares all files with what was seen, and remembers the new state if asked to.
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

// follow makes inotify watch the directories that matter now, and no others; anew makes it forget the old ones first.
func (w *Watcher) follow(anew bool) {
	if w.inotify == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	want := directories(w.files)
	for _, dir := range w.inotify.WatchList() {
		if anew || !slices.Contains(want, dir) {
			_ = w.inotify.Remove(dir) // the watch may have ended with the directory
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

// directories lists the directories in which changes of the files show: where the files are, or will be, and where links lead.
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

// nearest returns the directory itself, or else the first one above it that exists: a new one will appear there.
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

// fingerprint returns the fingerprint of all files that a pattern stands for. It is never "", which Set uses for an unknown
// one.
func fingerprint(pattern string) string {
	var text strings.Builder
	for _, file := range matches(pattern) {
		fmt.Fprintf(&text, "%q %s\n", file, Fingerprint(file))
	}
	return text.String()
}

// Fingerprint returns a text that changes if a file is replaced, changed or removed. file is a name, not a pattern; Fingerprint
// follows links.
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

// Stamp is what stat(2) says about the content of a file: if two stamps are equal, the file was not written in between. The
// zero Stamp stands for a missing file.
type Stamp struct {
	Size, Modified, Changed int64 // bytes; nanoseconds since 1970
	Device, Inode           uint64
	Mode                    uint32
}

// Stamps returns the stamp of each file. It follows links.
func Stamps(files []string) map[string]Stamp {
	stamps := make(map[string]Stamp, len(files))
	for _, file := range files {
		stamps[file] = stampOf(file)
	}
	return stamps
}

// Unchanged reports whether all stamps are still true.
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

// changeTime returns the ctime, which a program cannot set back.
func changeTime(info fs.FileInfo) time.Time {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(s.Ctim.Unix())
	}
	return info.ModTime()
}
