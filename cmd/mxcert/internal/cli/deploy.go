package cli

import (
	"github.com/spf13/cobra"
)

func (a *app) deployCommand() *cobra.Command {
	var options passOptions
	cmd := &cobra.Command{
		Use: "deploy NAME", Short: "Put the newest issued certificate in service, without an order", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			options.deployOnly = true
			return a.loadAndPass(cmd, names, options)
		},
	}
	cmd.Flags().BoolVar(&options.dryRun, "dry-run", false, "say what would be done, change nothing")
	cmd.Flags().BoolVar(&options.shorter, "shorter", false, "replace a certificate that is valid for longer, too")
	cmd.Flags().BoolVar(&a.detailedExit, "detailed-exitcode", false, "exit with 10 when converged and changed")
	return cmd
}

func (a *app) rollbackCommand() *cobra.Command {
	options := passOptions{rollback: true}
	cmd := &cobra.Command{
		Use: "rollback NAME", Short: "Go back to the certificate that was served before, if it has not expired", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.loadAndPass(cmd, names, options)
		},
	}
	cmd.Flags().BoolVar(&options.dryRun, "dry-run", false, "say what would be done, change nothing")
	return cmd
}

func (a *app) loadAndPass(cmd *cobra.Command, names []string, options passOptions) error {
	config, err := a.load()
	if err != nil {
		return err
	}
	return a.pass(cmd.Context(), config, names, options)
}
