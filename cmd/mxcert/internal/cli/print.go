package cli

import (
	"fmt"
	"strings"

	"mxcert/cmd/mxcert/internal/report"
)

// printReport writes a report for a person to stdout.
func (a *app) printReport(r *report.Report) {
	for i, c := range r.Certificates {
		if i > 0 {
			fmt.Fprintln(a.stdout)
		}
		a.printCertificate(c)
	}
}

func (a *app) printCertificate(c report.Certificate) {
	state := c.Stage
	if c.Changed {
		state += ", changed"
	}
	fmt.Fprintf(a.stdout, "%s: %s\n", c.Name, state)
	fmt.Fprintf(a.stdout, "  names        %s\n", strings.Join(c.Names, ", "))
	for _, k := range c.Keys {
		fmt.Fprintf(a.stdout, "  %-12s serial %s, from %q, valid until %s (%s)\n", k.Key, k.Serial, k.Issuer, report.Minute(k.NotAfter), report.Until(k.NotAfter))
	}
	for _, path := range c.Files {
		fmt.Fprintf(a.stdout, "  file         %s\n", path)
	}
	for _, e := range c.Endpoints {
		what := "shows it"
		switch {
		case e.Error != "":
			what = "error: " + e.Error
		case !e.Matches:
			what = "shows another certificate, serial " + e.Serial
		}
		fmt.Fprintf(a.stdout, "  endpoint     %s (%s): %s\n", e.Address, e.Key, what)
	}
	if len(c.Endpoints) == 0 && c.Stage == report.Deployed {
		fmt.Fprintf(a.stdout, "  endpoint     none configured: that the files hold it is the last that is known\n")
	}
	if c.NextRenewal != nil {
		fmt.Fprintf(a.stdout, "  next renewal %s (%s)\n", report.Minute(*c.NextRenewal), report.Until(*c.NextRenewal))
	}
	for _, step := range c.Plan {
		fmt.Fprintf(a.stdout, "  would        %s\n", step)
	}
	for _, w := range c.Warnings {
		fmt.Fprintf(a.stdout, "  warning      %s\n", w)
	}
	if c.Error != nil {
		fmt.Fprintf(a.stdout, "  error        %s: %s\n", c.Error.Stage, strings.ReplaceAll(c.Error.Message, "\n", "\n               "))
		if c.Error.Hint != "" {
			fmt.Fprintf(a.stdout, "  next step    %s\n", c.Error.Hint)
		}
	}
}
