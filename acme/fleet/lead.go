package fleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// Lead is the right to order a certificate for the fleet.
type Lead struct {
	Alone bool // without the store

	member *Member
	name   string
	store  state.Shared // with the lock of this lead as its fence
	unlock func()

	mu     sync.Mutex
	over   bool
	orders map[bundle.KeyType]*orderInStore
}

// orderInStore is what a lead knows of the order of a key type in the store.
type orderInStore struct {
	revision   int64
	generation int64
	live       bool
}

// Lead waits until this host alone may order a certificate, or ctx ends (ErrLocked, with the name of the host that orders). What the holder
// before has left, an order in flight, is on this host's disk then. Without the store the error is [*Held], unless this host may order alone.
func (m *Member) Lead(ctx context.Context, name string, danger Danger) (*Lead, error) {
	if m == nil {
		return &Lead{}, nil
	}
	lead, err := m.lead(ctx, name)
	switch {
	case err == nil:
		return lead, nil
	case errors.Is(err, state.ErrLocked):
		m.mu.Lock()
		m.waiting[name] = true // Run tells when the order is over
		m.mu.Unlock()
		return nil, m.whyLocked(ctx, certificateLock+name, err)
	case errors.Is(err, state.ErrAway), isAway(err) && m.isDown():
		return m.alone(name, danger, err)
	}
	return nil, err // also if this host's own disk is full, or may not be written
}

// isDown reports whether the last that this host has heard of the store is that it cannot be used.
func (m *Member) isDown() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.down != nil || m.isFull
}

func (m *Member) lead(ctx context.Context, name string) (*Lead, error) {
	lead := &Lead{member: m, name: name, orders: map[bundle.KeyType]*orderInStore{}}
	err := m.ask(ctx, func(ctx context.Context) (err error) {
		lead.store = m.shared.Holder()
		lead.unlock, err = lead.store.Lock(ctx, certificateLock+name)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err = m.send(ctx, name); err == nil { // whoever orders next must know what this host wants
		err = lead.adopt(ctx)
	}
	if err != nil {
		lead.lose()
		return nil, err
	}
	m.mu.Lock()
	m.leads[name] = lead
	delete(m.waiting, name)
	m.mu.Unlock()
	return lead, nil
}

func orderPlace(name string, key bundle.KeyType) string { return place{kindOrder, name, key}.String() }

func diskOrder(name string, key bundle.KeyType) string {
	return "orders/" + name + "." + string(key) + ".json"
}

// held reports whether this host still leads, as far as it knows.
func (l *Lead) held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.over
}

// Release ends a lead. It may be called twice.
func (l *Lead) Release() {
	if l == nil || l.member == nil {
		return
	}
	if l.held() && !l.Alone {
		ctx, cancel := background()
		l.dropFinished(ctx)
		cancel()
	}
	l.lose()
}

// lose ends a lead here; the store is told.
func (l *Lead) lose() {
	l.mu.Lock()
	over := l.over
	l.over = true
	l.mu.Unlock()
	if over {
		return
	}
	l.member.mu.Lock()
	if l.member.leads[l.name] == l {
		delete(l.member.leads, l.name)
	}
	l.member.mu.Unlock()
	if l.unlock != nil {
		l.unlock()
		_ = l.store.Close() // only this holder
	}
}

// lost ends a lead whose lock was lost: the store refuses what is written under it. Orders in flight are adopted by whoever leads next.
func (l *Lead) lost(err error) {
	if l == nil {
		return
	}
	l.member.log.Warn("the right to order a certificate was lost", "certificate", l.name, "error", err)
	l.lose()
}

// save stores an order in flight in the store, before the disk.
func (l *Lead) save(ctx context.Context, key bundle.KeyType, order *state.Order) error {
	m, place := l.member, orderPlace(l.name, key)
	l.mu.Lock()
	known := *l.orders[key]
	l.mu.Unlock()
	known.generation++
	var value []byte
	var err error
	if order == nil {
		value, err = m.vault().note(place, known.generation, m.now(), endedOrder{true})
	} else {
		value, err = m.vault().sealOrder(l.name, known.generation, *order)
	}
	if err != nil {
		return err
	}
	known.revision, err = l.put(ctx, place, known.revision, value)
	if errors.Is(err, state.ErrLocked) {
		l.lost(err)
	}
	if err != nil {
		return err
	}
	m.fault(place, nil) // whatever was there before
	known.live = order != nil
	l.mu.Lock()
	l.orders[key] = &known
	l.mu.Unlock()
	return m.seen(place, mark{Generation: known.generation})
}

// put changes a value that only the leader changes. If it was changed nevertheless, that was this host, and the answer was lost; or somebody
// outside the fleet, over whom the leader writes.
func (l *Lead) put(ctx context.Context, place string, revision int64, value []byte) (now int64, err error) {
	err = l.member.ask(ctx, func(ctx context.Context) error {
		for range 2 {
			if !l.held() {
				return state.ErrLocked
			}
			if now, err = l.store.Swap(ctx, place, revision, value); !errors.Is(err, state.ErrChanged) {
				if err == nil {
					l.member.wrote()
				}
				return err
			}
			v, err := l.store.Get(ctx, place)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			revision = v.Revision
		}
		return fmt.Errorf("%w: %w", state.ErrLocked, err)
	})
	return now, err
}

// finished drops the order in flight from the store: its bundle is there.
func (l *Lead) finished(ctx context.Context, key bundle.KeyType) {
	l.mu.Lock()
	known := l.orders[key]
	live := known != nil && known.live && !l.over
	l.mu.Unlock()
	if live {
		_ = l.save(ctx, key, nil) // otherwise the next lead sees which order the bundle came from
	}
}

// dropFinished drops the orders from the store that are no longer on the disk: they have failed, or are done.
func (l *Lead) dropFinished(ctx context.Context) {
	for _, key := range keyTypes() {
		if _, err := l.member.disk.Read(diskOrder(l.name, key)); errors.Is(err, fs.ErrNotExist) {
			l.finished(ctx, key)
		}
	}
}
