package cli

import (
	"os"

	"github.com/spf13/cobra"

	"mxcert/cmd/mxcert/internal/helper"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wire"
	"mxcert/hooks/unit"
)

// helperCommand is the command that the helpers' systemd units run. It is not meant for people.
func (a *app) helperCommand() *cobra.Command {
	return &cobra.Command{
		Use: "helper install|hook", Short: "What mxcert-install@.service and mxcert-hook@.service run", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind := helper.Kind(args[0])
			if kind != helper.Install && kind != helper.Hook {
				return report.Usage("the helpers are install and hook, not %q", args[0])
			}
			conn, err := wire.Inherit(os.Stdin)
			if err != nil {
				return report.Usage("systemd runs this command, for a connection to mxcert-%s.socket: %v", kind, err)
			}
			defer conn.Close()
			return helper.Serve(cmd.Context(), kind, a.configFile, unit.ServiceUser, conn)
		},
	}
}
