package adopt

import (
	"context"
	"slices"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
)

// put makes a certificate the current one of a lineage, if it may.
func (t *taking) put(ctx context.Context, c *candidate, lineage *state.Lineage, one *Taken) (bool, error) {
	unlock, err := lineage.Lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	record, _, err := lineage.Load()
	if err != nil || !t.mayReplace(c, lineage, &record, one) {
		return false, err
	}
	b := c.bundle
	g, err := lineage.Add(b, c.names(), c.Directory, "", time.Now())
	if err != nil {
		return false, err
	}
	record.Slot(b.KeyType()).Issued(g.ID, schedule.RenewalTime(b.Leaf().NotBefore, b.NotAfter(), b.Leaf().NotBefore))
	record.Log(state.Event{At: time.Now(), Event: "imported", Key: b.KeyType(), Serial: b.Serial(), Message: "from " + c.Source})
	return true, lineage.Save(record)
}

// mayReplace reports whether a certificate may become the current one, and notes why not. A valid one always may if mxcert's own has
// expired, or if its key is in service and mxcert's own was never. In the place of a valid one it may only with --force, and only if it is valid itself. A shorter one also must not take the place
// of one in service: no pass would deploy it.
func (t *taking) mayReplace(c *candidate, lineage *state.Lineage, record *state.Record, one *Taken) bool {
	slot := record.Slot(c.bundle.KeyType())
	if slot.Current == "" {
		return true
	}
	current, err := lineage.Bundle(slot.Current)
	if err != nil {
		return true // it cannot be used
	}
	ours := "mxcert has a certificate for these names already"
	if !sameNames(lineage, slot.Current, one.Names) {
		ours = "mxcert has a certificate of this name already, for other names"
	}
	ours += " (serial " + current.Serial() + ", " + life(current, t.now) + ")"
	good := usableNow(c.bundle, c.keyOnly == "", t.now)
	currentGood := usableNow(current, current.Complete(t.Roots, t.now) == nil, t.now) && !revoked(lineage, current.Serial())
	switch {
	case current.Same(c.bundle):
		one.note("mxcert has this certificate already")
	case currentGood && !good:
		one.note("%s and keeps it: one that expired or lacks its issuer never replaces a valid one", ours)
	case !currentGood && good:
		one.note("%s, which it replaces", ours)
		return true
	case good && c.inService != "" && slot.Served != slot.Current && t.InService[current.SPKI()] == "":
		one.note("%s, not in service yet, which it replaces: its key is in service (%s)", ours, c.inService)
		return true
	case !t.Force:
		one.note("%s and keeps it; --force replaces it", ours)
	case slot.Served == slot.Current && c.bundle.NotAfter().Before(current.NotAfter()):
		one.note("%s, in service and valid for longer than this one: mxcert keeps it", ours)
	default:
		one.note("%s, which it replaces", ours)
		return true
	}
	return false
}

// usableNow reports whether a certificate may be in service.
func usableNow(b *bundle.Bundle, complete bool, now time.Time) bool {
	return complete && now.Before(b.NotAfter())
}

// revoked reports whether mxcert has revoked a certificate of the lineage.
func revoked(lineage *state.Lineage, serial string) bool {
	generations, err := lineage.Generations()
	return err == nil && slices.ContainsFunc(generations, func(g state.Generation) bool {
		_, noted := lineage.Revocation(g.ID)
		return noted && g.Serial == serial
	})
}
