package daemon

import (
	"context"
	"crypto/rand"
	"math"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"time"

	"mxcert/acme/finding"
	"mxcert/acme/fleet"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/engine"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/tell"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/configs"
	"mxcert/hooks/journal"
)

const (
	// fewHosts is how many hosts may look at a new certificate at once. In a larger fleet they spread: each host more adds spreadEach to the
	// time within which all begin, up to mostSpread.
	fewHosts   = 20
	spreadEach = 60 * time.Millisecond
	mostSpread = time.Minute
	// wakesApart is how far apart two passes over one certificate begin that other hosts cause.
	wakesApart = 50 * time.Millisecond
)

// membership is this host in a fleet. A configuration with other settings of the fleet is another membership; with the same settings, the
// work on both configurations shares one, so that a reload neither loses the lead of an order nor looks like a second host.
type membership struct {
	*fleet.Member
	of    *wanted.Fleet
	print string
	leave func() error
	users int // workloads, those that are running out included; the daemon's lock guards it

	stop  context.CancelFunc // of Run; nil if it has not begun; the daemon's lock guards it
	ended chan struct{}      // closed when Run has returned

	mu    sync.Mutex
	woken map[string]time.Time // when another host last caused a pass
	told  fleet.Health         // what the log and the tellers know
}

// newSession tells this daemon from one of another host that has the same name.
func newSession() string { return rand.Text() }

// mayJoin returns an error if a configuration that is to replace another one changes the fleet, and this host lacks a file or secret for that: a bad
// edit never replaces what works. When the daemon starts there is nothing to keep, and no such fault keeps it from serving: see engine.Join.
func (d *Daemon) mayJoin(config *configs.Config, of *wanted.Fleet) error {
	old := d.current()
	if old == nil || of == nil || old.runner.Host.Fleet != nil && old.runner.Host.Fleet.Fingerprint() == of.Fingerprint() {
		return nil
	}
	if err := wanted.CheckFleet(config); err != nil {
		return err
	}
	_, err := of.Identity()
	return err
}

// join returns the membership that a configuration describes, for one more workload; nil without a fleet.
func (d *Daemon) join(of *wanted.Fleet, stateDirectory string, disk state.Store) (*membership, error) {
	if of == nil {
		return nil, nil //nolint:nilnil // it is in none
	}
	print := of.Fingerprint() + " " + stateDirectory
	d.mu.Lock()
	defer d.mu.Unlock()
	if m := d.member; m != nil && m.print == print && m.users > 0 {
		m.users++
		return m, nil
	}
	member, leave, err := engine.Join(of, engine.Process{Release: d.Release, Session: d.session}, disk, d.log)
	if err != nil {
		return nil, err
	}
	return &membership{Member: member, of: of, print: print, leave: leave, users: 1, ended: make(chan struct{}), woken: map[string]time.Time{}}, nil
}

// left ends the membership after its last workload.
func (d *Daemon) left(m *membership) error {
	d.mu.Lock()
	m.users--
	last := m.users == 0
	d.mu.Unlock()
	if !last {
		return nil
	}
	d.leaves(m)
	return m.leave()
}

// leaves has a membership learn nothing more. Its leads stay until its passes have ended.
func (d *Daemon) leaves(m *membership) {
	if m == nil {
		return
	}
	d.mu.Lock()
	stop := m.stop
	d.mu.Unlock()
	if stop != nil {
		stop()
		<-m.ended
	}
}

// attend has this host take part in its fleet: the one of the configuration in force, and no other.
func (d *Daemon) attend(ctx context.Context, m *membership) {
	d.mu.Lock()
	old := d.member
	if old == m {
		d.mu.Unlock()
		if m != nil {
			d.tellHealth(m) // somebody may listen who did not before
		}
		return
	}
	d.member = m
	if m == nil {
		d.mu.Unlock()
		d.tending.Go(func() { d.leaves(old) })
		d.Tell.Fleet(nil)
		d.Tell.Found(fleetTopic, nil)
		return
	}
	ctx, m.stop = context.WithCancel(ctx)
	d.mu.Unlock()
	d.tending.Go(func() {
		defer close(m.ended)
		d.leaves(old) // two memberships of one host are not alive at once
		d.tellHealth(m)
		m.Run(ctx, func(names []string) { d.changed(m, names) })
	})
}

// wants has the fleet know which certificates this configuration has.
func (w *workload) wants() {
	if w.member == nil {
		return
	}
	var names []string
	for _, want := range w.runner.Host.Certificates {
		names = append(names, want.Name)
	}
	w.member.Wants(names)
}

// changed is called if other hosts have written something new about certificates; without names, if the health of the store has changed.
func (d *Daemon) changed(m *membership, names []string) {
	if len(names) == 0 {
		d.tellHealth(m)
		return
	}
	w := d.current()
	for _, name := range names {
		if _, is := w.runner.Host.Certificate(name); is && w.runner.Fleet == m.Member {
			hosts, _ := m.Hosts(w.waiting, name) // the last known ones do
			w.sooner(name, m.wake(name, len(hosts), time.Now()))
		}
	}
	d.Tell.Fleet(m.world())
}

// wake returns when a pass begins that another host causes.
func (m *membership) wake(name string, hosts int, now time.Time) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := now.Add(spread(hosts))
	if last := m.woken[name].Add(wakesApart); at.Before(last) {
		at = last
	}
	m.woken[name] = at
	return at
}

// spread draws how long a host waits before it looks at what another one has written.
func spread(hosts int) time.Duration {
	if hosts <= fewHosts {
		return 0
	}
	return mathrand.N(min(time.Duration(min(hosts, math.MaxInt16))*spreadEach, mostSpread))
}

// fleetTopic is what is known about the fleet's store.
var fleetTopic = tell.Topic{Source: "fleet"} //nolint:gochecknoglobals // a constant

// world is what tellers may know about the fleet. They ask nobody.
func (m *membership) world() *tell.Fleet {
	return &tell.Fleet{Name: m.of.Name, Host: m.of.Host, Health: m.Health(), Member: m.Member}
}

// tellHealth says how the store is, in the log only what is new.
func (d *Daemon) tellHealth(m *membership) {
	m.mu.Lock()
	before, health := m.told, m.Health()
	m.told = health
	m.mu.Unlock()
	d.Tell.Fleet(m.world())
	d.Tell.Found(fleetTopic, healthFindings(m.of.Name, health))
	if health.Up && !health.Since.IsZero() && (!before.Up || before.Since.IsZero()) { // the first answer counts, too: a pass may have missed it
		d.back(m)
	}
	d.logHealth(m.of.Name, before, health)
}

// logHealth logs what is new: that the store is away or back, each value that is refused, and that none is any more.
func (d *Daemon) logHealth(name string, before, health fleet.Health) {
	if health.Since.IsZero() {
		return
	}
	if !health.Up && (before.Up || before.Since.IsZero()) {
		d.log.Error("the store of the fleet cannot be used; mail is served as before", "fleet", name, "since", report.Minute(health.Since),
			"detail", report.OneLine(health.Reason), "hint", health.Hint, journal.FleetAway.Attr())
	}
	for _, fault := range health.Faults {
		if !slices.Contains(before.Faults, fault) {
			d.log.Error("the store of the fleet holds what this host refuses", "fleet", name, "detail", report.OneLine(fault), journal.FleetAway.Attr())
		}
	}
	switch {
	case !health.Up || before.Since.IsZero():
	case !before.Up:
		d.log.Info("the store of the fleet can be used again", "fleet", name, "away_since", report.Minute(before.Since), journal.FleetBack.Attr())
	case len(health.Faults) == 0 && len(before.Faults) > 0:
		d.log.Info("the store of the fleet holds nothing more that this host refuses", "fleet", name, journal.FleetBack.Attr())
	}
}

// back has each certificate looked at after the store was away: this host may have ordered meanwhile, and others, too.
func (d *Daemon) back(m *membership) {
	w := d.current()
	if w.runner.Fleet != m.Member {
		return
	}
	for _, want := range w.runner.Host.Certificates {
		hosts, _ := m.Hosts(w.waiting, want.Name)
		w.sooner(want.Name, m.wake(want.Name, len(hosts), time.Now()))
	}
}

// healthFindings says what is wrong with the store.
func healthFindings(name string, h fleet.Health) []finding.Finding {
	list := []finding.Finding{}
	if !h.Up && !h.Since.IsZero() {
		list = append(list, finding.New("fleet-away", finding.Error, "the store of the fleet %s cannot be used since %s: %s", name, report.Minute(h.Since), h.Reason).Next(h.Hint))
	}
	for _, fault := range h.Faults {
		list = append(list, finding.New("fleet-fault", finding.Error, "%s", fault).Next("see mxcert fleet status; this host goes on with what is on its disk"))
	}
	return list
}
