package cli

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"mxcert/acme/state"

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
		Long: `Looks at the stored certificates, the files and the endpoints, and changes nothing.

With several certificates it prints a table: first those with a fault, the worst first, then the others in the order of the
configuration. What is wrong follows below the table. With a NAME, or if there is only one certificate, it prints the details.

The exit code is that of a renew that finds the same: 0 if all certificates are served (or deployed, if they have no endpoint),
5 if an issued one is not in service, 75 if one is not issued yet or lacks a name, 4 if some certificates are well and others are not.
Only here it is 3 if all is served and senders with DANE would not accept it, or if a person has to fix something about TLSA records: a
renew has converged then, because it broke nothing, and warns. What senders report (mxcert-tlsrpt(7)) is shown and does not change the exit code:
anybody can forge a report.`,
		RunE: func(cmd *cobra.Command, names []string) error { return a.status(cmd.Context(), names) },
	}
}

func (a *app) status(ctx context.Context, names []string) error {
	ctx, cancel := a.within(ctx, verifyTime)
	defer cancel()
	files := configs.Read(a.configFile) // before this process may become a user who cannot read them
	if r := a.statusOfDaemon(ctx, names, files); r != nil {
		return a.finishStatus(r, names)
	}
	seen, err := a.lookHere(ctx, names, files)
	if err != nil {
		return err
	}
	r := seen.Report
	if seen.configErr == nil {
		return a.finishStatus(r, names)
	}
	// The report starts with the broken file, then describes the configuration in force.
	r.ConfigError = seen.configErr.Error()
	a.complain(seen.configErr)
	err = a.finishStatus(r, names)
	if _, said := errors.AsType[*report.Exit](err); err != nil && !said {
		return err
	}
	return &report.Exit{Code: report.CodeConfig}
}

// present is how the chosen certificates are now.
type present struct {
	*report.Report
	host      *wanted.Host
	wants     []wanted.Certificate // in the order of the report
	store     *state.Book
	configErr error // the files are broken, and the rest is about the configuration in force
}

// look has a running daemon look at certificates; without one, this process does.
func (a *app) look(ctx context.Context, names []string, files *configs.Files) (present, error) {
	r := a.statusOfDaemon(ctx, names, files)
	if r == nil {
		return a.lookHere(ctx, names, files)
	}
	seen, err := a.prepareLook(names, files)
	seen.Report = r
	return seen, err
}

// lookHere looks at certificates in this process.
func (a *app) lookHere(ctx context.Context, names []string, files *configs.Files) (present, error) {
	seen, err := a.prepareLook(names, files)
	if err != nil {
		return seen, err
	}
	looker := helper.NewClient().Looker()
	defer looker.Close()
	seen.Report = report.Sum(daemon.Each(seen.wants, func(want wanted.Certificate) report.Certificate {
		return pass.Look(ctx, looker, want, seen.store.Lineage(want.Name))
	}))
	seen.Daemon = daemon.Running(seen.store)
	addAlarms(seen.Report, seen.store, names)
	addReported(seen.Report, seen.store, func() *wanted.Host { return seen.host })
	addFleet(seen.Report, seen.host)
	return seen, nil
}

// prepareLook finds out what there is to look at. While the files are broken, that is what the daemon works with.
func (a *app) prepareLook(names []string, files *configs.Files) (seen present, err error) {
	config, configErr := a.parse(files)
	if configErr != nil {
		if config = runningConfig(files); config == nil {
			return seen, configErr
		}
	}
	seen.configErr = configErr
	seen.host, _ = wanted.From(config) // no chain is checked here
	if seen.wants, err = choose(seen.host, names); err != nil {
		return seen, err
	}
	seen.store, err = view(seen.host.State)
	return seen, err
}

// finishStatus prints a table of all certificates, or the details of those that were named, and of the only one.
func (a *app) finishStatus(r *report.Report, names []string) error {
	for i := range r.Certificates {
		if c := &r.Certificates[i]; c.Code == report.CodeOK && c.TLSA.Fault() {
			c.Code = report.CodeFault
		}
	}
	if len(names) > 0 || len(r.Certificates) == 1 {
		return a.finishCertificates(r)
	}
	return a.finishTable(r)
}

// statusOfDaemon asks a running daemon, which remembers what it has proven. It returns nil if no daemon runs with the configuration in the
// files, or if the daemon cannot answer. It does not need to parse the files.
func (a *app) statusOfDaemon(ctx context.Context, names []string, files *configs.Files) *report.Report {
	fingerprint, ok := files.Fingerprint()
	directory, sure := files.State()
	if !ok || !sure {
		return nil
	}
	store, err := book(directory)
	if err != nil {
		return nil // the command ends with this error when it opens the state
	}
	running := daemon.Running(store)
	if running == nil || running.ConfigError != "" {
		return nil
	}
	r, err := daemon.Ask(ctx, store, daemon.Order{Names: names, Look: true, Fingerprint: fingerprint}, func(string, string, string) {})
	if err != nil || slices.ContainsFunc(r.Certificates, func(c report.Certificate) bool { return c.Error != nil && c.Error.Kind == helper.Failed }) {
		return nil // the daemon could not ask the install helper about the files; this command may be able to read them itself
	}
	r.Daemon = running
	addAlarms(r, store, names)
	addReported(r, store, func() *wanted.Host {
		config, err := a.parse(files)
		if err != nil {
			return nil
		}
		host, _ := wanted.From(config) // no chain is checked here
		return host
	})
	return r
}

// runningConfig returns the configuration that the daemon still uses while the files are broken, or nil if there is none.
func runningConfig(files *configs.Files) *configs.Config {
	directory, _ := files.State()
	store, err := book(directory)
	if err != nil {
		return nil
	}
	name, text, err := store.RunningConfig()
	if err != nil {
		return nil
	}
	config, err := configs.Parse(name, text)
	if err != nil {
		return nil
	}
	return config
}
