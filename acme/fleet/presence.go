package fleet

import (
	"context"
	"errors"
	"io/fs"
	"time"
)

// beat renews the lease that says that this host is at work.
func (p *part) beat(ctx context.Context) error {
	m := p.m
	p.next.alive = time.Now().Add(jittered(aliveEvery))
	if p.alive != 0 {
		err := m.shared.Renew(ctx, p.alive)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := m.twin(ctx); err != nil { // another host may have the name by now
		return err
	}
	lease, err := m.shared.Grant(ctx, aliveLease)
	if err != nil {
		return err
	}
	value, err := m.vault().note(m.hostPlace("alive"), 0, m.now(), alive{m.set.Session})
	if err != nil {
		return err
	}
	if err := m.shared.Lend(ctx, m.hostPlace("alive"), value, lease); err != nil {
		return err
	}
	p.alive = lease
	now, err := m.shared.Get(ctx, m.hostPlace("alive"))
	p.lent = now.Revision
	return err
}

// leave says that this host is not at work any more, unless another process of it is. It waits for a second at most: otherwise the lease ends
// by itself.
func (p *part) leave() {
	left := make(chan struct{})
	go func() {
		defer close(left)
		ctx, cancel := context.WithTimeout(context.Background(), leaving)
		defer cancel()
		place := p.m.hostPlace("alive")
		if now, err := p.m.shared.Get(ctx, place); err == nil && now.Revision == p.lent {
			_ = p.m.shared.Remove(place)
		}
	}()
	select {
	case <-left:
	case <-time.After(leaving):
	}
}

const leaving = time.Second

// beSeen says when this host was last at work, for longer.
func (p *part) beSeen(ctx context.Context) error {
	m := p.m
	p.next.seen = time.Now().Add(jittered(seenEvery))
	if err := m.twin(ctx); err != nil {
		return err
	}
	if err := m.enlist(ctx, m.set.Host, true); err != nil {
		return err
	}
	if err := m.shared.Remove(m.hostPlace("forgotten")); err != nil {
		return err
	}
	if p.seen != 0 && m.shared.Renew(ctx, p.seen) != nil {
		p.seen = 0
	}
	if p.seen == 0 {
		lease, err := m.shared.Grant(ctx, m.set.Forget)
		if err != nil {
			return err
		}
		p.seen = lease
	}
	value, err := m.vault().note(m.hostPlace("seen"), 0, m.now(), seenValue{m.set.Version})
	if err != nil {
		return err
	}
	return m.shared.Lend(ctx, m.hostPlace("seen"), value, p.seen)
}
