package fleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// Offer gives the fleet the bundle of a generation that is on this host's disk, if the fleet has none or an older one: after an order (lead),
// and when the store was lost (nil). It is ErrLocked if the lead is lost. What a later mxcert wrote is not replaced.
func (m *Member) Offer(ctx context.Context, lead *Lead, name string, g state.Generation, b *bundle.Bundle) error {
	if m == nil || b == nil || lead != nil && lead.Alone {
		return nil
	}
	if lead != nil && !lead.held() {
		return fmt.Errorf("offer %s to the fleet: the right to order it: %w", name, state.ErrLocked)
	}
	place := bundlePlace(name, b.KeyType())
	m.cares(name)
	if lead == nil && m.needless(name, place, b) {
		return nil
	}
	if m.isRevoked(name, b.Serial()) {
		return nil
	}
	err := m.offer(ctx, lead, place, name, g, b)
	for tries := 0; errors.Is(err, state.ErrChanged) && tries < 3; tries++ {
		err = m.offer(ctx, lead, place, name, g, b)
	}
	if errors.Is(err, state.ErrLocked) {
		lead.lost(err)
	}
	m.later(name, err)
	if err != nil {
		return fmt.Errorf("offer %s to the fleet: %w", name, err)
	}
	if lead != nil {
		lead.finished(ctx, b.KeyType())
	}
	return nil
}

// Offered reports whether the store had a bundle when this host last offered it, saw it or took it. It asks nobody.
func (m *Member) Offered(name string, b *bundle.Bundle) bool {
	return m != nil && m.mark(bundlePlace(name, b.KeyType())).Serial == b.Serial()
}

// cares makes Run look after a certificate.
func (m *Member) cares(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.interest[name] = true
}

// The pauses after which Run wakes a certificate whose offer has failed.
const (
	offerSoon = 5 * time.Second
	offerLate = 10 * time.Minute
)

// retry says when an offer is tried again.
type retry struct {
	at    time.Time
	pause time.Duration
}

// later makes Run wake a certificate whose offer has failed.
func (m *Member) later(name string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil || isRefused(err, LaterVersion) {
		delete(m.retries, name)
		return
	}
	pause := min(max(offerSoon, 2*m.retries[name].pause), offerLate)
	m.retries[name] = retry{time.Now().Add(jittered(pause)), pause}
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// again wakes a certificate whose offer is to be tried again. It returns when that is, if it is later.
func (m *Member) again(name string, now time.Time) (at time.Time, waits bool) {
	m.mu.Lock()
	r, waits := m.retries[name]
	due := waits && !r.at.IsZero() && !now.Before(r.at)
	if due {
		m.retries[name] = retry{pause: r.pause} // a pass tries it now
	}
	m.mu.Unlock()
	if due {
		m.changedNames(name)
	}
	return r.at, waits && !due && !r.at.IsZero()
}

// needless reports whether Run has seen that the fleet has this bundle, or a later one.
func (m *Member) needless(name, place string, b *bundle.Bundle) bool {
	m.mu.Lock()
	value, known := m.values[place]
	known = known && m.running && m.down == nil && m.loaded[name]
	m.mu.Unlock()
	if !known || value.Revision == 0 {
		return false
	}
	theirs, err := m.vault().openBundle(value.Value, name, b.KeyType(), 0)
	return err == nil && !m.betterThan(place, theirs, b)
}

// betterThan reports whether a bundle of this host should replace what the fleet has, without an order.
func (m *Member) betterThan(place string, theirs *Shared, b *bundle.Bundle) bool {
	before, p := m.mark(place), markOf(theirs)
	switch {
	case p.Serial == b.Serial():
		return p.Generation < before.Generation && before.Serial == b.Serial()
	case p.Generation < before.Generation && before.Serial == b.Serial():
		return true
	case p.Generation < before.Generation && !b.NotAfter().After(before.NotAfter):
		return false
	}
	// Another one: of a host that was alone before, or whose offer had failed. It must be newer in every way, also if the store is an old one.
	return covers(b, theirs.Names) && b.NotAfter().After(p.NotAfter) && b.Leaf().NotBefore.After(theirs.Bundle.Leaf().NotBefore)
}

func covers(b *bundle.Bundle, names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(b.Leaf().DNSNames, name) })
}

// offer makes one try.
func (m *Member) offer(ctx context.Context, lead *Lead, place, name string, g state.Generation, b *bundle.Bundle) error {
	value, err := m.get(ctx, place)
	if err != nil {
		return err
	}
	before := m.mark(place)
	next := before.Generation + 1
	if value.Revision != 0 {
		theirs, err := m.vault().openBundle(value.Value, name, b.KeyType(), 0)
		var p mark
		if err == nil {
			p = markOf(theirs)
		}
		switch {
		case isRefused(err, LaterVersion):
			return err
		case isRefused(err, Forged) && lead == nil && !m.mayOverwrite(place):
			return err
		case err != nil: // it is replaced with what is on this disk
		case p.Serial == b.Serial() && (p.Generation >= before.Generation || before.Serial != b.Serial()):
			return m.seen(place, p) // it is there: perhaps an answer was lost
		case lead == nil && !m.betterThan(place, theirs, b):
			return nil
		default:
			next = max(next, p.Generation+1)
		}
	}
	if lead == nil && before.Serial == b.Serial() && next == before.Generation+1 {
		next = before.Generation // the store has lost it
	}
	return m.publish(ctx, lead, place, name, value.Revision, next, g, b)
}

func (m *Member) publish(ctx context.Context, lead *Lead, place, name string, revision, generation int64, g state.Generation, b *bundle.Bundle) error {
	value, err := m.vault().sealBundle(name, generation, g, b)
	if err != nil {
		return err
	}
	if err := m.swap(ctx, lead, place, revision, value); err != nil {
		return err
	}
	m.fault(place, nil)
	return m.seen(place, mark{Generation: generation, Serial: b.Serial(), NotAfter: b.NotAfter().UTC()})
}

// overwriting is how long after a value of an unknown signer another may be replaced: two hosts that do not know each other, by a mistake in
// their configurations, must not replace each other's values all the time.
const overwriting = 10 * time.Minute

func (m *Member) mayOverwrite(place string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	last, ok := m.overtaken[place]
	if ok && time.Since(last) < overwriting {
		return false
	}
	m.overtaken[place] = time.Now()
	return true
}

// get asks the store for a value; its revision is 0 if there is none.
func (m *Member) get(ctx context.Context, place string) (v state.Versioned, err error) {
	err = m.ask(ctx, func(ctx context.Context) error {
		v, err = m.shared.Get(ctx, place)
		if errors.Is(err, fs.ErrNotExist) {
			v, err = state.Versioned{Key: place}, nil
		}
		return err
	})
	return v, err
}

// swap changes a value. With a lead it is fenced: the store refuses it if the lead is lost.
func (m *Member) swap(ctx context.Context, lead *Lead, place string, revision int64, value []byte) error {
	return m.ask(ctx, func(ctx context.Context) error {
		if lead != nil && !lead.held() {
			return state.ErrLocked
		}
		store := m.shared
		if lead != nil {
			store = lead.store
		}
		now, err := store.Swap(ctx, place, revision, value)
		if err == nil {
			m.wrote()
			m.keep(state.Versioned{Key: place, Value: value, Revision: now})
		}
		return err
	})
}

// value returns a value of a certificate: what Run has learned, or what the store says.
func (m *Member) value(ctx context.Context, name, place string) (state.Versioned, error) {
	if kept, known := m.learned(name, place); known {
		return kept, nil
	}
	v, err := m.get(ctx, place)
	if err == nil {
		m.keep(v)
	}
	return v, err
}

// learned returns a value that Run has learned.
func (m *Member) learned(name, place string) (state.Versioned, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.interest[name] = true
	return m.values[place], m.running && m.loaded[name] && m.leads[name] == nil
}

// keep keeps a value that a certificate of this host has, if it is newer than the one that is kept.
func (m *Member) keep(v state.Versioned) {
	name, ok := certificateOf(v.Key)
	m.mu.Lock()
	defer m.mu.Unlock()
	if ok && m.interest[name] && len(v.Value) <= 1<<20 && v.Revision >= m.values[v.Key].Revision {
		m.values[v.Key] = v
	}
}
