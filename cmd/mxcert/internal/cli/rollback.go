package cli

import (
	"github.com/spf13/cobra"

	"mxcert/cmd/mxcert/internal/pass"
)

func (a *app) rollbackCommand() *cobra.Command {
	options := pass.Options{Rollback: true}
	cmd := &cobra.Command{
		Use: "rollback [NAME]", Short: "Go back to the certificate that was served before", Args: cobra.MaximumNArgs(1),
		Long: `Goes back to the certificate that was served before, if it has not expired. It stays in service until it must be renewed, which is
later than usual; the report says when. mxcert deploy, or a second rollback, goes forward again. NAME can be left out if there is only
one certificate.`,
		RunE: func(cmd *cobra.Command, names []string) error { return a.passOverOne(cmd, names, options) },
	}
	cmd.Flags().BoolVar(&options.DryRun, "dry-run", false, "say what would be done, change nothing")
	ignoreDANE(cmd, &options.IgnoreDANE)
	return cmd
}
