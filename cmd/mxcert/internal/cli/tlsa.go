package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"mxcert/deploy/dane"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

const tlsaHelp = `TLSA records (DANE, RFC 7672) tell senders which key a mail server has. If a renewal changes the key and the records still name the
old one, DANE senders stop delivering. mxcert keeps both together: dane.mode in the configuration says who publishes the records.

mxcert-dane(7) says how to begin, what every state means, and what to do in an emergency.`

// tlsaCommand has the commands about TLSA records.
func (a *app) tlsaCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "tlsa", Short: "TLSA records (DANE): show, check, publish; change the key", Long: tlsaHelp, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return report.Usage("tlsa show, tlsa check, tlsa publish or tlsa roll?")
		},
	}
	cmd.AddCommand(a.tlsaShowCommand(), a.tlsaCheckCommand(), a.tlsaPublishCommand(), a.tlsaRollCommand())
	return cmd
}

// ignoreDANE is the flag of all commands that may change what is served.
func ignoreDANE(cmd *cobra.Command, ignore *bool) {
	cmd.Flags().BoolVar(ignore, "ignore-dane", false, "deploy even if TLSA records that senders may hold do not fit: they then defer mail")
}

// wrongMode returns why a command does not fit the mode of a certificate, or nil if it does.
func wrongMode(want wanted.Certificate, command string, fitting ...dane.Mode) error {
	mode, is := want.DANE().Mode, ""
	if want.DANE().Unset {
		is = "not set, which means "
	}
	for _, m := range fitting {
		if m == mode {
			return nil
		}
	}
	return &report.Exit{Code: report.CodeUsage, Err: &hinted{
		text: fmt.Sprintf("%s: dane.mode of %s is %s%s, and this command needs %s", command, want.Name, is, mode, oneOf(fitting)),
		hint: modeHint(want.Name, command, mode),
	}}
}

func oneOf(modes []dane.Mode) string {
	words := make([]string, len(modes))
	for i, m := range modes {
		words[i] = string(m)
	}
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// modeHint says what a person who typed a command does instead.
func modeHint(name, command string, mode dane.Mode) string {
	switch {
	case command == "tlsa publish" && mode == dane.ByHand:
		return fmt.Sprintf("you publish the records: `mxcert tlsa show %s` prints them", name)
	case command == "tlsa publish":
		return fmt.Sprintf("write dane: {mode: publish}, or publish what `mxcert tlsa show %s` prints yourself", name)
	}
	return fmt.Sprintf("`mxcert renew %s --new-key` changes the key", name)
}
