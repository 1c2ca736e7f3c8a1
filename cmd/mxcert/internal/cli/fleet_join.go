package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/acme/fleet"

	"mxcert/cmd/mxcert/internal/doctor"
	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

const fleetJoinHelp = `Checks whether this host can take part in the fleet of its configuration, and says what it would take over: the identity, the client
certificate, etcd and the role there, the clock, whether another host has this name, whether the hosts trust each other, and each
certificate. Without --yes nothing is written, neither here nor in the store.

With --yes it then makes the first pass over all certificates: what the fleet has is copied to this host's disk, deployed and proven by
handshakes, as in every pass. What nobody has ordered yet, this host orders. The daemon does the same when it starts; the command shows
beforehand what will happen.

Exit codes: 0 all checks have passed (and, with --yes, all is served), 3 a check has failed, 75 the store is away; with --yes also those of
renew.`

// joinReport is the document of `fleet join --json`. The rest is that of renew: without --yes it has no certificates.
type joinReport struct {
	report.Report
	OK     bool        `json:"ok"`
	Fleet  string      `json:"fleet"`
	Host   string      `json:"host"`
	Checks []joinCheck `json:"checks"`
	Plan   []joinPlan  `json:"join"`
	Joined bool        `json:"joined"` // the first pass was made

	failed report.Code // of the checks
}

// joinCheck is one check of a host that wants to take part.
type joinCheck struct {
	Check   string           `json:"check"` // identity, client, engine, clock, trust, fault, hosts
	Result  finding.Severity `json:"result"`
	Message string           `json:"message"`
	Hint    string           `json:"hint"`
}

// joinPlan says what a host would do about a type of key of a certificate.
type joinPlan struct {
	Certificate string     `json:"certificate"`
	Key         string     `json:"key"`
	Action      string     `json:"action"` // take, keep, order or none
	Generation  int64      `json:"generation"`
	Serial      string     `json:"serial"`
	NotAfter    *time.Time `json:"not_after"`
	From        string     `json:"from"` // host
	Message     string     `json:"message"`
}

func (a *app) fleetJoinCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "join", Short: "Check whether this host can take part; with --yes, take over what the fleet has", Args: cobra.NoArgs,
		Long: fleetJoinHelp, Example: "  mxcert fleet join\n  mxcert fleet join --yes",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.fleetJoin(cmd.Context(), yes) },
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "make the first pass if all checks have passed")
	return cmd
}

func (a *app) fleetJoin(ctx context.Context, yes bool) error {
	looking, cancel := a.within(ctx, fleetTime)
	defer cancel()
	f, err := a.fleet(looking, "fleet join", toAsk)
	if err != nil {
		return err
	}
	r := f.checkJoin(looking)
	_ = f.leave() // the passes are members of their own
	if code := r.code(); code != report.CodeOK || !yes {
		r.OK = code == report.CodeOK
		return a.finish(answer{document: r, code: code, print: func(out sheet) { printJoin(out, r, yes) }})
	}
	if !a.json && !a.quiet {
		printJoin(a.sheet(), r, yes)
	}
	passing, cancelPass := a.within(ctx, renewTime)
	defer cancelPass()
	done, err := a.passes(passing, f.host, nil, pass.Options{Asked: time.Now()})
	if err != nil {
		return err
	}
	r.Report, r.Joined = *done, true
	r.OK = done.ExitCode() == report.CodeOK
	return a.finish(answer{document: r, changed: done.Changed, code: done.ExitCode(), print: func(out sheet) {
		for _, c := range r.Certificates {
			printCertificate(out, c)
		}
	}})
}

// checkJoin makes all checks, as far as they make sense.
func (f *fleetSight) checkJoin(ctx context.Context) *joinReport {
	of := f.host.Fleet
	r := &joinReport{Report: report.Report{Certificates: []report.Certificate{}}, Fleet: of.Name, Host: of.Host, Checks: []joinCheck{}, Plan: []joinPlan{}}
	found, seen, err := doctor.LookAtFleet(ctx, of, f.Member)
	for _, one := range found {
		r.Checks = append(r.Checks, joinCheck{Check: strings.TrimPrefix(one.ID, "fleet-"), Result: one.Severity, Message: one.Message, Hint: one.Hint})
		if one.Severity == finding.Error && (err == nil || one.ID != "fleet-engine") {
			r.failed = report.CodeFault
		}
	}
	if err != nil {
		if r.failed == report.CodeOK && fleetCode(err) == report.CodeTemporary {
			r.failed = report.CodeTemporary
		} else {
			r.failed = report.CodeFault
		}
		return r
	}
	for _, want := range f.host.Certificates {
		for _, key := range want.Keys {
			r.Plan = append(r.Plan, f.plan(ctx, want, key, seen))
		}
	}
	return r
}

// plan says what this host would do about a type of key.
func (f *fleetSight) plan(ctx context.Context, want wanted.Certificate, key bundle.KeyType, seen fleet.Overview) joinPlan {
	p := joinPlan{Certificate: want.Name, Key: string(key)}
	i := slices.IndexFunc(seen.Certificates, func(n fleet.Newest) bool { return n.Name == want.Name && n.Key == string(key) })
	if i >= 0 {
		n := seen.Certificates[i]
		p.Generation, p.Serial, p.NotAfter, p.From = n.Generation, n.Serial, instant(n.NotAfter), n.Host
	}
	shared, err := f.Take(ctx, want.Name, key)
	switch {
	case err != nil:
		p.Action, p.Message = "none", "cannot be taken: "+report.OneLine(err.Error())
		if hint := report.HintOf(err); hint != "" {
			p.Message += "; " + hint
		}
	case shared != nil:
		p.Action, p.Generation, p.From = "take", shared.Generation, shared.Host
		p.Message = fmt.Sprintf("taken from %s, and deployed", shared.Host)
		if lacks := missingNames(want, shared.Names); len(lacks) > 0 {
			p.Action, p.Message = "order", "does not have "+strings.Join(lacks, ", ")+", which this host requires: another one is ordered"
		}
	case i >= 0:
		p.Action, p.Message = "keep", "this host has it already"
	default:
		p.Action, p.Message = "order", "no host has shared one yet: this host shares what it has, or orders one"
	}
	return p
}

// missingNames lists the required names that a certificate lacks.
func missingNames(want wanted.Certificate, names []string) (lacks []string) {
	for _, name := range want.Required() {
		if !slices.Contains(names, name) {
			lacks = append(lacks, name)
		}
	}
	return lacks
}

// code is the exit code of the checks.
func (r *joinReport) code() report.Code {
	if r.failed != report.CodeOK {
		return r.failed
	}
	for _, p := range r.Plan {
		if p.Action == "none" {
			return report.CodeFault
		}
	}
	return report.CodeOK
}

func printJoin(out sheet, r *joinReport, yes bool) {
	fmt.Fprintf(out, "fleet %s, host %s\n", r.Fleet, r.Host)
	for _, c := range r.Checks {
		what := c.Check
		switch {
		case c.Result != finding.OK:
			what = string(c.Result)
		case what == "engine":
			what = "etcd"
		}
		out.line(what, "%s", c.Message)
		if c.Hint != "" {
			out.line("next step", "%s", c.Hint)
		}
	}
	for _, p := range r.Plan {
		text := ""
		if p.Serial != "" {
			text = fmt.Sprintf("generation %d, serial %s: ", p.Generation, cut(p.Serial, 14))
		}
		out.line(p.Certificate+" "+p.Key, "%s%s", text, p.Message)
	}
	switch {
	case r.code() != report.CodeOK:
		out.text(2, "Nothing was written.")
	case !yes:
		out.text(2, "All checks have passed. Nothing was written: mxcert fleet join --yes takes part now, and so does the daemon.")
	}
}
