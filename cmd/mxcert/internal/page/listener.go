package page

import (
	"context"
	"io"
	"log/slog"
	"os"
	"time"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/tell"
	"mxcert/cmd/mxcert/internal/wanted"
)

// Listener writes the page of the configuration (report.html) when something has changed.
type Listener struct {
	log  *slog.Logger
	told func(context.Context, tell.World) Told

	memory  Memory
	host    *wanted.Host // whose certificates memory is about
	written time.Time
	took    time.Duration // how long that was work
	fault   string        // what was last logged about the file; "" if it could be written
	class   string        // how the worst was when the page was last written
	since   time.Time     // since when it is so
}

// NewListener returns a listener that logs what it cannot write. told returns what people were told, once that follows from the World; it may
// take a few seconds.
func NewListener(log *slog.Logger, told func(context.Context, tell.World) Told) *Listener {
	return &Listener{log: log, told: told}
}

// Name is page.
func (*Listener) Name() string { return "page" }

// On reports whether the configuration names a file.
func (*Listener) On(host *wanted.Host) bool { return host.Page != "" }

const (
	// leisure is how much longer than the work the pause after it is at least: with many certificates, some pass ends every few seconds.
	leisure = 100
	// mostPause limits that pause.
	mostPause = time.Minute
)

// Listen writes the page, and wants to write it again within the hour.
func (l *Listener) Listen(ctx context.Context, w tell.World) (again time.Time) {
	if w.Host == nil || w.Host.Page == "" {
		return time.Time{} // the file stays as it is, and says when it was made
	}
	now := time.Now()
	if next := l.written.Add(min(leisure*l.took, mostPause)); next.After(now) && !w.Final {
		return next
	}
	if l.host != w.Host {
		l.host, l.memory = w.Host, Memory{}
	}
	maker := ByRun
	if isDaemon(w) {
		maker = ByDaemon
	}
	told := l.told(ctx, w)
	now = time.Now()
	s := Of(w, &l.memory, told, now, maker)
	l.date(&s)
	err := Write(w.Host.Page, func(out io.Writer) error { return HTML(out, s) })
	l.written, l.took = now, time.Since(now)
	l.say(w.Host.Page, err)
	return now.Add(Hourly)
}

// date says since when the worst is as it is.
func (l *Listener) date(s *Sight) {
	if class := headlineOf(*s).class; class != l.class || l.since.IsZero() {
		l.class, l.since = class, s.At
	}
	if s.Maker == ByDaemon {
		s.Since = l.since
	}
}

// say logs a fault of the file once, and its end.
func (l *Listener) say(path string, err error) {
	switch {
	case err == nil && l.fault != "":
		l.log.Info("the page can be written again", "file", path)
		l.fault = ""
	case err != nil && l.fault != err.Error():
		l.log.Warn("the page could not be written", "error", err, "hint", report.HintOf(err))
		l.fault = err.Error()
	}
}

// isDaemon reports whether this process is the daemon of the state.
func isDaemon(w tell.World) bool {
	var running report.Daemon
	return w.Store != nil && w.Store.Daemon(&running) == nil && running.PID == os.Getpid()
}
