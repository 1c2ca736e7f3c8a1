package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mxcert/acme/dnsprovider"
	"mxcert/cmd/mxcert/internal/adopt"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/setup"
	"mxcert/cmd/mxcert/internal/wanted"
)

// importReport is `import --json`.
type importReport struct {
	Changed  bool          `json:"changed"`
	Imported []adopt.Taken `json:"imported"`
}

func (a *app) importCommand() *cobra.Command {
	var dryRun, force bool
	var directory, accounts string
	cmd := &cobra.Command{
		Use: "import [certbot|acme.sh|lego|dehydrated|uacme [PATH]]", Short: "Take over certificates, keys and accounts of another ACME client", Args: cobra.MaximumNArgs(2),
		Long: `Reads the tree of another client (default: its usual place) and stores key, certificate and account of each certificate
in mxcert's state. It changes nothing in that tree and orders nothing, and the keys stay the same. Of several certificates for
the same names and type of key it takes the one that is in service, or if it finds none of them there, the one that is valid for
longest. An expired one never replaces a valid one. For certificates that the configuration does not name, and for DNS settings,
paths and hooks it prints proposals. Look with --dry-run first.

Without a client it lists the trees that it finds in the usual places of all clients.

Afterwards switch the other client off, so that the two do not renew the same names.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.listTrees()
			}
			if !slices.Contains(adopt.Clients(), args[0]) {
				return report.Usage("import knows %s, not %q", strings.Join(adopt.Clients(), ", "), args[0])
			}
			path := adopt.UsualPath(args[0])
			if len(args) == 2 {
				path = args[1]
			}
			if accounts != "" && args[0] != "acme.sh" {
				return report.Usage("--accounts is for acme.sh: %s keeps accounts and certificates in one tree", args[0])
			}
			found, err := adopt.Read(args[0], path, accounts)
			if err != nil {
				return err
			}
			return a.takeOver(cmd.Context(), found, directory, dryRun, force)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would be taken over, change nothing")
	cmd.Flags().BoolVar(&force, "force", false, "replace a valid certificate that mxcert has for the same names")
	cmd.Flags().StringVar(&directory, "directory", "", "directory `URL` of the CA, for certificates whose CA is unknown")
	cmd.Flags().StringVar(&accounts, "accounts", "", "`DIRECTORY` of acme.sh with account.conf and ca, if PATH is only its CERT_HOME")
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
	h, _ := wanted.From(config) // without acme.roots_file, senders' own roots decide
	exim := eximReads(ctx, found)
	inService := adopt.KeysInService(append(h.Chains(), exim.Fullchain)) // as root: the store may change the user
	store, err := open(config.State)
	if err != nil {
		return err
	}
	ctx, cancel := a.within(ctx, verifyTime)
	defer cancel()
	options := adopt.Options{DryRun: dryRun, Force: force, Directories: h.Directories, Roots: h.Roots, InService: inService, Exim: exim, Knows: func(provider string) bool { return dnsprovider.Known(provider) == nil }}
	for _, want := range h.Certificates {
		options.Configured = append(options.Configured, adopt.Configured{Name: want.Name, Names: want.Names, Optional: want.Optional, Keys: want.Keys})
	}
	for i := range found {
		if found[i].Directory == "" && directory != "" {
			found[i].Directory = directory
		}
	}
	r := importReport{Imported: adopt.Take(ctx, store, found, options)}
	var codes []report.Code
	for _, one := range r.Imported {
		r.Changed = r.Changed || one.Stored
		codes = append(codes, report.CodeOf(one.Err))
	}
	if a.json {
		err = a.printJSON(r)
	} else {
		err = a.printAllImported(r.Imported, dryRun)
	}
	if code := report.SumCodes(codes); err == nil && code != report.CodeOK {
		return &report.Exit{Code: code}
	}
	return err
}

// eximReads asks the Exim of this host which files it reads, if that matters: the other client has installed some, or there are several
// certificates to choose from.
func eximReads(ctx context.Context, found []adopt.Foreign) (reads adopt.Installed) {
	if len(found) > 1 || slices.ContainsFunc(found, func(f adopt.Foreign) bool { return f.Installed.Fullchain != "" }) {
		reads.Fullchain, reads.Key = setup.EximReads(ctx)
	}
	return reads
}

// printAllImported prints what was taken over to standard output, and what was not because of a fault to standard error.
func (a *app) printAllImported(taken []adopt.Taken, dryRun bool) error {
	for _, one := range taken {
		if one.Err != nil {
			a.complain(one.Err)
		} else if err := a.printImported(one, dryRun); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) printImported(one adopt.Taken, dryRun bool) error {
	verb := map[bool]string{true: "taken over", false: "not taken over"}[one.Chosen]
	if dryRun {
		verb = map[bool]string{true: "would be taken over", false: "would not be taken over"}[one.Chosen]
	}
	life := "valid until"
	if time.Now().After(one.NotAfter) {
		life = "expired"
	}
	text := fmt.Sprintf("%s: %s as %s\n  names        %s\n  certificate  %s, serial %s, %s %s\n", one.From, verb, one.Name, strings.Join(one.Names, ", "), one.Key, one.Serial, life, report.Minute(one.NotAfter))
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
