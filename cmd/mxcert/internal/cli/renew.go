package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"mxcert/acme/authority"
	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/daemon"
	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/tell"
	"mxcert/cmd/mxcert/internal/wanted"
)

// renewTime limits a one-shot command. It leaves time for a slow secondary name server and a slow CA.
const renewTime = 20 * time.Minute

func (a *app) renewCommand() *cobra.Command {
	var options pass.Options
	var staging bool
	cmd := &cobra.Command{
		Use:   "renew [NAME…]",
		Short: "Bring certificates up to date once",
		Long: `For each certificate, compares what is wanted with what is issued, deployed and served, and closes the gaps.
Without --now it orders a certificate only if it is due. With TLSA records, --new-key starts a change of the key as mxcert tlsa roll
does: it says until when it waits, and why. Exit codes: 0 converged, 1 failed, 2 wrong usage, 4 some failed, 5 issued but
not in service, 75 try again later, 77 no permission, 78 bad configuration.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, names []string) error {
			options.Asked = time.Now()
			if staging && options.DryRun {
				return report.Usage("--dry-run asks no CA, and --staging asks the CA's staging service: choose one of them")
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
	cmd.Flags().BoolVar(&options.Force, "now", false, "do not wait for the renewal time")
	cmd.Flags().BoolVar(&options.DryRun, "dry-run", false, "say what would be done, change nothing, ask no CA")
	cmd.Flags().BoolVar(&options.NewKey, "new-key", false, "order with a new private key; with TLSA records, as soon as senders have its record")
	ignoreDANE(cmd, &options.IgnoreDANE)
	cmd.Flags().BoolVar(&staging, "staging", false, "rehearse the order at the CA's staging service; nothing is stored or deployed")
	cmd.Flags().BoolVar(&a.detailedExit, "detailed-exitcode", false, "exit with 10 if the certificates converged and something was changed")
	return cmd
}

// pass makes one pass over the chosen certificates and prints the report. If a daemon runs, the daemon makes the pass.
func (a *app) pass(ctx context.Context, config *configs.Config, names []string, options pass.Options) error {
	ctx, cancel := a.within(ctx, renewTime)
	defer cancel()
	h, err := a.translate(ctx, config, "renew")
	if err != nil {
		return err
	}
	return a.passesThen(ctx, h, names, options, a.finishCertificates)
}

// passes makes one pass over the chosen certificates of a host. If a daemon runs, the daemon makes the passes.
func (a *app) passes(ctx context.Context, h *wanted.Host, names []string, options pass.Options) (r *report.Report, err error) {
	err = a.passesThen(ctx, h, names, options, func(done *report.Report) error {
		r = done
		return nil
	})
	return r, err
}

// passesThen does the same, and shows the report before it tells people what was found: a channel that hangs does not delay the result.
func (a *app) passesThen(ctx context.Context, h *wanted.Host, names []string, options pass.Options, show func(*report.Report) error) error {
	wants, err := choose(h, names)
	if err != nil {
		return err
	}
	if !options.DryRun {
		if r, err := a.passByDaemon(ctx, h, names, options); !errors.Is(err, daemon.ErrNone) {
			if err != nil {
				return err
			}
			return show(r)
		}
	}
	runner, err := a.runner(h, options.DryRun)
	if err != nil {
		return err
	}
	defer runner.Close()
	narrator := a.narrate()
	diary := a.diary()
	if !options.DryRun {
		narrator.keeps(diary)
		if err := runner.SweepOrphans(ctx, narrator.speak("-")); err != nil {
			narrator.speak("-")("warning", report.OneLine(err.Error()))
		}
	}
	hub := tell.New(a.logger(slog.LevelWarn), a.version, listeners(a.logger(slog.LevelWarn))...)
	if !options.DryRun {
		hub.InForce(h, runner.Store)
	}
	reports := daemon.Each(wants, func(want wanted.Certificate) report.Certificate {
		began := time.Now()
		r := runner.Run(ctx, want, options, narrator.speak(want.Name))
		if !options.DryRun {
			diary.result(r)
		}
		if asked := options.DeployOnly || options.Rollback; !options.DryRun && (!asked || r.Error == nil) {
			hub.Passed(tell.Pass{Report: r, At: time.Now(), Took: time.Since(began)})
		}
		return r
	})
	narrator.end()
	err = show(report.Sum(reports))
	if !options.DryRun {
		closeHub(ctx, hub)
	}
	return err
}

// lastWords limits how long a command tells people what it has found, after its work.
const lastWords = 30 * time.Second

// closeHub tells people the news, also if the command's own time is up.
func closeHub(ctx context.Context, hub *tell.Hub) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	hub.Close(ctx)
}

// passByDaemon makes a running daemon do the passes, and shows its progress. The error is daemon.ErrNone if no daemon runs.
func (a *app) passByDaemon(ctx context.Context, h *wanted.Host, names []string, options pass.Options) (*report.Report, error) {
	store, err := view(h.State)
	if err != nil {
		return nil, daemon.ErrNone // a fault of the store is reported later, when it is used
	}
	narrator := a.narrate()
	defer narrator.end()
	order := daemon.Order{Names: names, Force: options.Force, NewKey: options.NewKey, DeployOnly: options.DeployOnly,
		Rollback: options.Rollback, Shorter: options.Shorter, Asked: options.Asked, Fingerprint: h.Fingerprint,
		IgnoreDANE: options.IgnoreDANE, Roll: options.Roll, Publish: options.Publish, Adopt: options.Adopt}
	return daemon.Ask(ctx, store, order, func(certificate, stage, message string) { narrator.speak(certificate)(stage, message) })
}

// rehearse orders the certificates at the CA's staging service. It uses a temporary state directory and removes it afterwards, so accounts,
// certificates and files stay as they are.
func (a *app) rehearse(ctx context.Context, config *configs.Config, names []string) error {
	directory, ok := authority.Staging(config.ACME.Directories[0])
	if !ok {
		return report.Usage("--staging: mxcert knows no staging service of %s; to rehearse, set acme.directory to one (letsencrypt-staging)", authority.Name(config.ACME.Directories[0]))
	}
	return a.rehearseAt(ctx, config, names, directory)
}

// rehearseAt orders the certificates at the CA with that directory URL.
func (a *app) rehearseAt(ctx context.Context, config *configs.Config, names []string, directory string) error {
	temporary, err := os.MkdirTemp("", "mxcert-staging-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	rehearsal := *config
	rehearsal.State, rehearsal.ACME.Directories, rehearsal.ACME.RootsFile, rehearsal.Fleet = temporary, []string{directory}, "", configs.Fleet{} // a fleet must not hear of it
	h, err := a.translate(ctx, &rehearsal, "renew --staging")
	if err != nil {
		return err
	}
	wants, err := choose(h, names)
	if err != nil {
		return err
	}
	runner, err := a.runner(h, false)
	if err != nil {
		return err
	}
	defer runner.Close()
	ctx, cancel := a.within(ctx, renewTime)
	defer cancel()
	narrator := a.narrate()
	r := rehearsalReport{Report: report.Report{Certificates: []report.Certificate{}}, Rehearsed: []string{}, CA: authority.Name(directory)}
	var problems []error
	for _, want := range wants {
		problems = append(problems, runner.Rehearse(ctx, want, narrator.speak(want.Name)))
		r.Rehearsed = append(r.Rehearsed, want.Name)
	}
	narrator.end()
	if err := errors.Join(problems...); err != nil {
		return err
	}
	return a.finish(answer{document: r, print: func(out sheet) {
		n := len(r.Rehearsed)
		fmt.Fprintf(out, "rehearsed at %s: %d %s would be issued; nothing was stored or deployed\n", r.CA, n, report.Plural(n, "certificate"))
	}})
}

// rehearsalReport is the document of `renew --staging --json` if it succeeds.
type rehearsalReport struct {
	report.Report
	Rehearsed []string `json:"rehearsed"` // names of certificates
	CA        string   `json:"ca"`
}
