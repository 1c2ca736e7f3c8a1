package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/privilege"
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
		Long: `Reads the configuration and reports all faults at once. Exit code 3 if there is a fault.

A file of the fleet that is in its place and that the user who renews cannot use is a fault, too, although mxcert serves without it: run this as
root, or as that user.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.check(cmd.Context()) },
	}
}

func (a *app) check(ctx context.Context) error {
	config, err := configs.Load(a.configFile)
	if err == nil {
		err = withProblems(wanted.Check(config), problemsOf(wanted.CheckFleet(config)))
	}
	var warnings []configs.Problem
	var notes []string
	if config != nil {
		err = withFiles(config, err)
		var secrets []configs.Problem
		secrets, notes = a.unreadable(ctx, config, wanted.UnreadableSecrets(config))
		warnings = slices.Concat(wanted.Warnings(config), secrets, wanted.MisspeltVariables(config), wanted.PageProblems(config), wanted.ReportProblems(config), wanted.ClientValidity(config))
		unreadable, failed := a.unreadableFleet(ctx, config)
		if failed != nil {
			return failed
		}
		err = withProblems(err, unreadable)
	}
	problems, isProblem := errors.AsType[*configs.Problems](err)
	if err != nil && !isProblem {
		return err
	}
	r := checkReport{OK: err == nil, Problems: []problemReport{}}
	if isProblem {
		r.Problems = problemReports(problems.List)
		warnings = slices.DeleteFunc(warnings, func(w configs.Problem) bool { return listed(problems.List, w) })
	}
	r.Warnings = problemReports(warnings)
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
	return withProblems(err, wanted.CheckFiles(config))
}

// withProblems adds problems to those of an error, each once. An error that is not about the configuration stays alone.
func withProblems(err error, added []configs.Problem) error {
	all := &configs.Problems{}
	if problems, ok := errors.AsType[*configs.Problems](err); ok {
		all.List = slices.Clone(problems.List)
	} else if err != nil {
		return err
	}
	for _, p := range added {
		if !listed(all.List, p) {
			all.List = append(all.List, p)
		}
	}
	if len(all.List) == 0 {
		return nil
	}
	return all
}

func problemsOf(err error) []configs.Problem {
	if problems, ok := errors.AsType[*configs.Problems](err); ok {
		return problems.List
	}
	return nil
}

// listed reports whether a problem is in a list already.
func listed(list []configs.Problem, p configs.Problem) bool {
	return slices.ContainsFunc(list, func(known configs.Problem) bool {
		return known.File == p.File && known.Line == p.Line && known.Path == p.Path && known.Message == p.Message
	})
}

// unreadableFleet returns which files and secrets of the fleet are in their places and cannot be read by the user that renews: without them, orders
// wait. Others may check, too: their rights say nothing. A process of root becomes that user, for good.
func (a *app) unreadableFleet(ctx context.Context, config *configs.Config) ([]configs.Problem, error) {
	if !config.Fleet.On() {
		return nil, nil
	}
	if err := privilege.BecomeOwner(config.State); err != nil {
		return nil, err
	}
	info, err := os.Stat(config.State)
	if err != nil {
		return nil, nil //nolint:nilerr // there is no state yet, so nobody knows who renews
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Geteuid() {
		return nil, nil
	}
	problems, _ := a.unreadable(ctx, config, wanted.UnreadableFleet(config))
	return problems, nil
}

// fileName is how messages call the configuration file.
func (a *app) fileName() string {
	if a.configFile == configs.Stdin {
		return "standard input"
	}
	return a.configFile
}

// unreadable returns what nobody can read of a list, and notes about the secrets that systemd hands to the service.
func (a *app) unreadable(ctx context.Context, config *configs.Config, list []wanted.Unreadable) (problems []configs.Problem, notes []string) {
	if len(list) == 0 {
		return nil, nil
	}
	held := a.heldSecrets(ctx, config)
	for _, secret := range list {
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
