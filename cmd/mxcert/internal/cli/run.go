package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"mxcert/acme/state"
	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/report"
)

func (a *app) runCommand() *cobra.Command {
	return &cobra.Command{
		Use: "run", Short: "The daemon: keep all certificates in service", Args: cobra.NoArgs,
		Long: `Keeps every certificate issued, deployed and served, each at its own time. The configuration is read again when its files
change and on SIGHUP; a bad one is reported and the old one stays in force. SIGTERM ends it within 30 seconds.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.newDaemon().run(cmd.Context()) },
	}
}

// logger writes to stderr; under systemd the journal adds the time itself.
func (a *app) logger(level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if os.Getenv("JOURNAL_STREAM") != "" {
		options.ReplaceAttr = func(groups []string, attr slog.Attr) slog.Attr {
			if len(groups) == 0 && attr.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return attr
		}
	}
	return slog.New(slog.NewTextHandler(a.stderr, options))
}

// threshold is the configured level of the log, unless --log-level says another.
func (a *app) threshold(config *configs.Config) (level slog.Level) {
	text := config.Log.Level
	if a.logLevel != "" {
		text = a.logLevel
	}
	_ = level.UnmarshalText([]byte(text)) // configs and checkFlags have checked it
	return level
}

// setStatus changes what the daemon leaves for `status`.
func (d *daemon) setStatus(change func(*report.Daemon)) {
	d.mu.Lock()
	change(&d.status)
	status, s := d.status, d.shift
	d.mu.Unlock()
	if err := s.world.store.SaveDaemon(status); err != nil {
		d.log.Warn("the daemon's status could not be stored", "error", err)
	}
}

// alive reports whether a process exists.
func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return pid > 0 && (err == nil || errors.Is(err, syscall.EPERM))
}

// readDaemon reads what a running daemon left; nil where none runs.
func readDaemon(store *state.Book) *report.Daemon {
	var r report.Daemon
	if err := store.Daemon(&r); err != nil || !alive(r.PID) {
		return nil
	}
	return &r
}

func (a *app) printDaemon(r *report.Daemon) {
	if r == nil || a.json || a.quiet {
		return
	}
	fmt.Fprintf(a.stdout, "daemon: running since %s (process %d), configuration of %s\n", report.Minute(r.Started), r.PID, report.Minute(r.ConfigLoaded))
	if r.ConfigError != "" {
		fmt.Fprintf(a.stdout, "  error        the configuration changed at %s is bad, the old one stays in force:\n%s\n", report.Minute(*r.ConfigErrorAt), r.ConfigError)
	}
}
