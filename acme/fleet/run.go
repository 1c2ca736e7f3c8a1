package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"mxcert/acme/state"
)

// How often a host speaks to the store.
const (
	aliveLease  = 3 * time.Minute
	aliveEvery  = time.Minute
	seenEvery   = 15 * time.Minute
	forgetAfter = 14 * 24 * time.Hour

	probeFirst = 2 * time.Second // after a failure
	probeLast  = 15 * time.Second

	hostsAgain   = 2 * time.Second  // what others have is read anew while somebody lacks something
	hostsCalm    = 15 * time.Second // and otherwise
	perHost      = 300 * time.Millisecond
	perStatement = 400 * time.Millisecond
	sayAgain     = 10 * time.Minute
)

// jittered spreads what many hosts do: a tenth to either side.
func jittered(d time.Duration) time.Duration {
	return d*9/10 + rand.N(d/5+1)
}

// Run keeps this host alive in the fleet and learns what others do, until ctx ends: for the daemon. It calls changed with the names of
// certificates about which others have written something new, and with none if what [Member.Health] says has changed.
func (m *Member) Run(ctx context.Context, changed func(names []string)) {
	if m == nil {
		return
	}
	m.mu.Lock()
	m.running, m.onChange = true, changed
	if m.asked == nil {
		m.asked = make(chan struct{})
	}
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.running, m.onChange = false, nil
		m.mu.Unlock()
	}()
	pause := probeFirst
	for ctx.Err() == nil {
		began := time.Now()
		err := m.partake(ctx)
		if ctx.Err() != nil {
			m.answered()
			return
		}
		if errors.Is(err, state.ErrChanged) { // changes were lost: everything is read again
			sleep(ctx, jittered(time.Second/2))
			continue
		}
		if !errors.Is(err, state.ErrAway) {
			err = fmt.Errorf("%w: %w", state.ErrAway, err)
		}
		m.fail(err)
		m.mu.Lock()
		m.entered = false
		m.mu.Unlock()
		m.answered()
		if time.Since(began) > probeLast {
			pause = probeFirst
		}
		sleep(ctx, jittered(pause))
		pause = min(2*pause, probeLast)
	}
}

// answered lets those go on who wait for the first answer of the store.
func (m *Member) answered() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.asked != nil {
		close(m.asked)
		m.asked = nil
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// partake takes part in the fleet until something fails.
func (m *Member) partake(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := &part{m: m}
	if err := m.enter(ctx); err != nil {
		return err
	}
	if err := p.arrive(ctx); err != nil {
		return err
	}
	m.wrote()
	m.judge(nil)
	m.answered()
	failed := make(chan error, 3)
	var watching sync.WaitGroup
	for folder, learn := range p.watches() {
		watching.Go(func() {
			err := m.shared.Watch(ctx, folder, p.revision, learn)
			if err == nil {
				err = state.ErrChanged
			}
			failed <- err
		})
	}
	err := p.work(ctx, failed)
	ended := ctx.Err() != nil
	cancel()
	watching.Wait()
	if ended {
		p.leave()
	}
	return err
}

// watches returns the folders that a host watches, and who learns what changes there.
func (p *part) watches() map[string]func([]state.Versioned) {
	return map[string]func([]state.Versioned){
		"certificate": p.m.learnCertificates, "order": p.m.learnOrders, recipientsRoom: func([]state.Versioned) { p.relearn() },
	}
}

// part is one time that a host takes part.
type part struct {
	m        *Member
	revision int64 // from which on changes are watched
	alive    int64 // lease
	lent     int64 // revision of the value that it holds
	seen     int64 // lease
	next     struct{ alive, seen, say time.Time }

	mu    sync.Mutex
	stale bool // recipients
}

func (p *part) relearn() {
	p.mu.Lock()
	p.stale = true
	p.mu.Unlock()
	p.m.nudge()
}

// mostSessions is how many of its daemon's sessions a host remembers: an old copy of the store that is put back names one of them, and it must not
// be taken for another host.
const mostSessions = 50

// arrive makes this host known, and reads what it needs.
func (p *part) arrive(ctx context.Context) error {
	m := p.m
	if err := m.remember(func(all *memory) bool {
		if slices.Contains(all.Sessions, m.set.Session) {
			return false
		}
		all.Sessions = first(append([]string{m.set.Session}, all.Sessions...), mostSessions)
		return true
	}); err != nil {
		return err
	}
	values, revision, ok, err := m.readTrust(ctx)
	if err != nil {
		return err
	}
	p.revision = revision
	if ok {
		if err := m.restoreStatements(ctx, values); err != nil {
			return err
		}
	}
	if err := p.beat(ctx); err != nil {
		return err
	}
	if err := p.beSeen(ctx); err != nil {
		return err
	}
	if err := m.lookAtLocks(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	before := m.values
	m.unread()
	m.values, m.loaded = map[string]state.Versioned{}, map[string]bool{} // revisions of a restored store can be smaller
	for _, n := range m.own {
		n.dirty = true // it may have lost it
	}
	names := slices.Sorted(maps.Keys(m.interest))
	m.mu.Unlock()
	var changed []string
	for _, name := range names {
		if err := m.learnAll(ctx, name); err != nil {
			return err
		}
		if m.differs(name, before) {
			changed = append(changed, name)
		}
	}
	m.changedNames(changed...)
	if err := m.keepAccounts(ctx); err != nil {
		return err
	}
	return m.syncUsage(ctx)
}
