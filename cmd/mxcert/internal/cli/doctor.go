package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mxcert/acme"
	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/daemon"
	"mxcert/cmd/mxcert/internal/doctor"
	"mxcert/cmd/mxcert/internal/helper"
	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/configs"
)

// doctorTime limits the whole of doctor; a mail server may take a minute to greet.
const doctorTime = 2 * time.Minute

// doctorReport is the document of `doctor --json`. Scripts depend on its fields.
type doctorReport struct {
	OK     bool          `json:"ok"`
	Checks []doctorCheck `json:"checks"`
}

// doctorCheck is one check and its findings. IDs are stable words.
type doctorCheck struct {
	ID          string           `json:"id"`
	Certificate string           `json:"certificate"` // "" for checks of the host
	Severity    finding.Severity `json:"severity"`
	Name        string           `json:"name,omitempty"` // what it is about
	Message     string           `json:"message"`
	Hint        string           `json:"hint"`
}

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "doctor [NAME…]", Short: "Test everything that a renewal needs, and change nothing", Args: cobra.ArbitraryArgs,
		Long: `Tests the configuration and its secrets, the state directory, the clock, the CA and the account there, the hooks, and for each
certificate (or those named): the DNS provider and its right to make the records, CAA, DNSSEC and delegation of the names,
the places of the files, the units to reload, and what the endpoints serve now. It changes, orders and registers nothing.

Run it as root, or as the user that renews. Exit code 3 if something would make a renewal fail; 0 if there are only warnings.`,
		RunE: func(cmd *cobra.Command, names []string) error { return a.doctor(cmd.Context(), names) },
	}
}

func (a *app) doctor(ctx context.Context, names []string) error {
	config, err := configs.Load(a.configFile)
	if problems, ok := errors.AsType[*configs.Problems](err); ok {
		var checks []doctor.Check
		for _, f := range wanted.Findings(problems.List, finding.Error) {
			f.ID = "configuration"
			checks = append(checks, doctor.Check{Finding: f})
		}
		return a.finishDoctor(checks)
	}
	if err != nil {
		return err
	}
	host, _ := wanted.From(config) // the findings report roots that cannot be read
	wants, err := choose(host, names)
	if err != nil {
		return err
	}
	settings, _ := host.Authorities(a.version)       // looking at the CAs needs no secret, so an unreadable one does not matter
	configuration, secrets := wanted.Inspect(config) // with the rights of root, like all that this command reads of the configuration
	rule := doctor.ReadRule()
	store, err := book(host.State)
	if err != nil {
		return err
	}
	runner := &pass.Runner{Host: host, Release: a.version, Store: store, CAs: acme.NewAuthorities(store, settings...), Helper: helper.NewClient()}
	defer runner.Close()
	d := &doctor.Doctor{Runner: runner, Certificates: wants, ConfigFile: a.configFile, IsService: a.configFile == defaultConfig, Daemon: daemon.Running(store)}
	d.Configuration, d.Secrets, d.Polkit = configuration, secrets, rule
	bounded, cancel := a.within(ctx, doctorTime)
	defer cancel()
	checks := d.Examine(bounded)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return a.finishDoctor(checks)
}

// finishDoctor prints the checks. If one of them has an error, the exit code says that there is a fault.
func (a *app) finishDoctor(checks []doctor.Check) error {
	r, code := doctorReport{OK: true, Checks: []doctorCheck{}}, report.CodeOK
	for _, c := range checks {
		r.Checks = append(r.Checks, doctorCheck{ID: c.ID, Certificate: c.Certificate, Severity: c.Severity, Name: c.Subject, Message: c.Message, Hint: c.Hint})
		if c.Severity == finding.Error {
			r.OK, code = false, report.CodeFault
		}
	}
	return a.finish(answer{document: r, code: code, print: func(out sheet) { a.printDoctor(out, r) }})
}

// printDoctor prints one group of checks for the host and one for each certificate.
func (a *app) printDoctor(out sheet, r doctorReport) {
	counts := map[finding.Severity]int{}
	for i, c := range r.Checks {
		if counts[c.Severity]++; i == 0 || c.Certificate != r.Checks[i-1].Certificate {
			printGroup(out, i, c.Certificate)
		}
		message := strings.ReplaceAll(c.Message, "\n", " ")
		if c.Name != "" && !strings.Contains(message, c.Name) {
			message = c.Name + ": " + message
		}
		fmt.Fprint(out, "  ")
		a.mark(c.Severity)
		fmt.Fprintf(out, " %-13s %s\n", c.ID, message)
		if c.Hint != "" {
			fmt.Fprintf(out, "                          next step: %s\n", report.OneLine(c.Hint))
		}
	}
	faults, warnings := counts[finding.Error], counts[finding.Warning]
	verdict := fmt.Sprintf("%d %s, %d %s", faults, report.Plural(faults, "error"), warnings, report.Plural(warnings, "warning"))
	if r.OK {
		verdict += ": nothing found that would make a renewal fail"
	}
	fmt.Fprintf(out, "\n%s\n", verdict)
}

func printGroup(out sheet, i int, certificate string) {
	if i > 0 {
		fmt.Fprintln(out)
	}
	if certificate == "" {
		certificate = "this host"
	}
	fmt.Fprintln(out, certificate)
}

// mark prints a sign and a word, together nine columns wide.
func (a *app) mark(severity finding.Severity) {
	switch severity {
	case finding.Error:
		a.paint(a.stdout, "✗ error  ", red)
	case finding.Warning:
		a.paint(a.stdout, "! warning", yellow)
	default:
		a.paint(a.stdout, "✓ ok     ", green)
	}
}
