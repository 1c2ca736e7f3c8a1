package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"mxcert/acme/finding"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/setup"
)

// initializer is one run of `init`: its flags, and the person who answers.
type initializer struct {
	*app
	setup.Answers
	yes, force, eximMacros, configure, testDNS, doctorToo bool
	servers                                               []string
	person                                                *setup.Person // nil with --yes
}

func (a *app) initCommand() *cobra.Command {
	i := &initializer{app: a}
	cmd := &cobra.Command{
		Use: "init", Short: "Write a first configuration", Args: cobra.NoArgs,
		Long: `Looks at this host (mail servers, the files that they read, the ports where they listen, host name, MX records), asks for
what it cannot find, and checks each answer at once. Then it writes a commented configuration, the secrets beside it, and the rule that
lets the service reload the mail servers; it lists all that it has written. With --yes it asks nothing and takes the suggestions; if
something is missing, the error names the flag. It does not touch an existing configuration without --force, which keeps the old one
beside the new one. At the end it says what comes next.

A server keeps the paths that it reads today. If another program owns them (ssl-cert, certbot …) or there are none, init proposes new ones
and shows the lines that make the server read them. With --configure, or if you agree, it makes that change: first it makes the files,
a copy of what the server reads now, or a self-signed certificate; then it tries the change on a copy of the configuration, makes it,
reloads the server and looks at its ports. If the server does not accept the change, init takes it back.`,
		Example: `  mxcert init
  mxcert init --yes --agree-tos --email postmaster@example.org --dns-provider rfc2136 \
    --dns-env DNSUPDATE_NAMESERVER=192.0.2.53:53 --dns-env DNSUPDATE_TSIG_KEY=mxcert. \
    --dns-env DNSUPDATE_TSIG_SECRET=file:/root/tsig --dns-test --configure`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !i.yes {
				i.person = newTerminal(cmd.Context(), cmd.InOrStdin(), i.stderr).person()
			}
			return i.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&i.yes, "yes", "y", false, "ask nothing, and take the suggestions")
	flags.BoolVar(&i.force, "force", false, "replace an existing configuration, and keep it as mxcert.yaml.old")
	flags.BoolVar(&i.Agreed, "agree-tos", false, "you have read the CA's terms of service and agree to them")
	flags.StringVar(&i.Email, "email", "", "`ADDRESS` to which the CA may write; may be empty")
	flags.StringVar(&i.Directory, "directory", "", "the CA: a name or the `URL` of its directory (default letsencrypt)")
	flags.StringVar(&i.CAFile, "ca-file", "", "`FILE` with the roots of a private CA's HTTPS")
	flags.StringVar(&i.EABKeyID, "eab-kid", "", "key `IDENTIFIER` of the external account binding, for CAs that need one")
	flags.StringVar(&i.EABKey, "eab-hmac-key", "", "its MAC `KEY`: file:PATH or cred:NAME")
	flags.StringSliceVar(&i.Domains, "domain", nil, "`NAME` in the certificate, the one in the MX record first (default: the names that init finds)")
	flags.StringSliceVar(&i.MailDomains, "mail-domain", nil, "mail `DOMAIN` whose MX host names mxcert adds, or none (default: those whose MX host is this host)")
	flags.StringVar(&i.Provider, "dns-provider", "", "`NAME` of the DNS provider, see mxcert providers (default rfc2136)")
	flags.StringToStringVar(&i.Env, "dns-env", nil, "`VARIABLE=VALUE` of the DNS provider; init writes each secret into a file of its own; file:PATH reads one, and cred:NAME is one that is there")
	flags.StringSliceVar(&i.Resolvers, "resolver", nil, "`ADDRESS` of a resolver (default: the system's)")
	flags.BoolVar(&i.testDNS, "dns-test", false, "with --yes: create, see and remove a TXT record at _acme-challenge of each name before anything is written")
	flags.StringSliceVar(&i.servers, "mta", nil, "`SERVER` that serves the certificate: exim, postfix, dovecot, files or none (default: those that init finds)")
	flags.StringVar(&i.Certificate, "certificate", "", "`PATH` of the certificate")
	flags.StringVar(&i.Key, "private-key", "", "`PATH` of its key")
	flags.StringVar(&i.Unit, "unit", "", "systemd `UNIT` to reload")
	flags.BoolVar(&i.configure, "configure", false, "make the mail servers read the certificate, and reload them")
	flags.BoolVar(&i.eximMacros, "exim-macros", false, "the same for Exim on Debian only: set its macros, and reload it")
	flags.BoolVar(&i.doctorToo, "doctor", true, "test everything at the end, as mxcert doctor does")
	return cmd
}

// run asks first, then writes everything, then changes the servers.
func (i *initializer) run(ctx context.Context) error {
	if _, err := os.Lstat(i.configFile); err == nil && !i.force {
		return report.Usage("%s exists: edit it (mxcert check), or write a new one with --force, which keeps the old one", i.configFile)
	}
	i.Credentials, i.MailServers = filepath.Join(filepath.Dir(i.configFile), "credentials"), i.servers
	host := setup.Look(ctx, i.Resolvers)
	for _, note := range host.Notes {
		fmt.Fprintln(i.stderr, "found:", note)
	}
	if err := i.Complete(ctx, host, i.person); err != nil {
		return err
	}
	draft, err := i.Draft()
	if err != nil {
		return err
	}
	if err := i.rehearseDNS(ctx); err != nil {
		return err
	}
	agreed, byHand, err := i.changes()
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	written, err := draft.Write(i.configFile, i.configFile == defaultConfig) // only the usual configuration file has a service
	for _, line := range written {
		err = errors.Join(err, i.say("written: %s\n", line))
	}
	if err != nil {
		return err
	}
	for _, change := range agreed {
		if err := i.apply(ctx, change); err != nil {
			return err
		}
	}
	for _, change := range byHand {
		if err := i.say("%s reads other files. %s\n", change.Server(), change.ByHand()); err != nil {
			return err
		}
	}
	return i.next(ctx, len(byHand) > 0)
}

// rehearseDNS tests the DNS provider, if nobody was asked.
func (i *initializer) rehearseDNS(ctx context.Context) error {
	if !i.testDNS || i.person != nil {
		return nil
	}
	err := i.TryDNS(ctx, func(text string) { fmt.Fprintln(i.stderr, "dns:", text) })
	if err != nil {
		return fmt.Errorf("the test of the DNS provider failed, and nothing was written: %w", err)
	}
	return nil
}

// changes shows what makes the servers read the certificate, and divides it by what the person agrees to.
func (i *initializer) changes() (agreed, byHand []setup.Change, err error) {
	list, err := i.Changes()
	if err != nil {
		return nil, nil, err
	}
	for _, change := range list {
		if err := i.say("%s", change.Diff()); err != nil {
			return nil, nil, err
		}
		yes := i.configure || i.eximMacros && change.Server() == "Exim"
		if change.Automatic() && !yes && i.person != nil {
			if yes, err = i.person.Agrees("make this change, and reload "+change.Server()+"?", ""); err != nil {
				return nil, nil, err
			}
		}
		if change.Automatic() && yes {
			agreed = append(agreed, change)
		} else {
			byHand = append(byHand, change)
		}
	}
	return agreed, byHand, nil
}

// apply makes a change, and lists what it has done even if it fails.
func (i *initializer) apply(ctx context.Context, change setup.Change) error {
	done, err := change.Apply(ctx)
	for _, line := range done {
		what := "written"
		if !filepath.IsAbs(line) {
			what = "done"
		}
		if err := i.say("%s: %s\n", what, line); err != nil {
			return err
		}
	}
	if err != nil {
		return fmt.Errorf("%w; the configuration of mxcert is written; %s", err, change.ByHand())
	}
	return nil
}

// next tests the written configuration, shows what it finds, and prints the next command.
func (i *initializer) next(ctx context.Context, byHand bool) error {
	if i.doctorToo {
		r, err := i.examine(ctx, nil, false)
		if err != nil {
			return err
		}
		for _, c := range r.Checks {
			if c.Severity == finding.OK {
				continue
			}
			if err := i.sayCheck(c); err != nil {
				return err
			}
		}
		if !r.OK {
			return i.say("next: fix what is marked as an error, then run: mxcert doctor\n")
		}
	}
	more := ""
	switch {
	case len(i.Targets) == 0:
		more = "mxcert keeps the certificate in its state directory: no program reads it there, and nothing serves it\n"
	case i.Targets[0].Kind == "files":
		more = "nothing on this host is known to serve this certificate: mxcert writes the files, and cannot see whether a program reads them. If one does, write its unit and its verify.endpoints into " + i.configFile + "\n"
	case byHand:
		more = "mxcert renew writes the files, exits with 5 and says again which lines to change\n"
	}
	return i.say("%snext: mxcert renew\n", more)
}

// sayCheck prints one finding of doctor.
func (i *initializer) sayCheck(c doctorCheck) error {
	message := report.OneLine(c.Message)
	if c.Name != "" && !strings.Contains(message, c.Name) {
		message = c.Name + ": " + message
	}
	text := fmt.Sprintf("%s: %s: %s", c.Severity, c.ID, message)
	if c.Hint != "" {
		text += "\n  next step: " + report.OneLine(c.Hint)
	}
	return i.say("%s\n", text)
}
