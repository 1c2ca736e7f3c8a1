package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"mxcert/deploy/dane"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
)

const tlsaPublishHelp = `Brings the published records up to date now, as each pass does with dane.mode publish: adds what is missing and removes what is over.
It orders and deploys nothing. It does not wait for name servers: the result says what is waited for. Exit code 1 if the service that takes
the records could not be asked or refuses, 75 if DNS does not answer.

Records of others are never touched. With --adopt, those that fit the current or the next key become records of mxcert, which then removes
them when their key is over.`

func (a *app) tlsaPublishCommand() *cobra.Command {
	options := pass.Options{Publish: true}
	cmd := &cobra.Command{
		Use: "publish [NAME]", Short: "Bring the published records up to date now (dane.mode publish)", Args: cobra.MaximumNArgs(1),
		Long: tlsaPublishHelp,
		RunE: func(cmd *cobra.Command, names []string) error { return a.tlsaPublish(cmd.Context(), names, options) },
	}
	cmd.Flags().BoolVar(&options.Adopt, "adopt", false, "take over records of others that fit our keys")
	return cmd
}

func (a *app) tlsaPublish(ctx context.Context, names []string, options pass.Options) error {
	options.Asked = time.Now()
	ctx, cancel := a.within(ctx, renewTime)
	defer cancel()
	h, want, err := a.oneForTLSA(ctx, names, "tlsa publish")
	if err != nil {
		return err
	}
	if err := wrongMode(want, "tlsa publish", dane.Publish); err != nil {
		return err
	}
	r, err := a.passes(ctx, h, []string{want.Name}, options)
	if err != nil {
		return err
	}
	return a.finish(answer{document: r, code: r.ExitCode(), print: func(out sheet) {
		for _, c := range r.Certificates {
			printPublished(out, c)
		}
	}})
}

// printPublished prints what a pass over the records has found.
func printPublished(out sheet, c report.Certificate) {
	fmt.Fprintf(out, "%s: ", c.Name)
	out.paint(string(c.Stage), colourOf(c))
	fmt.Fprintln(out)
	printTLSA(out, c.Name, c.TLSA, false)
	for _, w := range c.Warnings {
		out.line("warning", "%s", w)
	}
	out.trouble(c.Error)
}
