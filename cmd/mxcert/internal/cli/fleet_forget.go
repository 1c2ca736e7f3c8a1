package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"mxcert/acme/fleet"

	"mxcert/cmd/mxcert/internal/report"
)

const fleetForgetHelp = `Forgets a host that is away and does not come back as it was. As long as a host may come back with the keys on its disk, old TLSA records
stay, so that no sender refuses it; and names that only it wants stay wanted. Both end when it is forgotten: by this command, or after
fleet.forget (14 days).

A host that comes back after it was forgotten takes part as a new one: it first copies what the fleet has. Its recipient stays trusted;
mxcert fleet recipients remove RECIPIENT ends that.

As long as the store has the lease of a host, it cannot be forgotten: the lease ends when mxcert is stopped there, or three minutes after it was
killed.

Exit codes: 0 it is forgotten, 3 its lease has not ended, 75 the store is away.`

// forgetReport is the document of `fleet forget --json`.
type forgetReport struct {
	Fleet     string     `json:"fleet"`
	Forgotten string     `json:"forgotten"` // host
	Seen      *time.Time `json:"seen"`
}

func (a *app) fleetForgetCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "forget HOST", Short: "A host that is away does not come back: wait for it no more", Args: cobra.ExactArgs(1),
		Long: fleetForgetHelp, Example: "  mxcert fleet forget mx2",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.fleetForget(cmd.Context(), args[0], yes, cmd.InOrStdin())
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (a *app) fleetForget(ctx context.Context, host string, yes bool, in io.Reader) error {
	ctx, cancel := a.within(ctx, fleetTime)
	defer cancel()
	f, err := a.fleet(ctx, "fleet forget", toChange)
	if err != nil {
		return err
	}
	defer func() { _ = f.leave() }()
	if host == f.host.Fleet.Host {
		return report.Usage("%s is this host: run this on another one", host)
	}
	overview, err := f.Overview(ctx)
	if err != nil {
		return fleetFailed(err)
	}
	known, err := knownHost(overview.Hosts, host)
	if err != nil {
		return err
	}
	last := "was never seen"
	if !known.Seen.IsZero() {
		last = "was last seen at " + report.Minute(known.Seen)
	}
	question := fmt.Sprintf("%s %s. If it still serves an old key when it comes back, senders with DANE refuse it until it has copied the new one. Forget it?", host, last)
	if !yes && (!isTerminal(in) || !a.agrees(in, question)) {
		return report.Usage("nothing was forgotten: answer yes, or give --yes")
	}
	if err := f.ForgetTLSA(ctx, host); err != nil {
		return fleetFailed(err)
	}
	if err := f.Forget(ctx, host); err != nil {
		return fleetFailed(err)
	}
	r := forgetReport{Fleet: f.host.Fleet.Name, Forgotten: host, Seen: instant(known.Seen)}
	return a.finish(answer{document: r, changed: true, print: func(out sheet) {
		text := "It is still trusted: mxcert fleet recipients remove " + cmp.Or(known.Recipient, host) + " ends that."
		if isRemoved(overview.Recipients, known) {
			text = "Its recipient was removed before, so no host trusts it."
		}
		out.text(2, "%s is forgotten. %s", host, text)
	}})
}

// isRemoved reports whether the recipient of a host was removed from the fleet. What the host has said of itself does not count then.
func isRemoved(list []fleet.Trust, known fleet.HostInfo) bool {
	return slices.ContainsFunc(list, func(t fleet.Trust) bool {
		return t.State == recipientRemoved && (t.Recipient == known.Recipient || known.Recipient == "" && t.Host == known.Host)
	})
}

// knownHost finds a host that may be forgotten.
func knownHost(hosts []fleet.HostInfo, host string) (fleet.HostInfo, error) {
	for _, h := range hosts {
		if h.Host == host {
			return h, fleetFailed(h.Forgettable(time.Now()))
		}
	}
	return fleet.HostInfo{}, report.Usage("the fleet knows no host %q; mxcert fleet status lists them", host)
}
