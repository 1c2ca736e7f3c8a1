package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"mxcert/acme"

	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/revoke"
)

// revokeTime limits a revocation, counted from its confirmation. It may first have to wait until a pass of the daemon ends.
const revokeTime = 10 * time.Minute

// revokeOptions are the flags of revoke.
type revokeOptions struct {
	reason, key, serial string
	yes                 bool
	in                  io.Reader
}

func (a *app) revokeCommand() *cobra.Command {
	var o revokeOptions
	cmd := &cobra.Command{
		Use: "revoke NAME", Short: "Revoke the certificate, or an older version of it", Args: cobra.ExactArgs(1),
		Long: `Has the CA revoke the current certificate of each key type; --key or --serial chooses others (mxcert history lists them).
If an earlier revocation was interrupted, this command finishes it first.

It asks for confirmation, unless --yes is given. The next pass replaces a revoked certificate. For keyCompromise it does so
with a new private key: the old key is never used again, and all stored certificates with that key are revoked.

For keyCompromise the request is signed with the certificate's own key, as proof. Otherwise the account signs; if that
account is gone, the certificate's key signs instead, and Let's Encrypt then treats the key as compromised.
Revoking a certificate twice is not an error.`,
		Example: `  mxcert revoke mx --reason keyCompromise && mxcert renew mx
  mxcert revoke mx --serial 2f5a… --reason superseded --yes --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.in = cmd.InOrStdin()
			return a.revoke(cmd.Context(), args[0], o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.reason, "reason", "unspecified", "the `REASON`: unspecified, keyCompromise, superseded or cessationOfOperation, or 0, 1, 4, 5")
	flags.StringVar(&o.key, "key", "", "only the certificate of this key `TYPE`, such as ec256")
	flags.StringVar(&o.serial, "serial", "", "the certificate with this `SERIAL` instead of the current ones")
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	flags.BoolVar(&a.detailedExit, "detailed-exitcode", false, "exit with 10 when something was revoked")
	return cmd
}

func (a *app) revoke(ctx context.Context, name string, o revokeOptions) error {
	reason, err := revoke.ParseReason(o.reason)
	if err != nil {
		return err
	}
	config, err := a.load()
	if err != nil {
		return err
	}
	h, err := translate(config)
	if err != nil {
		return err
	}
	runner, err := a.runner(h, false)
	if err != nil {
		return err
	}
	defer runner.Close()
	r, err := revoke.Choose(ctx, runner, name, revoke.Choice{Reason: reason, Key: o.key, Serial: o.serial})
	if err != nil {
		return err
	}
	if !o.yes {
		if err := a.confirmRevocation(r, reason, o.in); err != nil {
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
func (a *app) confirmRevocation(r *revoke.Revocation, reason acme.Reason, in io.Reader) error {
	file, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return report.Usage("a revocation cannot be undone: confirm it with --yes")
	}
	fmt.Fprintf(a.stderr, "to be revoked, reason %s:\n", reason)
	for _, g := range r.Targets {
		text := fmt.Sprintf("  %s serial %s, valid until %s", g.Key, g.Serial, report.Minute(g.NotAfter))
		if r.Served[g.Serial] {
			text += ", in service now"
		}
		fmt.Fprintln(a.stderr, text)
	}
	fmt.Fprint(a.stderr, "This cannot be taken back. Revoke? [y/N] ")
	answer, _ := bufio.NewReader(in).ReadString('\n') // the end of the input means no
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
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
