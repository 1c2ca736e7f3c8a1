package fleet

import (
	"context"
	"errors"
	"slices"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// Shared is a bundle that another host has offered: checked, and later than what this host has taken or offered before.
type Shared struct {
	Bundle     *bundle.Bundle
	Generation int64
	Host       string // that offered it
	Names      []string
	Directory  string // URL of the CA's directory
	Order      string
	Created    time.Time
}

func bundlePlace(name string, key bundle.KeyType) string {
	return place{kindBundle, name, key}.String()
}

// Take returns the bundle of a key type that the fleet has and this host does not have yet; nil if there is none. It refuses what is forged,
// replayed, or not what it says: such an error says what, and does not stop a pass. It judges neither the names nor the roots.
//
// While Run is at work it returns what Run has learned and asks nobody, unless this host leads the certificate.
func (m *Member) Take(ctx context.Context, name string, key bundle.KeyType) (*Shared, error) {
	if m == nil {
		return nil, nil //nolint:nilnil // there is none
	}
	place := bundlePlace(name, key)
	if m.soon(name) {
		return nil, nil //nolint:nilnil // Run wakes the certificate if there is one
	}
	value, err := m.value(ctx, name, place)
	if err != nil {
		return nil, err
	}
	if value.Revision == 0 {
		return nil, nil //nolint:nilnil // there is none
	}
	before := m.mark(place)
	s, err := m.vault().openBundle(value.Value, name, key, before.Generation)
	m.fault(place, err)
	if err != nil {
		return nil, err
	}
	now := markOf(s)
	switch {
	case m.isRevoked(name, now.Serial):
		return nil, nil //nolint:nilnil // nobody may want it
	case m.onDisk(name, now.Serial):
		return nil, m.seen(place, now)
	case before.Serial != now.Serial && !before.before(now), m.shorter(name, key, now.NotAfter):
		return nil, nil //nolint:nilnil // what this host has is as good
	}
	return s, nil
}

// soon reports whether Run is at work and has not read yet what the store has of a certificate.
func (m *Member) soon(name string) bool {
	m.mu.Lock()
	m.interest[name] = true
	soon := m.running && !m.loaded[name] && m.leads[name] == nil
	m.mu.Unlock()
	if soon {
		m.nudge()
	}
	return soon
}

func markOf(s *Shared) mark {
	return mark{Generation: s.Generation, Serial: s.Bundle.Serial(), NotAfter: s.Bundle.NotAfter().UTC()}
}

// isRefused reports whether a value was refused for that reason.
func isRefused(err error, id string) bool {
	r, ok := errors.AsType[*Refused](err)
	return ok && r.ID == id
}

// onDisk reports whether a readable generation on this host's disk has a serial.
func (m *Member) onDisk(name, serial string) bool {
	l := m.book.Lineage(name)
	generations, err := l.Generations()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(generations, func(g state.Generation) bool {
		if g.Serial != serial {
			return false
		}
		_, err := l.Bundle(g.ID)
		return err == nil
	})
}

// shorter reports whether a certificate ends before the one that this host serves, which is still good: then it would be a step backward
// (invariant I3).
func (m *Member) shorter(name string, key bundle.KeyType, notAfter time.Time) bool {
	l := m.book.Lineage(name)
	record, _, err := l.Look()
	slot := record.Keys[key]
	if err != nil || slot == nil || slot.Current == "" {
		return false
	}
	g, err := l.Generation(slot.Current)
	if err != nil || !g.NotAfter.After(notAfter) || !g.NotAfter.After(m.now()) {
		return false
	}
	if _, gone := l.Revocation(g.ID); gone || l.Compromised(g.SPKI) || m.isRevoked(name, g.Serial) {
		return false
	}
	_, err = l.Bundle(g.ID)
	return err == nil
}

// clocksApart is by how much the clocks of hosts may differ where one time has to be compared with another host's. Nothing worse than one order more
// comes of clocks that differ by more.
const clocksApart = time.Hour

// Taken notes, durably on this host's disk, that a bundle is stored here: an older generation is refused from now on. An order in flight
// that the bundle has overtaken is dropped from the disk: the one that it came from, and, unless this host leads and has just adopted it, one that
// is not clearly newer. Otherwise the certificate would be due because of it.
func (m *Member) Taken(name string, key bundle.KeyType, s *Shared) error {
	if m == nil || s == nil {
		return nil
	}
	if err := m.seen(bundlePlace(name, key), markOf(s)); err != nil {
		return err
	}
	l := m.book.Lineage(name)
	order, ok, err := l.Order(key)
	if err != nil || !ok {
		return nil //nolint:nilerr // an order that cannot be read is no obstacle; the next order says so
	}
	if order.URL == s.Order && s.Order != "" || !m.adopted(name, key) && order.Created.Before(s.Created.Add(clocksApart)) {
		return l.DropOrder(key)
	}
	return nil
}
