package cli

import (
	"context"
	"log/slog"

	"mxcert/cmd/mxcert/internal/logbook"
	"mxcert/cmd/mxcert/internal/report"
)

// diary is the journal as a command that is no daemon writes to it, such as that of mxcert-renew.timer. A nil diary writes nothing.
type diary struct {
	log *slog.Logger
	own bool // this process makes the passes: its lines are the events. A daemon that makes them has logged these itself.
}

// diary returns the journal, if standard error is the journal; otherwise nil.
func (a *app) diary() *diary {
	if !a.takesFields() {
		return nil
	}
	level := slog.LevelInfo
	if a.quiet {
		level = slog.LevelWarn
	}
	return &diary{log: a.logger(level)}
}

// keeps makes the narrator's progress the events of passes in this process.
func (n *narrator) keeps(d *diary) {
	if d != nil {
		d.own = true
	}
	if n != nil {
		n.diary = d
	}
}

// progress logs a step.
func (d *diary) progress(certificate, stage, message string) {
	log := d.log
	if certificate != "" && certificate != "-" {
		log = log.With("certificate", certificate)
	}
	if d.own {
		logbook.Progress(context.Background(), log, slog.LevelInfo, stage, message)
		return
	}
	level := slog.LevelInfo
	switch stage {
	case "failed":
		level = slog.LevelError
	case "warning":
		level = slog.LevelWarn
	}
	log.Log(context.Background(), level, "progress", "stage", stage, "detail", report.OneLine(message))
}

// result logs how a pass of this process ended.
func (d *diary) result(r report.Certificate) {
	if d == nil {
		return
	}
	log := d.log.With("certificate", r.Name)
	logbook.Issued(log, r)
	logbook.Result(log, r)
}
