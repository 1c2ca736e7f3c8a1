package fleet

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"mxcert/acme/state"
)

// work does what is due, until something fails.
func (p *part) work(ctx context.Context, failed <-chan error) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-p.m.wake:
		case <-timer.C:
		}
		next, err := p.once(ctx)
		if err != nil {
			return err
		}
		timer.Reset(max(0, time.Until(next)))
	}
}

// once does what is due now, and returns when something will be.
func (p *part) once(ctx context.Context) (next time.Time, err error) {
	m, now := p.m, time.Now()
	m.mu.Lock()
	down := m.down
	m.mu.Unlock()
	if down != nil {
		return next, down // another caller has seen it
	}
	p.mu.Lock()
	stale := p.stale
	p.stale = false
	p.mu.Unlock()
	if stale {
		if err := m.learnTrust(ctx); err != nil {
			return next, err
		}
		if err := m.departed(); err != nil {
			return next, err
		}
	}
	if !now.Before(p.next.alive) {
		if err := p.beat(ctx); err != nil {
			return next, err
		}
		if m.hasStrays() {
			if err := m.lookAtLocks(ctx); err != nil {
				return next, err
			}
		}
	}
	if !now.Before(p.next.seen) {
		if err := p.beSeen(ctx); err != nil {
			return next, err
		}
		if err := m.keepAccounts(ctx); err != nil {
			return next, err
		}
		if err := m.lookAtLocks(ctx); err != nil {
			return next, err
		}
	}
	next = earlierOf(p.next.alive, p.next.seen)
	if err := m.sendQueue(ctx); err != nil && isAway(err) {
		return next, err
	}
	if err := m.retire(ctx); err != nil && isAway(err) {
		return next, err
	}
	for _, name := range p.m.names() {
		due, err := p.certificate(ctx, name, now)
		if err != nil {
			return next, err
		}
		next = earlierOf(next, due)
	}
	return next, nil
}

// names lists the certificates of this host.
func (m *Member) names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.interest))
}

// certificate sends what this host says of a certificate, and reads what others say. It returns when it is due again.
func (p *part) certificate(ctx context.Context, name string, now time.Time) (next time.Time, err error) {
	m := p.m
	m.mu.Lock()
	loaded := m.loaded[name]
	m.mu.Unlock()
	if !loaded {
		if err := m.learnAll(ctx, name); err != nil {
			return next, err
		}
		if m.differs(name, nil) {
			m.changedNames(name)
		}
	}
	said, err := p.tell(ctx, name, now)
	if err != nil {
		return next, err
	}
	if at, waits := m.again(name, now); waits {
		said = earlierOf(said, at)
	}
	m.mu.Lock()
	known := m.known[name]
	m.mu.Unlock()
	if known != nil && !known.at.IsZero() {
		if due := known.at.Add(m.hostsPause(name)); now.Before(due) {
			return earlierOf(said, due), nil
		}
	}
	before := m.knownOf(name)
	if err := m.askHosts(ctx, name); err != nil {
		return next, err
	}
	if p.wasRemoved() {
		m.log.Warn("the store of the fleet did not have this host among those at work; what is missing is written again")
		return next, fmt.Errorf("this host is not among those at work: %w", state.ErrChanged)
	}
	if !sameSaid(before, m.knownOf(name), false) {
		m.changedNames(name)
	}
	return earlierOf(said, now.Add(m.hostsPause(name))), nil
}

// wasRemoved reports whether the store does not have any more that this host is at work, although its lease goes on: then more can be missing.
func (p *part) wasRemoved() bool {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	return p.m.absent
}

// tell sends what this host says, if it is new, or was said long ago.
func (p *part) tell(ctx context.Context, name string, now time.Time) (next time.Time, err error) {
	m := p.m
	again := max(sayAgain, m.each(perStatement))
	m.mu.Lock()
	n := m.own[name]
	if n == nil {
		m.mu.Unlock()
		return now.Add(again), nil
	}
	next = n.sent.Add(again)
	if !n.sent.IsZero() && !now.Before(next) {
		n.dirty, next = true, now.Add(again) // so that others see how old it is
	}
	dirty := n.dirty
	m.mu.Unlock()
	if !dirty {
		return next, nil
	}
	if err := m.send(ctx, name); isAway(err) && !full(err) {
		return next, err
	} else if err != nil {
		m.log.Warn("what this host has cannot be told to the fleet", "certificate", name, "error", err)
		return now.Add(jittered(aliveEvery)), nil
	}
	return now.Add(jittered(again)), nil
}

// each returns a time for all hosts and all certificates of this host.
func (m *Member) each(one time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Duration(max(1, len(m.memory.Hosts))*len(m.interest)) * one
}

// hostsPause is how long what others say counts as new: shorter while somebody lacks what this host has.
func (m *Member) hostsPause(name string) time.Duration {
	own := m.ownSaid(name)
	if own != nil {
		known := m.knownOf(name)
		for _, s := range known {
			if s.Alive && len(s.Wish.Names) > 0 && slices.ContainsFunc(own.OnDisk, func(spki string) bool { return !slices.Contains(s.OnDisk, spki) }) {
				return max(hostsAgain, time.Duration(len(known))*perHost)
			}
		}
	}
	return max(hostsCalm, m.each(perStatement))
}
