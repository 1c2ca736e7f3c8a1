package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"mxcert/acme/resolve"
	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/report"
)

const (
	// doctorTime bounds all of doctor: a greeting may take a minute.
	doctorTime = 2 * time.Minute
	// doctorGrace is how long a look that was told to stop may take to do so.
	doctorGrace = 2 * time.Second
	// looksAtOnce bounds the looks that are under way at once.
	looksAtOnce = 16
)

// The severities of doctor: an error would make a renewal fail.
const (
	wellSeverity    = "ok"
	warningSeverity = "warning"
	errorSeverity   = "error"
)

// doctorReport is `doctor --json`. Its fields are part of the contract.
type doctorReport struct {
	OK     bool          `json:"ok"`
	Checks []doctorCheck `json:"checks"`
}

// doctorCheck is one thing that was looked at. IDs are stable words.
type doctorCheck struct {
	ID          string `json:"id"`
	Certificate string `json:"certificate"` // "" for what belongs to the host
	Severity    string `json:"severity"`    // ok, warning, error
	Name        string `json:"name,omitempty"`
	Message     string `json:"message"`
	Hint        string `json:"hint"`
}

// doctor looks at everything that a renewal needs.
type doctor struct {
	*app
	config       *configs.Config
	world        *world
	certificates []configs.Certificate
}

// doctorLook is one of its tests. It gives what it found, and changes nothing.
type doctorLook struct {
	id, certificate string
	run             func(ctx context.Context) []doctorCheck
}

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "doctor [NAME…]", Short: "Test everything that a renewal needs, and change nothing", Args: cobra.ArbitraryArgs,
		Long: `Tests the configuration and its secrets, the state directory, the clock, the CA and the account there, the hooks, and for each
certificate (or those named): the DNS provider and its right to make the records, CAA, DNSSEC and delegation of the names,
the places of the files, the units to reload, and what the endpoints serve now. Nothing is changed, ordered or registered.

Run it as root, or as the user that renews. Exit code 3 when something would make a renewal fail; warnings alone give 0.`,
		RunE: func(cmd *cobra.Command, names []string) error { return a.doctor(cmd.Context(), names) },
	}
}

func (a *app) doctor(ctx context.Context, names []string) error {
	config, err := configs.Load(a.configFile)
	if problems, ok := errors.AsType[*configs.Problems](err); ok {
		return a.printDoctor(configurationFaults(problems.List))
	}
	if err != nil {
		return err
	}
	certificates, err := chosen(config, names)
	if err != nil {
		return err
	}
	d := &doctor{app: a, config: config, world: doctorWorld(config, a.version), certificates: certificates}
	defer d.world.close()
	bounded, cancel := a.within(ctx, doctorTime)
	defer cancel()
	checks := d.examine(bounded)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return a.printDoctor(checks)
}

// examine makes all looks, several at once, and gives what they found in their order.
func (d *doctor) examine(ctx context.Context) []doctorCheck {
	looks := d.hostLooks()
	for _, c := range d.certificates {
		looks = append(looks, d.certificateLooks(c)...)
	}
	found := make([][]doctorCheck, len(looks))
	turns := make(chan struct{}, looksAtOnce)
	var wait sync.WaitGroup
	for i, l := range looks {
		wait.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			found[i] = l.within(ctx)
		})
	}
	wait.Wait()
	var checks []doctorCheck
	for i, l := range looks {
		for _, c := range found[i] {
			c.Certificate = l.certificate
			if c.ID == "" {
				c.ID = l.id
			}
			checks = append(checks, c)
		}
	}
	return oneCAIsEnough(checks)
}

// within makes a look that neither hangs nor ends the others.
func (l doctorLook) within(ctx context.Context) []doctorCheck {
	done := make(chan []doctorCheck, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				done <- []doctorCheck{bad("a fault inside mxcert ended this test: %v", r).because("please report this")}
			}
		}()
		done <- l.run(ctx)
	}()
	late := ctx.Done()
	for {
		select {
		case checks := <-done:
			return checks
		case <-late:
			late = nil
			timer := time.AfterFunc(doctorGrace, func() {
				done <- []doctorCheck{bad("this test has not ended in time").because("give it more with --timeout, or see what hangs")}
			})
			defer timer.Stop()
		}
	}
}

func well(format string, args ...any) doctorCheck {
	return doctorCheck{Severity: wellSeverity, Message: fmt.Sprintf(format, args...)}
}

func doubtful(format string, args ...any) doctorCheck {
	return doctorCheck{Severity: warningSeverity, Message: fmt.Sprintf(format, args...)}
}

func bad(format string, args ...any) doctorCheck {
	return doctorCheck{Severity: errorSeverity, Message: fmt.Sprintf(format, args...)}
}

// because adds what to do.
func (c doctorCheck) because(hint string) doctorCheck {
	c.Hint = hint
	return c
}

// about adds the DNS name, path, unit or endpoint that it is about.
func (c doctorCheck) about(name string) doctorCheck {
	c.Name = name
	return c
}

// called sets the ID, where a look gives several.
func (c doctorCheck) called(id string) doctorCheck {
	c.ID = id
	return c
}

// faults makes a check of each part of an error, once; otherwise is the hint of one that has none.
func faults(err error, otherwise string) []doctorCheck {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // this is what a tree is walked by
	if !ok {
		return []doctorCheck{bad("%s", report.OneLine(err.Error())).because(cmp.Or(report.HintOf(err), otherwise))}
	}
	var checks []doctorCheck
	for _, e := range joined.Unwrap() {
		for _, c := range faults(e, otherwise) {
			if !slices.Contains(checks, c) {
				checks = append(checks, c)
			}
		}
	}
	return checks
}

// printDoctor gives the report, and the exit code.
func (a *app) printDoctor(checks []doctorCheck) error {
	r := doctorReport{OK: true, Checks: checks}
	for _, c := range checks {
		r.OK = r.OK && c.Severity != errorSeverity
	}
	if a.json {
		if err := a.printJSON(r); err != nil {
			return err
		}
	} else if !a.quiet || !r.OK {
		a.showDoctor(r)
	}
	if !r.OK {
		return &report.Exit{Code: report.CodeFault}
	}
	return nil
}

// showDoctor prints the report for a person, one group for the host and one for each certificate.
func (a *app) showDoctor(r doctorReport) {
	counts := map[string]int{}
	for i, c := range r.Checks {
		if counts[c.Severity]++; i == 0 || c.Certificate != r.Checks[i-1].Certificate {
			a.showGroup(i, c.Certificate)
		}
		message := strings.ReplaceAll(c.Message, "\n", " ")
		if c.Name != "" && !strings.Contains(message, c.Name) {
			message = c.Name + ": " + message
		}
		fmt.Fprintf(a.stdout, "  %s %-13s %s\n", a.mark(c.Severity), c.ID, message)
		if c.Hint != "" {
			fmt.Fprintf(a.stdout, "                          next step: %s\n", c.Hint)
		}
	}
	verdict := fmt.Sprintf("%d %s, %d %s", counts[errorSeverity], report.Plural(counts[errorSeverity], "error"), counts[warningSeverity], report.Plural(counts[warningSeverity], "warning"))
	if r.OK {
		verdict += ": nothing found that would make a renewal fail"
	}
	fmt.Fprintf(a.stdout, "\n%s\n", verdict)
}

func (a *app) showGroup(i int, certificate string) {
	if i > 0 {
		fmt.Fprintln(a.stdout)
	}
	if certificate == "" {
		certificate = "this host"
	}
	fmt.Fprintln(a.stdout, certificate)
}

// mark is a sign and a word, nine columns wide.
func (a *app) mark(severity string) string {
	switch severity {
	case errorSeverity:
		return a.colour("✗ error  ", red)
	case warningSeverity:
		return a.colour("! warning", yellow)
	}
	return a.colour("✓ ok     ", green)
}

// colour is for standard output.
func (a *app) colour(text, colour string) string {
	out, ok := a.stdout.(*checkedWriter)
	if !ok || a.noColor || !isTerminal(out.Writer) {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// require is how the records of a certificate have to be visible.
func require(c configs.Certificate) resolve.Require {
	return resolve.Require(c.DNS.Propagation.Require)
}
