package cli

import (
	"cmp"

	"github.com/spf13/cobra"

	"mxcert/acme/fleet"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"

	"mxcert/cmd/mxcert/internal/privilege"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// What a shell offers for a fleet is what this host remembers on its disk. Nobody is asked, and no secret is read.

// fleetForCompletion returns the fleet of this host, and its state; nil if it is in none.
func (a *app) fleetForCompletion(args []string) (*wanted.Fleet, state.Store) {
	host := a.hostForCompletion()
	if len(args) > 0 || host.Fleet == nil || host.State == "" || privilege.BecomeOwner(host.State) != nil {
		return nil, nil
	}
	return host.Fleet, disk.At(host.State)
}

// fleetHosts offers the other hosts of the fleet.
func (a *app) fleetHosts(_ *cobra.Command, args []string, _ string) (names []string, directive cobra.ShellCompDirective) {
	of, files := a.fleetForCompletion(args)
	if of == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, h := range fleet.KnownHosts(files, of.Name, of.Host) {
		names = append(names, cobra.CompletionWithDesc(h.Host, "last seen "+report.Minute(h.Seen)))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// fleetRecipientNames offers the other hosts, and whom this host trusts.
func (a *app) fleetRecipientNames(cmd *cobra.Command, args []string, typed string) (names []string, directive cobra.ShellCompDirective) {
	of, files := a.fleetForCompletion(args)
	if of == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names, _ = a.fleetHosts(cmd, args, typed)
	for _, t := range fleet.KnownRecipients(files, of.Name, of.Recipients()) {
		names = append(names, cobra.CompletionWithDesc(t.Recipient, cmp.Or(t.Host, t.Source)))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
