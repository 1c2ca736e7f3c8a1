package cli

import (
	"fmt"
	"strings"
	"time"

	"mxcert/cmd/mxcert/internal/report"
)

// finishCertificates prints a report on certificates and chooses the exit code.
func (a *app) finishCertificates(r *report.Report) error {
	return a.finish(answer{document: r, changed: r.Changed, code: r.ExitCode(), print: func(out sheet) {
		printDaemon(out, r.Daemon, r.ConfigError != "")
		for i, c := range r.Certificates {
			if i > 0 {
				fmt.Fprintln(out)
			}
			printCertificate(out, c)
		}
	}})
}

func printCertificate(out sheet, c report.Certificate) {
	state := string(c.Stage)
	if c.Changed {
		state += ", changed"
	}
	if len(c.Missing) > 0 {
		state += ", without " + strings.Join(c.Missing, ", ")
	}
	fmt.Fprintf(out, "%s: %s\n", c.Name, state)
	out.line("names", "%s", strings.Join(c.Names, ", "))
	for _, k := range c.Keys {
		out.line(k.Key, "serial %s, from %q, valid until %s (%s)", k.Serial, k.Issuer, report.Minute(k.NotAfter), report.Until(k.NotAfter))
	}
	for _, path := range c.Files {
		out.line("file", "%s", path)
	}
	printEndpoints(out, c)
	if c.NextRenewal != nil {
		out.line("next renewal", "%s (%s)", report.Minute(*c.NextRenewal), report.Until(*c.NextRenewal))
	}
	for _, step := range c.Plan {
		out.line("would", "%s", step)
	}
	for _, w := range c.Warnings {
		out.line("warning", "%s", w)
	}
	out.trouble(c.Error)
}

func printEndpoints(out sheet, c report.Certificate) {
	for _, e := range c.Endpoints {
		what := "serves it"
		switch {
		case e.Error != "":
			what = "error: " + e.Error
		case !e.Matches:
			what = "serves another certificate, serial " + e.Serial
		}
		if time.Since(e.SeenAt) > time.Minute {
			what += ", seen " + report.Until(e.SeenAt)
		}
		out.line("endpoint", "%s (%s): %s", e.Address, e.Key, what)
	}
	if len(c.Endpoints) == 0 && c.Stage == report.Deployed {
		out.line("endpoint", "no endpoint configured, so mxcert cannot tell whether the certificate is served")
	}
}

// printDaemon describes the daemon. If said is set, a person has just read what is wrong with the configuration.
func printDaemon(out sheet, r *report.Daemon, said bool) {
	if r == nil {
		return
	}
	fmt.Fprintf(out, "daemon: running since %s (process %d), configuration of %s\n", report.Minute(r.Started), r.PID, report.Minute(r.ConfigLoaded))
	switch {
	case r.ConfigError != "" && said:
		out.line("error", "the configuration changed at %s is bad, the old one stays in force", r.BadSince())
	case r.ConfigError != "":
		out.line("error", "the configuration changed at %s is bad, the old one stays in force:\n%s", r.BadSince(), r.ConfigError)
	}
}
