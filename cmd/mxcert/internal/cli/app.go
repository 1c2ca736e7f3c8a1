package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

const defaultConfig = "/etc/mxcert/mxcert.yaml"

// app is one run of the program: the global flags and where output goes. stdout gets the result, stderr gets progress and logs.
type app struct {
	version        string // of the program
	stdout, stderr *console

	configFile   string
	json         bool
	progress     string
	logLevel     string
	noColor      bool
	quiet        bool
	timeout      time.Duration
	detailedExit bool
}

func (a *app) rootCommand() *cobra.Command {
	var version bool
	root := &cobra.Command{
		Use:   "mxcert",
		Short: "Certificates for mail hosts, proven on the wire",
		Long: `mxcert obtains certificates for a mail host by DNS-01, writes them to the paths that the mail server reads,
reloads it through systemd, and proves by a STARTTLS handshake that senders get the new certificate.`,
		SilenceErrors: true, SilenceUsage: true, SuggestionsMinimumDistance: 2,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if version {
				return a.printVersion()
			}
			return cmd.Help()
		},
	}
	root.Flags().BoolVarP(&version, "version", "v", false, "print the version, as mxcert version does")
	flags := root.PersistentFlags()
	flags.StringVarP(&a.configFile, "config", "c", defaultConfig, "configuration `FILE`; - reads standard input instead of "+defaultConfig)
	flags.BoolVar(&a.json, "json", false, "print one JSON document on standard output")
	flags.StringVar(&a.progress, "progress", "auto", "the `KIND` of progress on standard error: auto, plain or none")
	flags.StringVar(&a.logLevel, "log-level", "", "log messages of this `LEVEL` and above, instead of the configured level: debug, info, warn or error")
	flags.BoolVar(&a.noColor, "no-color", os.Getenv("NO_COLOR") != "", "no colours; the variable NO_COLOR does the same")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "no progress, and no result when all is well")
	flags.DurationVar(&a.timeout, "timeout", 0, "give up after this `DURATION` (default: depends on the command)")
	root.SetFlagErrorFunc(flagError)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if a.configFile == configs.Stdin && (cmd.Name() == "run" || cmd.Name() == "init") {
			return report.Usage("mxcert %s needs a file: -c - is for commands that read the configuration once", cmd.Name())
		}
		return a.checkFlags()
	}
	root.SetHelpFunc(a.help)
	root.SetUsageFunc(a.usage(root.UsageFunc()))
	for _, group := range []struct {
		id, title string
		commands  []*cobra.Command
	}{
		{"daily", "Every day:", []*cobra.Command{a.renewCommand(), a.statusCommand(), a.verifyCommand(), a.historyCommand(), a.deployCommand(), a.rollbackCommand()}},
		{"setup", "Setting up:", []*cobra.Command{a.initCommand(), a.importCommand(), a.checkCommand(), a.doctorCommand(), a.configCommand(), a.providersCommand(), a.polkitCommand(), a.eximCommand()}},
		{"dane", "DANE:", []*cobra.Command{a.tlsaCommand()}},
		{"fleet", "Several hosts:", []*cobra.Command{a.fleetCommand()}},
		{"ca", "The CA:", []*cobra.Command{a.accountCommand(), a.revokeCommand()}},
		{"told", "Being told:", []*cobra.Command{a.reportCommand(), a.notifyCommand(), a.ctCommand(), a.tlsrptCommand()}},
		{"service", "The service:", []*cobra.Command{a.runCommand()}},
	} {
		root.AddGroup(&cobra.Group{ID: group.id, Title: group.title})
		for _, cmd := range group.commands {
			cmd.GroupID = group.id
			root.AddCommand(cmd)
		}
	}
	root.AddCommand(a.helperCommand(), a.versionCommand())
	a.cobraCommands(root)
	a.completions(root)
	usageErrors(root)
	return root
}

func (a *app) checkFlags() error {
	switch a.progress {
	case "auto", "plain", "none":
	default:
		return report.Usage("--progress is auto, plain or none, not %q", a.progress)
	}
	switch a.logLevel {
	case "", "debug", "info", "warn", "error":
	default:
		return report.Usage("--log-level is debug, info, warn or error, not %q", a.logLevel)
	}
	if a.timeout < 0 {
		return report.Usage("--timeout must not be negative")
	}
	return nil
}

// load reads the configuration and shows its warnings.
func (a *app) load() (*configs.Config, error) { return a.parse(configs.Read(a.configFile)) }

// parse parses a configuration that was read before, and shows its warnings.
func (a *app) parse(files *configs.Files) (*configs.Config, error) {
	config, err := files.Load()
	if err != nil {
		return nil, err
	}
	for _, w := range wanted.Warnings(config) {
		if !a.quiet {
			fmt.Fprintf(a.stderr, "warning: %s:%d:%d: %s\n", w.File, w.Line, w.Column, w.Message)
		}
	}
	return config, nil
}

// within limits the time of a command to --timeout, or to the command's own default.
func (a *app) within(ctx context.Context, ordinary time.Duration) (context.Context, context.CancelFunc) {
	if a.timeout > 0 {
		ordinary = a.timeout
	}
	return context.WithTimeout(ctx, ordinary)
}

// failureReport is what --json prints if a command fails before it has anything to report.
type failureReport struct {
	report.Report
	Error    *report.Error   `json:"error"`
	Problems []problemReport `json:"problems,omitempty"` // of the configuration
}

// sayFailure shows an error that no report has shown. A person reads it on stderr; with --json it is also the one document.
func (a *app) sayFailure(err error) {
	a.complain(err)
	if !a.json {
		return
	}
	r := failureReport{Report: report.Report{Certificates: []report.Certificate{}}, Error: report.NewError(err)}
	if problems, ok := errors.AsType[*configs.Problems](err); ok {
		r.Problems = problemReports(problems.List)
	}
	if err := a.printJSON(r); err != nil {
		a.complain(err)
	}
}

// complain shows an error to a person: the message and, on a separate line, what to do.
func (a *app) complain(err error) {
	if problems, ok := errors.AsType[*configs.Problems](err); ok {
		priority := a.priority(asError)
		fmt.Fprintln(a.stderr, priority+strings.ReplaceAll(strings.TrimRight(problems.Error(), "\n"), "\n", "\n"+priority))
		return
	}
	priority := a.priority(asError)
	fmt.Fprintln(a.stderr, priority+"mxcert: "+strings.ReplaceAll(err.Error(), "\n", "\n"+priority))
	if hint := report.HintOf(err); hint != "" {
		fmt.Fprint(a.stderr, priority, "  ")
		a.paint(a.stderr, "→", cyan)
		fmt.Fprintln(a.stderr, " "+hint)
	}
}
