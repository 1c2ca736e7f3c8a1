package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"mxcert/cmd/mxcert/internal/adopt"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// importReport is `import --json`.
type importReport struct {
	Changed  bool          `json:"changed"`
	Imported []adopt.Taken `json:"imported"`
}

func (a *app) importCommand() *cobra.Command {
	var dryRun, force bool
	var directory string
	cmd := &cobra.Command{
		Use: "import certbot|acme.sh|lego [PATH]", Short: "Take over certificates, keys and accounts of another ACME client", Args: cobra.RangeArgs(1, 2),
		Long: `Reads the tree of another client (default: its usual place) and stores key, certificate and account of each certificate
in mxcert's state. It changes nothing in that tree and orders nothing, and the keys stay the same. For certificates that the
configuration does not name, for DNS settings and for hooks it prints proposals. Look with --dry-run first.

Afterwards switch the other client off, so that the two do not renew the same names.`,
		ValidArgs: adopt.Clients(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(adopt.Clients(), args[0]) {
				return report.Usage("import knows certbot, acme.sh and lego, not %q", args[0])
			}
			path := adopt.UsualPath(args[0])
			if len(args) == 2 {
				path = args[1]
			}
			found, err := adopt.Read(args[0], path)
			if err != nil && len(found) == 0 {
				return err
			}
			if len(found) == 0 {
				return fmt.Errorf("there is no certificate of %s below %s", args[0], path)
			}
			return errors.Join(a.takeOver(cmd.Context(), found, directory, dryRun, force), err)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would be taken over, change nothing")
	cmd.Flags().BoolVar(&force, "force", false, "replace a certificate that mxcert has for the same names")
	cmd.Flags().StringVar(&directory, "directory", "", "directory `URL` of the CA, for certificates whose CA is unknown")
	return cmd
}

// takeOver stores the certificates that were found.
func (a *app) takeOver(ctx context.Context, found []adopt.Foreign, directory string, dryRun, force bool) error {
	config, err := a.load()
	if err != nil {
		return err
	}
	open := change
	if dryRun {
		open = view
	}
	store, err := open(config.State)
	if err != nil {
		return err
	}
	ctx, cancel := a.within(ctx, verifyTime)
	defer cancel()
	options := adopt.Options{DryRun: dryRun, Force: force}
	h, _ := wanted.From(config) // import checks no chain, so unreadable roots do not matter
	for _, want := range h.Certificates {
		options.Configured = append(options.Configured, adopt.Configured{Name: want.Name, Names: want.Names, Keys: want.Keys})
	}
	r := importReport{Imported: []adopt.Taken{}}
	var problems []error
	for _, f := range found {
		if f.Directory == "" {
			f.Directory = directory
		}
		one, err := adopt.Take(ctx, store, f, options)
		if err != nil {
			one.Error = err.Error()
			problems = append(problems, fmt.Errorf("%s: %w", f.Source, err))
		}
		r.Imported, r.Changed = append(r.Imported, one), r.Changed || one.Stored
	}
	if !a.json {
		for _, one := range r.Imported {
			if err := a.printImported(one, dryRun); err != nil {
				return err
			}
		}
		return errors.Join(problems...)
	}
	if err := a.printJSON(r); err != nil || len(problems) == 0 {
		return err
	}
	return &report.Exit{Code: report.CodeFailed}
}

func (a *app) printImported(one adopt.Taken, dryRun bool) error {
	verb := map[bool]string{true: "taken over", false: "not taken over"}[one.Stored]
	if dryRun {
		verb = "would be taken over"
	}
	if one.Error != "" {
		return nil // the command ends with this error
	}
	text := fmt.Sprintf("%s: %s as %s\n  names        %s\n  certificate  %s, serial %s, valid until %s\n", one.From, verb, one.Name, strings.Join(one.Names, ", "), one.Key, one.Serial, report.Minute(one.NotAfter))
	if one.Account != "" {
		text += "  account      " + one.Account + "\n"
	}
	for _, note := range one.Notes {
		text += "  note         " + note + "\n"
	}
	if one.Proposal != "" {
		text += fmt.Sprintf("  the configuration does not name it; proposal for conf.d/%s.yaml:\n\n%s\n", one.Name, one.Proposal)
	}
	return a.say("%s", text)
}
