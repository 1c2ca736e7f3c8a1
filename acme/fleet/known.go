package fleet

import (
	"slices"
	"strings"

	"mxcert/acme/fleet/seal"
	"mxcert/acme/state"
)

// Known returns what the disk of this host remembers of the health of its fleet's store: for those who may not read the host's identity.
func Known(disk state.Store) Health {
	remembered := knownMemory(disk)
	return remembered.health()
}

func knownMemory(disk state.Store) (remembered memory) {
	if state.New(disk).Remembered(state.Fleet, &remembered) != nil {
		return memory{}
	}
	return remembered
}

// KnownHosts returns the other hosts that the disk of this host remembers, by name, with when each was last seen, to the hour: for those who may
// not read the host's identity.
func KnownHosts(disk state.Store, fleet, own string) (list []HostInfo) {
	remembered := knownMemory(disk)
	if remembered.Fleet != fleet {
		return nil
	}
	for host, at := range remembered.Hosts {
		if host != own {
			list = append(list, HostInfo{Host: host, Seen: at})
		}
	}
	slices.SortFunc(list, func(a, b HostInfo) int { return strings.Compare(a.Host, b.Host) })
	return list
}

// KnownRecipients returns whom this host trusts, by recipient: those of its configuration, and what its disk remembers of statements: for those
// who may not read the host's identity. Where nobody has said whose a recipient is, Host is "".
func KnownRecipients(disk state.Store, fleet string, configured []seal.Recipient) (list []Trust) {
	if len(configured) == 0 {
		return nil
	}
	t := newTrust(fleet, configured[0], configured)
	text, err := disk.Read(trustFile)
	var kept keptTrust
	if err == nil && decode(text, trustFile, &kept) == nil && kept.Fleet == fleet {
		t, _ = t.recall(kept.remembered) // what is damaged is left out
	}
	for _, r := range t.recipients() {
		about := Trust{Recipient: string(r), State: "trusted", Source: "configured"}
		for _, s := range t.added[r] {
			about.Host, about.At = s.Host, s.At
		}
		if !t.configured[r] {
			about.Source = isAdded
		}
		list = append(list, about)
	}
	return list
}
