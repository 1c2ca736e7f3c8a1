package issued

import (
	"slices"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
)

// RenewalTime returns when the current certificate of the i-th key type has to be renewed: the instant drawn from the CA's
// window (RFC 9773) if there is one, else from the lifetime, moved into a maintenance window, but never so late that the
// certificate would be in danger. An operator's rollback stays in force until then. There must be a certificate.
func (l *Lineage) RenewalTime(i int, windows []schedule.Span) time.Time {
	b, slot := l.Bundles[i], l.Record.Slot(l.Keys[i])
	latest := schedule.Latest(b.Leaf().NotBefore, b.NotAfter())
	if slot.RolledBack {
		return latest
	}
	wanted := schedule.Wanted{At: slot.RenewAt, Latest: latest, Fraction: fraction(b)}
	if !slot.Renewal.At.IsZero() {
		wanted.At, wanted.Start, wanted.End = slot.Renewal.At, slot.Renewal.Start, slot.Renewal.End
	}
	return wanted.In(windows, time.Local, time.Now())
}

// InDanger reports whether there is no certificate of the i-th key type, or one that expires soon.
func (l *Lineage) InDanger(i int) bool {
	b := l.Bundles[i]
	return b == nil || time.Now().After(schedule.Latest(b.Leaf().NotBefore, b.NotAfter()))
}

// Revoked says why the current certificate of a key type has to be replaced; "" if it was not revoked.
func (l *Lineage) Revoked(key bundle.KeyType) string {
	id := l.Record.Slot(key).Current
	note, known := l.revocations[id]
	if !known {
		note.Revocation, note.exists = l.Revocation(id)
		l.revocations[id] = note
	}
	switch {
	case !note.exists:
		return ""
	case !note.Done.IsZero():
		return "it was revoked"
	case note.KeyCompromised:
		return "its key must not be used any more"
	}
	return "its revocation has started"
}

// InFlight reports whether an order for exactly these names was placed at one of the CAs and not collected yet. fresh reports
// that its key was made for the order: the order then has to be finished with that key.
func (l *Lineage) InFlight(key bundle.KeyType, names, directories []string) (inFlight, fresh bool) {
	order := l.order(key)
	inFlight = order.URL != "" && SameNames(order.Names, names) && slices.Contains(directories, order.Directory)
	return inFlight, inFlight && order.Fresh
}

// order reads the unfinished order for a key type, once: it changes only if this process orders. The order is empty if there is none, or if
// it cannot be read.
func (l *Lineage) order(key bundle.KeyType) state.Order {
	if order, known := l.orders[key]; known {
		return order
	}
	order, ok, err := l.Order(key)
	if !ok || err != nil {
		order = state.Order{}
	}
	l.orders[key] = order
	return order
}

// KeyWaits reports whether the key of the current certificate was never in service: it is as good as a new one.
func (l *Lineage) KeyWaits(key bundle.KeyType) bool {
	slot := l.Record.Slot(key)
	if slot.Served == "" || slot.Served == slot.Current {
		return slot.Served == ""
	}
	current, err := l.Current(key)
	if err != nil {
		return false
	}
	served, err := l.Generation(slot.Served)
	return err == nil && served.SPKI != current.SPKI
}

// SameNames reports whether two lists have the same names, in any order.
func SameNames(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}
