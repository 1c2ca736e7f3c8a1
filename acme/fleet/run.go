package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// How often a host speaks to the store.
const (
	aliveLease  = 3 * time.Minute
	aliveEvery  = time.Minute
	seenEvery   = 15 * time.Minute
	forgetAfter = 14 * 24 * time.Hour

	probeFirst = 2 * time.Second // after a failure
	probeLast  = time.Minute

	hostsAgain   = 2 * time.Second  // what others have is read anew while somebody lacks something
	hostsCalm    = 15 * time.Second // and otherwise
	perHost      = 300 * time.Millisecond
	perStatement = 400 * time.Millisecond
	sayAgain     = 10 * time.Minute
)

// jittered spreads what many hosts do: a tenth to either side.
func jittered(d time.Duration) time.Duration {
	return d*9/10 + rand.N(d/5+1)
}

// Run keeps this host alive in the fleet and learns what others do, until ctx ends: for the daemon. It calls changed with the names of
// certificates about which others have written something new, and with none if what [Member.Health] says has changed.
func (m *Member) Run(ctx context.Context, changed func(names []string)) {
	if m == nil {
		return
	}
	m.mu.Lock()
	m.running, m.onChange = true, changed
	if m.asked == nil {
		m.asked = make(chan struct{})
	}
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.running, m.onChange = false, nil
		m.mu.Unlock()
	}()
	pause := probeFirst
	for ctx.Err() == nil {
		began := time.Now()
		err := m.partake(ctx)
		if ctx.Err() != nil {
			m.answered()
			return
		}
		if errors.Is(err, state.ErrChanged) { // changes were lost: everything is read again
			sleep(ctx, jittered(time.Second/2))
			continue
		}
		if !errors.Is(err, state.ErrAway) {
			err = fmt.Errorf("%w: %w", state.ErrAway, err)
		}
		m.fail(err)
		m.mu.Lock()
		m.entered = false
		m.mu.Unlock()
		m.answered()
		if time.Since(began) > probeLast {
			pause = probeFirst
		}
		sleep(ctx, jittered(pause))
		pause = min(2*pause, probeLast)
	}
}

// answered lets those go on who wait for the first answer of the store.
func (m *Member) answered() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.asked != nil {
		close(m.asked)
		m.asked = nil
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// partake takes part in the fleet until something fails.
func (m *Member) partake(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := &part{m: m}
	if err := m.enter(ctx); err != nil {
		return err
	}
	if err := p.arrive(ctx); err != nil {
		return err
	}
	m.wrote()
	m.judge(nil)
	m.answered()
	failed := make(chan error, 3)
	var watching sync.WaitGroup
	for folder, learn := range map[string]func([]state.Versioned){
		"certificate": m.learnCertificates, "order": m.learnOrders, recipientsRoom: func([]state.Versioned) { p.relearn() },
	} {
		watching.Go(func() {
			err := m.shared.Watch(ctx, folder, p.revision, learn)
			if err == nil {
				err = state.ErrChanged
			}
			failed <- err
		})
	}
	err := p.work(ctx, failed)
	ended := ctx.Err() != nil
	cancel()
	watching.Wait()
	if ended {
		p.leave()
	}
	return err
}

// part is one time that a host takes part.
type part struct {
	m        *Member
	revision int64 // from which on changes are watched
	alive    int64 // lease
	lent     int64 // revision of the value that it holds
	seen     int64 // lease
	next     struct{ alive, seen, say time.Time }

	mu    sync.Mutex
	stale bool // recipients
}

func (p *part) relearn() {
	p.mu.Lock()
	p.stale = true
	p.mu.Unlock()
	p.m.nudge()
}

// arrive makes this host known, and reads what it needs.
func (p *part) arrive(ctx context.Context) error {
	m := p.m
	if err := m.remember(func(all *memory) bool {
		if slices.Contains(all.Sessions, m.set.Session) {
			return false
		}
		all.Sessions = first(append([]string{m.set.Session}, all.Sessions...), 2)
		return true
	}); err != nil {
		return err
	}
	values, revision, ok, err := m.readTrust(ctx)
	if err != nil {
		return err
	}
	p.revision = revision
	if ok {
		if err := m.restoreStatements(ctx, values); err != nil {
			return err
		}
	}
	if err := p.beat(ctx); err != nil {
		return err
	}
	if err := p.beSeen(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	before := m.values
	m.unread()
	m.values, m.loaded = map[string]state.Versioned{}, map[string]bool{} // revisions of a restored store can be smaller
	for _, n := range m.own {
		n.dirty = true // it may have lost it
	}
	names := slices.Sorted(maps.Keys(m.interest))
	m.mu.Unlock()
	var changed []string
	for _, name := range names {
		if err := m.learnAll(ctx, name); err != nil {
			return err
		}
		if m.differs(name, before) {
			changed = append(changed, name)
		}
	}
	m.changedNames(changed...)
	return m.syncUsage(ctx)
}

// differs reports whether the store has something else of a certificate than before, or lacks what this host has.
func (m *Member) differs(name string, before map[string]state.Versioned) bool {
	m.mu.Lock()
	values := maps.Clone(m.values)
	m.mu.Unlock()
	for place, v := range values {
		of, _ := certificateOf(place)
		if of == name && !bytes.Equal(v.Value, before[place].Value) {
			return true
		}
	}
	l := m.book.Lineage(name)
	record, _, err := l.Look()
	if err != nil {
		return false
	}
	for key, slot := range record.Keys {
		place := bundlePlace(name, key)
		b, err := l.Bundle(slot.Current)
		if err != nil {
			continue
		}
		theirs, err := m.vault().openBundle(values[place].Value, name, key, 0)
		if err != nil || m.betterThan(place, theirs, b) {
			return true
		}
	}
	return false
}

// beat renews the lease that says that this host is at work.
func (p *part) beat(ctx context.Context) error {
	m := p.m
	p.next.alive = time.Now().Add(jittered(aliveEvery))
	if p.alive != 0 {
		err := m.shared.Renew(ctx, p.alive)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := m.twin(ctx); err != nil { // another host may have the name by now
		return err
	}
	lease, err := m.shared.Grant(ctx, aliveLease)
	if err != nil {
		return err
	}
	value, err := m.vault().note(m.hostPlace("alive"), 0, time.Now(), alive{m.set.Session})
	if err != nil {
		return err
	}
	if err := m.shared.Lend(ctx, m.hostPlace("alive"), value, lease); err != nil {
		return err
	}
	p.alive = lease
	now, err := m.shared.Get(ctx, m.hostPlace("alive"))
	p.lent = now.Revision
	return err
}

// leave says that this host is not at work any more, unless another process of it is. It waits for a second at most: otherwise the lease ends
// by itself.
func (p *part) leave() {
	left := make(chan struct{})
	go func() {
		defer close(left)
		ctx, cancel := context.WithTimeout(context.Background(), leaving)
		defer cancel()
		place := p.m.hostPlace("alive")
		if now, err := p.m.shared.Get(ctx, place); err == nil && now.Revision == p.lent {
			_ = p.m.shared.Remove(place)
		}
	}()
	select {
	case <-left:
	case <-time.After(leaving):
	}
}

const leaving = time.Second

// beSeen says when this host was last at work, for longer.
func (p *part) beSeen(ctx context.Context) error {
	m := p.m
	p.next.seen = time.Now().Add(jittered(seenEvery))
	if err := m.twin(ctx); err != nil {
		return err
	}
	if err := m.enlist(ctx, m.set.Host, true); err != nil {
		return err
	}
	if err := m.shared.Remove(m.hostPlace("forgotten")); err != nil {
		return err
	}
	if p.seen != 0 && m.shared.Renew(ctx, p.seen) != nil {
		p.seen = 0
	}
	if p.seen == 0 {
		lease, err := m.shared.Grant(ctx, m.set.Forget)
		if err != nil {
			return err
		}
		p.seen = lease
	}
	value, err := m.vault().note(m.hostPlace("seen"), 0, time.Now(), seenValue{m.set.Version})
	if err != nil {
		return err
	}
	return m.shared.Lend(ctx, m.hostPlace("seen"), value, p.seen)
}

// work does what is due, until something fails.
func (p *part) work(ctx context.Context, failed <-chan error) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-p.m.wake:
		case <-timer.C:
		}
		next, err := p.once(ctx)
		if err != nil {
			return err
		}
		timer.Reset(max(0, time.Until(next)))
	}
}

// once does what is due now, and returns when something will be.
func (p *part) once(ctx context.Context) (next time.Time, err error) {
	m, now := p.m, time.Now()
	m.mu.Lock()
	down := m.down
	m.mu.Unlock()
	if down != nil {
		return next, down // another caller has seen it
	}
	p.mu.Lock()
	stale := p.stale
	p.stale = false
	p.mu.Unlock()
	if stale {
		if err := m.learnTrust(ctx); err != nil {
			return next, err
		}
	}
	if !now.Before(p.next.alive) {
		if err := p.beat(ctx); err != nil {
			return next, err
		}
	}
	if !now.Before(p.next.seen) {
		if err := p.beSeen(ctx); err != nil {
			return next, err
		}
	}
	next = earlierOf(p.next.alive, p.next.seen)
	if err := m.sendQueue(ctx); err != nil && isAway(err) {
		return next, err
	}
	for _, name := range p.m.names() {
		due, err := p.certificate(ctx, name, now)
		if err != nil {
			return next, err
		}
		next = earlierOf(next, due)
	}
	return next, nil
}

// names lists the certificates of this host.
func (m *Member) names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.interest))
}

// certificate sends what this host says of a certificate, and reads what others say. It returns when it is due again.
func (p *part) certificate(ctx context.Context, name string, now time.Time) (next time.Time, err error) {
	m := p.m
	m.mu.Lock()
	loaded := m.loaded[name]
	m.mu.Unlock()
	if !loaded {
		if err := m.learnAll(ctx, name); err != nil {
			return next, err
		}
		if m.differs(name, nil) {
			m.changedNames(name)
		}
	}
	said, err := p.tell(ctx, name, now)
	if err != nil {
		return next, err
	}
	if at, waits := m.again(name, now); waits {
		said = earlierOf(said, at)
	}
	m.mu.Lock()
	known := m.known[name]
	m.mu.Unlock()
	if known != nil && !known.at.IsZero() {
		if due := known.at.Add(m.hostsPause(name)); now.Before(due) {
			return earlierOf(said, due), nil
		}
	}
	before := m.knownOf(name)
	if err := m.askHosts(ctx, name); err != nil {
		return next, err
	}
	if !sameSaid(before, m.knownOf(name), false) {
		m.changedNames(name)
	}
	return earlierOf(said, now.Add(m.hostsPause(name))), nil
}

// tell sends what this host says, if it is new, or was said long ago.
func (p *part) tell(ctx context.Context, name string, now time.Time) (next time.Time, err error) {
	m := p.m
	again := max(sayAgain, m.each(perStatement))
	m.mu.Lock()
	n := m.own[name]
	if n == nil {
		m.mu.Unlock()
		return now.Add(again), nil
	}
	next = n.sent.Add(again)
	if !n.sent.IsZero() && !now.Before(next) {
		n.dirty, next = true, now.Add(again) // so that others see how old it is
	}
	dirty := n.dirty
	m.mu.Unlock()
	if !dirty {
		return next, nil
	}
	if err := m.send(ctx, name); isAway(err) && !full(err) {
		return next, err
	} else if err != nil {
		m.log.Warn("what this host has cannot be told to the fleet", "certificate", name, "error", err)
		return now.Add(jittered(aliveEvery)), nil
	}
	return now.Add(jittered(again)), nil
}

// each returns a time for all hosts and all certificates of this host.
func (m *Member) each(one time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Duration(max(1, len(m.memory.Hosts))*len(m.interest)) * one
}

// hostsPause is how long what others say counts as new: shorter while somebody lacks what this host has.
func (m *Member) hostsPause(name string) time.Duration {
	own := m.ownSaid(name)
	if own != nil {
		known := m.knownOf(name)
		for _, s := range known {
			if s.Alive && slices.ContainsFunc(own.OnDisk, func(spki string) bool { return !slices.Contains(s.OnDisk, spki) }) {
				return max(hostsAgain, time.Duration(len(known))*perHost)
			}
		}
	}
	return max(hostsCalm, m.each(perStatement))
}

// learnAll reads what the store has of a certificate.
func (m *Member) learnAll(ctx context.Context, name string) error {
	keys := []string{tlsaPlace(name)}
	for _, key := range keyTypes() {
		keys = append(keys, bundlePlace(name, key), nextPlace(name, key))
	}
	var serials []string
	if err := m.ask(ctx, func(context.Context) (err error) {
		serials, err = m.shared.List(path.Join("certificate", name, "revoked"))
		return err
	}); err != nil {
		return err
	}
	for _, serial := range first(serials, mostRevoked) {
		if !strings.HasSuffix(serial, "/") {
			keys = append(keys, revokedPlace(name, serial))
		}
	}
	m.mu.Lock()
	m.interest[name] = true
	m.mu.Unlock()
	for part := range slices.Chunk(keys, 100) {
		values, err := m.many(ctx, part)
		if err != nil {
			return err
		}
		for _, v := range values {
			m.learnValue(name, v)
		}
	}
	m.mu.Lock()
	m.loaded[name] = true
	m.mu.Unlock()
	return nil
}

// learnValue takes in a value of a certificate of this host. It reports whether it is something new.
func (m *Member) learnValue(name string, v state.Versioned) bool {
	if strings.HasPrefix(v.Key, path.Join("certificate", name, "revoked")+"/") {
		if v.Revision == 0 || v.Value == nil {
			return false
		}
		r, err := m.readRevoked(name, v)
		return err == nil && m.learnRevoked(name, r)
	}
	if v.Value == nil {
		v.Revision = 0 // it was removed
	}
	if strings.HasPrefix(v.Key, path.Join("certificate", name, "keys")+"/") {
		return true // whoever wants to know it asks
	}
	if !isKept(name, v.Key) {
		return false // nothing of mxcert is there: strangers must not fill the memory of this host
	}
	m.mu.Lock()
	before, known := m.values[v.Key]
	if known && before.Revision > v.Revision && v.Revision != 0 {
		m.mu.Unlock()
		return false
	}
	m.values[v.Key] = v
	m.mu.Unlock()
	return before.Revision != v.Revision
}

// learnCertificates takes in changes below certificate/.
func (m *Member) learnCertificates(values []state.Versioned) {
	var names []string
	for _, v := range values {
		name, ok := certificateOf(v.Key)
		m.mu.Lock()
		ok = ok && m.interest[name]
		m.mu.Unlock()
		if !ok || len(v.Value) > maxValue {
			continue
		}
		own := false
		if e, err := parse(v.Value, v.Key); err == nil {
			own = e.Signer == m.set.Identity.Recipient()
		}
		if m.learnValue(name, v) && !own && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	m.changedNames(names...)
}

// learnOrders wakes the certificates that this host waits to order.
func (m *Member) learnOrders(values []state.Versioned) {
	var names []string
	for _, v := range values {
		name, _, _ := strings.Cut(strings.TrimPrefix(v.Key, "order/"), "/")
		m.mu.Lock()
		waits := m.waiting[name]
		m.mu.Unlock()
		if !waits || v.Value == nil {
			continue
		}
		var over endedOrder
		if _, _, err := m.vault().readNote(v.Value, v.Key, 0, &over); err == nil && over.Ended && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	m.changedNames(names...)
}

func (m *Member) changedNames(names ...string) {
	m.mu.Lock()
	changed := m.onChange
	m.mu.Unlock()
	if changed != nil && len(names) > 0 {
		changed(names)
	}
}

// certificateOf returns the certificate that a key belongs to.
func certificateOf(place string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(place, "certificate/")
	name, _, found := strings.Cut(rest, "/")
	return name, ok && found && name != ""
}

// isKept reports whether a key is that of a value that this host keeps in its memory.
func isKept(name, place string) bool {
	return place == tlsaPlace(name) || slices.ContainsFunc(keyTypes(), func(key bundle.KeyType) bool {
		return place == bundlePlace(name, key) || place == nextPlace(name, key)
	})
}

func nextPlace(name string, key bundle.KeyType) string { return place{kindNext, name, key}.String() }
func tlsaPlace(name string) string                     { return path.Join("certificate", name, "tlsa") }
