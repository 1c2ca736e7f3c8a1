package fleet

import (
	"encoding/json"
	"maps"
	"slices"

	"mxcert/acme/fleet/seal"
)

// remembered is what the disk keeps of a trust: the statements that this host has accepted, as they are in the store. Removals stay for good.
type remembered struct {
	Added   []json.RawMessage `json:"added,omitempty"`
	Removed []json.RawMessage `json:"removed,omitempty"`
}

// memory returns what the disk is to keep, in an order that does not depend on chance.
func (t *trust) memory() remembered {
	var m remembered
	for _, recipient := range sorted(t.removed) {
		m.Removed = append(m.Removed, t.removed[recipient].value)
	}
	for _, recipient := range sorted(t.added) {
		for _, signer := range sorted(t.added[recipient]) {
			m.Added = append(m.Added, t.added[recipient][signer].value)
		}
	}
	return m
}

// recall returns the trust with what the disk has kept. A removal counts whoever signed it: it counted when this host saw it. It also returns
// what is damaged; that is learned again from the store.
func (t *trust) recall(m remembered) (*trust, []error) {
	next := t.clone()
	var problems []error
	for _, value := range slices.Concat(m.Removed, m.Added) {
		s, err := t.read("", value)
		if err == nil {
			err = next.keep(s)
		}
		if err != nil {
			problems = append(problems, err)
		}
	}
	next.effective = next.conclude()
	return next, problems
}

// sorted returns the recipients that are the keys of a map, in order.
func sorted[V any](of map[seal.Recipient]V) []seal.Recipient { return slices.Sorted(maps.Keys(of)) }
