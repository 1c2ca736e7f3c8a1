package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"mxcert/cmd/mxcert/internal/setup"
	"mxcert/cmd/mxcert/internal/wanted"
)

// eximReport is the document of `exim --json`.
type eximReport struct {
	Changed bool   `json:"changed"` // or would be, without --install
	Diff    string `json:"diff"`    // of the files of Exim's configuration; "" if Exim's user only joins a group
	ByHand  string `json:"by_hand"` // what to do without --install; "" if there is nothing to do
}

func (a *app) eximCommand() *cobra.Command {
	var install bool
	cmd := &cobra.Command{
		Use: "exim", Short: "The lines that make Exim read the certificate", Args: cobra.NoArgs,
		Long: `Shows how the configuration of Exim has to change, so that Exim reads the files of the first target for Exim. --install makes the
change on Debian and reloads Exim. It replaces macros that are defined already, lets Exim check the result, and restores the old files if
Exim does not accept it. If the certificate's files do not exist yet, it makes them first, because an Exim without them answers 454: a copy
of what Exim reads now, or a self-signed certificate. mxcert init --configure does the same for a new configuration.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.exim(cmd.Context(), install) },
	}
	cmd.Flags().BoolVar(&install, "install", false, "make the change, and reload Exim (root)")
	cmd.Flags().BoolVar(&a.detailedExit, "detailed-exitcode", false, "exit with 10 if something was changed")
	return cmd
}

func (a *app) exim(ctx context.Context, install bool) error {
	config, err := a.load()
	if err != nil {
		return err
	}
	host, _ := wanted.From(config) // no chain is checked here
	change, err := setup.PlanMacros(ctx, host)
	if err != nil {
		return err
	}
	if change == nil {
		return a.finish(answer{document: eximReport{}, print: func(out sheet) { fmt.Fprintln(out, "Exim reads the files already") }})
	}
	r := eximReport{Changed: true, Diff: change.Diff(), ByHand: change.ByHand()}
	if !install {
		return a.finish(answer{document: r, print: func(out sheet) { fmt.Fprintf(out, "%s%s\n", r.Diff, r.ByHand) }})
	}
	if !change.Automatic() {
		return fmt.Errorf("mxcert changes only the Exim of Debian; %s", r.ByHand)
	}
	if _, err := change.Apply(ctx); err != nil {
		return err
	}
	return a.finish(answer{document: r, changed: true, print: func(out sheet) { fmt.Fprint(out, r.Diff, "changed; Exim reads the files\n") }})
}
