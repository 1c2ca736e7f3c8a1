package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"

	"mxcert/hooks/journal"
)

// logger writes to stderr. If that is the journal of systemd, it writes entries with fields there (hooks/journal). Otherwise, and if the journal
// takes none, it writes lines of text. Under systemd they have no time, because the journal adds it, but a priority: `journalctl -p err` then
// shows the errors.
func (a *app) logger(level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if !a.inJournal() {
		return slog.New(slog.NewTextHandler(a.stderr, options))
	}
	options.ReplaceAttr = func(groups []string, attr slog.Attr) slog.Attr {
		if len(groups) == 0 && attr.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return attr
	}
	if !a.takesFields() {
		return slog.New(newPriorities(a.stderr, options))
	}
	return slog.New(journal.New(newPriorities(journal.NewPatient(a.stderr), options)))
}

// inJournal reports whether the log goes to the journal of systemd, which reads a priority at the beginning of each line
// (sd-daemon(3)) and adds the time. A terminal that inherited the variable is not the journal.
func (a *app) inJournal() bool { return os.Getenv("JOURNAL_STREAM") != "" && !a.stderr.isTerminal() }

// takesFields reports whether standard error is the journal itself, so that entries with fields come to the same place.
func (a *app) takesFields() bool { return a.stderr.out == os.Stderr && journal.Usable() }

// priority returns what a line of a command begins with: the priority, if standard error is the journal (systemd.exec(5),
// $JOURNAL_STREAM), else nothing. A command can inherit the variable from a session whose output is the journal, while its own is not.
func (a *app) priority(priority string) string {
	file, ok := a.stderr.out.(*os.File)
	if !ok || os.Getenv("JOURNAL_STREAM") == "" {
		return ""
	}
	info, err := file.Stat()
	if err != nil {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Getenv("JOURNAL_STREAM") != fmt.Sprintf("%d:%d", stat.Dev, stat.Ino) {
		return ""
	}
	return priority
}

// prefixed writes each line with a priority.
type prefixed struct {
	out      io.Writer
	priority string
}

func (p prefixed) Write(text []byte) (int, error) {
	lines := bytes.ReplaceAll(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"), []byte("\n"+p.priority))
	if _, err := p.out.Write(append(append([]byte(p.priority), lines...), '\n')); err != nil {
		return 0, err
	}
	return len(text), nil
}

// The priorities of syslog(3).
const (
	asError   = "<3>"
	asWarning = "<4>"
	asInfo    = "<6>"
	asDebug   = "<7>"
)

// priorities is a handler that writes each record with the priority of its level.
type priorities struct{ failed, warns, informs, debugs slog.Handler }

func newPriorities(out io.Writer, options *slog.HandlerOptions) *priorities {
	with := func(priority string) slog.Handler { return slog.NewTextHandler(prefixed{out, priority}, options) }
	return &priorities{failed: with(asError), warns: with(asWarning), informs: with(asInfo), debugs: with(asDebug)}
}

func (j *priorities) of(level slog.Level) slog.Handler {
	switch {
	case level >= slog.LevelError:
		return j.failed
	case level >= slog.LevelWarn:
		return j.warns
	case level >= slog.LevelInfo:
		return j.informs
	}
	return j.debugs
}

// Enabled is part of [slog.Handler].
func (j *priorities) Enabled(ctx context.Context, level slog.Level) bool {
	return j.of(level).Enabled(ctx, level)
}

// Handle is part of [slog.Handler].
func (j *priorities) Handle(ctx context.Context, r slog.Record) error {
	return j.of(r.Level).Handle(ctx, r)
}

// WithAttrs is part of [slog.Handler].
func (j *priorities) WithAttrs(attrs []slog.Attr) slog.Handler {
	return j.with(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

// WithGroup is part of [slog.Handler].
func (j *priorities) WithGroup(name string) slog.Handler {
	return j.with(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (j *priorities) with(change func(slog.Handler) slog.Handler) slog.Handler {
	return &priorities{failed: change(j.failed), warns: change(j.warns), informs: change(j.informs), debugs: change(j.debugs)}
}
