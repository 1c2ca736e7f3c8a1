package fleet

import "context"

// Ordering returns which host has an order of a certificate in flight, as the store says: "" if none has, or if that is not known. It changes
// nothing.
func (m *Member) Ordering(ctx context.Context, name string) (host string) {
	if m == nil {
		return ""
	}
	for _, key := range keyTypes() {
		value, err := m.get(ctx, orderPlace(name, key))
		if err != nil || value.Revision == 0 {
			continue
		}
		order, _, by, err := m.vault().openOrder(value.Value, name, key, 0)
		if err == nil && order.URL != "" && by != m.set.Host {
			return by
		}
	}
	return ""
}
