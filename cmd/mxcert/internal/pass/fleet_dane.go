package pass

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/fleet"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/dane"
)

// TLSA records and keys of a fleet; package dane says what hosts owe to each other. A pass asks the fleet's store only if another key is to be
// served (fleet_dane_gate.go) and at its end, before records are changed (fleet_dane_edit.go). If the store cannot be asked, certificates with the
// same key are deployed as ever, another key waits, and no record is removed.

// fleetTLSA is what a pass knows about the keys of the other hosts.
type fleetTLSA struct {
	keys    *fleet.Keys
	unknown string // why nobody knows now what the others serve
	outside bool   // this host takes no part in the fleet: it was removed, for example
	sight   *fleet.Sight
	shared  dane.Shared // what hosts remember together, at the last look
	number  int64       // of this host's statement in the store
	mark    *dane.Mark  // of this host; nil if it changes no records
	asked   bool        // in this pass
}

// keysOf returns what hosts share about the keys of a certificate; nil without a fleet.
func (r *Runner) keysOf(name string) *fleet.Keys {
	if r.Fleet == nil {
		return nil
	}
	return r.Fleet.Keys(name)
}

// startFleetTLSA prepares what a pass has to know about other hosts. It asks nobody. A host that has left its fleet forgets the others.
func (p *pass) startFleetTLSA() {
	t, keys := p.tlsa, p.keysOf(p.want.Name)
	if keys == nil {
		t.state.Peers, t.state.Shared, t.state.Said = nil, nil, nil
		return
	}
	t.fleet = &fleetTLSA{keys: keys, unknown: "the store of the fleet was not asked in this pass"}
}

// elsewhere is what is known about the other hosts; nil without a fleet. A look for people has what the last pass has heard.
func (t *tlsa) elsewhere() *dane.Elsewhere {
	switch {
	case t.fleet != nil:
		return t.state.Elsewhere(t.fleet.unknown)
	case len(t.state.Peers) > 0:
		return t.state.Elsewhere("")
	}
	return nil
}

// hearOnce asks the store of the fleet, if this pass has not done so.
func (p *pass) hearOnce(ctx context.Context) {
	if t := p.tlsa; t != nil && t.fleet != nil && !t.fleet.asked {
		p.hearFleet(ctx)
	}
}

// hearFleet asks the store of the fleet what the other hosts serve and remember, and takes it over.
func (p *pass) hearFleet(ctx context.Context) {
	t := p.tlsa
	if t == nil || t.fleet == nil {
		return
	}
	t.fleet.asked = true
	ctx, cancel := context.WithTimeout(ctx, fleetPatience)
	defer cancel()
	sight, err := t.fleet.keys.Look(ctx, t.types)
	if err == nil {
		err = t.fleet.read(sight)
	}
	if err != nil {
		p.fleetAway(err)
		return
	}
	for _, refused := range sight.Refused {
		p.warn(refused.Error())
	}
	t.fleet.unknown, t.fleet.outside = "", false
	at := now()
	t.state.Take(&t.fleet.shared, at)
	t.state.Hear(t.fleet.heard(), at, t.fleet.keys.Forget())
	t.settings.Elsewhere = t.elsewhere().Publishes()
	for _, key := range t.types {
		p.takeNext(ctx, key)
	}
	if !p.options.DryRun {
		p.keepTLSA()
	}
	p.planTLSA()
}

// fleetAway notes that the store cannot be asked, or must not be changed by this mxcert.
func (p *pass) fleetAway(err error) {
	f := p.tlsa.fleet
	f.unknown = "the store of the fleet cannot be used"
	_, f.outside = errors.AsType[*fleet.Refusal](err)
	h := p.fleetHealth()
	switch {
	case f.outside:
		f.unknown = "this host takes no part in its fleet"
		p.warn("no TLSA record is changed, because " + f.unknown + ": " + report.OneLine(err.Error()))
	case !errors.Is(err, state.ErrAway):
		f.unknown = "what the fleet knows about its keys cannot be used"
		p.warn(f.unknown + ": " + report.OneLine(err.Error()))
	case !h.Up && !h.Since.IsZero():
		f.unknown = "the store of the fleet cannot be used since " + report.Minute(h.Since)
	}
	p.planTLSA()
}

func (p *pass) fleetHealth() fleet.Health {
	if p.Fleet == nil {
		return fleet.Health{}
	}
	return p.Fleet.Health()
}

// read takes in a sight.
func (f *fleetTLSA) read(sight *fleet.Sight) error {
	f.sight, f.shared, f.number = sight, dane.Shared{}, 0
	if sight.Together != nil {
		if err := readShared(sight.Together, &f.shared); err != nil {
			return err
		}
	}
	for by := range sight.Forgotten {
		delete(f.shared.Marks, by) // it does not go on with the change; if it comes back and makes another, it is not forgotten any more
	}
	if at, gone := sight.Forgotten[f.keys.Host()]; gone {
		f.number = at.UnixNano() // what this host says from now on is later, whatever the two clocks say
	}
	for _, h := range sight.Hosts {
		var s dane.Statement
		if h.Host == f.keys.Host() && json.Unmarshal(h.Text, &s) == nil {
			f.number = max(f.number, s.Number)
		}
	}
	return nil
}

// readShared reads what hosts remember together.
func readShared(text []byte, shared *dane.Shared) error {
	if err := json.Unmarshal(text, shared); err != nil {
		return fmt.Errorf("what the hosts of the fleet remember together cannot be read: %w", err)
	}
	if shared.Version > state.Version {
		return errors.New("a later mxcert wrote what the hosts of the fleet remember together: install that version on this host as well")
	}
	shared.Clean()
	return nil
}

// heard lists what the other hosts say.
func (f *fleetTLSA) heard() (list []dane.Heard) {
	for _, h := range f.sight.Hosts {
		if h.Host == f.keys.Host() {
			continue
		}
		one := dane.Heard{Host: h.Host, Alive: h.Alive, Member: h.Member, Forgotten: f.sight.Forgotten[h.Host]}
		var s dane.Statement
		if h.Text != nil && json.Unmarshal(h.Text, &s) == nil && s.Host == h.Host {
			s.Clean()
			one.Statement = &s
		}
		list = append(list, one)
	}
	for host, at := range f.sight.Forgotten {
		if host != f.keys.Host() && !slices.ContainsFunc(list, func(h dane.Heard) bool { return h.Host == host }) {
			list = append(list, dane.Heard{Host: host, Forgotten: at})
		}
	}
	return list
}

// takeNext stores the fleet's next key on this host, if it is a new one that may be used here. If the store has lost it, it gets it back.
func (p *pass) takeNext(ctx context.Context, key bundle.KeyType) {
	t := p.tlsa
	if p.options.DryRun {
		return
	}
	known := t.state.Shared[key]
	n, there := t.fleet.sight.Next[key]
	if !there || n.Generation < known.Generation {
		if own, ok := t.keys[key]; ok && known.SPKI == own.SPKI {
			_ = p.offerNext(ctx, key, own, known.Generation) // the next look shows whether it is there
		}
		return
	}
	if t.state.Shared == nil {
		t.state.Shared = map[bundle.KeyType]dane.SharedNext{}
	}
	t.state.Shared[key] = dane.SharedNext{SPKI: n.SPKI, Generation: n.Generation}
	if own, ok := t.keys[key]; ok && own.SPKI == n.SPKI || !p.unspent(key, n.SPKI) || t.unread[key] != "" {
		return
	}
	if err := p.lineage.SaveNext(key, n.PEM); err != nil {
		p.warn(fmt.Sprintf("the fleet's next %s key could not be stored: %v", key, err))
		delete(t.state.Shared, key)
		return
	}
	next, err := readNext(p.lineage, key)
	if err != nil {
		p.warn(fmt.Sprintf("the fleet's next %s key cannot be used: %v", key, err))
		return
	}
	p.say("tlsa", fmt.Sprintf("the fleet's next %s key is stored", key))
	p.notesNext(key, next)
}

// unspent reports whether a next key was never the current one here, and has not leaked.
func (p *pass) unspent(key bundle.KeyType, spki string) bool {
	if p.lineage.Compromised(spki) || p.certifies(key, spki) {
		return false
	}
	roll := p.tlsa.state.Keys[key]
	return roll == nil || roll.Current != spki && !slices.ContainsFunc(roll.Retired, func(o dane.Retired) bool { return o.SPKI == spki }) &&
		(roll.Asked == nil || !slices.Contains(roll.Asked.Leaked, spki))
}

// notesNext notes which next key is stored.
func (p *pass) notesNext(key bundle.KeyType, next nextKey) {
	t := p.tlsa
	if t.state.Keys[key] == nil {
		t.state.Keys[key] = &dane.Roll{}
	}
	t.state.Keys[key].Next, t.state.Keys[key].Made = next.SPKI, time.Now().UTC()
	t.keys[key] = next
}

// offerNext gives the fleet a next key that is stored here.
func (p *pass) offerNext(ctx context.Context, key bundle.KeyType, next nextKey, generation int64) error {
	text, err := bundle.MarshalKey(next.signer)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, fleetPatience)
	defer cancel()
	return p.tlsa.fleet.keys.Offer(ctx, key, fleet.NextKey{SPKI: next.SPKI, Generation: generation, PEM: text})
}

// shareNext makes a next key the fleet's: the one that is stored here and that nobody knows yet, or a new one. If another host was faster, its
// key is stored here. It reports whether there is one.
func (p *pass) shareNext(ctx context.Context, key bundle.KeyType) bool {
	t := p.tlsa
	p.hearOnce(ctx)
	if t.fleet.unknown != "" {
		return false
	}
	next, ok := t.keys[key]
	if !ok || !p.unspent(key, next.SPKI) || t.state.Shared[key].SPKI == next.SPKI {
		var err error
		if next, err = p.storeNext(key); err != nil {
			p.warn(fmt.Sprintf("the next %s key could not be stored, so no record of it is published: %v", key, err))
			return false
		}
	}
	generation := max(t.state.Shared[key].Generation, t.fleet.sight.Next[key].Generation) + 1
	t.keys[key] = next
	switch err := p.offerNext(ctx, key, next, generation); {
	case errors.Is(err, state.ErrChanged):
		p.hearFleet(ctx)
		return t.shares(key)
	case err != nil:
		p.warn(fmt.Sprintf("the next %s key could not be given to the other hosts, so no record of it is published: %s", key, report.OneLine(err.Error())))
		return false
	}
	if t.state.Shared == nil {
		t.state.Shared = map[bundle.KeyType]dane.SharedNext{}
	}
	t.state.Shared[key] = dane.SharedNext{SPKI: next.SPKI, Generation: generation}
	p.notesNext(key, next)
	return true
}

// shares reports whether the stored next key is the fleet's; so it is without a fleet.
func (t *tlsa) shares(key bundle.KeyType) bool {
	next, ok := t.keys[key]
	return ok && (t.fleet == nil || t.state.Shared[key].SPKI == next.SPKI)
}

// Departed is the request for another key of every certificate because a host has left the fleet. It has the stored next key, too.
func Departed(host string) *dane.Asked {
	return &dane.Asked{At: time.Now().UTC(), Reason: fmt.Sprintf("host %s left the fleet", strings.ToValidUTF8(host, "")), Fresh: true}
}
