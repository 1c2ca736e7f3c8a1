package state

import (
	"errors"
	"path"
	"slices"
	"strings"

	"mxcert/acme/bundle"
)

// Prune removes all generations except the newest keep of each key type and those that the record names. It also removes what
// killed processes left unfinished. Call it under the lock.
func (l *Lineage) Prune(record Record, keep int) error {
	generations, err := l.Generations()
	if err != nil {
		return err
	}
	inUse := map[string]bool{}
	for _, slot := range record.Keys {
		if slot == nil {
			continue
		}
		inUse[slot.Current], inUse[slot.Served], inUse[slot.Previous] = true, true, true
	}
	seen := map[bundle.KeyType]int{}
	var problems []error
	for _, g := range slices.Backward(generations) {
		if seen[g.Key]++; seen[g.Key] > keep && !inUse[g.ID] {
			problems = append(problems, l.book.store.Remove(l.generationKey(g.ID)))
		}
	}
	return errors.Join(append(problems, l.unstage(), l.sweep())...)
}

// unstage removes generations that a killed process was making. The lineage's lock guarantees that no process makes one now.
func (l *Lineage) unstage() error {
	folders, err := l.book.below(l.key())
	problems := []error{err}
	for _, name := range folders {
		if strings.HasPrefix(name, stagedPrefix) {
			problems = append(problems, l.book.store.Remove(l.key(name)))
		}
	}
	return errors.Join(problems...)
}

// sweep makes the store remove its own traces wherever this lineage's passes write.
func (l *Lineage) sweep() error {
	keeper, ok := l.book.store.(Housekeeper)
	if !ok {
		return nil
	}
	var problems []error
	for _, folder := range []string{"", "lineages", "orders", journal, "accounts"} {
		problems = append(problems, keeper.Sweep(folder))
	}
	for _, above := range []string{"accounts", l.key()} {
		folders, err := l.book.below(above)
		problems = append(problems, err)
		for _, name := range folders {
			problems = append(problems, keeper.Sweep(path.Join(above, name)))
		}
	}
	return errors.Join(append(problems, keeper.Sweep(l.key()))...)
}
