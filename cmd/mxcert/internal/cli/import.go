package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mxcert/acme/bundle"
	"mxcert/acme/issued"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/report"
)

// foreign is what another ACME client left of one certificate. Nothing of the other client's is ever changed.
type foreign struct {
	Source     string   // directory or file it was read from
	Name       string   // as the other client calls it
	Chain, Key []byte   // PEM
	Directory  string   // URL of the CA's directory; "" where it is not known
	Account    account  // at that CA
	Provider   string   // DNS provider, by the other client's name; "" where it used none
	Hooks      []string // proposals for hooks, in words
	Notes      []string
}

// account is the account that the other client has.
type account struct {
	URL, Email string
	Key        []byte // PEM; nil where it was not found
}

// importedReport is one certificate in the result of import.
type importedReport struct {
	Name     string    `json:"name"` // of the certificate in mxcert
	From     string    `json:"from"`
	Names    []string  `json:"names"`
	Key      string    `json:"key"`
	Serial   string    `json:"serial"`
	NotAfter time.Time `json:"not_after"`
	Account  string    `json:"account"` // URL, "" where none was taken over
	Stored   bool      `json:"stored"`
	Notes    []string  `json:"notes"`
	Proposal string    `json:"proposal"` // for the configuration; "" where it names the certificate already
	Error    string    `json:"error,omitempty"`
}

// importReport is `import --json`.
type importReport struct {
	Changed  bool             `json:"changed"`
	Imported []importedReport `json:"imported"`
}

func (a *app) importCommand() *cobra.Command {
	var dryRun, force bool
	var directory string
	readers := map[string]func(string) ([]foreign, error){"certbot": fromCertbot, "acme.sh": fromAcmeSh, "lego": fromLego}
	usual := map[string]string{"certbot": "/etc/letsencrypt", "acme.sh": "/root/.acme.sh", "lego": "/root/.lego"}
	cmd := &cobra.Command{
		Use: "import certbot|acme.sh|lego [PATH]", Short: "Take over certificates, keys and accounts of another ACME client", Args: cobra.RangeArgs(1, 2),
		Long: `Reads the tree of another client (default: its usual place), changes nothing there, and stores key, certificate and account
of each certificate here: nothing is ordered, and the key stays the same. Certificates that the configuration does not
name, DNS settings and hooks are proposed on standard output. Look with --dry-run first.

Afterwards switch the other client off, so that the two do not renew the same names.`,
		ValidArgs: []string{"certbot", "acme.sh", "lego"},
		RunE: func(cmd *cobra.Command, args []string) error {
			read, ok := readers[args[0]]
			if !ok {
				return report.Usage("import knows certbot, acme.sh and lego, not %q", args[0])
			}
			path := usual[args[0]]
			if len(args) == 2 {
				path = args[1]
			}
			found, err := read(path)
			if err != nil && len(found) == 0 {
				return err
			}
			if len(found) == 0 {
				return fmt.Errorf("there is no certificate of %s below %s", args[0], path)
			}
			return errors.Join(a.takeOver(cmd.Context(), found, directory, dryRun, force), err)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be taken over, change nothing")
	cmd.Flags().BoolVar(&force, "force", false, "also where mxcert has a certificate for these names already")
	cmd.Flags().StringVar(&directory, "directory", "", "the CA's directory `URL`, where the other client does not tell it")
	return cmd
}

// takeOver stores what was found.
func (a *app) takeOver(ctx context.Context, found []foreign, directory string, dryRun, force bool) error {
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
	r := importReport{Imported: []importedReport{}}
	var problems []error
	for _, f := range found {
		if f.Directory == "" {
			f.Directory = directory
		}
		one, err := takeOne(ctx, config, store, f, dryRun, force)
		if err != nil {
			one.Error = err.Error()
			problems = append(problems, fmt.Errorf("%s: %w", f.Source, err))
		}
		r.Imported, r.Changed = append(r.Imported, one), r.Changed || one.Stored
	}
	if a.json {
		if err := a.printJSON(r); err != nil {
			return err
		}
		if len(problems) > 0 {
			return &report.Exit{Code: report.CodeFailed}
		}
		return nil
	}
	for _, one := range r.Imported {
		if err := a.printImported(one, dryRun); err != nil {
			return err
		}
	}
	return errors.Join(problems...)
}

// takeOne stores one certificate under the name that the configuration has for its names, or a new one.
func takeOne(ctx context.Context, config *configs.Config, store *state.Book, f foreign, dryRun, force bool) (importedReport, error) {
	one := importedReport{From: f.Source, Names: []string{}, Notes: append([]string{}, f.Notes...)}
	one.Notes = append(one.Notes, f.Hooks...)
	b, err := bundle.Parse(f.Chain, f.Key)
	if err != nil {
		return one, err
	}
	one.Names, one.Key, one.Serial, one.NotAfter = b.Leaf().DNSNames, string(b.KeyType()), b.Serial(), b.NotAfter().UTC()
	certificate, configured := configuredFor(config, b.Leaf().DNSNames)
	one.Name = certificate.Name
	if !configured {
		one.Name = lineageName(f.Name)
		one.Proposal = proposal(one.Name, f, b)
	} else if !slices.Contains(certificate.Keys, one.Key) {
		one.Notes = append(one.Notes, fmt.Sprintf("the key is %s: set keys: [%s] to keep it", one.Key, one.Key))
	}
	if f.Directory == "" {
		one.Notes = append(one.Notes, "the CA is not known: give its directory URL by --directory, or the next pass orders a new certificate")
	}
	if time.Now().After(b.NotAfter()) {
		one.Notes = append(one.Notes, "it has expired; its key is kept for the next order")
	}
	accountURL, err := takeAccount(ctx, store, f, dryRun)
	if err != nil {
		return one, err
	}
	one.Account = accountURL
	if dryRun {
		return one, nil
	}
	one.Stored, err = storeForeign(ctx, store.Lineage(one.Name), f, b, force, &one)
	return one, err
}

// storeForeign makes the certificate the current one of a lineage.
func storeForeign(ctx context.Context, lineage *state.Lineage, f foreign, b *bundle.Bundle, force bool, one *importedReport) (bool, error) {
	unlock, err := lineage.Lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	record, _, err := lineage.Load()
	if err != nil {
		return false, err
	}
	slot := record.Slot(b.KeyType())
	if slot.Current != "" {
		if current, err := lineage.Bundle(slot.Current); err == nil && current.Same(b) {
			one.Notes = append(one.Notes, "it was taken over before")
			return false, nil
		}
		if !force {
			one.Notes = append(one.Notes, "mxcert has a certificate for these names already, which stays (--force takes this one)")
			return false, nil
		}
	}
	g, err := lineage.Add(b, b.Leaf().DNSNames, f.Directory, "", time.Now())
	if err != nil {
		return false, err
	}
	slot.Issued(g.ID, schedule.RenewalTime(b.Leaf().NotBefore, b.NotAfter(), b.Leaf().NotBefore))
	record.Log(state.Event{At: time.Now(), Event: "imported", Key: b.KeyType(), Serial: b.Serial(), Message: "from " + f.Source})
	return true, lineage.Save(record)
}

// takeAccount stores the account where there is none at that CA yet.
func takeAccount(ctx context.Context, store *state.Book, f foreign, dryRun bool) (string, error) {
	if f.Directory == "" || f.Account.Key == nil {
		return "", nil
	}
	if !dryRun {
		unlock, err := store.Lock(ctx)
		if err != nil {
			return "", err
		}
		defer unlock()
	}
	own, ok, err := store.Account(f.Directory)
	if err == nil && ok {
		return own.URL, nil
	}
	key, err := bundle.ParseKey(f.Account.Key)
	if err != nil {
		return "", fmt.Errorf("the account key: %w", err)
	}
	text, err := bundle.MarshalKey(key)
	if err != nil || dryRun {
		return f.Account.URL, err
	}
	return f.Account.URL, store.SaveAccount(state.Account{Directory: f.Directory, Email: f.Account.Email, URL: f.Account.URL, Key: string(text), Created: time.Now().UTC()})
}

// configuredFor finds the certificate of the configuration for exactly these names.
func configuredFor(config *configs.Config, names []string) (configs.Certificate, bool) {
	for _, c := range config.Certificates {
		if issued.SameNames(c.Domains, names) {
			return c, true
		}
	}
	return configs.Certificate{}, false
}

// lineageName makes a name that the configuration accepts.
func lineageName(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '-', r == '_':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, name)
	return strings.TrimLeft(name[:min(len(name), 64)], ".-_")
}

// proposal is a section for conf.d.
func proposal(name string, f foreign, b *bundle.Bundle) string {
	var y strings.Builder
	fmt.Fprintf(&y, "certificates:\n  - name: %s\n    domains: [%s]\n    keys: [%s]\n", name, strings.Join(quoted(b.Leaf().DNSNames), ", "), b.KeyType())
	if f.Provider != "" {
		fmt.Fprintf(&y, "    # dns: {provider: %s}   # what the other client used; `mxcert providers %[1]s` tells its variables\n", f.Provider)
	}
	y.WriteString("    deploy: []   # say where it goes, as in `mxcert config example`\n    verify: {endpoints: []}\n")
	return y.String()
}

func quoted(names []string) []string {
	list := make([]string, len(names))
	for i, n := range names {
		list[i] = fmt.Sprintf("%q", n)
	}
	return list
}

func (a *app) printImported(one importedReport, dryRun bool) error {
	verb := map[bool]string{true: "taken over", false: "not taken over"}[one.Stored]
	if dryRun {
		verb = "would be taken over"
	}
	if one.Error != "" {
		return nil // it is among the errors
	}
	text := fmt.Sprintf("%s: %s as %s\n  names        %s\n  certificate  %s, serial %s, valid until %s\n", one.From, verb, one.Name, strings.Join(one.Names, ", "), one.Key, one.Serial, report.Minute(one.NotAfter))
	if one.Account != "" {
		text += "  account      " + one.Account + "\n"
	}
	for _, note := range one.Notes {
		text += "  note         " + note + "\n"
	}
	if one.Proposal != "" {
		text += fmt.Sprintf("  the configuration does not name it; proposed for conf.d/%s.yaml:\n\n%s\n", one.Name, one.Proposal)
	}
	return a.say("%s", text)
}
