package cli

import (
	"fmt"
	"strings"
	"time"

	"mxcert/acme/state"

	"mxcert/cmd/mxcert/internal/report"
)

// accountsResult prints the report and chooses the exit code, by the rules of a report on certificates.
func (a *app) accountsResult(r *accountsReport) error {
	var sum report.Report
	for _, c := range r.Accounts {
		sum.Certificates = append(sum.Certificates, report.Certificate{Code: c.code})
	}
	code := sum.ExitCode()
	switch {
	case a.json:
		if err := a.printJSON(r); err != nil {
			return err
		}
	case !a.quiet || code != report.CodeOK:
		for i, c := range r.Accounts {
			if i > 0 {
				fmt.Fprintln(a.stdout)
			}
			a.printAccount(c)
		}
	}
	if code == report.CodeOK && r.Changed && a.detailedExit {
		code = report.CodeChanged
	}
	if code != report.CodeOK {
		return &report.Exit{Code: code}
	}
	return nil
}

func (a *app) printAccount(c accountReport) {
	line := func(what, format string, values ...any) {
		fmt.Fprintf(a.stdout, "  %-12s %s\n", what, fmt.Sprintf(format, values...))
	}
	head := c.CA
	if !c.Configured {
		head += " (not in the configuration)"
	}
	if c.Changed {
		head += ": changed"
	}
	fmt.Fprintln(a.stdout, head)
	line("directory", "%s", c.Directory)
	if c.URL != "" {
		line("account", "%s", c.URL)
	}
	line("status", "%s", c.statusText())
	if len(c.Contact) > 0 {
		line("contact", "%s", strings.Join(c.Contact, ", "))
	} else if c.URL != "" {
		line("contact", "none")
	}
	if c.Key != nil {
		line("key", "%s, thumbprint %s", c.Key.Type, c.Key.Thumbprint)
	}
	if c.Created != nil {
		line("created", "%s", report.Minute(*c.Created))
	}
	if c.Terms.Agreed != "" {
		line("terms", "%s", c.Terms.Agreed)
	}
	if c.Terms.Now != "" && c.Terms.Now != c.Terms.Agreed {
		line("terms now", "%s", c.Terms.Now)
	}
	for _, f := range c.Former {
		line("formerly", "%s until %s: %s", orUnknown(f.URL), report.Minute(f.Until), f.Why)
	}
	for _, w := range c.Warnings {
		line("warning", "%s", w)
	}
	if c.Error != nil {
		line("error", "%s: %s", c.Error.Stage, strings.ReplaceAll(c.Error.Message, "\n", "\n               "))
		if c.Error.Hint != "" {
			line("next step", "%s", c.Error.Hint)
		}
	}
}

// statusText says where the status comes from.
func (c *accountReport) statusText() string {
	switch {
	case c.Asked:
		return c.Status
	case c.Status == "" && c.Configured:
		return "not known: the CA was not asked, or cannot be reached; the rest is what is stored"
	case c.Status == "":
		return "not asked; the rest is what is stored"
	case c.Status == "none":
		return "none: the first order registers one, or mxcert account register"
	}
	return c.Status
}

func orUnknown(url string) string {
	if url == "" {
		return "(URL unknown)"
	}
	return url
}

// accountNotice puts what an operator has to know about the account into the report and the history.
func (p *pass) accountNotice(text string) {
	p.warn(text)
	p.record.Log(state.Event{At: time.Now(), Event: "account", Message: text})
}
