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
	"mxcert/hooks/journal"
	"mxcert/hooks/watch"
)

const (
	// freeWakes is how often in an hour a changed file starts a pass at once. It is one more than the number of repairs, so that the alarm
	// also comes at once.
	freeWakes = pass.MaxRepairs + 1
	// calm is how long the files must stay unchanged after that before they start a pass. So a program that writes them all the time does
	// not keep the daemon busy all the time.
	calm = 30 * time.Second
	// latest limits the wait for calm. It does not apply to certificates whose last pass failed: those have their backoff.
	latest = 45 * time.Second
	// settlePause is how long the end of one pass waits for the ends of others.
	settlePause = 50 * time.Millisecond
)

// driftWatch notices when something else changes the files that passes have written, and then starts a pass for the certificate. What a
// pass writes itself, including its staging files, does not count. Whether a server uses the files is for the passes to find out.
//
// Between its renames and its look at the result, a pass cannot tell its own changes from those of others. So it compares the files again
// after the proof.
type driftWatch struct {
	log     *slog.Logger
	watcher *watch.Watcher
	close   func()

	mu      sync.Mutex
	watched map[string]*watched // by certificate
	files   []string            // that the watcher watches
	said    map[string]bool     // warnings that are logged already

	settling bool // a call of settle is scheduled
}

// watched is one certificate as the drift watch knows it.
type watched struct {
	name  string
	rouse func() // starts its next pass at once; nil while it is not waiting
	early bool   // call rouse as soon as it waits

	left      map[string]string // fingerprints of the files as the last pass left them
	next      map[string]string // the same for the running pass; nil until it has looked at them
	seen      map[string]string // fingerprints when they were last found changed
	since     time.Time         // when they were first found changed
	busy      bool              // a pass is running: changes are its own
	uneasy    bool              // the last pass could not put it in service
	heldUntil time.Time         // until then the daemon has announced not to repair
	wakes     []time.Time       // passes that were started in the last hour
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

// asleep records how to start a certificate's next pass if its files change.
func (d *driftWatch) asleep(name string, rouse func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.watched[name]
	if c.rouse = rouse; c.early {
		c.early = false
		go rouse()
	}
}

// awake records that a certificate's next pass has started.
func (d *driftWatch) awake(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watched[name].rouse, d.watched[name].early = nil, false
}

// held records until when the daemon leaves a certificate's files alone. It reports whether the result says only this and an earlier result
// has said it already.
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

// Left records how a pass leaves the files.
func (d *driftWatch) Left(name string, prints map[string]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watched[name].next = prints
}

// Wrote records that the pass of one certificate has changed files, so that this does not count as drift of other certificates: several may
// share an SNI map.
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

// settle makes the watcher watch the files as the passes have left them. One call serves all passes that end at about the same time; when
// the daemon starts, these may be a thousand. settle compares the files to find what others have changed meanwhile.
func (d *driftWatch) settle() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settling = false
	d.follow()
	d.watcher.Know()
	for _, c := range d.watched { // for changes that Know has taken as known
		d.lookAt(c)
	}
}

// follow makes the watcher watch the files of all certificates. The caller holds the lock.
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

// look checks the files of all certificates.
func (d *driftWatch) look() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.watched {
		d.lookAt(c)
	}
}

// lookAt starts a pass for a certificate if its files have changed: at once, or after they have been calm. The caller holds the lock.
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
		return // seen already, and its timer runs
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

// changed returns the files of a certificate that differ from what its last pass left. It leaves out files that the pass of another
// certificate may be writing right now; the end of that pass looks at them again. The caller holds the lock.
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

// wake starts a pass for a certificate. It does nothing if the files are as they were, or if a pass is running: that pass looks again at
// its end.
func (d *driftWatch) wake(c *watched) {
	d.mu.Lock()
	defer d.mu.Unlock()
	changed := d.changed(c)
	if c.busy || len(changed) == 0 {
		return
	}
	d.log.Info("files were changed by others", "certificate", c.name, "files", strings.Join(changed, " "), journal.FilesChanged.Attr())
	c.wakes = append(c.wakes, time.Now())
	if c.rouse == nil {
		c.early = true
		return
	}
	go c.rouse() // in a goroutine, because it needs the lock
}
