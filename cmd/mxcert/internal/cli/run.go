package cli

import (
	"context"
	"log/slog"
	"os"

	"mxcert/cmd/mxcert/internal/alarm"
	"mxcert/cmd/mxcert/internal/daemon"
	"mxcert/cmd/mxcert/internal/doctor"
	"mxcert/cmd/mxcert/internal/page"
	"mxcert/cmd/mxcert/internal/privilege"
	"mxcert/cmd/mxcert/internal/tell"
	"mxcert/configs"
	"mxcert/deploy/mx"

	"github.com/spf13/cobra"
)

func (a *app) runCommand() *cobra.Command {
	return &cobra.Command{
		Use: "run", Short: "The daemon: keep all certificates in service", Args: cobra.NoArgs,
		Long: `Keeps every certificate issued, deployed and served, each at its own time. The configuration is read again when its files
change and on SIGHUP; if it is bad, the daemon reports it and keeps the old one in force. SIGTERM ends it within 30 seconds.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.becomeService(); err != nil {
				return err
			}
			return a.newDaemon().Run(cmd.Context())
		},
	}
}

// becomeService makes a daemon that root starts the owner of the state, as systemd does.
func (a *app) becomeService() error {
	if os.Geteuid() != 0 {
		return nil
	}
	config, err := configs.Load(a.configFile)
	if err != nil {
		return nil //nolint:nilerr // the daemon reports it
	}
	return privilege.BecomeOwner(config.State)
}

func (a *app) newDaemon() *daemon.Daemon {
	level := &slog.LevelVar{}
	log := a.logger(level)
	return daemon.New(daemon.Options{ConfigFile: a.configFile, Release: a.version, Log: log, Tell: tell.New(log, a.version, listeners(log)...), Level: level, LogLevel: a.logLevel, Load: a.load, Provider: doctor.Provider})
}

// listeners are those who tell people what passes find. Each is on if the configuration asks for it.
func listeners(log *slog.Logger) []tell.Listener {
	metrics := tell.NewMetrics(log)
	teller := alarm.New(log, mx.HostName(), metrics.Notified)
	told := func(ctx context.Context, w tell.World) page.Told {
		alarms, undelivered, err := teller.Open(ctx, w)
		if err != nil {
			return page.Told{} // the process that sends them reports it
		}
		return page.Told{Alarms: alarms, Undelivered: undelivered}
	}
	return []tell.Listener{metrics, teller, page.NewListener(log, told)}
}
