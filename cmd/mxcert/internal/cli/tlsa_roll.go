package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mxcert/deploy/dane"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/revoke"
	"mxcert/cmd/mxcert/internal/wanted"
)

const tlsaRollHelp = `Changes the key. The next key is published all the time, so that usually the change waits for nothing: mxcert orders a certificate with
the next key, deploys and proves it, and makes another next key. If the record of the next key has not been seen everywhere for long
enough, the change waits, and the result says until when and why. The daemon then carries it out; renewals with the current key go on.

--emergency is for a key that has leaked. mxcert changes the key at once. If the next key has not gone through its hold, the command says
until when some senders defer mail, and asks. Then it proves the new certificate, removes the record of the leaked key without a grace, and
has the CA revoke the leaked certificates with the reason keyCompromise. --fresh takes a new third key, because the current and the
next key lie on one disk and may both have leaked.

--yes answers all questions. --ignore-dane only says that senders may defer mail; the command then prints how to revoke. NAME can be left out
if there is only one certificate.`

const tlsaRollExamples = `  mxcert tlsa roll mx
  mxcert tlsa roll mx --emergency --fresh`

// rollOptions are the flags of tlsa roll.
type rollOptions struct {
	emergency, fresh, ignore, yes bool
	in                            io.Reader
}

func (a *app) tlsaRollCommand() *cobra.Command {
	var o rollOptions
	cmd := &cobra.Command{
		Use: "roll [NAME]", Short: "Change the key; in an emergency at once", Args: cobra.MaximumNArgs(1),
		Long: tlsaRollHelp, Example: tlsaRollExamples,
		RunE: func(cmd *cobra.Command, names []string) error {
			if o.fresh && !o.emergency {
				return report.Usage("--fresh takes a third key in an emergency: write --emergency --fresh")
			}
			o.in = cmd.InOrStdin()
			return a.tlsaRoll(cmd.Context(), names, o)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.emergency, "emergency", false, "the key has leaked: change it at once")
	flags.BoolVar(&o.fresh, "fresh", false, "with --emergency: take a third key, not the stored next key")
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask: defer mail if it must be, and revoke the leaked certificates")
	ignoreDANE(cmd, &o.ignore)
	flags.BoolVar(&a.detailedExit, "detailed-exitcode", false, "exit with 10 if the certificates converged and something was changed")
	return cmd
}

// rollReport is the document of tlsa roll.
type rollReport struct {
	report.Report
	Deferral    *deferral        `json:"deferral,omitempty"` // of an emergency: nil if no sender defers mail
	Revocations []*revoke.Report `json:"revocations"`
	Next        string           `json:"next,omitempty"`  // what a person has to do
	Error       *report.Error    `json:"error,omitempty"` // why the certificates could not be revoked

	code report.Code // of Error
}

// emergencyPasses is how many more passes an emergency may take until another key is served.
const emergencyPasses = 15

// sleep waits, and reports whether there was the time.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (a *app) tlsaRoll(ctx context.Context, names []string, o rollOptions) error {
	h, want, err := a.oneForTLSA(ctx, names, "tlsa roll")
	if err != nil {
		return err
	}
	if err := wrongMode(want, "tlsa roll", dane.Check, dane.ByHand, dane.Publish); err != nil {
		return err
	}
	store, err := view(h.State)
	if err != nil {
		return err
	}
	before, err := readTLSA(store, want)
	if err != nil {
		return err
	}
	r := rollReport{Revocations: []*revoke.Report{}}
	if o.emergency {
		look, cancel := context.WithTimeout(ctx, showPatience)
		before.look(look, nil)
		cancel()
		if r.Deferral = before.deferral(o.fresh); r.Deferral != nil && !o.ignore {
			if err := a.confirmDeferral(want.Name, r.Deferral, o); err != nil {
				return err
			}
			o.ignore = true
		}
	}
	ctx, cancel := a.within(ctx, renewTime)
	defer cancel()
	asked := &dane.Asked{At: time.Now(), Reason: "a person asked for it", Emergency: o.emergency, Fresh: o.fresh, Ignore: o.ignore}
	done, err := a.passes(ctx, h, []string{want.Name}, pass.Options{Asked: asked.At, Roll: asked, IgnoreDANE: o.ignore})
	if err != nil {
		return err
	}
	// A third key may take more than one pass: the record of the next key that leaked goes first. The roll is stored, so that a pass goes on
	// with it, whoever makes it.
	for range emergencyPasses {
		if !o.emergency || done.ExitCode() != report.CodeOK || len(replacedBy(before, *done)) > 0 || !sleep(ctx, time.Second) {
			break
		}
		if done, err = a.passes(ctx, h, []string{want.Name}, pass.Options{Asked: time.Now()}); err != nil {
			return err
		}
	}
	r.Report = *done
	if !o.emergency && done.ExitCode() == report.CodeOK && len(replaced(before, *done)) == 0 {
		r.Next = noted(want.Name, done.Certificates[0].TLSA)
	}
	if o.emergency {
		if err := report.At("revoke", a.revokeLeaked(ctx, h, before, &r, o)); err != nil {
			r.Error, r.code = report.NewError(err), report.CodeOf(err)
		}
	}
	return a.finishRoll(r)
}

// finishRoll prints the report on the change, and chooses the exit code.
func (a *app) finishRoll(r rollReport) error {
	codes := []report.Code{r.ExitCode(), r.code}
	for _, done := range r.Revocations {
		for _, c := range done.Certificates {
			codes = append(codes, c.Code)
		}
	}
	code := codes[0]
	if code == report.CodeOK {
		code = report.SumCodes(codes)
	}
	return a.finish(answer{document: r, changed: r.Changed, code: code, print: func(out sheet) {
		for _, c := range r.Certificates {
			printCertificate(out, c)
		}
		for _, done := range r.Revocations {
			printRevoked(out, done)
		}
		out.trouble(r.Error)
		if r.Next != "" {
			out.line("next step", "%s", r.Next)
		}
	}})
}

// revokeLeaked has the CA revoke the certificates of the keys that were replaced, or says how to do it.
func (a *app) revokeLeaked(ctx context.Context, h *wanted.Host, before *tlsaLook, r *rollReport, o rollOptions) error {
	leaked := replacedBy(before, r.Report)
	switch {
	case len(leaked) == 0:
		r.Next = fmt.Sprintf("the leaked key is still in service, and not revoked; %s goes on with the change. When the key has changed, have the CA revoke it: %s",
			orRenew(before.Want.Name), strings.Join(revocations(before, serialsOf(before)), " and "))
		return nil
	case !o.yes && (!isTerminal(o.in) || !a.agrees(o.in, "The new key is proven. Have the CA revoke the certificates with the leaked key? This cannot be taken back.")):
		r.Next = byHand(before) + "have the CA revoke the certificates with the leaked key: " + strings.Join(revocations(before, leaked), " and ")
		return nil
	}
	runner, err := a.runner(h, false)
	if err != nil {
		return err
	}
	defer runner.Close()
	reason, _ := revoke.ParseReason("keyCompromise") // it is one
	narrator := a.narrate()
	defer narrator.end()
	for _, serial := range leaked {
		chosen, err := revoke.Choose(ctx, runner, before.Want.Name, revoke.Choice{Reason: reason, Serial: serial})
		if err != nil {
			return err
		}
		done, err := chosen.CarryOut(ctx, narrator.speak(before.Want.Name))
		if err != nil {
			return err
		}
		done.Next = "" // the key is replaced already
		r.Revocations = append(r.Revocations, done)
	}
	r.Next = strings.TrimSuffix(byHand(before), "; ")
	return nil
}

// noted says that the change of a key goes on by itself, and what a person has to do for it.
func noted(name string, t *report.TLSA) string {
	text := fmt.Sprintf("the change of the key is noted: %s makes it when it has to wait for nothing any more", orRenew(name))
	if t != nil && t.State == string(dane.Publishing) && t.Mode != string(dane.Publish) {
		return fmt.Sprintf("publish the records that `mxcert tlsa show %s` prints; %s", name, text)
	}
	return text
}

// orRenew names what makes passes.
func orRenew(name string) string {
	return fmt.Sprintf("the daemon (or `mxcert renew %s`)", name)
}

// revocations lists the commands that have the CA revoke certificates with a leaked key.
func revocations(l *tlsaLook, serials []string) (commands []string) {
	for _, serial := range serials {
		commands = append(commands, fmt.Sprintf("`mxcert revoke %s --serial %s --reason keyCompromise`", l.Want.Name, serial))
	}
	return commands
}

// serialsOf lists the serial numbers of the current certificates.
func serialsOf(l *tlsaLook) (serials []string) {
	for _, b := range l.Have.Bundles {
		if b != nil {
			serials = append(serials, b.Serial())
		}
	}
	return serials
}

// byHand says what a person has to publish after an emergency.
func byHand(before *tlsaLook) string {
	if before.Mode == dane.Publish {
		return ""
	}
	return fmt.Sprintf("publish the record of the new key, and remove that of the leaked key: `mxcert tlsa show %s` prints both; ", before.Want.Name)
}

// replacedBy lists the serial numbers of the certificates whose key is not in service any more after a pass that has proven the new ones.
func replacedBy(before *tlsaLook, after report.Report) (serials []string) {
	if after.Certificates[0].Stage != report.Served {
		return nil
	}
	return replaced(before, after)
}

// replaced lists the serial numbers of the certificates whose key is not the current one any more.
func replaced(before *tlsaLook, after report.Report) (serials []string) {
	c := after.Certificates[0]
	for _, b := range before.Have.Bundles {
		if b == nil {
			continue
		}
		kept := false
		for _, k := range c.Keys {
			kept = kept || k.SPKI == b.SPKI()
		}
		if !kept {
			serials = append(serials, b.Serial())
		}
	}
	return serials
}
