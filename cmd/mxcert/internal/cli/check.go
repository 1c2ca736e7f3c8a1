package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// problemReport is one fault of the configuration in `check --json`.
type problemReport struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Path    string `json:"path"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

type checkReport struct {
	OK       bool            `json:"ok"`
	Problems []problemReport `json:"problems"`
	Warnings []problemReport `json:"warnings"`
}

func (a *app) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "Check the configuration file, without the network",
		Long: "Reads the configuration and reports all faults at once. Exit code 3 if there is a fault.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.check(cmd.Context()) },
	}
}

func (a *app) check(ctx context.Context) error {
	config, err := configs.Load(a.configFile)
	if err == nil {
		err = wanted.Check(config)
	}
	if config != nil {
		err = withFiles(config, err)
	}
	problems, isProblem := errors.AsType[*configs.Problems](err)
	if err != nil && !isProblem {
		return err
	}
	r := checkReport{OK: err == nil, Problems: []problemReport{}, Warnings: []problemReport{}}
	if isProblem {
		r.Problems = problemReports(problems.List)
	}
	var notes []string
	if config != nil {
		secrets, held := a.unreadable(ctx, config)
		r.Warnings, notes = problemReports(slices.Concat(wanted.Warnings(config), secrets, wanted.MisspeltVariables(config), wanted.PageProblems(config), wanted.ReportProblems(config), wanted.ClientProblems(config))), held
	}
	switch {
	case a.json:
		if err := a.printJSON(r); err != nil {
			return err
		}
	case isProblem:
		a.warnings(r.Warnings)
		return &report.Exit{Code: report.CodeFault, Err: problems}
	case !a.quiet:
		a.warnings(r.Warnings)
		for _, note := range notes {
			fmt.Fprintf(a.stderr, "note: %s\n", note)
		}
		fmt.Fprintf(a.stdout, "%s: no fault found; %d %s\n", a.fileName(), len(config.Certificates), report.Plural(len(config.Certificates), "certificate"))
	}
	if isProblem {
		return &report.Exit{Code: report.CodeFault}
	}
	return nil
}

// warnings prints what is suspicious, and what to do about it.
func (a *app) warnings(list []problemReport) {
	for _, w := range list {
		if a.quiet {
			return
		}
		fmt.Fprintf(a.stderr, "warning: %s:%d:%d: %s\n", w.File, w.Line, w.Column, w.Message)
		if w.Hint != "" {
			fmt.Fprintf(a.stderr, "    %s\n", w.Hint)
		}
	}
}

// withFiles adds faults in the files that the configuration names to an error about the configuration.
func withFiles(config *configs.Config, err error) error {
	list := wanted.CheckFiles(config)
	if problems, ok := errors.AsType[*configs.Problems](err); ok {
		list = append(problems.List, list...)
	} else if err != nil {
		return err
	}
	if len(list) == 0 {
		return nil
	}
	return &configs.Problems{List: list}
}

// fileName is how messages call the configuration file.
func (a *app) fileName() string {
	if a.configFile == configs.Stdin {
		return "standard input"
	}
	return a.configFile
}

// unreadable returns the secrets that nobody can read, and notes about those that systemd hands to the service.
func (a *app) unreadable(ctx context.Context, config *configs.Config) (problems []configs.Problem, notes []string) {
	held := a.heldSecrets(ctx, config)
	for _, secret := range wanted.UnreadableSecrets(config) {
		if text := held.text(secret); text != "" {
			notes = append(notes, text)
		} else {
			problems = append(problems, secret.Problem)
		}
	}
	return problems, notes
}

func problemReports(list []configs.Problem) []problemReport {
	out := make([]problemReport, len(list))
	for i, p := range list {
		out[i] = problemReport{File: p.File, Line: p.Line, Column: p.Column, Path: p.Path, Message: p.Message, Hint: p.Hint}
	}
	return out
}
