package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mxcert/acme/fleet"
	"mxcert/acme/fleet/seal"

	"mxcert/cmd/mxcert/internal/pass"
	"mxcert/cmd/mxcert/internal/report"
)

// recipientRemoved is the state of a recipient that was removed for good.
const recipientRemoved = "removed"

const recipientsHelp = `Lists whom this host trusts: the recipients of its configuration, and what trusted hosts have added or removed by a signed statement in the
store. Each of them can read the keys that are shared, and each host among them can offer certificates.

Exit codes: 0 done, 3 the store must not be used (another fleet, another host with this name), 75 the store is away.`

const recipientsAddHelp = `Adds a recipient by a statement that this host signs, and encrypts what is in the store to it. All hosts that trust this one trust it then.
Write it into the configuration of all hosts, too: a new host trusts only what its configuration says, and what those have signed.`

const recipientsRemoveHelp = `Removes a recipient, for good: a removal wins over every other statement and over the configuration. What is in the store is encrypted
again without it. It has read the keys that it could read before, so mxcert then changes the key of each certificate, as mxcert tlsa roll
does: where TLSA records are managed, through the gate of DANE, so the result says what it waits for. RECIPIENT is age1…, or the name of a host.

Take the recipient out of the configuration of all hosts, too, and the user of the host out of etcd (etcdctl user delete).`

// recipientsReport is the document of `fleet recipients --json`. The rest is that of renew: only a removal has certificates.
type recipientsReport struct {
	report.Report
	Fleet      string           `json:"fleet"`
	Recipients []fleetRecipient `json:"recipients"`
	Encrypted  []string         `json:"encrypted"` // places in the store that were encrypted again
	Next       string           `json:"next,omitempty"`
}

func (a *app) fleetRecipientsCommand() *cobra.Command {
	list := func(cmd *cobra.Command, _ []string) error { return a.fleetRecipients(cmd.Context()) }
	cmd := &cobra.Command{Use: "recipients", Short: "Whom this host trusts; add and remove", Args: cobra.NoArgs, Long: recipientsHelp, RunE: list}
	var host string
	add := &cobra.Command{
		Use: "add AGE1…", Short: "Trust a recipient, on all hosts", Args: cobra.ExactArgs(1), Long: recipientsAddHelp,
		Example: "  mxcert fleet recipients add age1… --host mx3",
		RunE:    func(cmd *cobra.Command, args []string) error { return a.fleetAdd(cmd.Context(), args[0], host) },
	}
	add.Flags().StringVar(&host, "host", "", "whose it is, for people: the name of a `HOST`, or a word such as recovery")
	var yes bool
	remove := &cobra.Command{
		Use: "remove RECIPIENT", Short: "Trust a recipient no more, and change the keys that it could read", Args: cobra.ExactArgs(1), Long: recipientsRemoveHelp,
		Example: "  mxcert fleet recipients remove mx2\n  mxcert fleet recipients remove age1…",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.fleetRemove(cmd.Context(), args[0], yes, cmd.InOrStdin())
		},
	}
	remove.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.AddCommand(&cobra.Command{Use: "list", Short: "Whom this host trusts", Args: cobra.NoArgs, Long: recipientsHelp, RunE: list}, add, remove)
	return cmd
}

func (a *app) fleetRecipients(ctx context.Context) error {
	ctx, cancel := a.within(ctx, fleetTime)
	defer cancel()
	f, err := a.fleet(ctx, "fleet recipients", toAsk)
	if err != nil {
		return err
	}
	defer func() { _ = f.leave() }()
	r, err := f.recipients(ctx)
	if len(r.Recipients) == 0 {
		return fleetFailed(err)
	}
	if err != nil {
		a.complain(err)
	}
	return a.finish(answer{document: r, code: fleetCode(err), print: func(out sheet) { printRecipients(out, r) }})
}

// recipients asks whom this host trusts. With an error, the report has what this host knows.
func (f *fleetSight) recipients(ctx context.Context) (*recipientsReport, error) {
	r := &recipientsReport{Report: report.Report{Certificates: []report.Certificate{}}, Fleet: f.host.Fleet.Name, Recipients: []fleetRecipient{}, Encrypted: []string{}}
	overview, err := f.Overview(ctx)
	for _, t := range overview.Recipients {
		r.Recipients = append(r.Recipients, fleetRecipient{Recipient: t.Recipient, Host: cmp.Or(t.Host, hostOf(t.Recipient, overview)), State: t.State, Source: t.Source})
	}
	return r, err
}

// hostOf returns which host takes part with a recipient: a configuration does not say whose its recipients are.
func hostOf(recipient string, overview fleet.Overview) string {
	for _, h := range overview.Hosts {
		if h.Recipient == recipient {
			return h.Host
		}
	}
	return ""
}

func (a *app) fleetAdd(ctx context.Context, text, host string) error {
	recipient, err := seal.ParseRecipient(text)
	if err != nil {
		return &report.Exit{Code: report.CodeUsage, Err: err}
	}
	ctx, cancel := a.within(ctx, fleetTime)
	defer cancel()
	f, err := a.fleet(ctx, "fleet recipients", toChange)
	if err != nil {
		return err
	}
	defer func() { _ = f.leave() }()
	if err := f.AddRecipient(ctx, recipient, host); err != nil {
		return fleetFailed(err)
	}
	r, err := f.recipients(ctx)
	if err != nil {
		return fleetFailed(err)
	}
	r.Changed = true
	r.Next = "add this line to fleet.recipients on all hosts: - " + string(recipient)
	return a.finish(answer{document: r, changed: true, print: func(out sheet) { printRecipients(out, r) }})
}

func (a *app) fleetRemove(ctx context.Context, who string, yes bool, in io.Reader) error {
	f, err := a.fleet(ctx, "fleet recipients", toChange)
	if err != nil {
		return err
	}
	left := false
	leave := func() {
		if !left {
			left = true
			_ = f.leave()
		}
	}
	defer leave()
	removing, cancel := a.within(ctx, fleetTime)
	defer cancel()
	recipient, host, err := f.find(removing, who)
	if err != nil {
		return err
	}
	question := fmt.Sprintf("%s (%s) then reads nothing new, offers nothing, and cannot come back with this identity. The key of each certificate is changed. Remove it?", orWord(host, "this recipient"), recipient)
	if !yes && (!isTerminal(in) || !a.agrees(in, question)) {
		return report.Usage("nothing was removed: answer yes, or give --yes")
	}
	places, err := f.RemoveRecipient(removing, recipient)
	if err != nil {
		return fleetFailed(err)
	}
	r, err := f.recipients(removing)
	if err != nil {
		return fleetFailed(err)
	}
	leave() // the passes are members of their own
	r.Encrypted = append(r.Encrypted, places...)
	r.Next = fmt.Sprintf("take the line %s out of fleet.recipients on all hosts, and delete the user of %s in etcd, if there is one", recipient, orWord(host, "its host"))
	passing, cancelPass := a.within(ctx, renewTime)
	defer cancelPass()
	done, err := a.passes(passing, f.host, nil, pass.Options{Asked: time.Now(), Roll: pass.Departed(orWord(host, string(recipient)))})
	if err != nil {
		return err
	}
	r.Report = *done
	r.Changed = true
	return a.finish(answer{document: r, changed: true, code: done.ExitCode(), print: func(out sheet) {
		for _, c := range r.Certificates {
			printCertificate(out, c)
		}
		printRecipients(out, r)
	}})
}

// find returns the recipient that a person means, by itself or by its host.
func (f *fleetSight) find(ctx context.Context, who string) (recipient seal.Recipient, host string, err error) {
	overview, err := f.Overview(ctx)
	if err != nil {
		return "", "", fleetFailed(err)
	}
	for _, t := range overview.Recipients {
		if (who == t.Recipient || who == t.Host) && t.State != recipientRemoved {
			if recipient != "" && string(recipient) != t.Recipient {
				return "", "", report.Usage("%s has several recipients: give the one that you mean (mxcert fleet recipients lists them)", who)
			}
			recipient, host = seal.Recipient(t.Recipient), t.Host
		}
	}
	for _, h := range overview.Hosts {
		if recipient == "" && who == h.Host && h.Recipient != "" {
			recipient, host = seal.Recipient(h.Recipient), h.Host
		}
		if string(recipient) == h.Recipient && host == "" {
			host = h.Host
		}
	}
	identity, err := f.host.Fleet.Identity()
	switch {
	case err != nil:
		return "", "", err
	case recipient == "":
		return "", "", report.Usage("%s is neither a recipient nor a host that this fleet knows; mxcert fleet recipients lists them", who)
	case recipient == identity.Recipient():
		return "", "", report.Usage("this is the recipient of this host: remove it on another host")
	}
	return recipient, host, nil
}

func orWord(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func printRecipients(out sheet, r *recipientsReport) {
	list := slices.Clone(r.Recipients)
	slices.SortStableFunc(list, func(a, b fleetRecipient) int { return strings.Compare(a.Host, b.Host) })
	columns := []column{{title: "STATE"}, {title: "HOST"}, {title: "RECIPIENT"}}
	for _, t := range list {
		for i, cell := range []string{t.State, orDash(t.Host), t.Recipient} {
			columns[i].cells = append(columns[i].cells, cell)
		}
	}
	printColumns(out, "", columns, nil)
	if n := len(r.Encrypted); n > 0 {
		out.line("store", "%d %s encrypted again", n, map[bool]string{true: "value was", false: "values were"}[n == 1])
	}
	if r.Next != "" {
		out.line("next step", "%s", r.Next)
	}
}
