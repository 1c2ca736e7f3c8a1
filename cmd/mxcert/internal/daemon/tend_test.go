package daemon

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

func TestNextPass(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	in := func(d time.Duration) *time.Time { return new(now.Add(d)) }
	for _, tt := range []struct {
		what   string
		report report.Certificate
		want   time.Duration
	}{
		{"nothing known", report.Certificate{}, time.Hour},
		{"renewal in weeks", report.Certificate{NextRenewal: in(500 * time.Hour)}, time.Hour},
		{"renewal in a quarter", report.Certificate{NextRenewal: in(15 * time.Minute)}, 15 * time.Minute},
		{"renewal overdue", report.Certificate{NextRenewal: in(-time.Minute)}, time.Second},
		{"renewal now", report.Certificate{NextRenewal: in(0)}, time.Second},
		{"first failure", report.Certificate{NextTry: in(time.Minute)}, time.Minute},
		{"failure of a renewal that is due", report.Certificate{NextTry: in(time.Minute), NextRenewal: in(-time.Hour)}, time.Minute},
		{"long backoff of an order: files are looked at all the same", report.Certificate{NextTry: in(24 * time.Hour), NextRenewal: in(-time.Hour)}, time.Hour},
		{"long backoff of a deployment: mail is left alone", report.Certificate{NextTry: in(24 * time.Hour), NextRenewal: in(time.Hour), OutOfService: true}, 24 * time.Hour},
		{"a name that is left out is tried again", report.Certificate{LeftOut: []report.LeftOut{{NextTry: now.Add(9 * time.Minute)}}}, 9 * time.Minute},
		{"a name whose time has passed", report.Certificate{LeftOut: []report.LeftOut{{NextTry: now.Add(-time.Minute)}}}, time.Hour},
		{"a name, in a backoff", report.Certificate{NextTry: in(24 * time.Hour), LeftOut: []report.LeftOut{{NextTry: now.Add(time.Minute)}}}, time.Hour},
		{"backoff that is over", report.Certificate{NextTry: in(-time.Minute)}, time.Second},
	} {
		if got := nextPass(tt.report, now).Sub(now); got != tt.want {
			t.Errorf("%s: in %s, want %s", tt.what, got, tt.want)
		}
	}
}

func TestNextPassKeepsLookingInBackoff(t *testing.T) {
	now := time.Now()
	tomorrow, soon, past := now.Add(24*time.Hour), now.Add(time.Minute), now.Add(-time.Hour)
	for _, tt := range []struct {
		report report.Certificate
		want   time.Duration
	}{
		{report.Certificate{}, time.Hour},
		{report.Certificate{NextTry: &tomorrow}, time.Hour},
		{report.Certificate{NextTry: &soon}, time.Minute},
		{report.Certificate{NextTry: &past}, time.Second},
		{report.Certificate{NextRenewal: &soon}, time.Minute},
		{report.Certificate{NextRenewal: &tomorrow}, time.Hour},
		{report.Certificate{NextRenewal: &past}, time.Second},
	} {
		if got := nextPass(tt.report, now).Sub(now); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.report, got, tt.want)
		}
	}
}

// The watchdog goes hungry when any pass has outlived its own deadline, and one of an older configuration does not hide
// another.
func TestHangs(t *testing.T) {
	t.Parallel()
	const limit = passTime + 5*time.Minute
	for _, tt := range []struct {
		what string
		ages []time.Duration
		want bool
	}{
		{"asleep", nil, false},
		{"at work", []time.Duration{time.Minute, passTime}, false},
		{"at its deadline", []time.Duration{passTime + time.Minute}, false},
		{"one of several hangs", []time.Duration{0, limit + time.Minute, time.Minute}, true},
	} {
		d := New(Options{})
		var passes []*order
		for _, age := range tt.ages {
			p := &order{}
			d.began(p)
			d.progress[p] = time.Now().Add(-age)
			passes = append(passes, p)
		}
		if got := d.health() != nil; got != tt.want {
			t.Errorf("%s: %v, want %v", tt.what, got, tt.want)
		}
		for i, p := range passes {
			if tt.ages[i] < limit { // the end of the others changes nothing
				d.ended(p)
			}
		}
		if got := d.health() != nil; got != tt.want {
			t.Errorf("%s, after the others ended: %v, want %v", tt.what, got, tt.want)
		}
		for _, p := range passes {
			d.ended(p)
		}
		if d.health() != nil || len(d.progress) > 0 {
			t.Errorf("%s: passes that ended are remembered: %v", tt.what, d.progress)
		}
	}
}

// Progress goes to the log at a level that fits, and all of it to the command that has asked for the pass.
func TestVoice(t *testing.T) {
	t.Parallel()
	for stage, level := range map[string]slog.Level{"order": slog.LevelDebug, "deploy": slog.LevelDebug, "account": slog.LevelInfo, "warning": slog.LevelWarn, "verify": slog.LevelDebug, "done": slog.LevelDebug} {
		log := &transcript{}
		d := newDaemon("", log)
		d.voice(t.Context(), &order{log: d.log})(stage, "one\ntwo")
		if want := "level=" + level.String() + ` msg=progress stage=` + stage + ` detail="one; two"` + "\n"; !strings.HasSuffix(log.String(), want) {
			t.Errorf("%s is logged as %q, want %q", stage, log, want)
		}
	}
	log, heard := &transcript{}, ""
	d := newDaemon("", log)
	voice := d.voice(t.Context(), &order{log: d.log, say: func(stage, message string) { heard += stage + "=" + message + "," }})
	voice("failed", "the reason")
	if log.String() != "" {
		t.Errorf("the failure is logged twice, here and with its hint: %s", log)
	}
	if voice("order", "next"); heard != "failed=the reason,order=next," {
		t.Errorf("the command hears %q", heard)
	}
}

// The end of a pass is logged once, at a level that fits, and not at all if a newer configuration or a stop ended it.
func TestLogResult(t *testing.T) {
	t.Parallel()
	in := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	failed := report.Certificate{Error: &report.Error{Stage: "order", Kind: "ca-error", Message: "out of\norder", Hint: "wait"}}
	backoff := report.Certificate{Error: &report.Error{Stage: "order", Kind: "backoff", Message: "not yet", Hint: "--now"}}
	busy := report.Certificate{Elsewhere: true, Error: &report.Error{Stage: "order", Kind: pass.KindFleetBusy, Message: "mx2 orders", Hint: "nothing"}}
	held := report.Certificate{Error: &report.Error{Stage: "deploy", Kind: "drift", Message: "a fight", Hint: "stop it"}, HeldUntil: in, HeldOnly: true}
	changed := report.Certificate{Changed: true, Stage: report.Served, Keys: []report.Key{{Serial: "0a"}, {Serial: "0b"}}, NextRenewal: &in}
	byDaemon := pass.Options{Daemon: true}
	stopped, late := ended(), expired(t)
	for _, tt := range []struct {
		what     string
		ctx      context.Context
		options  pass.Options
		replaced bool
		results  []report.Certificate
		want     string // of the last
	}{
		{"failed", t.Context(), byDaemon, false, []report.Certificate{failed}, `level=ERROR msg="pass failed" stage=order kind=ca-error error="out of; order" hint=wait event=order-failed`},
		{"failed for a command", t.Context(), pass.Options{}, false, []report.Certificate{failed}, `level=ERROR msg="pass failed" stage=order kind=ca-error error="out of; order" hint=wait event=order-failed`},
		{"failed because its time was over", late, byDaemon, false, []report.Certificate{failed}, `level=ERROR msg="pass failed" stage=order kind=ca-error error="out of; order" hint=wait event=order-failed`},
		{"stopped", stopped, byDaemon, false, []report.Certificate{failed}, ""},
		{"done before the stop", stopped, byDaemon, false, []report.Certificate{changed}, `level=INFO msg="certificate in service" stage=served serial="[0a 0b]" next_renewal=` + in.Format(time.RFC3339) + " event=served"},
		{"replaced", t.Context(), byDaemon, true, []report.Certificate{failed}, ""},
		{"refused", t.Context(), pass.Options{Rollback: true}, false, []report.Certificate{{Error: &report.Error{Kind: pass.KindRefused, Message: "there is no earlier one"}}}, `level=INFO msg="a command was refused" detail="there is no earlier one" event=command-refused`},
		{"waits", t.Context(), byDaemon, false, []report.Certificate{backoff}, `level=INFO msg="the order waits" detail="not yet" hint=--now event=order-waits`},
		{"another host orders", t.Context(), byDaemon, false, []report.Certificate{busy}, `level=INFO msg="the order waits for the fleet" kind=fleet-busy detail="mx2 orders" hint=nothing event=fleet-waits`},
		{"a fight is given up", t.Context(), byDaemon, false, []report.Certificate{held}, `level=ERROR msg="pass failed" stage=deploy kind=drift error="a fight" hint="stop it" event=left-alone`},
		{"it is still given up", t.Context(), byDaemon, false, []report.Certificate{held, held}, `level=INFO msg="the files are left alone" detail="a fight" hint="stop it" event=left-alone`},
		{"a command fails meanwhile", t.Context(), pass.Options{}, false, []report.Certificate{held, held}, `level=ERROR msg="pass failed" stage=deploy kind=drift error="a fight" hint="stop it" event=left-alone`},
		{"changed", t.Context(), byDaemon, false, []report.Certificate{changed}, `level=INFO msg="certificate in service" stage=served serial="[0a 0b]" next_renewal=` + in.Format(time.RFC3339) + " event=served"},
		{"nothing to do", t.Context(), byDaemon, false, []report.Certificate{{Stage: report.Served}}, ""},
	} {
		log := &transcript{}
		d := newDaemon("", log)
		w := newWorkload(&pass.Runner{}, &driftWatch{watched: map[string]*watched{"mx": {name: "mx"}}})
		if tt.replaced {
			w.end()
		}
		for _, result := range tt.results {
			log.text.Reset()
			d.logResult(tt.ctx, &order{workload: w, want: wanted.Certificate{Name: "mx"}, options: tt.options, log: d.log}, result)
		}
		if _, got, _ := strings.Cut(strings.TrimSuffix(log.String(), "\n"), " "); got != tt.want {
			t.Errorf("%s is logged as\n%s, want\n%s", tt.what, got, tt.want)
		}
	}
}

// expired is the context of a pass that ran out of time.
func expired(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 0)
	t.Cleanup(cancel)
	<-ctx.Done()
	return ctx
}
