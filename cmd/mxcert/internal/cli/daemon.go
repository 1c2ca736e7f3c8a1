package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"mxcert/acme"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/configs"
	"mxcert/hooks/sdnotify"
	"mxcert/hooks/watch"

	"mxcert/cmd/mxcert/internal/report"
)

const (
	// lookAround is how often a certificate that is not due is compared with files and endpoints all the same.
	lookAround = time.Hour
	// passTime bounds one pass of the daemon; the watchdog takes one that lasts longer for hung.
	passTime = 30 * time.Minute
	// stopTime bounds the way out: systemd waits 90 s before it kills, operators less.
	stopTime = 28 * time.Second
)

// daemon says when something is done; pass.go says what.
type daemon struct {
	app   *app
	log   *slog.Logger
	level slog.LevelVar // of log, as the configuration in force says

	mu       sync.Mutex
	shift    *shift
	status   report.Daemon
	progress map[*pass]time.Time // when each pass under way began
	idle     *time.Timer         // gives memory back when no pass has been under way for a while
	tending  sync.WaitGroup      // of all shifts, those that run out too
	rereads  chan struct{}       // a command wants the configuration to be read again
	reread   time.Time           // when a command last had the configuration read again
	desk     *desk               // of the helpers of an unprivileged service; nil where it needs none
}

func (a *app) newDaemon() *daemon {
	d := &daemon{app: a, progress: map[*pass]time.Time{}, rereads: make(chan struct{})}
	d.log = a.logger(&d.level)
	d.idle = time.AfterFunc(untilIdle, d.rest)
	return d
}

// run serves until ctx ends.
func (d *daemon) run(ctx context.Context) error {
	// Before the files are read, so that no change is missed in between.
	watcher := watch.New([]string{d.app.configFile, filepath.Join(filepath.Dir(d.app.configFile), "conf.d", "*.yaml")})
	defer watcher.Close()
	config, err := d.app.load()
	if err != nil {
		return err
	}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	store, err := state.Open(disk.Open(config.State))
	if err != nil {
		return err
	}
	unlock, err := store.LockDaemon()
	if errors.Is(err, state.ErrLocked) {
		return &report.Exit{Code: report.CodeTemporary, Err: fmt.Errorf("another mxcert run is at work on %s: stop it first (systemctl stop mxcert)", config.State)}
	}
	if err != nil {
		return err
	}
	defer unlock()
	if d.desk, err = deskIfNeeded(); err != nil {
		return err
	}
	defer d.desk.close()
	d.status = report.Daemon{PID: os.Getpid(), Started: time.Now().UTC(), Version: d.app.version}
	if err := d.begin(config); err != nil {
		return err
	}
	socket, closeSocket, err := d.listen(work, config)
	if err != nil {
		d.log.Warn("commands cannot ask this daemon; they work under its locks instead", "error", err)
	} else {
		defer closeSocket()
		d.setStatus(func(s *report.Daemon) { s.Socket = socket })
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	var feeder sdnotify.Feeder
	go feeder.Run(work)
	d.tell(sdnotify.Ready())
	d.work(work, d.current())
	d.loop(ctx, work, watcher, hup, &feeder)
	return d.end(cancel)
}

// loop waits for a changed configuration, SIGHUP and the end. Its ticks feed the watchdog while no pass hangs.
func (d *daemon) loop(ctx, work context.Context, watcher *watch.Watcher, hup <-chan os.Signal, feeder *sdnotify.Feeder) {
	interval := time.Minute
	if watchdog, on := sdnotify.Watchdog(); on {
		interval = watchdog / 4
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if !d.hangs() {
				feeder.Beat()
			}
		case <-watcher.Changes():
			d.reload(work, byWatch)
		case <-hup:
			d.reload(work, "SIGHUP")
		case <-d.rereads:
			d.reload(work, "a command found it changed")
			d.reread = time.Now()
		}
	}
}

const (
	// byWatch is the reason of a reload that the watched files asked for.
	byWatch = "the configuration file changed"
	// justNow is how long after a command's reload the same change may still be told by the watch.
	justNow = 5 * time.Second
)

// inForce reports whether a configuration is the one that is worked with already, and no other was tried since.
func (d *daemon) inForce(config *configs.Config) bool {
	mark, err := fingerprint(config)
	d.mu.Lock()
	defer d.mu.Unlock()
	return err == nil && d.shift != nil && d.shift.world.fingerprint == mark && d.status.ConfigError == ""
}

// reload takes a new configuration, or keeps the old one when the new is bad (a broken edit must not stop renewals).
func (d *daemon) reload(ctx context.Context, why string) {
	d.tell(sdnotify.Reloading())
	defer func() { d.tell(sdnotify.Ready()) }()
	config, err := configs.Load(d.app.configFile)
	if err == nil && why == byWatch && time.Since(d.reread) < justNow && d.inForce(config) {
		return // a command was faster: the work that it waits for goes on
	}
	if err == nil {
		err = d.begin(config)
	}
	if err == nil {
		d.work(ctx, d.current())
	}
	if err != nil {
		d.setStatus(func(s *report.Daemon) { s.ConfigError, s.ConfigErrorAt = err.Error(), new(time.Now().UTC()) })
		d.log.Error("the configuration is bad; the one that was loaded before stays in force", "reason", why, "error", err)
		d.tell(sdnotify.Status("bad configuration, the old one stays in force: " + report.OneLine(err.Error())))
		return
	}
	for _, w := range config.Warnings() {
		d.log.Warn("suspicious configuration", "file", w.File, "line", w.Line, "column", w.Column, "warning", w.Message)
	}
	d.log.Info("configuration loaded", "reason", why, "certificates", len(config.Certificates))
}

// begin puts a configuration in force and lets the work on the old one run out.
func (d *daemon) begin(config *configs.Config) error {
	w, err := newWorld(config, d.app.version, false)
	if err != nil {
		return err
	}
	w.desk = d.desk
	// A hidden secret is none: in this copy, which nobody orders with, it is a reference like the others.
	if err := w.store.SaveRunningConfig(bytes.ReplaceAll(w.effective, []byte("(secret)"), []byte("env:HIDDEN"))); err != nil {
		w.close()
		return err
	}
	w.effective = nil
	config.Forget() // what is wrong with it has been said
	d.level.Set(d.app.threshold(config))
	w.guard = newGuard(d.log, config.Certificates)
	next := newShift(w)
	d.mu.Lock()
	old := d.shift
	d.shift = next
	d.mu.Unlock()
	if old != nil {
		old.end()
		go func() {
			old.done.Wait()
			old.world.close()
		}()
	}
	d.setStatus(func(s *report.Daemon) {
		s.ConfigError, s.ConfigErrorAt, s.ConfigLoaded = "", nil, time.Now().UTC()
	})
	d.tell(sdnotify.Status(fmt.Sprintf("%d %s", len(config.Certificates), report.Plural(len(config.Certificates), "certificate"))))
	return nil
}

// work starts the work on the configuration in force.
func (d *daemon) work(ctx context.Context, s *shift) {
	w := s.world
	d.tending.Go(func() {
		say := func(stage, message string) { d.log.Info("progress", "stage", stage, "detail", report.OneLine(message)) }
		if err := w.sweepOrphans(ctx, say); err != nil && ctx.Err() == nil {
			d.log.Warn("TXT records remain", "error", err)
		}
	})
	gate := schedule.NewGate(maxPasses)
	for _, c := range w.config.Certificates {
		d.tend(ctx, s, c, false, gate)
	}
}

// tend makes pass after pass over one certificate, each when it is due, or when its files were changed by others. Between
// them there is a timer and nothing else: the stacks of a thousand goroutines that wait would be most of what the daemon
// needs.
func (d *daemon) tend(ctx context.Context, s *shift, c configs.Certificate, woken bool, gate *schedule.Gate) {
	s.begin(&d.tending, func() {
		leave, err := gate.Enter(s.waiting, expiry(s.world.store.Lineage(c.Name)))
		if err != nil {
			return
		}
		log := d.log.With("certificate", c.Name)
		result := d.pass(ctx, s, c, woken, log)
		leave()
		wake := nextPass(result, time.Now())
		log.Debug("sleeps", "until", wake.UTC().Format(time.RFC3339))
		rouse := s.later(time.Until(wake), func(woken bool) {
			s.world.guard.awake(c.Name)
			d.tend(ctx, s, c, woken, gate)
		})
		s.world.guard.asleep(c.Name, rouse)
	})
}

// expiry is when the first of a lineage's current certificates ends; zero where one is missing.
func expiry(lineage *state.Lineage) (first time.Time) {
	record, _, err := lineage.Look()
	if err != nil || record.Applying { // what a crash left half done comes before everything else
		return time.Time{}
	}
	for _, slot := range record.Keys {
		g, err := lineage.Generation(slot.Current)
		if err != nil {
			return time.Time{}
		}
		if first.IsZero() || g.NotAfter.Before(first) {
			first = g.NotAfter
		}
	}
	return first
}

func (d *daemon) pass(ctx context.Context, s *shift, c configs.Certificate, woken bool, log *slog.Logger) report.Certificate {
	ctx, cancel := context.WithTimeout(ctx, passTime)
	defer cancel()
	p := &pass{world: s.world, certificate: c, options: passOptions{daemon: true, woken: woken, replaced: s.waiting.Done()}, say: d.voice(ctx, log)}
	d.note(p, time.Now())
	defer d.note(p, time.Time{})
	result := p.run(ctx)
	d.logResult(ctx, p, result, log)
	return result
}

// voice puts the progress of a pass into the log.
func (d *daemon) voice(ctx context.Context, log *slog.Logger) acme.Progress {
	return func(stage, message string) {
		level := slog.LevelInfo
		switch stage {
		case "failed":
			return // said once, with its hint, by logResult
		case "warning":
			level = slog.LevelWarn
		case "verify", "done":
			level = slog.LevelDebug
		}
		log.Log(ctx, level, "progress", "stage", stage, "detail", report.OneLine(message))
	}
}

// logResult logs how a pass ended.
func (d *daemon) logResult(ctx context.Context, p *pass, result report.Certificate, log *slog.Logger) {
	stopped := errors.Is(ctx.Err(), context.Canceled)
	switch {
	case p.isReplaced(): // what it did not do, the newer configuration's pass does
	case p.repeats && !stopped:
		log.Info("the files are left alone", "detail", report.OneLine(result.Error.Message))
	case result.Error != nil && !stopped && result.Error.Kind == "backoff":
		log.Info("the order waits", "detail", report.OneLine(result.Error.Message), "hint", result.Error.Hint)
	case result.Error != nil && !stopped:
		log.Error("pass failed", "stage", result.Error.Stage, "kind", result.Error.Kind, "error", report.OneLine(result.Error.Message), "hint", result.Error.Hint)
	case result.Error == nil && result.Changed:
		log.Info("certificate in service", "stage", result.Stage, "serial", serials(result), "next_renewal", result.NextRenewal)
	}
}

func serials(r report.Certificate) (list []string) {
	for _, k := range r.Keys {
		list = append(list, k.Serial)
	}
	return list
}

// nextPass is when a certificate is looked at again: at its renewal time exactly, at the end of a backoff, and once an
// hour in any case, because files and servers change behind our back. A failed deployment is not tried more often than
// its backoff says: each attempt may delay mail.
func nextPass(r report.Certificate, now time.Time) time.Time {
	soonest, wake := now.Add(time.Second), now.Add(lookAround)
	switch {
	case r.NextTry != nil && (r.OutOfService || r.NextTry.Before(wake)):
		wake = *r.NextTry
	case r.NextTry == nil && r.NextRenewal != nil && r.NextRenewal.Before(wake):
		wake = *r.NextRenewal
	}
	if wake.Before(soonest) {
		return soonest
	}
	return wake
}

// end stops all work. A pass under way gets its context cancelled, which removes its TXT records and takes back a
// half-proven deployment.
func (d *daemon) end(cancel context.CancelFunc) error {
	d.tell(sdnotify.Stopping())
	d.log.Info("stopping")
	d.mu.Lock()
	current := d.shift
	d.mu.Unlock()
	current.end()
	cancel()
	finished := make(chan struct{})
	go func() {
		d.tending.Wait()
		close(finished)
	}()
	select {
	case <-finished:
		current.world.close()
		return nil
	case <-time.After(stopTime):
		return errors.New("a pass did not end in time; what it left is taken up at the next start")
	}
}

// note keeps the begin of a pass; a zero time is its end.
func (d *daemon) note(p *pass, began time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !began.IsZero() {
		d.progress[p] = began
		d.idle.Stop()
		return
	}
	if delete(d.progress, p); len(d.progress) == 0 {
		d.idle.Reset(untilIdle)
	}
}

// hangs reports whether a pass has outlived even its own deadline.
func (d *daemon) hangs() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, began := range d.progress {
		if time.Since(began) > passTime+5*time.Minute {
			return true
		}
	}
	return false
}

// tell logs that systemd could not be told something; the work goes on.
func (d *daemon) tell(err error) {
	if err != nil {
		d.log.Warn("systemd could not be notified", "error", err)
	}
}
