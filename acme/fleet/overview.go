package fleet

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"
)

// Newest is the newest certificate of a name in the store.
type Newest struct {
	Name       string    `json:"name"`
	Key        string    `json:"key"`
	Generation int64     `json:"generation"`
	Serial     string    `json:"serial"`
	SPKI       string    `json:"spki_sha256"`
	NotAfter   time.Time `json:"not_after"`
	Host       string    `json:"host"` // that has ordered it
}

// Overview is what the store has, for people.
type Overview struct {
	Hosts        []HostInfo `json:"hosts"`
	Certificates []Newest   `json:"certificates"`
	Recipients   []Trust    `json:"recipients"`
}

// Overview looks at the whole store. If it cannot be asked, the error is ErrAway, and what this host remembers is returned.
func (m *Member) Overview(ctx context.Context) (Overview, error) {
	if m == nil {
		return Overview{}, nil
	}
	hosts, err := m.allHosts(ctx)
	var certificates []Newest
	if err == nil {
		certificates, err = m.allNewest(ctx)
	}
	if err == nil {
		err = m.lookAtLocks(ctx)
	}
	return Overview{Hosts: hosts, Certificates: certificates, Recipients: m.Recipients()}, err
}

func (m *Member) allHosts(ctx context.Context) (list []HostInfo, err error) {
	names, err := m.hostNames(ctx)
	if err != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		for host, at := range m.memory.Hosts {
			list = append(list, HostInfo{Host: host, Seen: at})
		}
		slices.SortFunc(list, func(a, b HostInfo) int { return strings.Compare(a.Host, b.Host) })
		return list, err
	}
	for part := range slices.Chunk(names, 50) {
		var keys []string
		for _, host := range part {
			keys = append(keys, "host/"+host+"/alive", "host/"+host+"/seen")
		}
		values, err := m.many(ctx, keys)
		if err != nil {
			return list, err
		}
		for i, host := range part {
			info := m.readInfo(host, values[2*i:2*i+2])
			if last := earlierOf(m.lastSeen(host), m.now()); info.Seen.Before(last) {
				info.Seen = last
			}
			if info.Seen.IsZero() {
				continue // never seen, or forgotten
			}
			list = append(list, info)
		}
	}
	return list, nil
}

func (m *Member) allNewest(ctx context.Context) (list []Newest, err error) {
	var names []string
	if err := m.ask(ctx, func(context.Context) (err error) {
		names, err = m.shared.List("certificate")
		return err
	}); err != nil {
		return nil, err
	}
	for _, name := range first(names, mostCertificates) {
		name = strings.TrimSuffix(name, "/")
		var keys []string
		for _, key := range keyTypes() {
			keys = append(keys, bundlePlace(name, key))
		}
		values, err := m.many(ctx, keys)
		if errors.Is(err, fs.ErrInvalid) {
			continue
		}
		if err != nil {
			return list, err
		}
		for i, key := range keyTypes() {
			if values[i].Revision == 0 {
				continue
			}
			p := place{kindBundle, name, key}
			d, _, err := m.vault().describe(values[i].Value, p, m.mark(p.String()).Generation)
			m.fault(p.String(), err)
			if err == nil {
				list = append(list, Newest{Name: name, Key: string(key), Generation: d.Generation, Serial: d.Serial, SPKI: d.SPKI, NotAfter: d.NotAfter, Host: d.Host})
			}
		}
	}
	return list, nil
}
