package cli

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"mxcert/configs"
	"mxcert/hooks/watch"
)

const (
	// freeWakes is how often in an hour a change of a certificate's files is looked into at once: one more than it is healed, so
	// that the alarm follows at once, too.
	freeWakes = mostHeals + 1
	// calm is how long the files must have been left alone after that, so that a program which writes them all the time does
	// not keep this one at work all the time.
	calm = 30 * time.Second
	// latest ends the wait for calm, but for certificates whose last pass failed: they have their backoff.
	latest = 45 * time.Second
)

// guard notices that files change which passes left behind, and wakes their certificates. What a pass writes itself, staging
// included, is no such change. That a server does not use the files is for the passes to see.
//
// What others did between a pass's renames and its look at their result cannot be told from its own changes; so the files are
// compared once more after the proof.
type guard struct {
	log     *slog.Logger
	watcher *watch.Watcher
	close   func()

	mu      sync.Mutex
	charges map[string]*charge // by certificate
	files   []string           // that the watcher knows
	told    map[string]bool    // what was said already
}

// charge is one certificate as the guard knows it.
type charge struct {
	name  string
	rouse func() // begins its next pass at once; nil while it does not sleep
	early bool   // rouse it as soon as it sleeps

	left   map[string]string // fingerprints of the files as the last pass left them
	next   map[string]string // as the pass under way will leave them; nil where it has not looked at them
	seen   map[string]string // and as they were found changed last
	since  time.Time         // when they were found changed first
	busy   bool              // a pass is under way: what it writes is its own
	uneasy bool              // the last pass could not put it in service
	held   time.Time         // until when the daemon has said that it does not heal
	wakes  []time.Time       // of the last hour
	timer  *time.Timer
}

// newGuard begins to watch for the certificates of a configuration.
func newGuard(log *slog.Logger, certificates []configs.Certificate) *guard {
	g := &guard{log: log, watcher: watch.New(nil), charges: map[string]*charge{}, told: map[string]bool{}}
	for _, c := range certificates {
		g.charges[c.Name] = &charge{name: c.Name}
	}
	done := make(chan struct{})
	g.close = sync.OnceFunc(func() {
		close(done)
		g.watcher.Close()
	})
	go func() {
		for {
			select {
			case <-g.watcher.Changes():
				g.look()
			case <-done:
				return
			}
		}
	}()
	return g
}

// asleep says how a certificate's next pass is begun when its files want one.
func (g *guard) asleep(name string, rouse func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.charges[name]
	if c.rouse = rouse; c.early {
		c.early = false
		go rouse()
	}
}

// awake says that a certificate's next pass has begun.
func (g *guard) awake(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.charges[name].rouse, g.charges[name].early = nil, false
}

// attend has a pass's own changes ignored. What it gives is called at the pass's end, and looks for those of others.
func (g *guard) attend(p *pass) (leave func()) {
	if g == nil {
		return func() {}
	}
	c := g.charges[p.certificate.Name]
	g.mu.Lock()
	defer g.mu.Unlock()
	c.busy, c.next = true, nil
	return func() { g.leave(c, p) }
}

func (g *guard) leave(c *charge, p *pass) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.busy = false
	c.seen, c.since = nil, time.Time{}
	c.uneasy = p.result.OutOfService
	if p.options.daemon {
		f := p.record.Failure // of an order, perhaps, which is to be told
		p.repeats = !p.heldUntil.IsZero() && p.heldUntil.Equal(c.held) && f != nil && f.Kind == kindDrift
		c.held = p.heldUntil
	}
	if c.next != nil {
		c.left = c.next
		g.follow()
	}
	g.watcher.Know()
	for _, c := range g.charges { // what Know has taken for known
		g.lookAt(c)
	}
}

// follow has the watcher watch the files of all certificates. It needs the lock.
func (g *guard) follow() {
	var files []string
	for _, c := range g.charges {
		files = slices.AppendSeq(files, maps.Keys(c.left))
	}
	slices.Sort(files)
	if files = slices.Compact(files); !slices.Equal(files, g.files) {
		g.files = files
		g.watcher.Set(files)
	}
	for _, file := range files {
		if _, err := os.Stat(file); os.IsPermission(err) {
			g.tell("changes in this directory are found by the hourly passes only, because the service must not look into it", "directory", filepath.Dir(file))
		}
	}
	if err := g.watcher.Err(); err != nil {
		g.tell("changes of files are found later than usual", "error", err.Error())
	}
}

// tell warns once.
func (g *guard) tell(message, key, value string) {
	if !g.told[message+value] {
		g.told[message+value] = true
		g.log.Warn(message, key, value)
	}
}

// wrote takes a change of files by the pass of one certificate for no drift of the others: several may share an SNI map.
func (g *guard) wrote(c *charge, before, after map[string]string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.next = after
	for _, other := range g.charges {
		for _, known := range []map[string]string{other.left, other.next} {
			for path, print := range after {
				if old, ok := before[path]; ok && known[path] == old {
					known[path] = print
				}
			}
		}
	}
}

// look looks at all certificates.
func (g *guard) look() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.charges {
		g.lookAt(c)
	}
}

// lookAt has a certificate woken whose files changed: at once, or when they are left alone. It needs the lock.
func (g *guard) lookAt(c *charge) {
	if c.busy {
		return
	}
	now := printsOf(slices.Collect(maps.Keys(c.left)))
	if maps.Equal(now, c.left) || maps.Equal(now, c.seen) {
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
	c.timer = time.AfterFunc(delay, func() { g.wake(c) })
}

// wake wakes a certificate, unless a pass is under way, at whose end is another look, or all is as it was.
func (g *guard) wake(c *charge) {
	g.mu.Lock()
	defer g.mu.Unlock()
	changed := differing(c.left)
	if c.busy || len(changed) == 0 {
		return
	}
	g.log.Info("files were changed by others", "certificate", c.name, "files", strings.Join(changed, " "))
	c.wakes = append(c.wakes, time.Now())
	if c.rouse == nil {
		c.early = true
		return
	}
	go c.rouse() // which asks the guard
}

// differing are the files that are not what they were.
func differing(prints map[string]string) (files []string) {
	for path, print := range prints {
		if watch.Fingerprint(path) != print {
			files = append(files, path)
		}
	}
	slices.Sort(files)
	return files
}

func printsOf(paths []string) map[string]string {
	prints := make(map[string]string, len(paths))
	for _, path := range paths {
		prints[path] = watch.Fingerprint(path)
	}
	return prints
}

// settle notes how the files of the certificate are now: what differs later was done by others.
func (p *pass) settle() {
	if p.guard == nil {
		return
	}
	p.guard.mu.Lock()
	defer p.guard.mu.Unlock()
	p.guard.charges[p.certificate.Name].next = p.prints()
}

// prints are the fingerprints of the files that a server may read now.
func (p *pass) prints() map[string]string {
	var paths []string
	for _, job := range p.jobs() {
		paths = append(paths, job.Target.Files(job.Bundle)...)
	}
	return printsOf(paths)
}

// write changes files, and has the guard know that it was not somebody else.
func (p *pass) write(change func() error) error {
	if p.guard == nil {
		return change()
	}
	before := p.prints()
	err := change()
	p.guard.wrote(p.guard.charges[p.certificate.Name], before, p.prints())
	return err
}

// compareAgain finds what others have changed since the files were written, and has the next pass see to it.
func (p *pass) compareAgain(ctx context.Context) {
	if p.guard == nil {
		return
	}
	p.settle()
	var plan deployment
	var err error
	if r, remote := p.plan.(*remotePlan); remote { // the helper is here still
		plan, err = p.planThere(ctx, r.conn, p.bundles)
	} else {
		plan, err = p.planHere(p.bundles)
	}
	if err != nil {
		return // the hourly pass tells it, with its reason
	}
	p.guard.mu.Lock()
	defer p.guard.mu.Unlock()
	for _, change := range plan.Summary().Changes {
		p.guard.charges[p.certificate.Name].next[change.Path] = "not what was written"
	}
}
