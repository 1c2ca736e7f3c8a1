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
	// freeWakes is how often in an hour a change of a certificate's files starts a pass at once: one more than the number of
	// repairs, so that the alarm comes at once, too.
	freeWakes = pass.MaxRepairs + 1
	// calm is how long the files must have been left alone after that, so that a program which writes them all the time does
	// not keep the daemon at work all the time.
	calm = 30 * time.Second
	// latest limits the wait for calm, but not for certificates whose last pass failed: they have their backoff.
	latest = 45 * time.Second
	// settlePause is how long the end of a pass waits for others.
	settlePause = 50 * time.Millisecond
)

// driftWatch notices changes of the files that passes have left, and wakes their certificates. What a pass writes itself,
// staging included, does not count. Passes find out whether a server uses the files.
//
// Changes that others make between a pass's renames and its look at the result look like its own; so a pass compares the files
// once more after the proof.
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

// asleep says how to start a certificate's next pass when its files change.
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

// held notes until when the daemon leaves a certificate's files alone. It reports whether the result says only that, and an
// earlier one has said so already.
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

// Wrote keeps a change by the pass of one certificate from counting as drift of the others: several may share an SNI map.
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

// settle makes the watcher follow the files as passes have left them. One call serves all passes that end at about the same
// time: a thousand certificates at the start of the daemon. A comparison finds what others have changed meanwhile.
func (d *driftWatch) settle() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settling = false
	d.follow()
	d.watcher.Know()
	for _, c := range d.watched { // find the changes that Know has dismissed
		d.lookAt(c)
	}
}

// follow makes the watcher watch the files of all certificates. It needs the lock.
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

// lookAt wakes a certificate whose files have changed: at once, or when the changes have stopped. It needs the lock.
func (d *driftWatch) lookAt(c *watched) {
	if c.busy {
		return
	}
	now := watch.Fingerprints(slices.Collect(maps.Keys(c.left)))
	if maps.Equal(now, c.left) || maps.Equal(now, c.seen) {
		return // these changes have their timer already
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

// wake wakes a certificate. It does nothing if a pass is under way, which ends with another look, or if the files are as they
// were.
func (d *driftWatch) wake(c *watched) {
	d.mu.Lock()
	defer d.mu.Unlock()
	changed := watch.Differing(c.left)
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
