// Package logbook writes to the log what passes do and how they end. Each line that a person may look for is an event of package journal, so
// the daemon and the one-shot commands log the same under the same MESSAGE_ID.
package logbook

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/hooks/journal"
)

// line is how the progress of a stage is logged.
type line struct {
	level   slog.Level
	message string
	event   journal.Event // "" if it is none
}

// lineOf returns how a stage is logged. A pass says in one line that it has succeeded, so its steps are for debugging.
func lineOf(stage string) line {
	switch stage {
	case "warning":
		return line{slog.LevelWarn, "progress", ""}
	case "account":
		return line{slog.LevelInfo, "progress", ""}
	case "due":
		return line{slog.LevelInfo, "a certificate is ordered", journal.Ordered}
	case "taken":
		return line{slog.LevelInfo, "a certificate of the fleet is taken", journal.Taken}
	case "fleet":
		return line{slog.LevelWarn, "progress", ""}
	case "names":
		return line{slog.LevelInfo, "progress", journal.NamesChanged}
	case "tlsa":
		return line{slog.LevelInfo, "progress", journal.TLSAChanged}
	case "taken-in":
		return line{slog.LevelInfo, "a name is back", journal.NameBack}
	case "left-out":
		return line{slog.LevelWarn, "a name is left out", journal.NameLeftOut}
	case "account-changed":
		return line{slog.LevelWarn, "the account has changed", journal.AccountChanged}
	case "txt-remain":
		return line{slog.LevelWarn, "TXT records remain", journal.TXTRemain}
	}
	return line{slog.LevelDebug, "progress", ""}
}

// Progress logs a step of a pass, at least at a level. It does not log a failure: [Result] does, once and with its hint.
func Progress(ctx context.Context, log *slog.Logger, least slog.Level, stage, message string) {
	if stage == "failed" {
		return
	}
	l := lineOf(stage)
	attrs := []slog.Attr{slog.String("stage", stage), slog.String("detail", report.OneLine(message))}
	if l.event != "" {
		attrs = append(attrs, l.event.Attr())
	}
	log.LogAttrs(ctx, max(l.level, least), l.message, attrs...)
}

// Issued logs the certificates that a pass has got, whatever became of them.
func Issued(log *slog.Logger, r report.Certificate) {
	for _, i := range r.Issued {
		log.Info("certificate issued", "key", i.Key, "serial", i.Serial, "order", i.Order, "not_after", i.NotAfter, journal.Issued.Attr())
	}
}

// Result logs how a pass ended, unless it found nothing to do.
func Result(log *slog.Logger, r report.Certificate) {
	switch e := r.Error; {
	case e != nil && e.Kind == kindRefused:
		log.Info("a command was refused", "detail", report.OneLine(e.Message), journal.Refused.Attr())
	case r.Elsewhere:
		log.Info("the order waits for the fleet", "kind", e.Kind, "detail", report.OneLine(e.Message), "hint", e.Hint, journal.FleetWaits.Attr())
	case e != nil && e.Kind == "backoff":
		log.Info("the order waits", "detail", report.OneLine(e.Message), "hint", e.Hint, journal.OrderWaits.Attr())
	case e != nil:
		failed(log, r)
	case r.Changed:
		inService(log, r)
	}
}

// kindRefused is pass.KindRefused.
const kindRefused = "refused"

// failed logs why a pass failed.
func failed(log *slog.Logger, r report.Certificate) {
	e := r.Error
	attrs := []any{"stage", e.Stage, "kind", e.Kind, "error", report.OneLine(e.Message), "hint", e.Hint}
	if e.Order != "" {
		attrs = append(attrs, "order", e.Order)
	}
	if s := serials(r); len(s) > 0 && outOfService(e.Stage) { // it is about these certificates
		attrs = append(attrs, "serial", s)
	}
	log.Error("pass failed", append(attrs, eventOf(e).Attr())...)
}

// inService logs that what was issued, or was changed by others, is in service.
func inService(log *slog.Logger, r report.Certificate) {
	event := journal.Served
	if r.Repaired {
		event = journal.Restored
	}
	attrs := []any{"stage", r.Stage, "serial", serials(r), "next_renewal", r.NextRenewal}
	if orders := ordersOf(r); len(orders) > 0 {
		attrs = append(attrs, "order", orders)
	}
	log.Info("certificate in service", append(attrs, event.Attr())...)
}

// eventOf returns the event of a failure: what a person does next decides which.
func eventOf(e *report.Error) journal.Event {
	switch e.Kind {
	case "dane", "dane-unknown":
		return journal.GateClosed
	case "drift":
		return journal.LeftAlone
	case "rate-limited":
		return journal.Limited
	}
	if e.Stage == "ocsp" || strings.HasPrefix(e.Kind, "ocsp-") {
		return journal.StapleFailed
	}
	switch e.Stage {
	case "account":
		return journal.AccountFailed
	case "dns", "challenge", "authorization":
		return journal.ProofFailed
	case "order", "directory", "finalize", "download", "check", "preflight":
		return journal.OrderFailed
	case "verify":
		return journal.NotServed
	case "deploy", "reload":
		return journal.DeployFailed
	case "hook":
		return journal.HookFailed
	}
	return journal.PassFailed
}

func outOfService(stage string) bool {
	return slices.Contains([]string{"deploy", "reload", "verify", "hook"}, stage)
}

func serials(r report.Certificate) (list []string) {
	for _, k := range r.Keys {
		list = append(list, k.Serial)
	}
	return list
}

func ordersOf(r report.Certificate) (list []string) {
	for _, i := range r.Issued {
		if i.Order != "" {
			list = append(list, i.Order)
		}
	}
	return list
}
