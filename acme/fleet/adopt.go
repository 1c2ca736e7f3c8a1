package fleet

import (
	"context"
	"slices"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// adopt writes what the holder before has left to this host's disk: the accounts, and orders in flight.
func (l *Lead) adopt(ctx context.Context) error {
	if err := l.member.adoptAccounts(ctx); err != nil {
		return err
	}
	for _, key := range keyTypes() {
		if err := l.adoptOrder(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// endedOrder is the note in the place of an order that is over. Its sequence goes on from the generation of the order.
type endedOrder struct {
	Ended bool `json:"ended"`
}

// adoptOrder adopts the order in flight of a key type. If the store has lost it, the one on this host's disk stays: it is paid for.
func (l *Lead) adoptOrder(ctx context.Context, key bundle.KeyType) error {
	m, place := l.member, orderPlace(l.name, key)
	value, err := m.get(ctx, place)
	if err != nil {
		return err
	}
	before := m.mark(place)
	known := &orderInStore{revision: value.Revision, generation: before.Generation}
	l.orders[key] = known
	if value.Revision == 0 {
		return nil
	}
	order, generation, err := m.readOrder(l.name, key, value.Value, before.Generation)
	m.fault(place, err)
	if isRefused(err, LaterVersion) {
		return err // a later mxcert has an order in flight: another one would be a second
	}
	if err != nil {
		return nil //nolint:nilerr // it is reported, and replaced by the next order
	}
	known.generation, known.live = generation, order != nil
	switch here := m.book.Lineage(l.name); {
	case order == nil && generation > before.Generation: // another host has ended what this one had begun
		if err := here.DropOrder(key); err != nil {
			return err
		}
	case order != nil && !l.ended(ctx, key, order):
		if err := here.SaveOrder(*order); err != nil {
			return err
		}
	}
	return m.seen(place, mark{Generation: generation})
}

// adopted reports whether this host leads a certificate, and the order in flight on its disk is that of the fleet.
func (m *Member) adopted(name string, key bundle.KeyType) bool {
	m.mu.Lock()
	lead := m.leads[name]
	m.mu.Unlock()
	if lead == nil {
		return false
	}
	lead.mu.Lock()
	defer lead.mu.Unlock()
	known := lead.orders[key]
	return known != nil && known.live
}

// ended reports whether the certificate of an order is already here, or in the store.
func (l *Lead) ended(ctx context.Context, key bundle.KeyType, order *state.Order) bool {
	if order.URL == "" {
		return false
	}
	generations, _ := l.member.book.Lineage(l.name).Generations()
	if slices.ContainsFunc(generations, func(g state.Generation) bool { return g.Order == order.URL }) {
		return true
	}
	place := bundlePlace(l.name, key)
	v, err := l.member.get(ctx, place)
	if err != nil || v.Revision == 0 {
		return false
	}
	s, err := l.member.vault().openBundle(v.Value, l.name, key, 0)
	return err == nil && s.Order == order.URL
}

// readOrder returns the order, nil if it is over. known is the newest generation that this host has seen.
func (m *Member) readOrder(name string, key bundle.KeyType, value []byte, known int64) (*state.Order, int64, error) {
	order, generation, _, err := m.vault().openOrder(value, name, key, known)
	if err == nil {
		return &order, generation, nil
	}
	var over endedOrder
	if n, _, noteErr := m.vault().readNote(value, orderPlace(name, key), known, &over); noteErr == nil {
		return nil, n.Sequence, nil
	}
	return nil, 0, err
}
