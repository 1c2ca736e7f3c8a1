package cli

import (
	"context"
	"errors"
	"os"
	"regexp"
	"slices"

	"github.com/spf13/cobra"

	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert/internal/daemon"
	"mxcert/cmd/mxcert/internal/helper"
	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/configs"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status [NAME…]", Short: "What is wanted, issued, deployed and served, and the next renewal", Args: cobra.ArbitraryArgs,
		Long: `Looks at the stored certificates, the files and the endpoints, and changes nothing. The exit code is that of a renew
that finds the same: 0 if all certificates are served, 5 if an issued one is not in service, 75 if one is not issued yet.`,
		RunE: func(cmd *cobra.Command, names []string) error { return a.status(cmd.Context(), names) },
	}
}

func (a *app) status(ctx context.Context, names []string) error {
	ctx, cancel := a.within(ctx, verifyTime)
	defer cancel()
	if r := a.statusOfDaemon(ctx, names); r != nil {
		return a.finishCertificates(r)
	}
	config, configErr := a.load()
	if configErr != nil {
		if config = a.runningConfig(); config == nil {
			return configErr
		}
	}
	host, _ := wanted.From(config) // no chain is checked here
	wants, err := choose(host, names)
	if err != nil {
		return err
	}
	store, err := view(host.State)
	if err != nil {
		return err
	}
	files := helper.NewClient().Looker()
	defer files.Close()
	r := report.Sum(daemon.Each(wants, func(want wanted.Certificate) report.Certificate {
		return pass.Look(ctx, files, want, store.Lineage(want.Name))
	}))
	r.Daemon = daemon.Running(store)
	if configErr == nil {
		return a.finishCertificates(r)
	}
	// The report starts with the broken file, then describes the configuration in force.
	r.ConfigError = configErr.Error()
	a.complain(configErr)
	err = a.finishCertificates(r)
	if _, said := errors.AsType[*report.Exit](err); err != nil && !said {
		return err
	}
	return &report.Exit{Code: report.CodeConfig}
}

// statusOfDaemon asks a running daemon, which remembers what it has proven. It returns nil if no daemon runs with the configuration in the
// files, or if the daemon cannot answer. It does not need to parse the files.
func (a *app) statusOfDaemon(ctx context.Context, names []string) *report.Report {
	fingerprint, ok := configs.Fingerprint(a.configFile)
	if !ok {
		return nil
	}
	store := state.New(disk.At(a.stateDirectory()))
	running := daemon.Running(store)
	if running == nil || running.ConfigError != "" {
		return nil
	}
	r, err := daemon.Ask(ctx, store, daemon.Order{Names: names, Look: true, Fingerprint: fingerprint}, func(string, string, string) {})
	if err != nil || slices.ContainsFunc(r.Certificates, func(c report.Certificate) bool { return c.Error != nil && c.Error.Kind == helper.Failed }) {
		return nil // the daemon could not ask the install helper about the files; this command may be able to read them itself
	}
	r.Daemon = running
	return r
}

// stateKey finds the state directory in a configuration that cannot be read as a whole.
var stateKey = regexp.MustCompile(`(?m)^state:\s*"?(/[^"\s#]+)`)

// stateDirectory returns the state directory that the file names. It works even if the rest of the file cannot be read.
func (a *app) stateDirectory() string {
	if text, err := os.ReadFile(a.configFile); err == nil {
		if m := stateKey.FindSubmatch(text); m != nil {
			return string(m[1])
		}
	}
	return "/var/lib/mxcert"
}

// runningConfig returns the configuration that the daemon still uses while the file is broken, or nil if there is none.
func (a *app) runningConfig() *configs.Config {
	name, text, err := state.New(disk.At(a.stateDirectory())).RunningConfig()
	if err != nil {
		return nil
	}
	config, err := configs.Parse(name, text)
	if err != nil {
		return nil
	}
	return config
}
