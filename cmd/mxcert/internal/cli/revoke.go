package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"mxcert/acme"
	"mxcert/acme/state"
	"mxcert/configs"

	"mxcert/cmd/mxcert/internal/report"
)

// revokeTime bounds a revocation once it is confirmed: a pass of the daemon may have to end before.
const revokeTime = 10 * time.Minute

// revokeReport is `revoke --json`.
type revokeReport struct {
	Changed      bool            `json:"changed"`
	Name         string          `json:"name"`
	Reason       string          `json:"reason"`
	Certificates []revokedReport `json:"certificates"`
	Warnings     []string        `json:"warnings"`
	Next         string          `json:"next"` // what happens now, and what to do
}

// revokedReport is one certificate that was to be revoked.
type revokedReport struct {
	report.Key
	Revoked  bool          `json:"revoked"`
	Changed  bool          `json:"changed"`   // false where it had been revoked before
	SignedBy string        `json:"signed_by"` // account, or key: the certificate's own (RFC 8555 section 7.6)
	Served   bool          `json:"served"`    // an endpoint shows it
	Error    *report.Error `json:"error"`

	code report.Code
}

// revokeOptions are the flags of revoke.
type revokeOptions struct {
	reason, key, serial string
	yes                 bool
	in                  io.Reader
}

func (a *app) revokeCommand() *cobra.Command {
	var o revokeOptions
	cmd := &cobra.Command{
		Use: "revoke NAME", Short: "Revoke the certificate, or an older one of it", Args: cobra.ExactArgs(1),
		Long: `Has the CA revoke the current certificate of each key type; --key or --serial chooses others (mxcert history lists them).
A revocation that was begun, and whose end is not known, is gone on with instead.

It asks before, unless --yes is given. A revoked certificate is replaced by the next pass, with a new private key where the
reason is keyCompromise: that key is never used again, and all certificates of it that are stored here are revoked.

keyCompromise is signed by the certificate's own key, which proves it to the CA; the other reasons by the account, or by
that key where the account is lost or another. Let's Encrypt then counts the key as compromised, whatever the reason.
To revoke a certificate again is no error.`,
		Example: `  mxcert revoke mx --reason keyCompromise && mxcert renew mx
  mxcert revoke mx --serial 2f5a… --reason superseded --yes --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.in = cmd.InOrStdin()
			return a.revoke(cmd.Context(), args[0], o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.reason, "reason", "unspecified", "`unspecified|keyCompromise|superseded|cessationOfOperation`, or 0, 1, 4, 5")
	flags.StringVar(&o.key, "key", "", "only the certificate of this key `TYPE`, such as ec256")
	flags.StringVar(&o.serial, "serial", "", "the certificate with this `SERIAL` instead of the current ones")
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	flags.BoolVar(&a.detailedExit, "detailed-exitcode", false, "exit with 10 when something was revoked")
	return cmd
}

// parseReason reads a reason by its name or number (RFC 5280 section 5.3.1).
func parseReason(text string) (acme.Reason, error) {
	var known []string
	for _, r := range []acme.Reason{acme.Unspecified, acme.KeyCompromise, acme.Superseded, acme.CessationOfOperation} {
		if strings.EqualFold(text, r.String()) || text == strconv.Itoa(int(r)) {
			return r, nil
		}
		known = append(known, fmt.Sprintf("%s (%d)", r, uint(r)))
	}
	return 0, usage("--reason is one of %s, not %q", strings.Join(known, ", "), text)
}

// revocation is the work on one command.
type revocation struct {
	*pass
	reason  acme.Reason
	targets []state.Generation
	begun   []state.Generation // by an earlier run, which was not told how it ended
	served  map[string]bool    // serials that an endpoint shows
	report  *revokeReport
}

func (a *app) revoke(ctx context.Context, name string, o revokeOptions) error {
	reason, err := parseReason(o.reason)
	if err != nil {
		return err
	}
	config, err := a.load()
	if err != nil {
		return err
	}
	w, err := newWorld(config, a.version, false)
	if err != nil {
		return err
	}
	defer w.close()
	r := &revocation{reason: reason, report: &revokeReport{Name: name, Reason: reason.String(), Certificates: []revokedReport{}, Warnings: []string{}}}
	if r.pass, err = w.revoker(name); err != nil {
		return err
	}
	if err := r.choose(ctx, o); err != nil {
		return err
	}
	if !o.yes {
		if err := r.confirm(a, o.in); err != nil {
			return err
		}
	}
	ctx, cancel := a.within(ctx, revokeTime)
	defer cancel()
	narrator := a.narrate()
	r.say = narrator.speak(name)
	err = r.carryOut(ctx)
	if narrator.end(); err != nil {
		return err
	}
	return a.revokeResult(r.report)
}

// revoker is a pass on a certificate that is configured, or of which something is stored: one that was taken out of the
// configuration can be revoked too.
func (w *world) revoker(name string) (*pass, error) {
	certificates, err := chosen(w.config, []string{name})
	if err != nil {
		lineage := w.store.Lineage(name)
		if generations, readErr := lineage.Generations(); readErr != nil || len(generations) == 0 || strings.ContainsAny(name, `/\`) {
			return nil, err
		}
		certificates = []configs.Certificate{{Name: name}}
	}
	return &pass{world: w, certificate: certificates[0], lineage: w.store.Lineage(name), say: func(string, string) {}}, nil
}

// choose finds the certificates, and what serves them. Nothing is locked yet: a person may take a while to answer.
func (r *revocation) choose(ctx context.Context, o revokeOptions) error {
	record, _, err := r.lineage.Look()
	if err != nil {
		return report.At("state", err)
	}
	r.record = record
	generations, err := r.lineage.Generations()
	if err != nil {
		return report.At("state", err)
	}
	for _, g := range generations {
		if o.key != "" && string(g.Key) != o.key || o.serial != "" && plainSerial(g.Serial) != plainSerial(o.serial) {
			continue
		}
		note, noted := r.lineage.Revocation(g.ID)
		switch begun := noted && note.Done.IsZero() && time.Now().Before(g.NotAfter); {
		case begun:
			r.begun = append(r.begun, g)
		case o.serial != "" || record.Slot(g.Key).Current == g.ID:
			r.targets = append(r.targets, g)
		}
	}
	if len(r.begun) > 0 { // what an earlier run did not end: by now another certificate may be the current one
		r.targets = r.begun
	}
	if len(r.targets) == 0 {
		return nothingToRevoke(r.certificate.Name, generations, o)
	}
	if r.reason == acme.KeyCompromise {
		r.targets = withSameKey(generations, r.targets)
	}
	r.lookAround(ctx)
	return nil
}

// plainSerial takes away how a serial number may be written: capitals, colons, a prefix, leading zeros.
func plainSerial(text string) string {
	text = strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(text))
	return strings.TrimLeft(strings.TrimPrefix(text, "0x"), "0")
}

func nothingToRevoke(name string, generations []state.Generation, o revokeOptions) error {
	var known []string
	for _, g := range generations {
		known = append(known, fmt.Sprintf("%s (%s)", g.Serial, g.Key))
	}
	switch {
	case len(known) == 0:
		return fmt.Errorf("no certificate of %s is stored", name)
	case o.serial != "" || o.key != "":
		return usage("no certificate of %s fits --serial %q, --key %q; stored are: %s", name, o.serial, o.key, strings.Join(known, ", "))
	}
	return usage("no certificate of %s is current; choose one with --serial: %s", name, strings.Join(known, ", "))
}

// withSameKey adds the certificates that have the same key, in the order of all.
func withSameKey(all, targets []state.Generation) (list []state.Generation) {
	compromised := map[string]bool{}
	for _, g := range targets {
		compromised[g.SPKI] = true
	}
	for _, g := range all {
		if compromised[g.SPKI] {
			list = append(list, g)
		}
	}
	return list
}

// lookAround shakes hands at the endpoints, to know whether a certificate is in service.
func (r *revocation) lookAround(ctx context.Context) {
	r.served = map[string]bool{}
	if len(r.certificate.Domains) == 0 || r.readBundles() != nil { // not configured, or nothing to compare with
		return
	}
	ctx, cancel := context.WithTimeout(ctx, closedPatience)
	defer cancel()
	_ = r.awaitServed(ctx, 0) // what is shown is in the endpoints of the result
	for _, e := range r.result.Endpoints {
		r.served[e.Serial] = true
	}
}

// confirm asks a person. Without a terminal, and without --yes, nothing is done.
func (r *revocation) confirm(a *app, in io.Reader) error {
	file, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return usage("revoke cannot be taken back: confirm it with --yes")
	}
	fmt.Fprintf(a.stderr, "to be revoked, reason %s:\n", r.reason)
	for _, g := range r.targets {
		text := fmt.Sprintf("  %s serial %s, valid until %s", g.Key, g.Serial, report.Minute(g.NotAfter))
		if r.served[g.Serial] {
			text += ", in service now"
		}
		fmt.Fprintln(a.stderr, text)
	}
	fmt.Fprint(a.stderr, "This cannot be taken back. Revoke? [y/N] ")
	answer, _ := bufio.NewReader(in).ReadString('\n') // at its end, nothing is the answer
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return errors.New("nothing was revoked")
	}
	return nil
}
