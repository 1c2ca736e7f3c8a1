package cli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"mxcert/cmd/mxcert/internal/setup"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/hooks/unit"

	"github.com/spf13/cobra"
)

// polkitReport is `polkit --json`.
type polkitReport struct {
	Changed bool   `json:"changed"`
	File    string `json:"file"`
	Rule    string `json:"rule"`
}

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
			switch {
			case a.json:
				return a.polkitJSON(install, polkitReport{File: file, Rule: rule})
			case install:
				return a.installRule(file, rule)
			}
			return a.stdout.data([]byte(rule))
		},
	}
	cmd.Flags().BoolVar(&install, "install", false, "write the rule instead of printing it (root)")
	cmd.Flags().StringVar(&file, "file", unit.PolkitFile, "the `FILE` to which --install writes the rule")
	return cmd
}

func (a *app) polkitJSON(install bool, r polkitReport) (err error) {
	if install {
		r.Changed, err = writeRule(r.File, r.Rule)
	}
	if err != nil {
		return err
	}
	return a.printJSON(r)
}

// installRule writes the rule, unless it is there already, and says so.
func (a *app) installRule(file, rule string) error {
	changed, err := writeRule(file, rule)
	switch {
	case err != nil:
		return err
	case changed:
		return a.say("written: %s\n", file)
	}
	return a.say("%s is up to date\n", file)
}

func writeRule(file, rule string) (changed bool, err error) {
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if info, err := os.Stat(file); err == nil && string(old) == rule && info.Mode().Perm() == 0o644 {
		return false, nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return false, err
	}
	// polkitd does not run as root. It reads files that end in .rules.
	return true, setup.WriteFile(file, rule, 0o644, -1, -1)
}
