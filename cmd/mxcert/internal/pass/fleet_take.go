package pass

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/fleet"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
)

// takeAll stores on this host what the fleet has and this host does not have yet. What goes wrong is no failure of the pass.
func (p *pass) takeAll(ctx context.Context) {
	if p.Fleet == nil || p.options.DeployOnly || p.options.Rollback || p.options.Publish {
		return
	}
	for i, key := range p.want.Keys {
		if p.takeKey(ctx, i, key) {
			p.along.old[key] = true
		}
	}
}

// takeKey takes the certificate of one key type, if there is another one that suits this host.
func (p *pass) takeKey(ctx context.Context, i int, key bundle.KeyType) (took bool) {
	ctx, cancel := context.WithTimeout(ctx, fleetPatience)
	defer cancel()
	shared, err := p.Fleet.Take(ctx, p.want.Name, key)
	switch {
	case errors.Is(err, state.ErrAway):
		return false // its health is told elsewhere
	case err != nil && ctx.Err() == nil:
		p.warn(fmt.Sprintf("the %s certificate of the fleet is not taken: %v", key, err))
		return false
	case err != nil || shared == nil:
		return false
	}
	if why := p.unsuitable(i, key, shared); why != "" {
		p.warn(fmt.Sprintf("the %s certificate that %s has ordered for the fleet (serial %s) is not taken: %s", key, shared.Host, shared.Bundle.Serial(), why))
		return false
	}
	if p.options.DryRun {
		p.along.planned[key] = fmt.Sprintf("take: %s certificate with serial %s, which %s has ordered (generation %d)", key, shared.Bundle.Serial(), shared.Host, shared.Generation)
		p.intended = append(p.intended, p.along.planned[key])
		return true
	}
	if err := p.store(i, key, shared); err != nil {
		p.warn(fmt.Sprintf("the %s certificate that %s has ordered could not be stored: %v", key, shared.Host, err))
		return false
	}
	return true
}

// unsuitable says why this host does not want what another host has ordered; "" if it does.
func (p *pass) unsuitable(i int, key bundle.KeyType, shared *fleet.Shared) string {
	b := shared.Bundle
	for _, name := range p.along.own.Names {
		if !slices.Contains(shared.Names, name) {
			return fmt.Sprintf("it is not for %s, which the configuration of this host requires", name)
		}
	}
	if !slices.Contains(p.want.Directories, shared.Directory) {
		return fmt.Sprintf("it is from %s, which is not in acme.directories of this host", shared.Directory)
	}
	if _, err := b.Check(bundle.Want{Names: shared.Names, KeyType: key, Roots: p.want.Roots, At: b.Soon(time.Now())}); err != nil {
		return report.OneLine(err.Error())
	}
	if p.lineage.Compromised(b.SPKI()) {
		return "its key must not be used any more"
	}
	return p.shortens(i, key, b)
}

// shortens says that a certificate would end before the one in its place, which is still good (invariant I3); "" if it does not.
func (p *pass) shortens(i int, key bundle.KeyType, b *bundle.Bundle) string {
	current := p.have.Bundles[i]
	if current == nil || !b.NotAfter().Before(current.NotAfter()) || p.have.Revoked(key) != "" || p.options.Shorter {
		return ""
	}
	if g, err := p.have.Current(key); err != nil || namesDiffer(p.want, p.have, key, g) {
		return "" // this one is to be replaced in any case
	}
	return fmt.Sprintf("it ends at %s, and the one of this host (serial %s) at %s", report.Minute(b.NotAfter()), current.Serial(), report.Minute(current.NotAfter()))
}

// store puts what another host has ordered on this host's disk, and makes it current. The fleet's store is not asked.
func (p *pass) store(i int, key bundle.KeyType, shared *fleet.Shared) error {
	g, err := p.keep(key, shared)
	if err != nil {
		return report.At("store", err)
	}
	slot := p.have.Record.Slot(key)
	slot.Issued(g.ID, schedule.RenewalTime(g.NotBefore, g.NotAfter, time.Now()))
	slot.Chain = p.chainToday(shared.Bundle)
	text := fmt.Sprintf("from %s, generation %d of the fleet", shared.Host, shared.Generation)
	p.have.Record.Log(state.Event{At: time.Now(), Event: "taken", Key: key, Serial: g.Serial, Message: text})
	p.have.Bundles[i], p.taken, p.changed = shared.Bundle, true, true
	for _, name := range g.Names {
		p.takeIn(name)
	}
	if err := p.lineage.Save(p.have.Record); err != nil {
		return report.At("store", err)
	}
	if order, ok, _ := p.lineage.Order(key); ok && order.URL == shared.Order {
		if err := p.lineage.DropOrder(key); err != nil { // another host has finished it
			p.warn(err.Error())
		}
	}
	p.have.Reread(key)
	p.say("taken", fmt.Sprintf("%s, serial %s, valid until %s, %s", key, g.Serial, g.NotAfter.Format(time.RFC3339), text))
	if err := p.Fleet.Taken(p.want.Name, key, shared); err != nil {
		p.warn("that a certificate of the fleet was taken could not be noted: " + err.Error()) // it is taken again, to no harm
	}
	return nil
}

// keep stores the certificate, unless it is stored already.
func (p *pass) keep(key bundle.KeyType, shared *fleet.Shared) (state.Generation, error) {
	if id := p.have.Stored(key, shared.Bundle.Serial()); id != "" {
		return p.have.Generation(id)
	}
	found := map[string]string{}
	for _, name := range shared.Names {
		if slices.Contains(p.along.own.Names, name) || slices.Contains(p.along.own.Optional, name) && p.want.Reason(name) == "" {
			continue
		}
		found[name] = p.want.Reason(name)
		if found[name] == "" { // nobody wants it that this host knows of: whoever ordered it knew why
			found[name] = state.WantedBy + shared.Host
		}
	}
	if len(found) == 0 {
		found = nil
	}
	return p.lineage.AddTaken(shared.Bundle, state.Taken{Host: shared.Host, Names: shared.Names, Found: found, Directory: shared.Directory,
		Order: shared.Order, Created: shared.Created}, time.Now())
}
