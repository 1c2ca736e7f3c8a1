package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"mxcert/acme"
	"mxcert/acme/finding"
	"mxcert/acme/state/disk"
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

// elsewhere is a mail domain whose MX hosts answer everybody who can reach port 25.
const elsewhere = "gmail.com"

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
	online := false
	cmd := &cobra.Command{
		Use: "doctor [NAME…]", Short: "Test everything that a renewal needs, and change nothing", Args: cobra.ArbitraryArgs,
		Long: `Tests the configuration and its secrets, the state directory, the clock, the CA and the account there, the hooks, and for each
certificate (or those named): the DNS provider and its right to make the records, CAA, DNSSEC and delegation of the names,
the places of the files, the units to reload, and what the endpoints serve now. It changes, orders and registers nothing.

If senders of mail get the certificate, it also looks at what they meet: MX records and names, port 25 in both directions, the names of this
host's addresses, DNSSEC and TLSA, MTA-STS, reports about TLS (RFC 8460), what each kind of sender decides about what is served now, and
settings of Exim and Postfix that stop working with a renewed certificate. What cannot be judged from this host says so, and is no fault.

If the certificate has TLSA records, or should get them (dane.mode), it also looks at the state of their zone, every name server, the time
that their signatures last, names and ports that they do not cover, and records of others, and asks the service that takes the records
whether it would let mxcert write them. mxcert-dane(7) explains what it finds.

With --online the DNS provider also creates a TXT record with a random value at _acme-challenge of each name, as an order does, looks for it
on the name servers, and removes it. With dane.mode publish, the service that takes TLSA records also creates and removes one below a random
name. Other records stay. If only the service has the provider's secrets, the daemon does this.

Run it as root, or as the user that renews. Exit code 3 if something would make a renewal fail; 0 if there are only warnings.`,
		RunE: func(cmd *cobra.Command, names []string) error { return a.doctor(cmd.Context(), names, online) },
	}
	cmd.Flags().BoolVar(&online, "online", false, "have the DNS provider create, show and remove a TXT record for each name")
	return cmd
}

func (a *app) doctor(ctx context.Context, names []string, online bool) error {
	r, err := a.examine(ctx, names, online)
	if err != nil {
		return err
	}
	code := report.CodeOK
	if !r.OK {
		code = report.CodeFault
	}
	return a.finish(answer{document: r, code: code, print: func(out sheet) { a.printDoctor(out, r) }})
}

// examine makes the checks for these certificates, or for all.
func (a *app) examine(ctx context.Context, names []string, online bool) (r doctorReport, err error) {
	config, err := configs.Load(a.configFile)
	if problems, ok := errors.AsType[*configs.Problems](err); ok {
		var checks []doctor.Check
		for _, f := range wanted.Findings(problems.List, finding.Error) {
			f.ID = "configuration"
			checks = append(checks, doctor.Check{Finding: f})
		}
		return reportOf(checks), nil
	}
	if err != nil {
		return r, err
	}
	host, _ := wanted.From(config) // the findings report roots that cannot be read
	if os.Geteuid() == 0 && host.Fleet != nil {
		host.KeepSecrets() // the identity is read when this process is not root any more
	}
	wants, err := choose(host, names)
	if err != nil {
		return r, err
	}
	settings, _ := host.Authorities(a.version)       // looking at the CAs needs no secret, so an unreadable one does not matter
	configuration, secrets := wanted.Inspect(config) // with the rights of root, like all that this command reads of the configuration
	held := a.heldSecrets(ctx, config)
	if len(held) > 0 {
		secrets = held.findings(config)
	}
	if os.Getenv("CREDENTIALS_DIRECTORY") != "" {
		host.KeepSecrets() // systemd has handed them to this process; soon it is a user who may not read them
	}
	rule, servers := doctor.ReadRule(), doctor.ReadServers(ctx)
	store, err := book(host.State)
	if err != nil {
		return r, err
	}
	runner := &pass.Runner{Host: host, Release: a.version, Store: store, CAs: acme.NewAuthorities(store, settings...), Helper: helper.NewClient()}
	defer runner.Close()
	d := &doctor.Doctor{Runner: runner, Disk: disk.At(host.State), Certificates: wants, ConfigFile: a.fileName(), IsService: a.isService(), Daemon: daemon.Running(store)}
	d.Configuration, d.Secrets, d.Polkit, d.Held, d.Online = configuration, secrets, rule, held.hint(doctorWords(online)), online
	d.Servers, d.Elsewhere = servers, []string{elsewhere}
	bounded, cancel := a.within(ctx, doctorTime)
	defer cancel()
	if a.configFile != configs.Stdin {
		ask := sync.OnceValue(func() *doctor.Seen {
			seen, err := daemon.Examine(bounded, store, a.version, host.Fingerprint, names, online)
			if err != nil {
				return nil // the test of the daemon says what is wrong with it
			}
			return (*doctor.Seen)(seen)
		})
		d.Service = func(context.Context) *doctor.Seen { return ask() }
	}
	checks := d.Examine(bounded)
	if ctx.Err() != nil {
		return r, ctx.Err()
	}
	return reportOf(checks), nil
}

// doctorWords is the command as a person types it.
func doctorWords(online bool) string {
	if online {
		return "doctor --online"
	}
	return "doctor"
}

// reportOf is OK unless one of the checks has an error.
func reportOf(checks []doctor.Check) doctorReport {
	r := doctorReport{OK: true, Checks: []doctorCheck{}}
	for _, c := range checks {
		r.Checks = append(r.Checks, doctorCheck{ID: c.ID, Certificate: c.Certificate, Severity: c.Severity, Name: c.Subject, Message: c.Message, Hint: c.Hint})
		r.OK = r.OK && c.Severity != finding.Error
	}
	return r
}

// doctorColumn is where messages start: after two spaces, the mark and the id.
const doctorColumn = 26

// printDoctor prints one group of checks for the host and one for each certificate.
func (a *app) printDoctor(out sheet, r doctorReport) {
	counts := map[finding.Severity]int{}
	group, shown := "", 0
	for _, c := range r.Checks {
		if counts[c.Severity]++; a.quiet && c.Severity == finding.OK {
			continue
		}
		if shown++; shown == 1 || c.Certificate != group {
			group = c.Certificate
			printGroup(out, shown-1, group)
		}
		message := strings.ReplaceAll(c.Message, "\n", " ")
		if c.Name != "" && !strings.Contains(message, c.Name) {
			message = c.Name + ": " + message
		}
		fmt.Fprint(out, "  ")
		a.mark(c.Severity)
		if len(c.ID) > doctorColumn-13 { // the message begins below
			fmt.Fprint(out, " "+c.ID+"\n"+strings.Repeat(" ", doctorColumn))
		} else {
			fmt.Fprintf(out, " %-13s ", c.ID)
		}
		out.rest(doctorColumn, message)
		if c.Hint != "" {
			fmt.Fprint(out, strings.Repeat(" ", doctorColumn))
			out.rest(doctorColumn, "next step: "+report.OneLine(c.Hint))
		}
	}
	faults, warnings := counts[finding.Error], counts[finding.Warning]
	verdict := fmt.Sprintf("%d %s, %d %s", faults, report.Plural(faults, "error"), warnings, report.Plural(warnings, "warning"))
	if r.OK {
		verdict += ": nothing found that would make a renewal fail"
	}
	fmt.Fprintln(out)
	out.text(2, "%s", verdict)
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
