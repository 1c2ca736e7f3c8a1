package fleet

import (
	"context"
	"encoding/json"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"mxcert/acme/state"
)

// noted is what this host says about a certificate.
type noted struct {
	said  said
	dirty bool      // the store does not have it yet
	sent  time.Time // when it was written there
}

func saidFile(name string) string  { return path.Join("fleet", "said", name+".json") }
func hostsFile(name string) string { return path.Join("fleet", "hosts", name+".json") }

// Note says what this host wants, has and serves. It stores it on the disk, and in the store soon; it waits for nobody.
func (m *Member) Note(name string, d Deployed) {
	if m == nil {
		return
	}
	d.Host, d.At, d.Keys = m.set.Host, time.Now().UTC().Truncate(time.Second), maps.Clone(d.Keys)
	for key, has := range d.Keys {
		if before := m.mark(path.Join("certificate", name, key)); has.Generation == 0 && before.Serial == has.Serial {
			has.Generation = before.Generation
			d.Keys[key] = has
		}
	}
	m.say(name, d.bounded())
}

// say notes what this host says, if it is something new.
func (m *Member) say(name string, d Deployed) {
	before := m.ownSaid(name)
	m.mu.Lock()
	n := m.own[name]
	fresh := before == nil || !reflect.DeepEqual(timeless(*before), timeless(d))
	if n == nil {
		n = &noted{}
		m.own[name] = n
	}
	n.said.Deployed = d
	n.dirty = n.dirty || fresh
	kept := n.said
	m.interest[name] = true
	m.mu.Unlock()
	if fresh {
		m.store(saidFile(name), kept)
		m.nudge()
	}
}

// timeless leaves out when something was seen: what is said again is nothing new.
func timeless(d Deployed) Deployed {
	d.At, d.Seen, d.Alive = time.Time{}, time.Time{}, false
	d.Keys = maps.Clone(d.Keys)
	for key, has := range d.Keys {
		has.At = time.Time{}
		d.Keys[key] = has
	}
	for _, list := range []*[]string{&d.OnDisk, &d.Serving} {
		*list = append([]string{}, *list...)
		slices.Sort(*list)
	}
	d.Wish.Names, d.Wish.Optional = append([]string{}, d.Wish.Names...), append([]string{}, d.Wish.Optional...)
	if len(d.Keys) == 0 {
		d.Keys = nil
	}
	return d
}

// ownSaid returns what this host has said last, also before a restart; nil if nothing.
func (m *Member) ownSaid(name string) *Deployed {
	m.mu.Lock()
	n := m.own[name]
	m.mu.Unlock()
	if n == nil {
		var s said
		if !m.load(saidFile(name), &s) {
			return nil
		}
		m.mu.Lock()
		if n = m.own[name]; n == nil {
			n = &noted{said: s, dirty: true} // the store may have lost it
			m.own[name] = n
		}
		m.mu.Unlock()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	d := n.said.Deployed
	return &d
}

// wish notes what this host wants.
func (m *Member) wish(name string, own Wish) {
	d := Deployed{Host: m.set.Host, At: time.Now().UTC().Truncate(time.Second)}
	if before := m.ownSaid(name); before != nil {
		d = *before
	}
	d.Wish = own
	m.say(name, d.bounded())
}

// Merged is what the hosts of a fleet want together of a certificate.
type Merged struct {
	Wish
	By map[string][]string // which hosts want a name, for names that this host does not want itself
}

// Merge returns what the hosts want together, with this host's own wish first. With a store that is away, it is what was last known. It makes
// known what this host wants.
func (m *Member) Merge(ctx context.Context, name string, own Wish) Merged {
	merged := Merged{Wish: Wish{Names: slices.Clone(own.Names), Optional: slices.Clone(own.Optional), Keys: slices.Clone(own.Keys)}, By: map[string][]string{}}
	if m == nil {
		return merged
	}
	m.wish(name, own)
	hosts, _ := m.Hosts(ctx, name) // what was last known, if the store is away
	for _, required := range []bool{true, false} {
		for _, h := range hosts {
			if h.Host == m.set.Host {
				continue
			}
			list, into := h.Wish.Optional, &merged.Optional
			if required {
				list, into = h.Wish.Names, &merged.Names
			}
			for _, wanted := range list {
				merged.add(wanted, h.Host, own, into)
			}
		}
	}
	return merged
}

func (m *Merged) add(name, host string, own Wish, into *[]string) {
	if slices.Contains(own.Names, name) || slices.Contains(own.Optional, name) || !isName(name) {
		return
	}
	if by := m.By[name]; !slices.Contains(by, host) {
		m.By[name] = append(by, host)
	}
	if !slices.Contains(m.Names, name) && !slices.Contains(m.Optional, name) && len(m.Names)+len(m.Optional) < mostNames {
		*into = append(*into, name)
	}
}

// isName reports whether a certificate can have a name: a host name in lower case, or a wildcard.
func isName(name string) bool {
	host := strings.TrimPrefix(name, "*.")
	return host != "" && len(name) <= 253 && strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-.") == ""
}

// Flush sends what [Member.Note] and [Member.Revoke] have noted: for commands, which have no Run.
func (m *Member) Flush(ctx context.Context) error {
	if m == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := m.wasHere(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	names := slices.Sorted(maps.Keys(m.own))
	m.mu.Unlock()
	for _, name := range names {
		if err := m.send(ctx, name); err != nil {
			return err
		}
	}
	return m.sendQueue(ctx)
}

// wasHere has a host count that commands alone keep, from a timer, unless it counts already. With Run at work, that is its task.
func (m *Member) wasHere(ctx context.Context) error {
	m.mu.Lock()
	running := m.running
	m.mu.Unlock()
	if running {
		return nil
	}
	v, err := m.get(ctx, m.hostPlace("seen"))
	if err != nil || v.Revision != 0 {
		return err
	}
	return m.ask(ctx, (&part{m: m}).beSeen)
}

// send sends what this host says about a certificate, if the store does not have it.
func (m *Member) send(ctx context.Context, name string) error {
	_ = m.ownSaid(name) // from the disk
	m.mu.Lock()
	n := m.own[name]
	if n == nil || !n.dirty {
		m.mu.Unlock()
		return nil
	}
	n.said.Sequence = max(n.said.Sequence+1, time.Now().UnixMilli())
	said := n.said
	m.mu.Unlock()
	place := m.hostPlace("deployed/" + name)
	value, err := m.vault().note(place, said.Sequence, time.Now(), said.Deployed)
	if err == nil {
		err = m.replace(ctx, place, value)
	}
	if err != nil {
		return err
	}
	m.mu.Lock()
	n.sent = time.Now()
	n.dirty = !reflect.DeepEqual(timeless(n.said.Deployed), timeless(said.Deployed))
	m.mu.Unlock()
	m.store(saidFile(name), said)
	return nil
}

// store and load keep notes on this host's disk; losing one costs nothing but that it is learned again.
func (m *Member) store(file string, v any) {
	text, err := json.Marshal(v)
	if err == nil {
		err = m.disk.Replace(file, text)
	}
	if err != nil {
		m.log.Warn("a note about the fleet cannot be stored", "file", file, "error", err)
	}
}

func (m *Member) load(file string, v any) bool {
	text, err := m.disk.Read(file)
	return err == nil && len(text) <= maxValue && json.Unmarshal(text, v) == nil
}

func (m *Member) hostsOnDisk(name string) (list []said) {
	m.load(hostsFile(name), &list)
	return first(list, mostHosts)
}

// keepHosts remembers what other hosts say, if that is something new.
func (m *Member) keepHosts(name string, list []said) {
	var before []said
	m.load(hostsFile(name), &before)
	if !sameSaid(before, list, true) {
		m.store(hostsFile(name), list)
	}
}

// sameSaid compares what hosts say. With sequences, it is what the disk must know, too.
func sameSaid(a, b []said, sequences bool) bool {
	return slices.EqualFunc(a, b, func(x, y said) bool {
		return x.Host == y.Host && x.Alive == y.Alive && (!sequences || x.Sequence == y.Sequence) && reflect.DeepEqual(timeless(x.Deployed), timeless(y.Deployed))
	})
}

// nudge wakes Run.
func (m *Member) nudge() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Revoked says that a certificate of the fleet was revoked.
type Revoked struct {
	Serial     string           `json:"serial"`
	SPKI       string           `json:"spki_sha256"`
	Revocation state.Revocation `json:"revocation"`
	Host       string           `json:"host"` // that has revoked it
}

// Revoke tells the fleet that a certificate was revoked, soon; it waits for nobody.
func (m *Member) Revoke(name, serial, spki string, r state.Revocation) {
	if m == nil {
		return
	}
	revoked := Revoked{Serial: serial, SPKI: spki, Revocation: r, Host: m.set.Host}
	m.mu.Lock()
	m.queue[revokedPlace(name, serial)] = revoked
	m.mu.Unlock()
	m.learnRevoked(name, revoked)
	m.nudge()
}

// Revocations lists the certificates of a name that hosts have revoked, as far as this host knows.
func (m *Member) Revocations(name string) []Revoked {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.revoked[name])
}

func revokedPlace(name, serial string) string {
	return path.Join("certificate", name, "revoked", serial)
}

// mostRevoked bounds how many revocations of a certificate are believed.
const mostRevoked = 200

// learnRevoked reports whether a revocation is new.
func (m *Member) learnRevoked(name string, r Revoked) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.revoked[name]
	i := slices.IndexFunc(list, func(o Revoked) bool { return o.Serial == r.Serial })
	switch {
	case i < 0 && len(list) < mostRevoked:
		m.revoked[name] = append(list, r)
		return true
	case i >= 0 && list[i] != r && !list[i].Revocation.KeyCompromised: // it can only become worse
		m.revoked[name][i] = r
		return true
	}
	return false
}

func (m *Member) isRevoked(name, serial string) bool {
	return slices.ContainsFunc(m.Revocations(name), func(r Revoked) bool { return r.Serial == serial })
}

// sendQueue sends revocations.
func (m *Member) sendQueue(ctx context.Context) error {
	m.mu.Lock()
	waiting := maps.Clone(m.queue)
	m.mu.Unlock()
	for place, r := range waiting {
		value, err := m.vault().note(place, 1, time.Now(), r)
		if err == nil {
			err = m.replace(ctx, place, value)
		}
		if err != nil {
			return err
		}
		m.mu.Lock()
		if m.queue[place] == r {
			delete(m.queue, place)
		}
		m.mu.Unlock()
	}
	return nil
}

// readRevoked reads the revocation in a place of the store.
func (m *Member) readRevoked(name string, v state.Versioned) (r Revoked, err error) {
	_, _, err = m.vault().readNote(v.Value, v.Key, 0, &r)
	if err == nil && revokedPlace(name, r.Serial) != v.Key {
		err = refused(Swapped, v.Key, "it is about the serial number %.80q", r.Serial)
	}
	m.fault(v.Key, err)
	return r, err
}
