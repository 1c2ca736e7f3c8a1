package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"mxcert/acme/state"
)

// hostList is the value of hosts.
type hostList struct {
	Hosts []string `json:"hosts"`
}

// hostNames lists the hosts of the fleet: those that the store lists, and those that this host remembers.
func (m *Member) hostNames(ctx context.Context) ([]string, error) {
	list, _, err := m.hostIndex(ctx)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	list = append(list, slices.Collect(maps.Keys(m.memory.Hosts))...)
	m.mu.Unlock()
	list = append(list, m.set.Host)
	slices.Sort(list)
	return first(slices.Compact(list), mostHosts), nil
}

// hostIndex reads the list of hosts in the store. What is wrong in it is left out: each host sees to it that it is there.
func (m *Member) hostIndex(ctx context.Context) ([]string, int64, error) {
	v, err := m.get(ctx, hostsPlace)
	if err != nil || v.Revision == 0 {
		return nil, 0, err
	}
	m.mu.Lock()
	last := m.index
	m.mu.Unlock()
	if last.revision == v.Revision {
		return slices.Clone(last.hosts), v.Revision, nil
	}
	var list hostList
	_, _, err = m.vault().readNote(v.Value, hostsPlace, 0, &list)
	m.faultOf(v, hostsPlace, err) // who removes a host signs the list anew
	if isRefused(err, LaterVersion) {
		return nil, -1, nil
	}
	form := nameForm()
	hosts := slices.DeleteFunc(list.Hosts, func(host string) bool { return len(host) > 200 || !form.MatchString(host) })
	m.mu.Lock()
	m.index = indexAt{v.Revision, slices.Clone(hosts)}
	m.mu.Unlock()
	return hosts, v.Revision, nil
}

// indexAt is the list of hosts as it was read.
type indexAt struct {
	revision int64
	hosts    []string
}

// unread makes what hosts say count as not read yet. Called with the lock.
func (m *Member) unread() {
	m.index = indexAt{}
	for name, known := range m.known {
		list := slices.Clone(known.list) // others may be reading it
		for i := range list {
			list[i].revisions = [3]int64{}
		}
		m.known[name] = &knownHosts{list, known.at}
	}
}

// enlist changes the list of hosts in the store.
func (m *Member) enlist(ctx context.Context, host string, there bool) error {
	for range 20 {
		list, revision, err := m.hostIndex(ctx)
		if err != nil || revision < 0 || slices.Contains(list, host) == there {
			return err
		}
		if list = slices.DeleteFunc(list, func(h string) bool { return h == host }); there {
			list = append(list, host)
		}
		slices.Sort(list)
		value, err := m.vault().note(hostsPlace, 0, m.now(), hostList{first(slices.Compact(list), mostHosts)})
		if err != nil {
			return err
		}
		if err := m.swap(ctx, nil, hostsPlace, revision, value); !errors.Is(err, state.ErrChanged) {
			return err
		}
	}
	return fmt.Errorf("enlist %s: %w", host, state.ErrChanged)
}

// signHosts writes the list of hosts anew if nobody who is trusted has signed the one in the store.
func (m *Member) signHosts(ctx context.Context, hosts []string) error {
	for range 20 {
		v, err := m.get(ctx, hostsPlace)
		if err != nil {
			return err
		}
		_, _, err = m.vault().readNote(v.Value, hostsPlace, 0, &hostList{})
		if v.Revision == 0 || !isRefused(err, Forged) {
			return nil
		}
		value, err := m.vault().note(hostsPlace, 0, m.now(), hostList{hosts})
		if err != nil {
			return err
		}
		if err := m.swap(ctx, nil, hostsPlace, v.Revision, value); !errors.Is(err, state.ErrChanged) {
			return err
		}
	}
	return fmt.Errorf("sign the list of hosts: %w", state.ErrChanged)
}

// left reports whether a value is one that a host has left behind which was removed: that is no fault of the store.
func (m *Member) left(value []byte, key string) bool {
	e, err := parse(value, key)
	return err == nil && m.trust.Load().isRemoved(e.Signer)
}
