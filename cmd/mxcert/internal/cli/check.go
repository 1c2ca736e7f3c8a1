package cli

import (
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
		RunE: func(*cobra.Command, []string) error { return a.check() },
	}
}

func (a *app) check() error {
	config, err := configs.Load(a.configFile)
	if err == nil {
		err = wanted.Check(config)
	}
	problems, isProblem := errors.AsType[*configs.Problems](err)
	if err != nil && !isProblem {
		return err
	}
	r := checkReport{OK: err == nil, Problems: []problemReport{}, Warnings: []problemReport{}}
	if isProblem {
		r.Problems = problemReports(problems.List)
	}
	if config != nil {
		r.Warnings = problemReports(slices.Concat(wanted.Warnings(config), wanted.UnreadableSecrets(config), wanted.MisspeltVariables(config)))
	}
	switch {
	case a.json:
		if err := a.printJSON(r); err != nil {
			return err
		}
	case isProblem:
		return &report.Exit{Code: report.CodeFault, Err: problems}
	case !a.quiet:
		for _, w := range r.Warnings {
			fmt.Fprintf(a.stderr, "warning: %s:%d:%d: %s\n", w.File, w.Line, w.Column, w.Message)
		}
		fmt.Fprintf(a.stdout, "%s: no fault found; %d %s\n", a.configFile, len(config.Certificates), report.Plural(len(config.Certificates), "certificate"))
	}
	if isProblem {
		return &report.Exit{Code: report.CodeFault}
	}
	return nil
}

func problemReports(list []configs.Problem) []problemReport {
	out := make([]problemReport, len(list))
	for i, p := range list {
		out[i] = problemReport{File: p.File, Line: p.Line, Column: p.Column, Path: p.Path, Message: p.Message, Hint: p.Hint}
	}
	return out
}
