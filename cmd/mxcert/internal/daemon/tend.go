package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"mxcert/acme"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/logbook"
	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/tell"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/hooks/journal"
)

// order is one pass to make: over which certificate, why, and who receives its progress.
type order struct {
	workload *workload
	want     wanted.Certificate
	options  pass.Options
	log      *slog.Logger
	say      acme.Progress   // receives the progress, in addition to the log; nil: only the log
	doing    doing           // what its pass does now, for systemd; guarded by the daemon's mutex
	gone     <-chan struct{} // closed when the command that asked has exited; nil: no command asked
}

// dropped reports whether a pass was not started, because the command that asked for it had exited.
func (o *order) dropped(result report.Certificate) bool {
	select {
	case <-o.gone: // nil, and so never ready, without a command
		return result.Error != nil && result.Error.Stage == "lock"
	default:
		return false
	}
}

// refused reports whether a command failed that a person asked for: the command shows it, and it says nothing about the certificate.
func (o *order) refused(result report.Certificate) bool {
	return (o.options.DeployOnly || o.options.Rollback) && result.Error != nil
}

// tend makes one pass after another over one certificate: when it is due, and when something else changes its files. Between passes there
// is only a timer. With a thousand certificates, the stacks of waiting goroutines would be most of the daemon's memory.
func (d *Daemon) tend(ctx context.Context, w *workload, want wanted.Certificate, woken bool, gate *schedule.Gate) {
	w.begin(&d.tending, func() {
		leave, err := gate.Enter(w.waiting, expiry(w.runner.Store.Lineage(want.Name)))
		if err != nil {
			return
		}
		log := d.log.With("certificate", want.Name)
		result := d.pass(ctx, &order{workload: w, want: want, log: log, options: pass.Options{Daemon: true, Woken: woken, Replaced: w.waiting.Done()}})
		leave()
		wake := nextPass(result, time.Now())
		log.Debug("sleeps", "until", wake.UTC().Format(time.RFC3339))
		rouse := w.later(want.Name, wake, func(woken bool) {
			w.drift.awake(want.Name)
			d.tend(ctx, w, want, woken, gate)
		})
		w.drift.asleep(want.Name, rouse)
	})
}

// expiry is when the first of a lineage's current certificates ends; zero if one is missing. A deployment that a crash interrupted
// is more urgent than any end: certificate and key may be of different times.
func expiry(lineage *state.Lineage) (first time.Time) {
	record, _, err := lineage.Look()
	if err != nil {
		return time.Time{}
	}
	if record.Applying {
		return time.Unix(0, 0)
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

// pass makes one pass.
func (d *Daemon) pass(ctx context.Context, o *order) report.Certificate {
	ctx, cancel := context.WithTimeout(ctx, passTime)
	defer cancel()
	d.began(o)
	defer d.ended(o)
	began := time.Now()
	result := o.workload.runner.Run(ctx, o.want, o.options, d.voice(ctx, o))
	d.ends(o)
	d.logResult(ctx, o, result)
	if o.workload.waiting.Err() == nil && !errors.Is(ctx.Err(), context.Canceled) && !o.dropped(result) {
		d.observe(o, result)
		if !o.refused(result) {
			d.Tell.Passed(tell.Pass{Report: result, At: time.Now(), Took: time.Since(began)})
		}
		d.lookAsSender(o, result)
	}
	return result
}

// voice writes the progress of a pass to the log, and sends it to whoever asked for the pass.
func (d *Daemon) voice(ctx context.Context, o *order) acme.Progress {
	return func(stage, message string) {
		if o.say != nil {
			o.say(stage, message)
		}
		d.step(o, stage)
		logbook.Progress(ctx, o.log, slog.LevelDebug, stage, message)
	}
}

// logResult logs how a pass ended. If a newer configuration has replaced the one of the pass, a pass of the newer one does what is left.
func (d *Daemon) logResult(ctx context.Context, o *order, result report.Certificate) {
	logbook.Issued(o.log, result)
	repeats := o.options.Daemon && o.workload.drift.held(o.want.Name, result)
	replaced := o.workload.waiting.Err() != nil
	stopped := errors.Is(ctx.Err(), context.Canceled)
	switch {
	case replaced, result.Error != nil && stopped, o.dropped(result):
	case repeats:
		o.log.Info("the files are left alone", "detail", report.OneLine(result.Error.Message), "hint", result.Error.Hint, journal.LeftAlone.Attr())
	default:
		logbook.Result(o.log, result)
	}
}

// nextPass returns when a certificate is looked at again: at its renewal time, at the end of a backoff, when a name that is left out is
// tried again, or when a look at mail_domains may change the names. It is once an hour in any case,
// because files and servers can change without notice. A failed deployment is tried again only after its backoff, because each attempt may
// delay mail.
func nextPass(r report.Certificate, now time.Time) time.Time {
	soonest, wake := now.Add(time.Second), now.Add(lookAround)
	switch {
	case r.NextTry != nil && (r.OutOfService || r.NextTry.Before(wake)):
		wake = *r.NextTry
	case r.NextTry == nil && r.NextRenewal != nil && r.NextRenewal.Before(wake):
		wake = *r.NextRenewal
	}
	for _, l := range r.LeftOut { // in vain if something else keeps the pass from trying it: then it waits for the hourly pass
		if r.NextTry == nil && l.NextTry.After(now) && l.NextTry.Before(wake) {
			wake = l.NextTry
		}
	}
	if r.NextTry == nil && !r.NextLook.IsZero() && r.NextLook.Before(wake) {
		wake = r.NextLook
	}
	if dane := !r.NextTLSA.IsZero() && (!r.OutOfService || r.Error != nil && strings.HasPrefix(r.Error.Kind, "dane")); dane && r.NextTLSA.Before(wake) {
		wake = r.NextTLSA
	}
	if ocsp := !r.NextOCSP.IsZero() && (!r.OutOfService || r.Error != nil && strings.HasPrefix(r.Error.Kind, "ocsp")); ocsp && r.NextOCSP.Before(wake) {
		wake = r.NextOCSP
	}
	if !r.NextOffer.IsZero() && !r.OutOfService && r.NextOffer.Before(wake) {
		wake = r.NextOffer
	}
	if wake.Before(soonest) {
		return soonest
	}
	return wake
}

// began records that a pass has started.
func (d *Daemon) began(o *order) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.progress[o] = time.Now()
	d.begins(o)
	d.idle.Stop()
}

// ended records that a pass has ended.
func (d *Daemon) ended(o *order) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if delete(d.progress, o); len(d.progress) == 0 {
		d.idle.Reset(untilIdle)
	}
}

// restLater gives memory back soon, if no pass runs.
func (d *Daemon) restLater() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.progress) == 0 {
		d.idle.Reset(untilIdle)
	}
}

// health returns an error if a pass still runs after its own deadline.
func (d *Daemon) health() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for o, began := range d.progress {
		if time.Since(began) > passTime+5*time.Minute {
			return fmt.Errorf("a pass over %s hangs since %s", o.want.Name, report.Minute(began))
		}
	}
	return nil
}
