package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"mxcert/acme"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/revoke"
)

// revokeTime limits a revocation, counted from its confirmation. It may first have to wait until a pass of the daemon ends.
const revokeTime = 10 * time.Minute

// revokeOptions are the flags of revoke.
type revokeOptions struct {
	reason, key, serial string
	yes, ignore         bool
	in                  io.Reader
}

func (a *app) revokeCommand() *cobra.Command {
	var o revokeOptions
	cmd := &cobra.Command{
		Use: "revoke [NAME]", Short: "Revoke the certificate, or an older version of it", Args: cobra.MaximumNArgs(1),
		Long: `Has the CA revoke the current certificate of each key type; --key or --serial chooses others (mxcert history lists them).
If an earlier revocation was interrupted, this command finishes it first.

NAME can be left out if there is only one certificate. The command asks for confirmation, unless --yes is given. The next pass
replaces a revoked certificate. For keyCompromise it does so with a new private key: the old key is never used again, and all
stored certificates with that key are revoked.

For keyCompromise the request is signed with the certificate's own key, as proof. Otherwise the account signs; if that
account is gone, the certificate's key signs instead, and Let's Encrypt then treats the key as compromised.
Revoking a certificate twice is not an error.`,
		Example: `  mxcert revoke mx --reason keyCompromise && mxcert renew mx
  mxcert revoke mx --serial 2f5a… --reason superseded --yes --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.in = cmd.InOrStdin()
			return a.revoke(cmd.Context(), args, o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.reason, "reason", "unspecified", "the `REASON`: unspecified, keyCompromise, superseded or cessationOfOperation, or 0, 1, 4, 5")
	flags.StringVar(&o.key, "key", "", "only the certificate of this key `TYPE`, such as ec256")
	flags.StringVar(&o.serial, "serial", "", "the certificate with this `SERIAL` instead of the current ones")
	cmd.Flags().BoolVar(&o.ignore, "ignore-dane", false, "with keyCompromise: revoke even if no key can replace this one yet: senders that use DANE then defer mail")
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	flags.BoolVar(&a.detailedExit, "detailed-exitcode", false, "exit with 10 when something was revoked")
	return cmd
}

func (a *app) revoke(ctx context.Context, names []string, o revokeOptions) error {
	reason, err := revoke.ParseReason(o.reason)
	if err != nil {
		return err
	}
	config, err := a.load()
	if err != nil {
		return err
	}
	h, err := a.translate(ctx, config, "revoke")
	if err != nil {
		return err
	}
	name, err := oneName(h, names)
	if err != nil {
		return err
	}
	runner, err := a.runner(h, false)
	if err != nil {
		return err
	}
	defer runner.Close()
	r, err := revoke.Choose(ctx, runner, name, revoke.Choice{Reason: reason, Key: o.key, Serial: o.serial, IgnoreDANE: o.ignore})
	if err != nil {
		return err
	}
	if !o.yes {
		if err := a.confirmRevocation(name, r, reason, o.in); err != nil {
			return err
		}
	}
	ctx, cancel := a.within(ctx, revokeTime)
	defer cancel()
	narrator := a.narrate()
	done, err := r.CarryOut(ctx, narrator.speak(name))
	if narrator.end(); err != nil {
		return err
	}
	codes := make([]report.Code, len(done.Certificates))
	for i, c := range done.Certificates {
		codes[i] = c.Code
	}
	return a.finish(answer{document: done, changed: done.Changed, code: report.SumCodes(codes), print: func(out sheet) { printRevoked(out, done) }})
}

// confirmRevocation asks a person to confirm. Without a terminal and without --yes, nothing is revoked.
func (a *app) confirmRevocation(name string, r *revoke.Revocation, reason acme.Reason, in io.Reader) error {
	if !isTerminal(in) {
		return report.Usage("a revocation of %s cannot be undone: confirm it with --yes", name)
	}
	fmt.Fprintf(a.stderr, "certificates of %s to be revoked, reason %s:\n", name, reason)
	for _, g := range r.Targets {
		text := fmt.Sprintf("  %s serial %s, valid until %s", g.Key, g.Serial, report.Minute(g.NotAfter))
		if r.Served[g.Serial] {
			text += ", in service now"
		}
		fmt.Fprintln(a.stderr, text)
	}
	if !a.agrees(in, "This cannot be taken back. Revoke?") {
		return errors.New("nothing was revoked")
	}
	return nil
}

func printRevoked(out sheet, r *revoke.Report) {
	fmt.Fprintf(out, "%s: reason %s\n", r.Name, r.Reason)
	for _, c := range r.Certificates {
		what := "not revoked"
		switch {
		case c.Changed:
			what = "revoked, signed by the " + map[string]string{"account": "account", "key": "certificate's own key"}[c.SignedBy]
		case c.Revoked:
			what = "was already revoked"
		}
		out.line(c.Key.Key, "serial %s: %s", c.Serial, what)
		out.trouble(c.Error)
	}
	for _, w := range r.Warnings {
		out.line("warning", "%s", w)
	}
	if r.Next != "" {
		out.line("next", "%s", r.Next)
	}
}
