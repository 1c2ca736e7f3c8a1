package fleet

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"
)

// Wants says which certificates the configuration of this host has: for the daemon. About others, which it had before, the host takes back what it
// has said: otherwise names that it wanted stay wanted, and a change of their keys waits until this host, which is at work, has the next key. Run
// does that soon. That it may still serve such a certificate counts as with a host that is away: until it is forgotten.
func (m *Member) Wants(names []string) {
	if m == nil {
		return
	}
	only, retired := map[string]bool{}, map[string]bool{}
	for _, name := range names {
		only[name] = true
	}
	files, err := m.disk.List("fleet/said")
	if err != nil {
		files = nil // nothing was said, or the next start sees it
	}
	for _, file := range files {
		if name, ok := strings.CutSuffix(file, ".json"); ok && !only[name] {
			retired[name] = true
		}
	}
	m.mu.Lock()
	m.only, m.retired = only, retired
	m.mu.Unlock()
	m.nudge()
}

// unwanted reports whether this host says nothing about a certificate. Called with the lock.
func (m *Member) unwanted(name string) bool { return m.only != nil && !m.only[name] }

// retire takes back what this host has said about certificates that it does not have any more.
func (m *Member) retire(ctx context.Context) error {
	m.mu.Lock()
	names := slices.Sorted(maps.Keys(m.retired))
	m.mu.Unlock()
	for _, name := range names {
		var last said
		m.load(saidFile(name), &last)
		place := m.hostPlace("deployed/" + name)
		nothing := Deployed{Host: m.set.Host, At: m.now().UTC().Truncate(time.Second), Certain: true}
		sequence, err := m.lastSequence(ctx, place, last.Sequence)
		if err != nil {
			return err
		}
		value, err := m.vault().note(place, max(sequence+1, m.now().UnixMilli()), m.now(), nothing)
		if err == nil {
			err = m.replace(ctx, place, value)
		}
		if err == nil {
			err = m.ask(ctx, func(context.Context) error { return m.shared.Remove(m.Keys(name).says(m.set.Host)) })
		}
		if err == nil {
			err = m.disk.Remove(saidFile(name))
		}
		if err != nil {
			return err
		}
		m.mu.Lock()
		delete(m.retired, name)
		if m.unwanted(name) {
			delete(m.own, name)
			delete(m.interest, name)
		}
		m.mu.Unlock()
		m.log.Info("the fleet is told that this host does not have a certificate any more", "certificate", name)
	}
	return nil
}
