// Package daemon decides when mxcert works. It makes a pass over each certificate at its renewal time, once an hour, when something else
// changes its files, and when a command asks for it. Package pass decides what a pass does.
//
// The daemon keeps one configuration in force. It reads the files again when they change, or on SIGHUP. If the new configuration is broken,
// the daemon reports that and keeps the old one (invariant I11).
//
// The daemon feeds systemd's watchdog as long as no pass hangs. On SIGTERM, which ends its context, it stops within 30 seconds. A running
// pass then removes its TXT records and undoes a deployment that is not yet proven.
//
// Commands reach the daemon over a control socket ([Ask]), so that one process, with the rights of one user, does the work.
package daemon

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

	"mxcert/acme/finding"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert/internal/helper"
	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/tell"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/configs"
	"mxcert/deploy/survey"
	"mxcert/hooks/journal"
	"mxcert/hooks/sdnotify"
	"mxcert/hooks/watch"
)

const (
	// lookAround is how often the daemon compares a certificate with files and endpoints even if it is not due.
	lookAround = time.Hour
	// passTime limits one pass. If a pass takes longer, the watchdog considers it hung.
	passTime = 30 * time.Minute
	// lastWords limits how long the daemon tells people the last news before it ends.
	lastWords = 3 * time.Second
	// stopTime limits how long the daemon may take to stop. systemd waits 90 s before it kills; operators wait less.
	stopTime = 25 * time.Second
	// MaxPasses limits how many passes run at once.
	MaxPasses = 16
)

// Options are what a daemon needs to know in addition to its configuration.
type Options struct {
	ConfigFile string
	Release    string         // version of the program
	Log        *slog.Logger   // its level is Level
	Level      *slog.LevelVar // set to the configured level, unless LogLevel is set
	LogLevel   string         // debug, info, warn or error instead of the configured level; "" keeps it

	Load func() (*configs.Config, error) // reads the first configuration and shows its warnings
	Tell *tell.Hub                       // learns what passes and looks find; the daemon closes it

	// Provider tests the DNS provider of a certificate with the secrets that this process can read. If online is set, the provider creates
	// and removes records for that; otherwise nothing is changed.
	Provider func(ctx context.Context, want wanted.Certificate, online bool) []finding.Finding
}

// Daemon keeps all certificates of a configuration in service.
type Daemon struct {
	Options
	log    *slog.Logger
	helper *helper.Client

	mu       sync.Mutex
	workload *workload            // of the configuration in force
	status   report.Daemon        // what commands can read about the daemon
	progress map[*order]time.Time // when each running pass has started
	idle     *time.Timer          // gives memory back when no pass has run for a while
	tending  sync.WaitGroup       // the work of all workloads, including those that are running out
	keeping  sync.Mutex           // held while the configuration in force is being stored
	rereads  chan struct{}        // a command wants the configuration to be read again
	reread   time.Time            // when a command last had the configuration read again

	look     surveyor             // at mail domains, as senders do
	surveys  chan struct{}        // holds one value while such a look runs
	surveyed map[string]time.Time // when the last such look for each certificate was started
	reading  sync.Mutex           // held while reports of senders are read

	session string      // of this process in a fleet
	member  *membership // of the configuration in force; nil if it has no fleet

	conditions map[string]condition // of the certificates after their last pass
	shown      string               // what systemd was last told about them
}

// New returns a daemon that has not started yet.
func New(options Options) *Daemon {
	if options.Tell == nil {
		options.Tell = tell.New(options.Log, options.Release)
	}
	d := &Daemon{Options: options, log: options.Log, helper: helper.NewClient(), progress: map[*order]time.Time{}, rereads: make(chan struct{}), session: newSession(),
		look: survey.LookAtDomain, surveys: make(chan struct{}, 1), surveyed: map[string]time.Time{}, conditions: map[string]condition{}}
	d.idle = time.AfterFunc(untilIdle, d.rest)
	d.Tell.Serve(d.health)
	return d
}

// Run keeps everything in service until ctx ends. The first configuration must be good; the error says what is wrong with it. If another
// daemon works on the same state, Run returns an error with report.CodeTemporary.
func (d *Daemon) Run(ctx context.Context) error {
	// The watch starts before the files are read, so that no change is missed in between.
	watcher := watch.New([]string{d.ConfigFile, filepath.Join(filepath.Dir(d.ConfigFile), "conf.d", "*.yaml")})
	defer watcher.Close()
	config, err := d.Load()
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
	d.status = report.Daemon{PID: os.Getpid(), Started: time.Now().UTC(), Version: d.Release}
	if err := d.take(config); err != nil {
		return err
	}
	defer d.listen(work, config.State)()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	var feeder sdnotify.Feeder
	go feeder.Run(work)
	d.notify(sdnotify.Ready())
	d.log.Info("started", "version", d.Release, "config", d.ConfigFile, "certificates", certificateNames(d.current().runner.Host), journal.Started.Attr())
	d.start(work, d.current())
	d.loop(ctx, work, watcher, hup, &feeder)
	return d.end(cancel)
}

// loop waits for a changed configuration, for SIGHUP and for the end. It feeds the watchdog at each tick, as long as no pass hangs.
func (d *Daemon) loop(ctx, work context.Context, watcher *watch.Watcher, hup <-chan os.Signal, feeder *sdnotify.Feeder) {
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
			if d.health() == nil {
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
	// byWatch is the reason of a reload if the watched files have changed.
	byWatch = "the configuration file changed"
	// justNow is how long the watch may still report a change that a command's reload has already taken.
	justNow = 5 * time.Second
)

// inForce reports whether a configuration is already in force and no other was tried since.
func (d *Daemon) inForce(config *configs.Config) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.workload != nil && d.workload.runner.Host.Fingerprint == config.Fingerprint() && d.status.ConfigError == ""
}

// reload takes a new configuration. If the new one is bad, it keeps the old one, because a broken edit must not stop renewals.
func (d *Daemon) reload(ctx context.Context, why string) {
	d.notify(sdnotify.Reloading())
	defer func() { d.notify(sdnotify.Ready()) }()
	config, err := configs.Load(d.ConfigFile)
	if err == nil && why == byWatch && time.Since(d.reread) < justNow && d.inForce(config) {
		return // a command was faster; its work continues
	}
	var warnings []configs.Problem
	if err == nil {
		warnings = wanted.Warnings(config)
		err = d.take(config)
	}
	if err == nil {
		d.start(ctx, d.current())
	}
	if err != nil {
		d.setStatus(func(s *report.Daemon) { s.ConfigError, s.ConfigErrorAt = err.Error(), new(time.Now().UTC()) })
		d.Tell.ConfigBad(err.Error())
		d.log.Error("the configuration is bad; the one that was loaded before stays in force", "reason", why, "error", err, journal.ConfigBad.Attr())
		d.showCondition(true)
		return
	}
	for _, w := range warnings {
		d.log.Warn("suspicious configuration", "file", w.File, "line", w.Line, "column", w.Column, "warning", w.Message)
	}
	d.log.Info("configuration loaded", "reason", why, "certificates", len(config.Certificates), journal.ConfigLoaded.Attr())
}

// take puts a configuration in force. Work on the old one finishes what is running and starts nothing new.
func (d *Daemon) take(config *configs.Config) error {
	runner, member, err := d.runner(config)
	if err != nil {
		return err
	}
	config.Forget() // its warnings have been shown
	d.setLevel(config.Log.Level)
	next := newWorkload(runner, newDriftWatch(d.log, runner.Host.Certificates))
	next.member = member
	d.mu.Lock()
	old := d.workload
	d.workload = next
	d.mu.Unlock()
	if old != nil {
		old.end()
		go func() {
			old.done.Wait()
			old.close()
		}()
	}
	d.setStatus(func(s *report.Daemon) {
		s.ConfigError, s.ConfigErrorAt, s.ConfigLoaded = "", nil, time.Now().UTC()
	})
	d.Tell.InForce(runner.Host, runner.Store)
	d.tending.Go(func() { d.keep(config, runner.Store) })
	d.showCondition(true)
	return nil
}

// keep stores the configuration in force, so that commands can work with it while the files are broken. This takes longer than everything
// else that the daemon does before it is ready, and no pass waits for it.
func (d *Daemon) keep(config *configs.Config, store *state.Book) {
	d.keeping.Lock()
	defer d.keeping.Unlock()
	if !d.inForce(config) {
		return // a newer one is already stored
	}
	text, err := config.Effective(nil)
	if err == nil {
		// Nothing is ordered with this copy. A hidden secret becomes a reference, because the loader refuses a literal "(secret)".
		err = store.SaveRunningConfig(bytes.ReplaceAll(text, []byte("(secret)"), []byte("env:HIDDEN")))
	}
	if err != nil {
		d.log.Warn("the configuration in force could not be stored; while the files are broken, commands do not know it", "error", err)
	}
}

// runner makes a runner from a configuration, and joins its fleet.
func (d *Daemon) runner(config *configs.Config) (*pass.Runner, *membership, error) {
	if err := wanted.Check(config); err != nil {
		return nil, nil, err
	}
	host, err := wanted.From(config)
	if err != nil {
		return nil, nil, err
	}
	host.SendAsRoot(helper.Send)
	if err := d.mayJoin(config, host.Fleet); err != nil {
		return nil, nil, err
	}
	store, err := disk.Open(config.State)
	if err != nil {
		return nil, nil, err
	}
	member, err := d.join(host.Fleet, config.State, store)
	if err != nil {
		return nil, nil, err
	}
	book := state.New(store)
	if member != nil {
		book = state.New(member.Store())
	}
	runner, err := pass.New(host, book, d.Release)
	if err != nil && member != nil {
		err = errors.Join(err, d.left(member))
	}
	if err != nil {
		return nil, nil, err
	}
	runner.Helper = d.helper
	if member != nil {
		runner.Fleet, runner.Leave = member.Member, func() error { return d.left(member) }
	}
	return runner, member, nil
}

// setLevel sets the level of the log.
func (d *Daemon) setLevel(configured string) {
	if d.LogLevel != "" {
		configured = d.LogLevel
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(configured)); err == nil {
		d.Level.Set(level)
	}
}

func (d *Daemon) current() *workload {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.workload
}

// end stops all work.
func (d *Daemon) end(cancel context.CancelFunc) error {
	d.notify(sdnotify.Stopping())
	d.log.Info("stopping", journal.Stopping.Attr())
	current := d.current()
	current.end()
	cancel()
	finished := make(chan struct{})
	go func() {
		d.tending.Wait()
		close(finished)
	}()
	defer d.closeTell()
	select {
	case <-finished:
		current.close()
		return nil
	case <-time.After(stopTime):
		return errors.New("a pass did not end in time; the next start resumes its work")
	}
}

// closeTell tells people the last news.
func (d *Daemon) closeTell() {
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	d.Tell.Close(ctx)
}

// notify logs that systemd could not be notified. The work continues.
func (d *Daemon) notify(err error) {
	if err != nil {
		d.log.Warn("systemd could not be notified", "error", err)
	}
}

// start starts the work on the configuration in force.
func (d *Daemon) start(ctx context.Context, w *workload) {
	w.wants()
	d.attend(ctx, w.member)
	d.tending.Go(func() {
		say := func(stage, message string) {
			d.log.Debug("progress", "stage", stage, "detail", report.OneLine(message))
		}
		if err := w.runner.SweepOrphans(ctx, say); err != nil && ctx.Err() == nil {
			d.log.Warn("TXT records remain", "error", err, journal.TXTRemain.Attr())
		}
	})
	gate := schedule.NewGate(MaxPasses)
	for _, want := range w.runner.Host.Certificates {
		d.tend(ctx, w, want, false, gate)
	}
	d.startTasks(w)
}
