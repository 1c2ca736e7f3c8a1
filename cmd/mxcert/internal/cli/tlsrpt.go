package cli

import (
	"github.com/spf13/cobra"

	"mxcert/cmd/mxcert/internal/report"
)

func (a *app) tlsrptCommand() *cobra.Command {
	return &cobra.Command{Use: "tlsrpt", Hidden: true, DisableFlagParsing: true, RunE: func(cmd *cobra.Command, _ []string) error {
		return report.Usage("mxcert %s is not in this version", cmd.Name())
	}}
}
