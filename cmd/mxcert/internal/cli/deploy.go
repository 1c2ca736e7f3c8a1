package cli

import (
	"github.com/spf13/cobra"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/wanted"
)

func (a *app) deployCommand() *cobra.Command {
	options := pass.Options{DeployOnly: true}
	cmd := &cobra.Command{
		Use: "deploy [NAME]", Short: "Put the newest issued certificate in service, without an order", Args: cobra.MaximumNArgs(1),
		Long: `Puts the newest issued certificate in service, without an order. After a rollback this goes forward again.
NAME can be left out if there is only one certificate.`,
		RunE: func(cmd *cobra.Command, names []string) error { return a.passOverOne(cmd, names, options) },
	}
	cmd.Flags().BoolVar(&options.DryRun, "dry-run", false, "say what would be done, change nothing")
	cmd.Flags().BoolVar(&options.Shorter, "shorter", false, "replace even a certificate that is valid for longer")
	ignoreDANE(cmd, &options.IgnoreDANE)
	cmd.Flags().BoolVar(&a.detailedExit, "detailed-exitcode", false, "exit with 10 if the certificates converged and something was changed")
	return cmd
}

// passOverOne makes a pass over the named certificate, or over the only one.
func (a *app) passOverOne(cmd *cobra.Command, names []string, options pass.Options) error {
	config, err := a.load()
	if err != nil {
		return err
	}
	host, _ := wanted.From(config) // the pass reports roots that cannot be read
	name, err := oneName(host, names)
	if err != nil {
		return err
	}
	return a.pass(cmd.Context(), config, []string{name}, options)
}
