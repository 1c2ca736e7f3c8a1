package fleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/state"
)

// ask asks the store, if it is not known to be away, and learns from the answer. After a failure all calls fail at once until [Member.Run]
// finds the store again; a command asks no more.
func (m *Member) ask(ctx context.Context, f func(context.Context) error) error {
	if err := m.ready(ctx); err != nil {
		return err
	}
	began := time.Now()
	err := f(ctx)
	m.learnFrom(ctx, err, time.Since(began))
	return err
}

// learnFrom judges an answer. If the caller's patience has ended, that says something about the store only if it was long enough.
func (m *Member) learnFrom(ctx context.Context, err error, waited time.Duration) {
	if err == nil || ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) && waited >= enough {
		m.judge(err)
	}
}

// enough is how long an answer may take before the store counts as away.
const enough = 2 * time.Second

// ready returns nil if the store may be asked. The first call makes the first checks.
func (m *Member) ready(ctx context.Context) error {
	m.mu.Lock()
	down, entered, asked := m.down, m.entered, m.asked
	m.mu.Unlock()
	switch {
	case down != nil:
		return down
	case entered:
		return nil
	case asked != nil: // Run is asking right now
		select {
		case <-asked:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", state.ErrAway, ctx.Err())
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.down == nil && !m.entered {
			return fmt.Errorf("%w: it has not answered yet", state.ErrAway)
		}
		return m.down
	}
	began := time.Now()
	err := m.enter(ctx)
	m.learnFrom(ctx, err, time.Since(began))
	return err
}

// unusable reports whether an error means that the store cannot be used now.
func unusable(err error) bool {
	if errors.Is(err, state.ErrLocked) {
		return false // it has answered
	}
	return errors.Is(err, state.ErrAway) || errors.Is(err, fs.ErrPermission) || errors.Is(err, context.DeadlineExceeded)
}

// asAway returns an error that says that the store cannot be used as one that is ErrAway.
func asAway(err error) error {
	switch {
	case errors.Is(err, state.ErrAway):
		return err
	case errors.Is(err, fs.ErrPermission):
		return deniedError{err}
	}
	return fmt.Errorf("%w: %w", state.ErrAway, err)
}

// deniedError is the error of a store that was reached, and does not let this host in.
type deniedError struct{ error }

// Is makes it ErrAway.
func (deniedError) Is(target error) bool { return target == state.ErrAway }

// Unwrap returns what the store has said.
func (n deniedError) Unwrap() error { return n.error }

// full reports whether an error says that the store takes no more.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS)
}

// judge learns from an answer of the store.
func (m *Member) judge(err error) {
	switch {
	case unusable(err):
		m.fail(asAway(err))
	case full(err):
		m.mu.Lock()
		m.isFull = true
		m.mu.Unlock()
		m.noteAway(err)
	case err == nil:
		m.mu.Lock()
		isFull := m.isFull
		m.mu.Unlock()
		if !isFull {
			m.noteUp()
		}
	}
}

// fail keeps the store from being asked until Run finds it again.
func (m *Member) fail(err error) {
	m.mu.Lock()
	m.down = err
	m.mu.Unlock()
	m.noteAway(err)
}

// wrote notes that the store accepts changes.
func (m *Member) wrote() {
	m.mu.Lock()
	m.isFull = false
	m.mu.Unlock()
}

// noteAway remembers since when the store is away: also after a restart of this host.
func (m *Member) noteAway(err error) {
	now := away{Since: m.now().UTC().Truncate(time.Second), Reason: finding.Line(err), Hint: hintOf(err)}
	m.mu.Lock()
	before := m.memory.Away
	m.mu.Unlock()
	if before != nil && before.Reason == now.Reason {
		return
	}
	if err := m.remember(func(all *memory) bool {
		if all.Away != nil {
			now.Since = all.Away.Since
		}
		all.Away = &now
		return true
	}); err != nil { // it counts until this process ends
		m.mu.Lock()
		m.memory.Away = &now
		m.mu.Unlock()
	}
	if before == nil {
		m.log.Debug("the store of the fleet cannot be used", "error", err) // who is announced to says it to people, see Health
	}
	m.announce()
}

func (m *Member) noteUp() {
	m.mu.Lock()
	before, since := m.memory.Away, m.memory.Up
	m.mu.Unlock()
	if before == nil && !since.IsZero() {
		return
	}
	up := func(all *memory) bool {
		all.Away, all.Up = nil, m.now().UTC().Truncate(time.Second)
		return true
	}
	if err := m.remember(up); err != nil { // it counts until this process ends
		m.mu.Lock()
		up(&m.memory)
		m.mu.Unlock()
	}
	if before != nil {
		m.log.Debug("the store of the fleet answers again", "away_since", before.Since)
	}
	m.announce()
}

// hintOf says what to do about a store that is away.
func hintOf(err error) string {
	var hinted interface{ Hint() string }
	switch {
	case errors.As(err, &hinted) && hinted.Hint() != "":
		return hinted.Hint() // the store knows best which of its members did what
	case errors.Is(err, fs.ErrPermission):
		return "see that the role of this host's client certificate may read and write the prefix of the fleet (README: etcd)"
	case full(err):
		return "make room in etcd: compact it, defragment it, and disarm the alarm (etcdctl alarm disarm)"
	}
	return "see that etcd runs and that this host reaches its endpoints; mail goes on without it"
}

// isAway reports whether an error means that nothing can be ordered now.
func isAway(err error) bool { return unusable(err) || full(err) }

// announce wakes whoever wants to know that Health has changed.
func (m *Member) announce() {
	m.mu.Lock()
	changed := m.onChange
	m.mu.Unlock()
	if changed != nil {
		changed(nil)
	}
}
