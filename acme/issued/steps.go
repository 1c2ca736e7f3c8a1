package issued

import (
	"fmt"
	"slices"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// RolledBack reports whether an operator has chosen an earlier certificate of some key type.
func (l *Lineage) RolledBack() bool {
	return slices.ContainsFunc(l.Keys, func(key bundle.KeyType) bool { return l.Record.Slot(key).RolledBack })
}

// StepBack makes the earlier served certificates current, for the key types that have one. It does not store the record. It
// fails if there is no such certificate, or if one of them has expired or was revoked.
func (l *Lineage) StepBack() error {
	stepped := 0
	for _, key := range l.Keys {
		slot := l.Record.Slot(key)
		g, err := l.Generation(slot.Previous)
		if slot.Previous == "" || err != nil {
			continue
		}
		if time.Now().After(g.NotAfter) {
			return fmt.Errorf("the earlier %s certificate of %s expired at %s: going back would break mail", key, l.Name(), g.NotAfter.Format(time.RFC3339))
		}
		if _, revoked := l.Revocation(g.ID); revoked {
			return fmt.Errorf("the earlier %s certificate of %s (serial %s) was revoked: it must not go back in service", key, l.Name(), g.Serial)
		}
		slot.Issued(slot.Previous, time.Time{})
		// Who rolls back twice is at the newest again, which is renewed at its time.
		slot.Previous, slot.RolledBack = "", slot.Current != l.newest(key, func(state.Generation) bool { return true })
		l.Record.Log(state.Event{At: time.Now(), Event: "rolled-back", Key: key, Serial: g.Serial, Message: "by hand"})
		stepped++
	}
	if stepped == 0 {
		return fmt.Errorf("there is no earlier certificate of %s to go back to", l.Name())
	}
	return nil
}

// StepForward ends a rollback: for each key type of which an operator has chosen an earlier certificate, it makes the newest good one
// current. It does not store the record. It reports whether something has changed.
func (l *Lineage) StepForward() (changed bool) {
	for _, key := range l.Keys {
		slot := l.Record.Slot(key)
		if !slot.RolledBack {
			continue
		}
		id := l.newest(key, l.good)
		if id == "" || id == slot.Current {
			continue // the newer ones were revoked or have expired
		}
		slot.Issued(id, time.Time{})
		g, _ := l.Generation(id) // good has read it
		l.Record.Log(state.Event{At: time.Now(), Event: "rolled-forward", Key: key, Serial: g.Serial, Message: "by hand"})
		changed = true
	}
	return changed
}

// good reports whether a stored certificate may be put in service.
func (l *Lineage) good(g state.Generation) bool {
	if _, revoked := l.Revocation(g.ID); revoked || l.Compromised(g.SPKI) || time.Now().After(g.NotAfter) {
		return false
	}
	_, err := l.Bundle(g.ID)
	return err == nil
}

// newest returns the newest stored certificate of a key type that suits; "" if there is none.
func (l *Lineage) newest(key bundle.KeyType, suits func(state.Generation) bool) string {
	generations, err := l.Generations()
	if err != nil {
		return ""
	}
	for _, g := range slices.Backward(generations) {
		if g.Key == key && suits(g) {
			return g.ID
		}
	}
	return ""
}
