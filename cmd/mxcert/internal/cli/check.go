package cli

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/report"
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
		Long: "Reads the configuration and reports every fault at once. Exit code 3 when there is one.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.check() },
	}
}

func (a *app) check() error {
	config, err := configs.Load(a.configFile)
	if err == nil {
		err = checkOutside(config)
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
		r.Warnings = problemReports(slices.Concat(config.Warnings(), unreadableSecrets(config), misspeltVariables(config)))
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

// unreadableSecrets are warnings, not faults: a configuration may be checked before its secrets are in place, and by
// somebody who may not read them.
func unreadableSecrets(config *configs.Config) []configs.Problem {
	var list []configs.Problem
	warn := func(path string, secret configs.Secret) {
		if _, err := secret.Read(); err != nil {
			p := config.At(path)
			p.Message, p.Hint = fmt.Sprintf("%s: %v", path, err), report.HintOf(err)
			list = append(list, p)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(config.DNS.Env)) {
		warn("dns.env."+name, config.DNS.Env[name])
	}
	for i, c := range config.Certificates {
		if maps.Equal(c.DNS.Env, config.DNS.Env) {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(c.DNS.Env)) {
			warn(fmt.Sprintf("certificates[%d].dns.env.%s", i, name), c.DNS.Env[name])
		}
	}
	for i, binding := range config.ACME.EAB {
		path := "acme.eab.hmac_key"
		if len(config.ACME.EAB) > 1 {
			path = fmt.Sprintf("acme.eab[%d].hmac_key", i)
		}
		warn(path, binding.HMACKey)
	}
	return list
}

func problemReports(list []configs.Problem) []problemReport {
	out := make([]problemReport, len(list))
	for i, p := range list {
		out[i] = problemReport{File: p.File, Line: p.Line, Column: p.Column, Path: p.Path, Message: p.Message, Hint: p.Hint}
	}
	return out
}
