package cli

import (
	"github.com/spf13/cobra"

	"mxcert/cmd/mxcert/internal/pass"
)

func (a *app) deployCommand() *cobra.Command {
	options := pass.Options{DeployOnly: true}
	cmd := &cobra.Command{
		Use: "deploy NAME", Short: "Put the newest issued certificate in service, without an order", Args: cobra.ExactArgs(1),
		Long: "Puts the newest issued certificate in service, without an order. After a rollback this goes forward again.",
		RunE: func(cmd *cobra.Command, names []string) error { return a.loadAndPass(cmd, names, options) },
	}
	cmd.Flags().BoolVar(&options.DryRun, "dry-run", false, "say what would be done, change nothing")
	cmd.Flags().BoolVar(&options.Shorter, "shorter", false, "replace even a certificate that is valid for longer")
	cmd.Flags().BoolVar(&a.detailedExit, "detailed-exitcode", false, "exit with 10 if the certificates converged and something was changed")
	return cmd
}

func (a *app) loadAndPass(cmd *cobra.Command, names []string, options pass.Options) error {
	config, err := a.load()
	if err != nil {
		return err
	}
	return a.pass(cmd.Context(), config, names, options)
}
