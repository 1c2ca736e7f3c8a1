package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"mxcert/acme"
	accounts "mxcert/acme/account"
	"mxcert/acme/authority"
	"mxcert/acme/state"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// accountTime limits the commands that ask a CA about the account. A rollover waits for running orders, see renewTime.
const accountTime = 2 * time.Minute

// accountsReport is `account show|register|rollover --json`.
type accountsReport struct {
	Changed  bool            `json:"changed"`
	Accounts []accountReport `json:"accounts"`
}

// accountReport describes one account: as the CA sees it if Asked is set, otherwise as it is stored. Status is valid, deactivated,
// revoked, none, unregistered, unknown, refused or damaged; "" if it is not known.
type accountReport struct {
	CA         string                `json:"ca"`        // host name of the directory URL
	Directory  string                `json:"directory"` // URL
	Configured bool                  `json:"configured"`
	URL        string                `json:"url"`
	Status     string                `json:"status"` // see above
	Asked      bool                  `json:"asked"`  // the CA was asked
	Contact    []string              `json:"contact"`
	Key        *accountKey           `json:"key"`
	Created    *time.Time            `json:"created"`
	Terms      accountTerms          `json:"terms"`
	Former     []state.FormerAccount `json:"former"` // accounts that this one replaced
	Changed    bool                  `json:"changed"`
	Warnings   []string              `json:"warnings"`
	Error      *report.Error         `json:"error"`
	Code       report.Code           `json:"exit_code"`
}

type accountKey struct {
	Type       string `json:"type"`
	Thumbprint string `json:"thumbprint"` // RFC 7638
	Pending    bool   `json:"rollover_pending"`
}

type accountTerms struct {
	Agreed string `json:"agreed"`  // URL of the terms that the account has agreed to
	Now    string `json:"current"` // URL of the CA's present terms
}

func (a *app) accountCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "account", Short: "The accounts at the CAs: what they are, registration, new keys", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return report.Usage("account show, account register or account rollover?")
		},
	}
	cmd.AddCommand(a.accountShowCommand(), a.accountRegisterCommand(), a.accountRolloverCommand())
	return cmd
}

func caFlag(cmd *cobra.Command, ca *string) {
	cmd.Flags().StringVar(ca, "ca", "", "only this `CA` of the configuration: the URL of its directory, or the host in it (default: all)")
}

func (a *app) accountShowCommand() *cobra.Command {
	var ca string
	cmd := &cobra.Command{
		Use: "show", Short: "Account URL, status, contact and key at each CA", Args: cobra.NoArgs,
		Long: `Shows the accounts of the configured CAs, and other stored accounts. It asks each CA for status and contact. If a CA cannot
be reached, it shows what is stored, and says so. It changes nothing. CAA records with accounturi (RFC 8657) must name the
account's URL.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.accountShow(cmd.Context(), ca) },
	}
	caFlag(cmd, &ca)
	return cmd
}

func (a *app) accountRegisterCommand() *cobra.Command {
	var ca string
	var replace bool
	cmd := &cobra.Command{
		Use: "register", Short: "Register the account, or find it again by its key", Args: cobra.NoArgs,
		Long: `Makes sure that each configured CA has an account and that the account may be used. Every order does the same; this command
does it earlier, for instance because CAA records need the account's URL. A deactivated account stays, unless you give
--replace: then the old account is set aside, and a new one with a new key is registered.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.changeAccounts(cmd.Context(), ca, func(ctx context.Context, r *accounts.Registrar) (bool, error) {
				return r.Register(ctx, replace)
			})
		},
	}
	caFlag(cmd, &ca)
	cmd.Flags().BoolVar(&replace, "replace", false, "set the stored account aside and register a new one with a new key")
	cmd.Flags().BoolVar(&a.detailedExit, "detailed-exitcode", false, "exit with 10 when something was changed")
	return cmd
}

func (a *app) accountRolloverCommand() *cobra.Command {
	var ca string
	cmd := &cobra.Command{
		Use: "rollover", Short: "Give the account a new key", Args: cobra.NoArgs,
		Long: `Changes the key of the account at each configured CA (RFC 8555 section 7.3.5). The account's URL stays the same. The command
waits for orders under way. If it is interrupted, or the CA's answer is lost, the next order or rollover finishes the change:
it asks the CA which of the two keys it has on file.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.changeAccounts(cmd.Context(), ca, func(ctx context.Context, r *accounts.Registrar) (bool, error) {
				err := r.Rollover(ctx)
				return err == nil, err
			})
		},
	}
	caFlag(cmd, &ca)
	cmd.Flags().BoolVar(&a.detailedExit, "detailed-exitcode", false, "exit with 10 when something was changed")
	return cmd
}

// chooseCAs lists the configured CAs that --ca selects.
func chooseCAs(host *wanted.Host, ca string) ([]string, error) {
	var list, known []string
	for _, directory := range host.Directories {
		known = append(known, authority.Name(directory))
		if ca == "" || ca == directory || ca == authority.Name(directory) {
			list = append(list, directory)
		}
	}
	if len(list) == 0 {
		return nil, report.Usage("the configuration has no CA %q; it has: %s", ca, strings.Join(known, ", "))
	}
	return list, nil
}

func (a *app) accountShow(ctx context.Context, ca string) error {
	runner, directories, err := a.cas(ctx, ca, true)
	if err != nil {
		return err
	}
	defer runner.Close()
	ctx, cancel := a.within(ctx, accountTime)
	defer cancel()
	r := &accountsReport{Accounts: make([]accountReport, len(directories))}
	var group errgroup.Group
	for i, directory := range directories {
		group.Go(func() error {
			r.Accounts[i] = newAccountReport(runner.CAs.At(directory).Registrar(nil, nil).Info(ctx), true)
			return nil
		})
	}
	_ = group.Wait() // the reports contain the errors
	if ca == "" {
		r.Accounts = append(r.Accounts, otherAccounts(runner)...)
	}
	return a.finishAccounts(r)
}

// cas loads the configuration and finds the chosen CAs.
func (a *app) cas(ctx context.Context, ca string, readOnly bool) (runner *pass.Runner, directories []string, err error) {
	config, err := a.load()
	if err != nil {
		return nil, nil, err
	}
	h, err := a.translate(ctx, config, "account register")
	if err != nil {
		return nil, nil, err
	}
	if runner, err = a.runner(h, readOnly); err != nil {
		return nil, nil, err
	}
	if directories, err = chooseCAs(runner.Host, ca); err != nil {
		runner.Close()
	}
	return runner, directories, err
}

// otherAccounts returns the accounts at CAs that the configuration does not name. It leaves out files that it cannot read, because it does
// not know whose they are. Damaged accounts of configured CAs are reported elsewhere.
func otherAccounts(runner *pass.Runner) (list []accountReport) {
	stored, _ := runner.Store.Accounts()
	for _, account := range stored {
		if runner.CAs.At(account.Directory) == nil {
			list = append(list, newAccountReport(accounts.Stored(account), false))
		}
	}
	return list
}

// changeAccounts changes the accounts at all chosen CAs, one after the other.
func (a *app) changeAccounts(ctx context.Context, ca string, change func(context.Context, *accounts.Registrar) (bool, error)) error {
	runner, directories, err := a.cas(ctx, ca, false)
	if err != nil {
		return err
	}
	defer runner.Close()
	ctx, cancel := a.within(ctx, renewTime)
	defer cancel()
	narrator := a.narrate()
	r := &accountsReport{Accounts: []accountReport{}}
	for _, directory := range directories {
		say, client := narrator.speak(authority.Name(directory)), runner.CAs.At(directory)
		warnings := []string{}
		changed, err := change(ctx, client.Registrar(say, func(text string) {
			warnings = append(warnings, text)
			say("warning", text)
		}))
		if err != nil {
			say("failed", err.Error())
		}
		r.Accounts = append(r.Accounts, changedAccount(ctx, client, changed, warnings, err))
		r.Changed = r.Changed || changed
	}
	narrator.end()
	return a.finishAccounts(r)
}

// changedAccount reports the result of a change. If nothing went wrong, it asks the CA about the account.
func changedAccount(ctx context.Context, client *acme.Client, changed bool, warnings []string, err error) accountReport {
	asking, cancel := context.WithTimeout(ctx, accountTime)
	defer cancel()
	if err != nil {
		cancel() // so that only the stored account is shown
	}
	c := newAccountReport(client.Registrar(nil, nil).Info(asking), true)
	c.Changed, c.Warnings, c.Error = changed, warnings, nil
	if err != nil {
		c.Error, c.Code = report.NewError(report.At("account", err)), report.CodeOf(err)
	}
	return c
}

func newAccountReport(info accounts.Info, configured bool) accountReport {
	c := accountReport{CA: authority.Name(info.Directory), Directory: info.Directory, Configured: configured, URL: info.URL, Status: info.Status, Asked: info.Asked,
		Contact: info.Contact, Terms: accountTerms{Agreed: info.Terms, Now: info.CATerms}, Former: info.Former, Warnings: []string{}}
	if c.Contact == nil {
		c.Contact = []string{}
	}
	if c.Former == nil {
		c.Former = []state.FormerAccount{}
	}
	if info.Thumbprint != "" {
		c.Key = &accountKey{Type: string(info.KeyType), Thumbprint: info.Thumbprint, Pending: info.Pending}
	}
	if !info.Created.IsZero() {
		c.Created = new(info.Created.UTC())
	}
	if info.Pending {
		c.Warnings = append(c.Warnings, "a change of the key was interrupted: the next order, or mxcert account rollover, finishes it")
	}
	if c.Terms.Agreed != "" && c.Terms.Now != "" && c.Terms.Agreed != c.Terms.Now {
		c.Warnings = append(c.Warnings, "the CA has changed its terms of service: read them")
	}
	if info.Err != nil && !errors.Is(info.Err, context.Canceled) {
		c.Error = report.NewError(report.At("account", info.Err))
	}
	return c
}

// finishAccounts prints the report and chooses the exit code, by the same rules as for a report on certificates.
func (a *app) finishAccounts(r *accountsReport) error {
	codes := make([]report.Code, len(r.Accounts))
	for i, c := range r.Accounts {
		codes[i] = c.Code
	}
	return a.finish(answer{document: r, changed: r.Changed, code: report.SumCodes(codes), print: func(out sheet) {
		for i, c := range r.Accounts {
			if i > 0 {
				fmt.Fprintln(out)
			}
			printAccount(out, c)
		}
	}})
}

func printAccount(out sheet, c accountReport) {
	head := c.CA
	if !c.Configured {
		head += " (not in the configuration)"
	}
	if c.Changed {
		head += ": changed"
	}
	fmt.Fprintln(out, head)
	out.line("directory", "%s", c.Directory)
	if c.URL != "" {
		out.line("account", "%s", c.URL)
	}
	out.line("status", "%s", c.statusText())
	if len(c.Contact) > 0 {
		out.line("contact", "%s", strings.Join(c.Contact, ", "))
	} else if c.URL != "" {
		out.line("contact", "none")
	}
	if c.Key != nil {
		out.line("key", "%s, thumbprint %s", c.Key.Type, c.Key.Thumbprint)
	}
	if c.Created != nil {
		out.line("created", "%s", report.Minute(*c.Created))
	}
	if c.Terms.Agreed != "" {
		out.line("terms", "%s", c.Terms.Agreed)
	}
	if c.Terms.Now != "" && c.Terms.Now != c.Terms.Agreed {
		out.line("terms now", "%s", c.Terms.Now)
	}
	for _, f := range c.Former {
		out.line("formerly", "%s until %s: %s", orUnknown(f.URL), report.Minute(f.Until), f.Why)
	}
	for _, w := range c.Warnings {
		out.line("warning", "%s", w)
	}
	out.trouble(c.Error)
}

// statusText returns the status, and says where it comes from.
func (c *accountReport) statusText() string {
	switch {
	case c.Asked:
		return c.Status
	case c.Status == "" && c.Configured:
		return "not known: the CA was not asked, or cannot be reached; the rest is from the stored account"
	case c.Status == "":
		return "not asked; the rest is from the stored account"
	case c.Status == "none":
		return "no account yet: the first order registers one, or mxcert account register"
	}
	return c.Status
}

func orUnknown(url string) string {
	if url == "" {
		return "(URL unknown)"
	}
	return url
}
