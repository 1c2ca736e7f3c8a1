package cli

import (
	"fmt"
	"strings"
	"time"

	"mxcert/cmd/mxcert/internal/report"
)

// finishCertificates prints a report on certificates in full, and chooses the exit code.
func (a *app) finishCertificates(r *report.Report) error {
	return a.finish(answer{document: r, changed: r.Changed, code: r.ExitCode(), print: func(out sheet) {
		printDaemon(out, r.Daemon, r.ConfigError != "", a.version)
		printFleetHealth(out, r.Fleet)
		for i, c := range r.Certificates {
			if i > 0 {
				fmt.Fprintln(out)
			}
			printCertificate(out, c)
		}
		printAlarms(out, r)
	}})
}

func printCertificate(out sheet, c report.Certificate) {
	fmt.Fprintf(out, "%s: ", c.Name)
	out.paint(string(c.Stage), colourOf(c))
	rest := ""
	if c.Changed {
		rest += ", changed"
	}
	if len(c.Missing) > 0 {
		rest += ", without " + strings.Join(c.Missing, ", ")
	}
	fmt.Fprintln(out, fold(rest, len(c.Name+": "+string(c.Stage)), 15, out.width))
	printNames(out, c)
	for _, k := range c.Keys {
		out.line(k.Key, "serial %s, from %q, valid until %s (%s)", k.Serial, k.Issuer, report.Minute(k.NotAfter), report.Until(k.NotAfter))
		if k.OCSP != nil {
			out.line("ocsp", "%s", ocspText(k.OCSP))
		}
	}
	for _, path := range c.Files {
		out.line("file", "%s", path)
	}
	printEndpoints(out, c)
	if c.Senders != nil {
		out.line("senders", "%s", sendersText(c.Senders))
	}
	printReportedOf(out, c.Reported)
	printTLSA(out, c.Name, c.TLSA, false)
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

// printNames says which names are wanted. If looks at DNS have found some, it says why each is, in groups.
func printNames(out sheet, c report.Certificate) {
	for i := 0; i < len(c.Names); {
		reason, end := c.Reasons[c.Names[i]], i+1
		for end < len(c.Names) && c.Reasons[c.Names[end]] == reason {
			end++
		}
		names := strings.Join(c.Names[i:end], ", ")
		if i > 0 || end < len(c.Names) {
			names += " (" + reason + ")"
		}
		out.line("names", "%s", names)
		i = end
	}
	for _, a := range c.Awaited {
		out.line("awaited", "%s (%s): found at %s, wanted if a look after %s finds it too; mxcert renew %s --now adds it at once",
			a.Name, a.Reason, report.Minute(a.Since), report.Minute(a.Until), c.Name)
	}
	if len(c.Leaving) > 0 {
		out.line("leaving", "%s: DNS does not name this host so any more; the next renewal drops it", strings.Join(c.Leaving, ", "))
	}
}

// ocspText says what the CA says about a certificate, and until when servers may send it along.
func ocspText(o *report.OCSP) string {
	text := o.Status
	switch {
	case o.Status == "none":
		text = "no response yet"
	case o.NextUpdate != nil && time.Now().After(*o.NextUpdate):
		text += ", but the response expired at " + report.Minute(*o.NextUpdate)
	case o.NextUpdate != nil:
		text += fmt.Sprintf(", the response is valid until %s (%s)", report.Minute(*o.NextUpdate), report.Until(*o.NextUpdate))
	}
	if o.Error != "" {
		text += "; " + o.Error
	}
	if o.NextRequest != nil {
		text += "; mxcert asks again " + report.Until(*o.NextRequest)
	}
	return text
}

// sendersText says what senders met.
func sendersText(s *report.Senders) string {
	domains := strings.Join(s.Domains[:min(len(s.Domains), mostDomains)], ", ")
	if more := len(s.Domains) - mostDomains; more > 0 {
		domains += fmt.Sprintf(" and %d more", more)
	}
	if len(s.Findings) == 0 {
		return fmt.Sprintf("to %s meet no fault, seen %s", domains, report.Until(s.At))
	}
	n := len(s.Findings)
	return fmt.Sprintf("to %s meet %d %s, seen %s, the worst: %s; mxcert verify --domain shows all", domains, n, report.Plural(n, "fault"), report.Until(s.At), s.Findings[0].Message)
}

// mostDomains limits the domains in a line.
const mostDomains = 3

func printEndpoints(out sheet, c report.Certificate) {
	for _, e := range c.Endpoints {
		what := "serves it"
		switch {
		case e.Error != "":
			what = "error: " + e.Error
		case !e.Matches:
			what = "serves another certificate, serial " + e.Serial
		case e.OCSP == "good":
			what += ", with its OCSP response"
		case e.OCSP == "none":
			what += ", without its OCSP response"
		case e.OCSP != "":
			what += ", with a bad OCSP response (" + e.OCSP + ")"
		}
		if time.Since(e.SeenAt) > time.Minute {
			what += ", seen " + report.Until(e.SeenAt)
		}
		out.line("endpoint", "%s (%s): %s", e.Address, e.Key, what)
	}
	if len(c.Endpoints) == 0 && c.Stage == report.Deployed && c.Error == nil { // a pass that fails earlier looks at none
		out.line("endpoint", "no endpoint configured, so mxcert cannot tell whether the certificate is served")
	}
}

// colourOf returns the colour of a certificate's stage: green if nothing is wrong, yellow if it only waits, else red.
func colourOf(c report.Certificate) string {
	switch c.Code {
	case report.CodeOK:
		return green
	case report.CodeTemporary:
		return yellow
	}
	return red
}

// printDaemon says what is wrong with the daemon: a bad configuration, or that it is not the program that asks. If said is set, a person
// has just read what is wrong with the configuration.
func printDaemon(out sheet, r *report.Daemon, said bool, release string) {
	if r == nil {
		return
	}
	old := r.Version != "" && r.Version != release
	if !old && r.ConfigError == "" {
		return
	}
	out.text(2, "daemon: running since %s (process %d), configuration of %s", report.Minute(r.Started), r.PID, report.Minute(r.ConfigLoaded))
	if old {
		out.line("warning", "the daemon is mxcert %s, this is %s; systemctl restart mxcert starts the installed one", r.Version, release)
	}
	switch {
	case r.ConfigError != "" && said:
		out.line("error", "the configuration changed at %s is bad, the old one stays in force", r.BadSince())
	case r.ConfigError != "":
		out.line("error", "the configuration changed at %s is bad, the old one stays in force:\n%s", r.BadSince(), r.ConfigError)
	}
}
