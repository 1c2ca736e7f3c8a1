package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/setup"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/configs"
	"mxcert/hooks/unit"
)

// initializer is one run of `init`: its flags, and the standard input on which a person answers.
type initializer struct {
	*app
	setup.Answers
	yes, force, eximMacros, doctorToo bool
	in                                *bufio.Reader
}

func (a *app) initCommand() *cobra.Command {
	i := &initializer{app: a}
	cmd := &cobra.Command{
		Use: "init", Short: "Write a first configuration", Args: cobra.NoArgs,
		Long: `Looks at this host (mail server, its certificate paths, host name, MX records), asks for what it cannot find, and writes a
commented configuration, the secrets beside it, and the rule that lets the service reload the mail server. With --yes
it asks nothing: if something is missing, the error names the flag. It does not touch an existing configuration without
--force, which keeps the old one beside the new one. At the end it says what comes next.

For Exim on Debian it shows the macros that make Exim read the certificate. With --exim-macros it sets them and reloads Exim. If the files
do not exist yet, it makes them first: a copy of what Exim reads now, or a self-signed certificate.`,
		Example: `  mxcert init
  mxcert init --yes --agree-tos --email postmaster@example.org --dns-provider rfc2136 \
    --dns-env DNSUPDATE_NAMESERVER=192.0.2.53:53 --dns-env DNSUPDATE_TSIG_KEY=mxcert. \
    --dns-env DNSUPDATE_TSIG_SECRET=file:/root/tsig --exim-macros`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			i.in = bufio.NewReader(cmd.InOrStdin())
			return i.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&i.yes, "yes", "y", false, "ask nothing")
	flags.BoolVar(&i.force, "force", false, "replace an existing configuration, and keep it as mxcert.yaml.old")
	flags.BoolVar(&i.Agreed, "agree-tos", false, "you have read the CA's terms of service and agree to them")
	flags.StringVar(&i.Email, "email", "", "`ADDRESS` to which the CA may write; may be empty")
	flags.StringVar(&i.Directory, "directory", "letsencrypt", "the CA: a name or the `URL` of its directory")
	flags.StringVar(&i.CAFile, "ca-file", "", "`FILE` with the roots of a private CA's HTTPS")
	flags.StringSliceVar(&i.Domains, "domain", nil, "`NAME` in the certificate, the one in the MX record first (default: the names that init finds)")
	flags.StringVar(&i.Provider, "dns-provider", "", "`NAME` of the DNS provider, see mxcert providers")
	flags.StringToStringVar(&i.Env, "dns-env", nil, "`VARIABLE=VALUE` of the DNS provider; init writes each secret into a file of its own, and file:PATH reads one")
	flags.StringSliceVar(&i.Resolvers, "resolver", nil, "`ADDRESS` of a resolver (default: the system's)")
	flags.StringVar(&i.MailServer, "mta", "", "`SERVER` that serves the certificate: exim, files or none (default: the one that init finds)")
	flags.StringVar(&i.Certificate, "certificate", "", "`PATH` of the certificate")
	flags.StringVar(&i.Key, "private-key", "", "`PATH` of its key")
	flags.StringVar(&i.Unit, "unit", "", "systemd `UNIT` to reload")
	flags.BoolVar(&i.eximMacros, "exim-macros", false, "set the macros that make Exim on Debian read the certificate, and reload Exim")
	flags.BoolVar(&i.doctorToo, "doctor", true, "test everything at the end, as mxcert doctor does")
	return cmd
}

func (i *initializer) run(ctx context.Context) error {
	if _, err := os.Lstat(i.configFile); err == nil && !i.force {
		return report.Usage("%s exists: edit it (mxcert check), or write a new one with --force, which keeps the old one", i.configFile)
	}
	host := setup.Look(ctx, i.Resolvers)
	for _, note := range host.Notes {
		fmt.Fprintln(i.stderr, "found:", note)
	}
	ask := i.ask
	if i.yes {
		ask = nil
	}
	if err := i.Complete(host, ask); err != nil {
		return err
	}
	draft, err := i.Draft()
	if err != nil {
		return err
	}
	if err := draft.Write(i.configFile); err != nil {
		return err
	}
	if err := i.say("written: %s\n", i.configFile); err != nil {
		return err
	}
	if err := i.allowReload(); err != nil {
		return err
	}
	if err := i.changeExim(ctx, host); err != nil {
		return err
	}
	return i.next(ctx)
}

// ask asks one question on standard error and reads the answer. An empty answer accepts the suggestion.
func (i *initializer) ask(question, suggestion string) string {
	if suggestion != "" {
		question += " [" + suggestion + "]"
	}
	fmt.Fprintf(i.stderr, "%s: ", question)
	line, _ := i.in.ReadString('\n') // the end of the input counts as an empty answer
	if line = strings.TrimSpace(line); line != "" {
		return line
	}
	return suggestion
}

// allowReload writes the polkit rule that allows the service to reload the mail server. Only the usual configuration file has a service.
func (i *initializer) allowReload() error {
	if i.configFile != defaultConfig || i.Unit == "" {
		return nil
	}
	config, err := configs.Load(i.configFile)
	if err != nil {
		return err
	}
	h, _ := wanted.From(config) // no chain is checked here
	return i.installRule(unit.PolkitFile, unit.PolkitRule(unit.Names(h.Units())))
}

// changeExim shows the change that makes Exim read the certificate. If the user agrees, it makes the change.
func (i *initializer) changeExim(ctx context.Context, host setup.Host) error {
	if i.MailServer != "exim" {
		return nil
	}
	change, err := setup.PlanExim(host, &i.Answers)
	if err != nil || change == nil {
		return err
	}
	if err := i.say("%s", change.Diff()); err != nil {
		return err
	}
	if !change.Debian {
		return i.say("%s\n", change.ByHand())
	}
	if !i.eximMacros && (i.yes || !setup.Yes(i.ask("make this change, and reload Exim? (yes/no)", ""))) {
		return i.say("not applied; %s\n", change.ByHand())
	}
	reloaded, err := change.Apply(ctx)
	if err != nil {
		return err
	}
	if change.Made {
		if err := i.say("made: %s and %s, a certificate for Exim to have until the first renewal\n", i.Certificate, i.Key); err != nil {
			return err
		}
	}
	if !reloaded {
		return i.say("changed; Exim is not running, and reads %s and %s from its start on\n", i.Certificate, i.Key)
	}
	return i.say("changed, and Exim reloaded: it reads %s and %s\n", i.Certificate, i.Key)
}

// next tests the written configuration and prints what to do next. If it finds a fault, it shows it and undoes nothing.
func (i *initializer) next(ctx context.Context) error {
	if i.doctorToo {
		err := i.doctor(ctx, nil)
		if _, found := errors.AsType[*report.Exit](err); err != nil && !found {
			return err
		}
		if err != nil {
			return i.say("next: fix what is marked, run mxcert doctor again, then mxcert renew --now and systemctl enable --now mxcert\n")
		}
	}
	return i.say(`next:
  mxcert renew --now   order, deploy, reload, prove
  systemctl enable --now mxcert
`)
}
