package daemon

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"mxcert/acme"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// order is one pass to make: for which certificate, with which options, and who listens to its progress.
type order struct {
	workload *workload
	want     wanted.Certificate
	options  pass.Options
	log      *slog.Logger
	say      acme.Progress // beside the log; nil if only the log listens
}

// tend makes pass after pass over one certificate, each when it is due, or when something else changed its files. Between them
// there is only a timer: the stacks of a thousand waiting goroutines would be most of the daemon's memory.
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
		rouse := w.later(time.Until(wake), func(woken bool) {
			w.drift.awake(want.Name)
			d.tend(ctx, w, want, woken, gate)
		})
		w.drift.asleep(want.Name, rouse)
	})
}

// expiry returns when the first of a lineage's current certificates expires; zero if one is missing.
func expiry(lineage *state.Lineage) (first time.Time) {
	record, _, err := lineage.Look()
	if err != nil || record.Applying { // a deployment that a crash interrupted is finished first
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

// pass makes one pass.
func (d *Daemon) pass(ctx context.Context, o *order) report.Certificate {
	ctx, cancel := context.WithTimeout(ctx, passTime)
	defer cancel()
	d.began(o)
	defer d.ended(o)
	result := o.workload.runner.Run(ctx, o.want, o.options, d.voice(ctx, o))
	d.logResult(ctx, o, result)
	return result
}

// voice logs the progress of a pass, and passes it on to the command that asked for it.
func (d *Daemon) voice(ctx context.Context, o *order) acme.Progress {
	return func(stage, message string) {
		if o.say != nil {
			o.say(stage, message)
		}
		level := slog.LevelInfo
		switch stage {
		case "failed":
			return // logResult logs it once, with its hint
		case "warning":
			level = slog.LevelWarn
		case "verify", "done":
			level = slog.LevelDebug
		}
		o.log.Log(ctx, level, "progress", "stage", stage, "detail", report.OneLine(message))
	}
}

// logResult logs how a pass ended. A pass of the newer configuration does what a pass of the older one did not do.
func (d *Daemon) logResult(ctx context.Context, o *order, result report.Certificate) {
	repeats := o.options.Daemon && o.workload.drift.held(o.want.Name, result)
	replaced := o.workload.waiting.Err() != nil
	stopped := errors.Is(ctx.Err(), context.Canceled)
	switch {
	case replaced, result.Error != nil && stopped:
	case repeats:
		o.log.Info("the files are left alone", "detail", report.OneLine(result.Error.Message))
	case result.Error != nil && result.Error.Kind == "backoff":
		o.log.Info("the order waits", "detail", report.OneLine(result.Error.Message), "hint", result.Error.Hint)
	case result.Error != nil:
		o.log.Error("pass failed", "stage", result.Error.Stage, "kind", result.Error.Kind, "error", report.OneLine(result.Error.Message), "hint", result.Error.Hint)
	case result.Changed:
		o.log.Info("certificate in service", "stage", result.Stage, "serial", serials(result), "next_renewal", result.NextRenewal)
	}
}

func serials(r report.Certificate) (list []string) {
	for _, k := range r.Keys {
		list = append(list, k.Serial)
	}
	return list
}

// nextPass returns when the daemon looks at a certificate again: exactly at its renewal time, at the end of a backoff, and once
// an hour in any case, because files and servers change without notice. The daemon does not repeat a failed deployment before
// its backoff ends: each attempt may delay mail.
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

// began notes that a pass is under way.
func (d *Daemon) began(o *order) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.progress[o] = time.Now()
	d.idle.Stop()
}

// ended notes its end.
func (d *Daemon) ended(o *order) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if delete(d.progress, o); len(d.progress) == 0 {
		d.idle.Reset(untilIdle)
	}
}

// hangs reports whether a pass has outlived even its own deadline.
func (d *Daemon) hangs() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, began := range d.progress {
		if time.Since(began) > passTime+5*time.Minute {
			return true
		}
	}
	return false
}
