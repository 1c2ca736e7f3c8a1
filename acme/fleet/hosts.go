package fleet

import (
	"context"
	"fmt"
	"slices"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/state"
)

// HostInfo is a host of the fleet.
type HostInfo struct {
	Host      string    `json:"host"`
	Alive     bool      `json:"alive"`
	Seen      time.Time `json:"seen,omitzero"`
	Version   string    `json:"version,omitempty"`
	Recipient string    `json:"recipient,omitempty"`
	Leased    bool      `json:"-"` // the store has its lease of 3 minutes: it is at work, or was until a moment ago, although this host may not believe it
}

// seenValue is the value of host/ID/seen.
type seenValue struct {
	Version string `json:"mxcert,omitempty"`
}

// knownHosts is what this host knows of others, for one certificate.
type knownHosts struct {
	list []said
	at   time.Time // zero: read from the disk only
}

// Hosts returns what all hosts that are not forgotten say about a certificate, this one included. The error is ErrAway if the store cannot be
// asked; then the list is what was last known. While Run is at work, it returns what Run has learned, and asks nobody.
func (m *Member) Hosts(ctx context.Context, name string) ([]Deployed, error) {
	if m == nil {
		return nil, nil
	}
	m.mu.Lock()
	running, down := m.running, m.down
	m.interest[name] = true
	known := m.known[name]
	m.mu.Unlock()
	var err error
	switch {
	case running && known != nil && !known.at.IsZero():
		err = down
	case running:
		m.nudge()
		err = fmt.Errorf("what other hosts have is not known yet: %w", state.ErrAway)
		if down != nil {
			err = down
		}
	default:
		err = m.askHosts(ctx, name)
	}
	return m.together(name), err
}

// together returns what is known of all hosts, this one first.
func (m *Member) together(name string) (list []Deployed) {
	own := m.ownSaid(name)
	m.mu.Lock()
	down := m.down
	m.mu.Unlock()
	if own != nil {
		d := *own
		d.Host, d.Alive, d.Seen = m.set.Host, true, m.now().UTC()
		list = append(list, d)
	}
	for _, s := range m.knownOf(name) {
		d := s.deployed()
		d.Alive = d.Alive && down == nil // nobody knows
		list = append(list, d)
	}
	return list
}

// knownOf returns what is known of other hosts; before the store was asked, what the disk remembers.
func (m *Member) knownOf(name string) []said {
	m.mu.Lock()
	known := m.known[name]
	m.mu.Unlock()
	if known == nil {
		known = &knownHosts{list: m.hostsOnDisk(name)}
		m.mu.Lock()
		m.known[name] = known
		m.mu.Unlock()
	}
	return known.list
}

// askHosts asks the store what all hosts say about a certificate.
func (m *Member) askHosts(ctx context.Context, name string) error {
	before := map[string]said{}
	for _, s := range m.knownOf(name) {
		before[s.Host] = s
	}
	names, err := m.hostNames(ctx)
	if err != nil {
		return err
	}
	var list []said
	absent := false
	const each, atOnce = 4, 25
	for part := range slices.Chunk(names, atOnce) {
		keys := make([]string, 0, each*atOnce)
		for _, host := range part {
			at := "host/" + host + "/"
			keys = append(keys, at+"alive", at+"seen", at+"forgotten", at+"deployed/"+name)
		}
		values, err := m.many(ctx, keys)
		if err != nil {
			return err
		}
		for i, host := range part {
			absent = absent || host == m.set.Host && values[i*each].Revision == 0
			if s, ok := m.judgeHost(host, name, values[i*each:(i+1)*each], before[host]); ok {
				list = append(list, s)
			}
		}
	}
	m.mu.Lock()
	m.known[name] = &knownHosts{list: list, at: time.Now()}
	m.absent = absent
	m.mu.Unlock()
	m.keepHosts(name, list)
	return nil
}

// judgeHost reads what a host says. ok is false if it is forgotten, or has never said anything about the certificate.
func (m *Member) judgeHost(host, name string, values []state.Versioned, before said) (s said, ok bool) {
	now := m.now().UTC().Truncate(time.Second)
	revisions := [3]int64{values[0].Revision, values[1].Revision, values[3].Revision}
	if before.Alive && before.revisions == revisions && values[2].Revision == 0 { // nothing is new
		before.Seen = now
		m.sawHost(host, now)
		return before, true
	}
	info := m.readInfo(host, values)
	if values[2].Revision != 0 && !info.Alive && values[1].Revision == 0 && m.forgotten(host, values[2]) {
		return said{}, false
	}
	last := m.lastSeen(host)
	if values[1].Revision == 0 && !info.Alive && (last.IsZero() || now.Sub(m.missing(host)) > m.set.Forget) {
		_ = m.forgetHere(host, 0) // otherwise next time
		return said{}, false
	}
	if info.Seen.Before(last) {
		info.Seen = earlierOf(last, now)
	}
	m.sawHost(host, info.Seen)
	if host == m.set.Host {
		return said{}, false // it is known here
	}
	s = before
	place := "host/" + host + "/deployed/" + name
	if v := values[3]; v.Revision != 0 {
		var d Deployed
		n, _, err := m.vault().readNote(v.Value, place, before.Sequence, &d)
		if err == nil && n.Host != host {
			err = refused(Swapped, place, "%.80q has written it", n.Host)
		}
		m.faultOf(v, place, err)
		if err == nil {
			s = said{Deployed: d.bounded(), Sequence: n.Sequence}
		}
	}
	s.Host, s.Alive, s.Seen, s.revisions = host, info.Alive, info.Seen, revisions
	return s, s.Sequence != 0
}

// readInfo reads who a host is: from its leases. Seen is never in the future, whatever the clock of the host says.
func (m *Member) readInfo(host string, values []state.Versioned) HostInfo {
	info := HostInfo{Host: host, Leased: values[0].Revision != 0}
	var a alive
	if v := values[0]; v.Revision != 0 {
		n, signer, err := m.vault().readNote(v.Value, v.Key, 0, &a)
		m.faultOf(v, v.Key, err)
		if err == nil && n.Host == host {
			info.Alive, info.Seen, info.Recipient = true, n.At, string(signer)
		}
	}
	var s seenValue
	if v := values[1]; v.Revision != 0 {
		n, signer, err := m.vault().readNote(v.Value, v.Key, 0, &s)
		m.faultOf(v, v.Key, err)
		if err == nil && n.Host == host {
			info.Version, info.Recipient = finding.Quote(s.Version, mostVersion), string(signer)
			if info.Seen.Before(n.At) {
				info.Seen = n.At
			}
		}
	}
	now := m.now().UTC().Truncate(time.Second)
	if info.Alive || info.Seen.After(now) {
		info.Seen = now
	}
	return info
}

// faultOf reports what is wrong with a value of a host, unless a host has left it behind.
func (m *Member) faultOf(v state.Versioned, place string, err error) {
	if err != nil && m.left(v.Value, place) {
		err = nil
	}
	m.fault(place, err)
}

// many asks for several values at once.
func (m *Member) many(ctx context.Context, keys []string) (values []state.Versioned, err error) {
	err = m.ask(ctx, func(ctx context.Context) error {
		values, err = m.shared.Many(ctx, keys)
		return err
	})
	if err == nil && len(values) != len(keys) {
		err = fmt.Errorf("%w: it has answered with %d of %d values", state.ErrAway, len(values), len(keys))
	}
	return values, err
}

// replace gives a key of this host's a value.
func (m *Member) replace(ctx context.Context, place string, value []byte) error {
	return m.ask(ctx, func(context.Context) error {
		err := m.shared.Replace(place, value)
		if err == nil {
			m.wrote()
		}
		return err
	})
}
