package fleet

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"mxcert/acme/state"
)

// lookAtLocks reports locks that no host has made: what they lock waits, on all hosts, until a person removes them. mxcert does not: it cannot
// know what they are for. Reports about locks that are gone end.
func (m *Member) lookAtLocks(ctx context.Context) error {
	var strays []state.Stray
	if err := m.ask(ctx, func(ctx context.Context) (err error) {
		strays, err = m.shared.Strays(ctx)
		return err
	}); err != nil {
		return err
	}
	now := map[string]*Refused{}
	for _, s := range first(strays, mostFaults) {
		now[s.Key] = stray(s)
	}
	m.mu.Lock()
	before := m.strays
	m.strays = now
	m.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(now)) {
		m.fault(key, now[key])
	}
	for key := range before {
		if now[key] == nil {
			m.fault(key, nil)
		}
	}
	return nil
}

// stray says what is wrong with a lock.
func stray(s state.Stray) *Refused {
	return &Refused{ID: NoLease, Key: s.Key, Why: "no host of the fleet has made this lock, and " + blocks(s.Lock) + " as long as it is there",
		Next: "find out who has written it, and remove it: " + s.Removal}
}

// blocks says what waits for a lock.
func blocks(lock string) string {
	name, is := strings.CutPrefix(lock, certificateLock)
	switch {
	case is:
		return "no host orders " + name
	case lock == sharedUsageLock:
		return "no host orders anything"
	}
	return "whoever needs it waits"
}

// whyLocked adds to an error what a person has to know, if not a host holds the lock.
func (m *Member) whyLocked(ctx context.Context, lock string, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if m.lookAtLocks(ctx) == nil {
		if wrong := m.strayLock(lock); wrong != nil {
			return fmt.Errorf("%w: %w", err, wrong)
		}
	}
	return err
}

// strayLock returns what is wrong with a lock, as far as this host knows; nil if nothing is.
func (m *Member) strayLock(lock string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, r := range m.strays {
		if strings.Contains(key, "/"+lock+"//") {
			return r
		}
	}
	return nil
}

// hasStrays reports whether there were locks that no host has made.
func (m *Member) hasStrays() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.strays) > 0
}

// The locks of a fleet.
const (
	certificateLock = "lock/certificate/" // and the name
	sharedUsageLock = "lock/usage"
)
