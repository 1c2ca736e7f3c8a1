package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"path"
	"reflect"
	"slices"
	"strings"

	"mxcert/acme/schedule"
	"mxcert/acme/state"
)

func usagePlace(ca string) string { return path.Join("usage", ca) }
func diskUsage(ca string) string  { return "accounts/" + ca + "/usage.json" }

// agreedUsage is where this host keeps the usage on which it and the store last agreed: what its own has beside is new.
func agreedUsage(ca string) string { return "fleet/usage/" + ca + ".json" }

// lockUsage waits until this host alone changes the budgets of the fleet, and merges what other hosts have noted into those on this disk. With
// the store away, the disk alone counts; what it notes is merged later.
func (m *Member) lockUsage(ctx context.Context) (unlock func(), err error) {
	var holder state.Shared
	var release func()
	err = m.ask(ctx, func(ctx context.Context) (err error) {
		holder = m.shared.Holder()
		release, err = holder.Lock(ctx, sharedUsageLock)
		return err
	})
	switch {
	case err == nil:
		m.mergeAllUsage(ctx)
		return func() { release(); _ = holder.Close() }, nil
	case isAway(err):
		return func() {}, nil
	case errors.Is(err, state.ErrLocked):
		return nil, m.whyLocked(ctx, sharedUsageLock, err)
	}
	return nil, err
}

// mergeAllUsage merges the usage of all CAs.
func (m *Member) mergeAllUsage(ctx context.Context) {
	folders, err := m.disk.List("accounts")
	if err != nil {
		return
	}
	var names []string
	if err := m.ask(ctx, func(context.Context) (err error) {
		names, err = m.shared.List("usage")
		return err
	}); err != nil {
		return
	}
	for _, ca := range foldersAndNames(names, folders) {
		theirs, _ := m.readUsage(ctx, ca)
		if theirs == nil {
			continue
		}
		ours, agreed := m.usageAt(diskUsage(ca)), m.usageAt(agreedUsage(ca))
		merged := mergeUsage(agreed, ours, *theirs)
		m.writeUsage(diskUsage(ca), merged)
		m.writeUsage(agreedUsage(ca), *theirs)
	}
}

// saveUsage gives the store the usage that was just written to this disk.
func (m *Member) saveUsage(ca string, value []byte) {
	var ours state.Usage
	if json.Unmarshal(value, &ours) != nil {
		return
	}
	ctx, cancel := background()
	defer cancel()
	for range 3 {
		theirs, revision := m.readUsage(ctx, ca)
		if revision < 0 {
			return
		}
		merged := ours
		if theirs != nil {
			merged = mergeUsage(m.usageAt(agreedUsage(ca)), ours, *theirs)
		}
		merged.Version = state.Version
		wrapped, err := m.vault().note(usagePlace(ca), 0, m.now(), merged)
		if err != nil {
			return
		}
		err = m.swap(ctx, nil, usagePlace(ca), revision, wrapped)
		if err == nil {
			m.fault(usagePlace(ca), nil) // whatever was there before
			m.writeUsage(agreedUsage(ca), merged)
			m.writeUsage(diskUsage(ca), merged)
			return
		}
		if !errors.Is(err, state.ErrChanged) {
			return // it is on the disk, and merged when the store is back
		}
	}
}

// readUsage returns what the store has; nil if it has nothing that can be used. The revision is negative if it must not be replaced now.
func (m *Member) readUsage(ctx context.Context, ca string) (*state.Usage, int64) {
	place := usagePlace(ca)
	v, err := m.get(ctx, place)
	if err != nil {
		return nil, -1
	}
	if v.Revision == 0 {
		return nil, 0
	}
	var usage state.Usage
	_, _, err = m.vault().readNote(v.Value, place, 0, &usage)
	m.fault(place, err)
	switch {
	case isRefused(err, LaterVersion), err == nil && usage.Version > state.Version:
		return nil, -1
	case err != nil:
		return nil, v.Revision
	}
	return &usage, v.Revision
}

// mergeUsage merges the notes of two hosts. Of what is only learned, such as how fast a CA is, either is as good.
func mergeUsage(agreed, ours, theirs state.Usage) state.Usage {
	merged := ours
	merged.Ledger = schedule.Merge(agreed.Ledger, ours.Ledger, theirs.Ledger)
	if ours.Breaker == agreed.Breaker {
		merged.Breaker = theirs.Breaker
	} else if theirs.Breaker != agreed.Breaker {
		merged.Breaker = schedule.MergeBreakers(ours.Breaker, theirs.Breaker)
	}
	if ours.Validation == agreed.Validation {
		merged.Validation = theirs.Validation
	}
	if ours.Issuance == agreed.Issuance {
		merged.Issuance = theirs.Issuance
	}
	return merged
}

func (m *Member) usageAt(key string) (usage state.Usage) {
	text, err := m.disk.Read(key)
	if err != nil || shallow(text) != nil || json.Unmarshal(text, &usage) != nil {
		return state.Usage{}
	}
	return usage
}

// writeUsage writes a usage to this disk. What cannot be written counts as not agreed on: then entries are only compared once more.
func (m *Member) writeUsage(key string, usage state.Usage) {
	usage.Version = state.Version
	text, err := json.MarshalIndent(usage, "", "  ")
	if err != nil {
		return
	}
	if before, err := m.disk.Read(key); err == nil && string(before) == string(text) {
		return
	}
	if err := m.disk.Replace(key, text); err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.log.Warn("the budgets of the fleet cannot be stored on this host", "error", err)
	}
}

// foldersAndNames merges names of the store with folders of the disk.
func foldersAndNames(names, folders []string) (all []string) {
	for _, name := range names {
		if !strings.HasSuffix(name, "/") {
			all = append(all, name)
		}
	}
	for _, folder := range folders {
		if name, ok := strings.CutSuffix(folder, "/"); ok {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return all[:min(len(all), mostAccounts)]
}

// syncUsage merges what this host has noted while the store was away.
func (m *Member) syncUsage(ctx context.Context) error {
	folders, err := m.disk.List("accounts")
	if err != nil {
		return nil //nolint:nilerr // the next order says so
	}
	for _, ca := range foldersAndNames(nil, folders) {
		if reflect.DeepEqual(m.usageAt(diskUsage(ca)), m.usageAt(agreedUsage(ca))) {
			continue
		}
		if err := m.syncOne(ctx, ca); err != nil {
			return err
		}
	}
	return nil
}

func (m *Member) syncOne(ctx context.Context, ca string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	unlock, err := overlay{Store: m.disk, m: m}.Lock(ctx, usageLock)
	if err != nil {
		return nil //nolint:nilerr // another process is at it: it merges
	}
	defer unlock()
	if text, err := m.disk.Read(diskUsage(ca)); err == nil {
		m.saveUsage(ca, text)
	}
	return ctx.Err()
}
