package fleet

import (
	"slices"
	"testing"
	"time"

	"mxcert/acme/fleet/seal"
)

// What a host knows without its identity: the other hosts, and whom it trusts; of another fleet nothing.
func TestKnownFromTheDisk(t *testing.T) {
	pair(t, 2, func(t *testing.T, s *storm) {
		a := s.hosts[0].start(true)
		s.hosts[1].start(true).Note(stormName, Deployed{OnDisk: []string{"k"}})
		a.Note(stormName, Deployed{OnDisk: []string{"k"}})
		added, gone := newIdentity(t).Recipient(), newIdentity(t).Recipient()
		time.Sleep(time.Minute)
		must(t, a.AddRecipient(t.Context(), added, "mx7"))
		must(t, a.AddRecipient(t.Context(), gone, "mx8"))
		_, err := a.RemoveRecipient(t.Context(), gone)
		must(t, err)
		if hosts := KnownHosts(a.disk, "berlin", "mx0"); len(hosts) != 1 || hosts[0].Host != "mx1" || hosts[0].Seen.IsZero() {
			t.Errorf("hosts: %+v", hosts)
		}
		configured := a.set.Recipients
		known := KnownRecipients(a.disk, "berlin", configured)
		has := func(r seal.Recipient) int {
			return slices.IndexFunc(known, func(about Trust) bool { return about.Recipient == string(r) })
		}
		if i := has(added); len(known) != len(configured)+1 || i < 0 || known[i].Host != "mx7" || known[i].Source != isAdded || has(gone) >= 0 || has(configured[0]) < 0 {
			t.Errorf("recipients: %+v", known)
		}
		if other := KnownRecipients(a.disk, "paris", configured); len(other) != len(configured) || KnownHosts(a.disk, "paris", "mx0") != nil || KnownRecipients(a.disk, "berlin", nil) != nil {
			t.Errorf("of another fleet: %+v", other)
		}
	})
}
