package fleet

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"mxcert/acme/state"
)

// Forget makes all hosts forget one that is gone for good: what it wanted, and which keys it served. It must not be at work.
func (m *Member) Forget(ctx context.Context, host string) error {
	if m == nil {
		return refusal("", "this host is in no fleet")
	}
	at := "host/" + host + "/"
	if form := nameForm(); !form.MatchString(host) || host == m.set.Host {
		return refusal("name another host; mxcert fleet status lists them", "%.80q cannot be forgotten here", host)
	}
	lease, err := m.shared.Get(ctx, at+"alive")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	now := m.now()
	if err := m.readInfo(host, []state.Versioned{lease, {}}).Forgettable(now); err != nil {
		return err
	}
	var before int64
	err = m.remember(func(all *memory) bool { before = all.Forgotten[host]; return false }) // another process of this host may have heard of one
	if err != nil {
		return err
	}
	sequence, err := m.lastSequence(ctx, at+"forgotten", before)
	if err != nil {
		return err
	}
	sequence = max(sequence+1, now.UnixMilli()) // the clock of who has forgotten it before may have been ahead
	value, err := m.vault().note(at+"forgotten", sequence, now, struct{}{})
	if err == nil {
		err = m.replace(ctx, at+"forgotten", value)
	}
	for _, what := range []string{"deployed", "seen"} {
		if err == nil {
			err = m.ask(ctx, func(context.Context) error { return m.shared.Remove(at + what) })
		}
	}
	if err == nil {
		err = m.enlist(ctx, host, false)
	}
	if err == nil {
		err = m.forgetHere(host, sequence)
	}
	return err
}

// Forgettable returns why a host cannot be forgotten now, and when it can, a [*Refusal]; nil if it can.
func (h HostInfo) Forgettable(now time.Time) error {
	if !h.Leased {
		return nil
	}
	until := now.Add(aliveLease + time.Minute).UTC().Format("15:04 MST") // rounded up
	why := "the host %s is at work"
	if !h.Alive {
		why = "the host %s counts as away, because this host does not believe what it says, but its lease in the store has not ended"
	}
	return refusal("stop mxcert on it (systemctl disable --now mxcert); then its lease ends, after three minutes at the latest (at "+until+" if it stops now), and it can be forgotten",
		why, h.Host)
}

func (m *Member) lastSeen(host string) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.memory.Hosts[host]
}

// missing returns since when a host counts as away that the store does not know: since it was seen, or since this host has met this store, which may
// be an empty one after the loss of another. The time for which nobody could ask a store is no time for which a host was away.
func (m *Member) missing(host string) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := m.memory.Hosts[host]
	if seen.IsZero() || m.memory.Met.Before(seen) {
		return seen
	}
	return m.memory.Met
}

// sawHost remembers when a host was last at work, to the hour.
func (m *Member) sawHost(host string, at time.Time) {
	now := m.now()
	isNew := func(before time.Time) bool {
		return at.Sub(before) >= time.Hour || before.Sub(now) > time.Hour // this host's clock was ahead
	}
	if !isNew(m.lastSeen(host)) {
		return
	}
	_ = m.remember(func(all *memory) bool { // otherwise it is remembered next time
		if all.Hosts == nil {
			all.Hosts = map[string]time.Time{}
		}
		if !isNew(all.Hosts[host]) || len(all.Hosts) >= mostHosts {
			return false
		}
		all.Hosts[host] = at
		return true
	})
}

// forgetHere forgets a host on this disk; note is that of who has forgotten it by hand, or 0.
func (m *Member) forgetHere(host string, note int64) error {
	if m.lastSeen(host).IsZero() && note == 0 {
		return nil
	}
	return m.remember(func(all *memory) bool {
		delete(all.Hosts, host)
		if note != 0 && (len(all.Forgotten) < mostHosts || all.Forgotten[host] != 0) {
			if all.Forgotten == nil {
				all.Forgotten = map[string]int64{}
			}
			all.Forgotten[host] = note
		}
		return true
	})
}

// forgotten reports whether somebody has forgotten a host by hand, since this host has last heard of that: the same note again is a replay, by
// which a host that is back could be made to count no more.
func (m *Member) forgotten(host string, v state.Versioned) bool {
	var by struct{}
	n, _, err := m.vault().readNote(v.Value, v.Key, 0, &by)
	m.fault(v.Key, err)
	if err != nil {
		return false
	}
	m.mu.Lock()
	before := m.memory.Forgotten[host]
	m.mu.Unlock()
	return n.Sequence > before && m.forgetHere(host, n.Sequence) == nil
}
