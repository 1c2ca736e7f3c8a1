package fleet

import (
	"context"
	"encoding/json"
	"maps"
	"path"
	"reflect"
	"slices"
	"time"
)

// noted is what this host says about a certificate.
type noted struct {
	said  said
	dirty bool      // the store does not have it yet
	begun bool      // the sequence is later than that of what the store had when this process began
	sent  time.Time // when it was written there
}

func saidFile(name string) string { return path.Join("fleet", "said", name+".json") }

func hostsFile(name string) string { return path.Join("fleet", "hosts", name+".json") }

// Note says what this host wants, has and serves. It stores it on the disk, and in the store soon; it waits for nobody.
func (m *Member) Note(name string, d Deployed) {
	if m == nil {
		return
	}
	d.Host, d.At, d.Keys = m.set.Host, m.now().UTC().Truncate(time.Second), maps.Clone(d.Keys)
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
	if m.unwanted(name) { // a pass of an earlier configuration
		m.mu.Unlock()
		return
	}
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
	d := Deployed{Host: m.set.Host, At: m.now().UTC().Truncate(time.Second)}
	if before := m.ownSaid(name); before != nil {
		d = *before
	}
	d.Wish = own
	m.say(name, d.bounded())
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
	begun, last := n.begun, n.said.Sequence
	m.mu.Unlock()
	place := m.hostPlace("deployed/" + name)
	if !begun {
		var err error
		if last, err = m.lastSequence(ctx, place, last); err != nil {
			return err
		}
	}
	m.mu.Lock()
	n.begun, n.said.Sequence = true, max(n.said.Sequence+1, last+1, m.now().UnixMilli())
	said := n.said
	m.mu.Unlock()
	value, err := m.vault().note(place, said.Sequence, m.now(), said.Deployed)
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

// lastSequence returns the sequence of the last note in a place: the given one, or that of the note in the store if it is later. A host that has
// lost its disk goes on from there, also if its clock was ahead when it wrote that note; otherwise the others would refuse what it says.
func (m *Member) lastSequence(ctx context.Context, place string, known int64) (int64, error) {
	v, err := m.get(ctx, place)
	if err != nil || v.Revision == 0 {
		return known, err
	}
	var text json.RawMessage
	n, _, err := m.vault().readNote(v.Value, place, 0, &text)
	if err != nil {
		return known, nil //nolint:nilerr // nobody believes it, so it has no sequence
	}
	return max(known, n.Sequence), nil
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

// sameSaid compares what hosts say. With sequences, it is what the disk must know; without, what a pass of another host depends on: that is not the
// problem of a host, which each of its passes may word anew.
func sameSaid(a, b []said, sequences bool) bool {
	return slices.EqualFunc(a, b, func(x, y said) bool {
		if !sequences {
			x.Problem, y.Problem = "", ""
		}
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
