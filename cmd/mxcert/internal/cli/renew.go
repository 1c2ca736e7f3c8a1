package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"mxcert/configs"
)

const (
	// renewTime bounds a one-shot: a slow secondary name server and a slow CA fit in.
	renewTime = 20 * time.Minute
	// maxPasses bounds the certificates under way at once.
	maxPasses = 16
)

func (a *app) renewCommand() *cobra.Command {
	var options passOptions
	var staging bool
	cmd := &cobra.Command{
		Use:   "renew [NAME…]",
		Short: "Bring certificates up to date once",
		Long: `Compares for each certificate what is wanted with what is issued, deployed and served, and closes the difference.
Without --now a certificate is ordered only when it is due. Exit codes: 0 converged, 1 failed, 4 some failed, 5 issued but
not in service, 75 try again later, 77 no permission, 78 bad configuration.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, names []string) error {
			options.asked = time.Now()
			if staging && options.dryRun {
				return usage("--dry-run asks no CA, and --staging asks the CA's staging service: choose one of them")
			}
			config, err := a.load()
			if err != nil {
				return err
			}
			if staging {
				return a.rehearse(cmd.Context(), config, names)
			}
			return a.pass(cmd.Context(), config, names, options)
		},
	}
	cmd.Flags().BoolVar(&options.force, "now", false, "do not wait for the renewal time")
	cmd.Flags().BoolVar(&options.dryRun, "dry-run", false, "say what would be done, change nothing, ask no CA")
	cmd.Flags().BoolVar(&options.newKey, "new-key", false, "order with a new private key")
	cmd.Flags().BoolVar(&staging, "staging", false, "rehearse the order at the CA's staging service; nothing is stored or deployed")
	cmd.Flags().BoolVar(&a.detailedExit, "detailed-exitcode", false, "exit with 10 when converged and changed")
	return cmd
}

// pass makes one pass over the chosen certificates, several at a time, and prints the report.
func (a *app) pass(ctx context.Context, config *configs.Config, names []string, options passOptions) error {
	certificates, err := chosen(config, names)
	if err != nil {
		return err
	}
	if !options.dryRun {
		ctx, cancel := a.within(ctx, renewTime)
		defer cancel()
		r, err := a.passByDaemon(ctx, config, names, options)
		if err == nil {
			return a.result(r)
		}
		if !errors.Is(err, errNoDaemon) {
			return err
		}
	}
	w, err := newWorld(config, a.version, options.dryRun)
	if err != nil {
		return err
	}
	defer w.close()
	if !options.dryRun {
		w.helpers = neededHelpers()
	}
	ctx, cancel := a.within(ctx, renewTime)
	defer cancel()
	narrator := a.narrate()
	if !options.dryRun {
		if err := w.sweepOrphans(ctx, narrator.speak("-")); err != nil {
			narrator.speak("-")("warning", err.Error())
		}
	}
	r := &report{Certificates: make([]certificateReport, len(certificates))}
	var group errgroup.Group
	group.SetLimit(maxPasses)
	for i, c := range certificates {
		group.Go(func() error {
			p := &pass{world: w, certificate: c, options: options, say: narrator.speak(c.Name)}
			r.Certificates[i] = p.run(ctx)
			return nil
		})
	}
	_ = group.Wait() // the passes report their errors themselves
	narrator.end()
	for _, c := range r.Certificates {
		r.Changed = r.Changed || c.Changed
	}
	return a.result(r)
}

// passByDaemon has the daemon make the passes, where one runs.
func (a *app) passByDaemon(ctx context.Context, config *configs.Config, names []string, options passOptions) (*report, error) {
	if err := checkOutside(config); err != nil {
		return nil, err
	}
	mark, err := fingerprint(config)
	if err != nil {
		return nil, err
	}
	return a.askDaemon(ctx, config, controlOrder{Names: names, Force: options.force, NewKey: options.newKey, DeployOnly: options.deployOnly,
		Rollback: options.rollback, Shorter: options.shorter, Asked: options.asked, Fingerprint: mark})
}

// result prints a report and chooses the exit code.
func (a *app) result(r *report) error {
	code := r.exitCode()
	switch {
	case a.json:
		if err := a.printJSON(r); err != nil {
			return err
		}
	case !a.quiet || code != exitOK:
		a.printReport(r)
	}
	if code == exitOK && r.Changed && a.detailedExit {
		code = exitChanged
	}
	if code != exitOK {
		return &exitError{code: code}
	}
	return nil
}
