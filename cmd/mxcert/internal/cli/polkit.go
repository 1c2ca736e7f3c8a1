package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"mxcert/cmd/mxcert/internal/setup"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/hooks/unit"

	"github.com/spf13/cobra"
)

func (a *app) polkitCommand() *cobra.Command {
	var install bool
	var file string
	cmd := &cobra.Command{
		Use: "polkit", Short: "The rule that lets the service reload the configured units", Args: cobra.NoArgs,
		Long: `Prints the polkit rule that lets the unprivileged service reload the units of the configuration, and nothing else.
--install writes it to ` + unit.PolkitFile + `. Run it again after you add a unit.`,
		RunE: func(*cobra.Command, []string) error {
			config, err := a.load()
			if err != nil {
				return err
			}
			host, _ := wanted.From(config) // no chain is checked here
			rule := unit.PolkitRule(unit.Names(host.Units()))
			if !install {
				_, err := fmt.Fprint(a.stdout, rule)
				return err
			}
			return a.installRule(file, rule)
		},
	}
	cmd.Flags().BoolVar(&install, "install", false, "write the rule instead of printing it (root)")
	cmd.Flags().StringVar(&file, "file", unit.PolkitFile, "the `FILE` to which --install writes the rule")
	return cmd
}

func (a *app) installRule(file, rule string) error {
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if info, err := os.Stat(file); err == nil && string(old) == rule && info.Mode().Perm() == 0o644 {
		return a.say("%s is up to date\n", file)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	// polkitd does not run as root. It reads files that end in .rules.
	if err := setup.WriteFile(file, rule, 0o644, -1, -1); err != nil {
		return err
	}
	return a.say("written: %s\n", file)
}
