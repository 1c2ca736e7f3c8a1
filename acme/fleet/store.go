package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/acme/state"
)

// overlay is the store of this host's book: the disk, with a hand for the fleet where it must know.
type overlay struct {
	state.Store
	m *Member
}

// kept is the overlay of a store that keeps house.
type kept struct {
	overlay
	keeper state.Housekeeper
}

func (k kept) Sweep(folder string) error           { return k.keeper.Sweep(folder) }
func (k kept) Inspect() ([]finding.Finding, error) { return k.keeper.Inspect() }

// Store returns the store for this host's book: that of the disk, which also hands orders in flight, accounts and budgets to the fleet. All
// reads are from the disk.
//
// An order in flight is written by a host that leads its certificate only, and to the store of the fleet first: if that fails, so does the
// write, and nothing is ordered unstored. Accounts and budgets are written to the disk in any case, and reach the fleet later if its store is
// away.
func (m *Member) Store() state.Store {
	if m == nil {
		return nil
	}
	o := overlay{Store: m.disk, m: m}
	if keeper, ok := m.disk.(state.Housekeeper); ok {
		return kept{o, keeper}
	}
	return o
}

// Replace stores a value on the disk, and for the fleet what it has to know.
func (o overlay) Replace(key string, value []byte) error {
	if name, keyType, ok := orderOf(key); ok {
		return o.order(key, name, keyType, value)
	}
	if ca, ok := partOf(key, "account.json"); ok {
		return o.m.saveAccount(key, ca, value)
	}
	if err := o.Store.Replace(key, value); err != nil {
		return err
	}
	if ca, ok := partOf(key, "usage.json"); ok {
		o.m.saveUsage(ca, value)
	}
	return nil
}

// Lock locks on this host first, and then what is shared in the fleet.
func (o overlay) Lock(ctx context.Context, key string) (func(), error) {
	unlock, err := o.Store.Lock(ctx, key)
	if err != nil || key != usageLock {
		return unlock, err
	}
	release, err := o.m.lockUsage(ctx)
	if err != nil {
		unlock()
		return nil, &state.Error{Op: "lock", Path: o.name(key), Err: err}
	}
	return func() { release(); unlock() }, nil
}

const usageLock = "usage.lock"

func (o overlay) name(key string) string {
	if path := o.Path(key); path != "" {
		return path
	}
	return key
}

// order stores an order in flight: in the store of the fleet, and then on the disk.
func (o overlay) order(key, name string, keyType bundle.KeyType, value []byte) error {
	o.m.mu.Lock()
	lead := o.m.leads[name]
	o.m.mu.Unlock()
	if lead == nil {
		return &state.Error{Op: "store", Path: o.name(key), Err: fmt.Errorf("another host of the fleet may order it: %w", state.ErrLocked)}
	}
	if !lead.Alone {
		ctx, cancel := background()
		defer cancel()
		var order state.Order
		if err := json.Unmarshal(value, &order); err != nil {
			return &state.Error{Op: "store", Path: o.name(key), Err: err}
		}
		if err := lead.save(ctx, keyType, &order); err != nil {
			return &state.Error{Op: "store", Path: o.name(key), Err: fmt.Errorf("hand it to the fleet: %w", err)}
		}
	}
	return o.Store.Replace(key, value)
}

// orderOf takes apart the key of an order in flight.
func orderOf(key string) (name string, keyType bundle.KeyType, ok bool) {
	file, ok := strings.CutPrefix(key, "orders/")
	base, ends := strings.CutSuffix(file, ".json")
	dot := strings.LastIndexByte(base, '.')
	if !ok || !ends || dot <= 0 || strings.Contains(base, "/") {
		return "", "", false
	}
	for _, t := range keyTypes() {
		if base[dot+1:] == string(t) {
			return base[:dot], t, true
		}
	}
	return "", "", false
}

// partOf returns the name of the CA's folder if a key is that file of an account.
func partOf(key, file string) (ca string, ok bool) {
	rest, ok := strings.CutPrefix(key, "accounts/")
	ca, last, found := strings.Cut(rest, "/")
	return ca, ok && found && last == file && ca != ""
}
