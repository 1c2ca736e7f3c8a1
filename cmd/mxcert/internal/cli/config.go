package cli

import (
	"github.com/spf13/cobra"

	"mxcert/acme/dnsprovider"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/configs"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Show the configuration in force, an example, or its schema", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return report.Usage("config show, config example or config schema?")
		},
	}
	cmd.AddCommand(
		&cobra.Command{Use: "show", Short: "The configuration with all defaults, secrets hidden", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
			config, err := a.load()
			if err != nil {
				return err
			}
			text, err := config.Effective(dnsprovider.Secret)
			if err == nil && a.json {
				text, err = configs.JSON(text)
				text = escaped(text)
			}
			if err == nil {
				err = a.stdout.data(text)
			}
			return err
		}},
		&cobra.Command{Use: "example", Short: "An annotated example to start from", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.refuseJSON(cmd, "YAML with comments"); err != nil {
				return err
			}
			return a.stdout.data(configs.Example())
		}},
		&cobra.Command{Use: "schema", Short: "The JSON schema of the configuration", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
			return a.stdout.data(configs.Schema())
		}},
	)
	return cmd
}
