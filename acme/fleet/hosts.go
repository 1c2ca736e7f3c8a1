package fleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/acme/state"
)

// Wish is what a host wants of a certificate.
type Wish struct {
	Names    []string         `json:"names"`              // that it must have
	Optional []string         `json:"optional,omitempty"` // that it should have
	Keys     []bundle.KeyType `json:"keys"`
}

// Deployed is what a host says about a certificate: what it wants, has and serves.
type Deployed struct {
	Host    string                `json:"host"`
	Alive   bool                  `json:"-"` // it is at work now
	Seen    time.Time             `json:"-"` // when it was last at work
	At      time.Time             `json:"at"`
	Wish    Wish                  `json:"wish"`
	Keys    map[string]Deployment `json:"keys"`    // by key type
	OnDisk  []string              `json:"on_disk"` // SPKIs of the keys that it has, next ones included
	Serving []string              `json:"serving"` // SPKIs that its endpoints were seen to serve
	Certain bool                  `json:"certain"` // every endpoint has answered
	Problem string                `json:"problem,omitempty"`
}

// Deployment is what a host has of one key type.
type Deployment struct {
	Serial     string    `json:"serial,omitempty"` // on its disk
	Generation int64     `json:"generation,omitempty"`
	NotAfter   time.Time `json:"not_after,omitzero"`
	Served     string    `json:"served,omitempty"` // the serial that handshakes have shown; "" if none has
	At         time.Time `json:"at,omitzero"`      // when
}

// Bounds of what is believed of others.
const (
	mostHosts   = 2000
	mostOnDisk  = 100 // SPKIs
	mostProblem = 500 // bytes
	mostSerial  = 64  // hexadecimal digits
	mostVersion = 40  // bytes
	mostNames   = 100 // that a certificate may have
)

// HostInfo is a host of the fleet.
type HostInfo struct {
	Host      string    `json:"host"`
	Alive     bool      `json:"alive"`
	Seen      time.Time `json:"seen,omitzero"`
	Version   string    `json:"version,omitempty"`
	Recipient string    `json:"recipient,omitempty"`
}

// seenValue is the value of host/ID/seen.
type seenValue struct {
	Version string `json:"mxcert,omitempty"`
}

// hostList is the value of hosts.
type hostList struct {
	Hosts []string `json:"hosts"`
}

// statement of a host, as it is kept.
type said struct {
	Deployed
	Alive    bool      `json:"alive"`
	Seen     time.Time `json:"seen,omitzero"`
	Sequence int64     `json:"sequence"`

	revisions [3]int64 // of alive, seen and deployed, as they were read
}

func (s said) deployed() Deployed {
	d := s.Deployed
	d.Alive, d.Seen = s.Alive, s.Seen
	return d
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
		d.Host, d.Alive, d.Seen = m.set.Host, true, time.Now().UTC()
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
			if s, ok := m.judgeHost(host, name, values[i*each:(i+1)*each], before[host]); ok {
				list = append(list, s)
			}
		}
	}
	m.mu.Lock()
	m.known[name] = &knownHosts{list: list, at: time.Now()}
	m.mu.Unlock()
	m.keepHosts(name, list)
	return nil
}

// judgeHost reads what a host says. ok is false if it is forgotten, or has never said anything about the certificate.
func (m *Member) judgeHost(host, name string, values []state.Versioned, before said) (s said, ok bool) {
	now := time.Now().UTC().Truncate(time.Second)
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
	if values[1].Revision == 0 && !info.Alive && (last.IsZero() || now.Sub(last) > m.set.Forget) {
		_ = m.forgetHere(host, 0) // otherwise next time
		return said{}, false
	}
	if info.Alive {
		info.Seen = now
	}
	if info.Seen.Before(last) {
		info.Seen = last
	}
	info.Seen = earlierOf(info.Seen, now) // its clock may be ahead
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
		m.fault(place, err)
		if err == nil {
			s = said{Deployed: d.bounded(), Sequence: n.Sequence}
		}
	}
	s.Host, s.Alive, s.Seen, s.revisions = host, info.Alive, info.Seen, revisions
	return s, s.Sequence != 0
}

// readInfo reads who a host is: from its leases.
func (m *Member) readInfo(host string, values []state.Versioned) HostInfo {
	info := HostInfo{Host: host}
	var a alive
	if v := values[0]; v.Revision != 0 {
		n, signer, err := m.vault().readNote(v.Value, v.Key, 0, &a)
		m.fault(v.Key, err)
		if err == nil && n.Host == host {
			info.Alive, info.Seen, info.Recipient = true, n.At, string(signer)
		}
	}
	var s seenValue
	if v := values[1]; v.Revision != 0 {
		n, signer, err := m.vault().readNote(v.Value, v.Key, 0, &s)
		m.fault(v.Key, err)
		if err == nil && n.Host == host {
			info.Version, info.Recipient = finding.Quote(s.Version, mostVersion), string(signer)
			if info.Seen.Before(n.At) {
				info.Seen = n.At
			}
		}
	}
	return info
}

// bounded leaves out what no mxcert says: another host, although it is trusted, must not fill this one's memory, nor its terminal.
func (d Deployed) bounded() Deployed {
	isOther := func(key bundle.KeyType) bool { return !slices.Contains(keyTypes(), key) }
	d.OnDisk, d.Serving = first(d.OnDisk, mostOnDisk), first(d.Serving, mostOnDisk)
	d.Wish.Names, d.Wish.Optional = first(d.Wish.Names, mostNames), first(d.Wish.Optional, mostNames)
	d.Wish.Keys = first(slices.DeleteFunc(slices.Clone(d.Wish.Keys), isOther), len(keyTypes()))
	d.Problem = finding.Quote(d.Problem, mostProblem)
	d.Keys = maps.Clone(d.Keys)
	maps.DeleteFunc(d.Keys, func(key string, has Deployment) bool {
		return isOther(bundle.KeyType(key)) || len(has.Serial) > mostSerial || len(has.Served) > mostSerial
	})
	return d
}

func first[E any](list []E, n int) []E { return list[:min(len(list), n)] }

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
	m.fault(hostsPlace, err)
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

// indexAt is the list of hosts as it was read.
type indexAt struct {
	revision int64
	hosts    []string
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
		value, err := m.vault().note(hostsPlace, 0, time.Now(), hostList{first(slices.Compact(list), mostHosts)})
		if err != nil {
			return err
		}
		if err := m.swap(ctx, nil, hostsPlace, revision, value); !errors.Is(err, state.ErrChanged) {
			return err
		}
	}
	return fmt.Errorf("enlist %s: %w", host, state.ErrChanged)
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

// Forgetting and remembering hosts.

func (m *Member) lastSeen(host string) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.memory.Hosts[host]
}

// sawHost remembers when a host was last at work, to the hour.
func (m *Member) sawHost(host string, at time.Time) {
	if at.Sub(m.lastSeen(host)) < time.Hour {
		return
	}
	_ = m.remember(func(all *memory) bool { // otherwise it is remembered next time
		if all.Hosts == nil {
			all.Hosts = map[string]time.Time{}
		}
		if !all.Hosts[host].Before(at) || len(all.Hosts) >= mostHosts {
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

// Forget makes all hosts forget one that is gone for good: what it wanted, and which keys it served. It must not be at work.
func (m *Member) Forget(ctx context.Context, host string) error {
	if m == nil {
		return refusal("", "this host is in no fleet")
	}
	at := "host/" + host + "/"
	if form := nameForm(); !form.MatchString(host) || host == m.set.Host {
		return refusal("name another host; mxcert fleet status lists them", "%.80q cannot be forgotten here", host)
	}
	_, err := m.shared.Get(ctx, at+"alive")
	switch {
	case err == nil:
		return refusal("stop mxcert on it, and wait three minutes", "the host %s is at work", host)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	now := time.Now()
	value, err := m.vault().note(at+"forgotten", now.UnixMilli(), now, struct{}{})
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
		err = m.forgetHere(host, now.UnixMilli())
	}
	return err
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
