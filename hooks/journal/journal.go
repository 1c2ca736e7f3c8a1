// Package journal is a handler of log/slog for the journal of systemd (systemd-journald.service(8)), by its native protocol
// (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/), and the catalogue of the events that mxcert logs.
//
// Each record becomes one entry: a MESSAGE for people, PRIORITY, SYSLOG_IDENTIFIER, and a field MXCERT_NAME for each attribute, such as
// MXCERT_CERTIFICATE. A record with the attribute of an [Event] gets its MESSAGE_ID.
//
// Logging must not delay the work. If the journal does not take an entry in time, or not at all, another handler gets the record. An entry
// that the journal takes late is then there twice. Text is made safe: journalctl shows no entry with a control character or with bytes that
// are not UTF-8, and a terminal would obey the one and be confused by the other.
//
// Not supported: a journal in another namespace (LogNamespace=), to whose socket systemd gives the service the usual path anyway.
package journal

import (
	"context"
	"log/slog"
	"time"

	systemd "github.com/coreos/go-systemd/v22/journal"
)

// Usable reports whether standard error is the journal of this system: then a native entry comes to the same place as a line of text does.
func Usable() bool {
	yes, err := systemd.StderrIsJournalStream()
	return err == nil && yes
}

// patience is how long a record waits until the journal has taken it. A busy journal takes some milliseconds.
const patience = time.Second

// Handler sends records to the journal. Make one with [New].
type Handler struct {
	out    *outlet
	spare  slog.Handler // gets what the journal does not take; it knows the level
	attrs  []slog.Attr  // with the groups in their keys
	prefix string       // of the keys of further attributes
}

// New returns a handler. spare decides which levels are enabled, and gets the records that the journal does not take.
func New(spare slog.Handler) *Handler { return newHandler(spare, newNative().send, patience) }

func newHandler(spare slog.Handler, post post, patience time.Duration) *Handler {
	return &Handler{spare: spare, out: &outlet{post: post, patience: patience, turn: make(chan struct{}, 1)}}
}

// Enabled is part of [slog.Handler].
func (h *Handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.spare.Enabled(ctx, level)
}

// Handle is part of [slog.Handler].
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	e := newEntry(r, h.attrs, h.prefix)
	first, err := h.out.send(e)
	if err == nil {
		return nil
	}
	if first {
		notice := slog.NewRecord(r.Time, slog.LevelWarn, "the journal takes no entries with fields; the log continues with lines of text", 0)
		notice.Add("error", err)
		_ = h.spare.Handle(ctx, notice) // the record itself says what happened
	}
	return h.spare.Handle(ctx, r)
}

// WithAttrs is part of [slog.Handler].
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	other := *h
	other.spare = h.spare.WithAttrs(attrs)
	other.attrs = append(h.attrs[:len(h.attrs):len(h.attrs)], inGroup(h.prefix, attrs)...)
	return &other
}

// WithGroup is part of [slog.Handler].
func (h *Handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	other := *h
	other.spare, other.prefix = h.spare.WithGroup(name), h.prefix+name+"."
	return &other
}

// priority is that of syslog(3).
func priority(level slog.Level) systemd.Priority {
	switch {
	case level >= slog.LevelError:
		return systemd.PriErr
	case level >= slog.LevelWarn:
		return systemd.PriWarning
	case level >= slog.LevelInfo:
		return systemd.PriInfo
	}
	return systemd.PriDebug
}
