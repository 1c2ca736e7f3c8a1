package daemon

import (
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/hooks/watch"
)

const (
	// freeWakes is how often in an hour a change of a certificate's files is looked into at once: one more than it is repaired, so
	// that the alarm follows at once, too.
	freeWakes = pass.MaxRepairs + 1
	// calm is how long the files must have been left alone after that, so that a program which writes them all the time does
	// not keep the daemon at work all the time.
	calm = 30 * time.Second
	// latest ends the wait for calm, but not for certificates whose last pass failed: they have their backoff.
	latest = 45 * time.Second
	// settlePause is how long the end of a pass waits for others.
	settlePause = 50 * time.Millisecond
)

// driftWatch notices changes of the files that passes left behind, and wakes their certificates. What a pass writes itself,
// staging included, is no such change. Whether a server uses the files is for the passes to see.
//
// A pass cannot distinguish its own changes from what others did between its renames and its look at their result; so it compares
// the files once more after the proof.
type driftWatch struct {
	log     *slog.Logger
	watcher *watch.Watcher
	close   func()

	mu      sync.Mutex
	watched map[string]*watched // by certificate
	files   []string            // that the watcher knows
	said    map[string]bool     // warnings that were logged already

	settling bool // settle is going to be called
}

// watched is one certificate as the drift watch knows it.
type watched struct {
	name  string
	rouse func() // starts its next pass at once; nil while it does not sleep
	early bool   // rouse it as soon as it sleeps

	left      map[string]string // fingerprints of the files as the last pass left them
	next      map[string]string // as the pass under way will leave them; nil if it has not looked at them
	seen      map[string]string // as they were last found changed
	since     time.Time         // when they were first found changed
	busy      bool              // a pass is under way: what it writes is its own
	uneasy    bool              // the last pass could not put it in service
	heldUntil time.Time         // until when the daemon has said that it does not repair
	wakes     []time.Time       // of the last hour
	timer     *time.Timer
}

// newDriftWatch starts to watch for the certificates.
func newDriftWatch(log *slog.Logger, certificates []wanted.Certificate) *driftWatch {
	d := &driftWatch{log: log, watcher: watch.New(nil), watched: map[string]*watched{}, said: map[string]bool{}}
	for _, c := range certificates {
		d.watched[c.Name] = &watched{name: c.Name}
	}
	done := make(chan struct{})
	d.close = sync.OnceFunc(func() {
		close(done)
		d.watcher.Close()
	})
	go func() {
		for {
			select {
			case <-d.watcher.Changes():
				d.look()
			case <-done:
				return
			}
		}
	}()
	return d
}

// asleep says how a certificate's next pass is started when its files want one.
func (d *driftWatch) asleep(name string, rouse func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.watched[name]
	if c.rouse = rouse; c.early {
		c.early = false
		go rouse()
	}
}

// awake says that a certificate's next pass has started.
func (d *driftWatch) awake(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watched[name].rouse, d.watched[name].early = nil, false
}

// held notes until when a certificate's files are left alone, and reports whether the result says only that, and an earlier
// one has said it.
func (d *driftWatch) held(name string, result report.Certificate) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.watched[name]
	repeats := result.HeldOnly && result.HeldUntil.Equal(c.heldUntil)
	c.heldUntil = result.HeldUntil
	return repeats
}

// Begin ignores changes of the certificate's files until End, which then looks for changes made by others.
func (d *driftWatch) Begin(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watched[name].busy, d.watched[name].next = true, nil
}

// Left notes how a pass leaves the files.
func (d *driftWatch) Left(name string, prints map[string]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watched[name].next = prints
}

// Wrote takes a change of files by the pass of one certificate for no drift of the others: several may share an SNI map.
func (d *driftWatch) Wrote(name string, before, after map[string]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watched[name].next = after
	for _, other := range d.watched {
		for _, known := range []map[string]string{other.left, other.next} {
			for path, print := range after {
				if old, ok := before[path]; ok && known[path] == old {
					known[path] = print
				}
			}
		}
	}
}

// End looks for changes that others made during a pass.
func (d *driftWatch) End(name string, outOfService bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.watched[name]
	c.busy = false
	c.seen, c.since = nil, time.Time{}
	c.uneasy = outOfService
	if c.next != nil {
		c.left = c.next
	}
	if !d.settling {
		d.settling = true
		time.AfterFunc(settlePause, d.settle)
	}
}

// settle has the watcher follow the files as passes have left them. One call serves all passes that end at about the same time:
// a thousand certificates at the start of the daemon. What others have done meanwhile is found by comparing.
func (d *driftWatch) settle() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settling = false
	d.follow()
	d.watcher.Know()
	for _, c := range d.watched { // what Know has taken for known
		d.lookAt(c)
	}
}

// follow has the watcher watch the files of all certificates. It needs the lock.
func (d *driftWatch) follow() {
	var files []string
	for _, c := range d.watched {
		files = slices.AppendSeq(files, maps.Keys(c.left))
	}
	slices.Sort(files)
	if files = slices.Compact(files); !slices.Equal(files, d.files) {
		d.files = files
		d.watcher.Set(files)
	}
	for _, file := range files {
		if _, err := os.Stat(file); os.IsPermission(err) {
			d.warn("the service cannot watch a directory that it may not enter; changes there are found by the hourly pass", "directory", filepath.Dir(file))
		}
	}
	if err := d.watcher.Err(); err != nil {
		d.warn("changes of files are found later than usual", "error", err.Error())
	}
}

// warn logs a warning once.
func (d *driftWatch) warn(message, key, value string) {
	if !d.said[message+value] {
		d.said[message+value] = true
		d.log.Warn(message, key, value)
	}
}

// look looks at all certificates.
func (d *driftWatch) look() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.watched {
		d.lookAt(c)
	}
}

// lookAt has a certificate woken whose files changed: at once, or when they are left alone. It needs the lock.
func (d *driftWatch) lookAt(c *watched) {
	if c.busy {
		return
	}
	changed := d.changed(c)
	if len(changed) == 0 {
		return
	}
	now := watch.Fingerprints(changed)
	if maps.Equal(now, c.seen) {
		return // what was seen already has its timer
	}
	if c.seen = now; c.since.IsZero() {
		c.since = time.Now()
	}
	var delay time.Duration
	c.wakes = slices.DeleteFunc(c.wakes, func(at time.Time) bool { return time.Since(at) > time.Hour })
	switch {
	case c.uneasy:
		delay = calm
	case len(c.wakes) >= freeWakes:
		delay = min(calm, time.Until(c.since.Add(latest)))
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	c.timer = time.AfterFunc(delay, func() { d.wake(c) })
}

// changed returns the files of a certificate that differ from what its last pass left. It leaves out those that the pass of another
// certificate may be writing right now: the end of that pass looks at them again. It needs the lock.
func (d *driftWatch) changed(c *watched) []string {
	return slices.DeleteFunc(watch.Differing(c.left), func(file string) bool {
		for _, other := range d.watched {
			_, left := other.left[file]
			_, next := other.next[file]
			if other != c && other.busy && (left || next) {
				return true
			}
		}
		return false
	})
}

// wake wakes a certificate, unless a pass is under way, at whose end is another look, or all is as it was.
func (d *driftWatch) wake(c *watched) {
	d.mu.Lock()
	defer d.mu.Unlock()
	changed := d.changed(c)
	if c.busy || len(changed) == 0 {
		return
	}
	d.log.Info("files were changed by others", "certificate", c.name, "files", strings.Join(changed, " "))
	c.wakes = append(c.wakes, time.Now())
	if c.rouse == nil {
		c.early = true
		return
	}
	go c.rouse() // which needs the lock
}
