package pass

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/fleet"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/dane"
)

const (
	// KindFleetBusy is the kind of the error if another host of the fleet orders, or may be about to.
	KindFleetBusy = "fleet-busy"
	// KindFleetAway is the kind of the error if an order is due and the store of the fleet cannot be used.
	KindFleetAway = "fleet-away"

	// leadPatience is how long a pass of the daemon waits while another host orders: what that host gets wakes the certificate.
	leadPatience = 5 * time.Second
	// commandPatience is how long a command waits for it.
	commandPatience = 5 * time.Minute
	// fleetAgain is when a pass that could not lead is made again, if nothing wakes it before.
	fleetAgain = time.Minute
	// offerAgain is when a pass is made again that could not offer what is issued here. When the store is back, the daemon makes it at once.
	offerAgain = time.Minute
)

// waitsForFleet is the error of a pass that does not order because of the fleet. It is no failure.
type waitsForFleet struct {
	kind, why, advice string
	until             time.Time
}

func (e *waitsForFleet) Error() string { return e.why }

// Kind is KindFleetBusy or KindFleetAway.
func (e *waitsForFleet) Kind() string { return e.kind }

// Hint says what to do, if anything.
func (e *waitsForFleet) Hint() string { return e.advice }

// Temporary is true: the order is placed later, by this host or another.
func (*waitsForFleet) Temporary() bool { return true }

// fleetHold returns when a pass is made again that only the fleet keeps from ordering.
func fleetHold(err error) (until time.Time, waits bool) {
	e, ok := errors.AsType[*waitsForFleet](err)
	if !ok {
		return time.Time{}, false
	}
	return e.until, true
}

// lead gets the right to order for the fleet. took says that another host was faster, or has ended the order in flight of this one: then what is due
// has to be judged again. Without a fleet there is nothing to get.
func (p *pass) lead(ctx context.Context, i int, key bundle.KeyType) (took bool, err error) {
	if p.Fleet == nil || p.held(i, key) != nil {
		return false, nil //nolint:nilerr // issueKey asks again, and says what holds the order back
	}
	if p.along.lead == nil {
		if p.along.lead, err = p.awaitLead(ctx, i); err != nil {
			return false, report.At("order", err)
		}
		before := p.inFlight(key)
		p.have.Reread(key)
		if before && !p.inFlight(key) {
			return true, nil
		}
	}
	if p.along.lead.Alone || p.along.looked[key] {
		return false, nil
	}
	p.along.looked[key] = true
	took = p.takeKey(ctx, i, key)
	if took {
		p.along.answers[key] = true
	}
	return took, nil
}

// elsewhere says, for a dry run, that another host has an order in flight; "" if none has.
func (p *pass) elsewhere(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, fleetPatience)
	defer cancel()
	host := p.Fleet.Ordering(ctx, p.want.Name)
	if host == "" {
		return ""
	}
	return fmt.Sprintf("; another host orders: %s has one in flight, and this host takes what it gets", host)
}

// awaitLead waits until no other host orders.
func (p *pass) awaitLead(ctx context.Context, i int) (*fleet.Lead, error) {
	patience := commandPatience
	if p.options.Daemon {
		patience = leadPatience
	}
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	told := time.AfterFunc(shortWait, func() { p.say("lock", "waits for another host of the fleet that orders this certificate") })
	held, err := p.Fleet.Lead(wait, p.want.Name, p.danger(i))
	told.Stop()
	if err == nil {
		if held.Alone {
			p.warn("this host orders alone: the store of the fleet has been away for long, and the certificate ends soon")
		}
		return held, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, waiting(err)
}

// waiting says in words why this host does not order.
func waiting(err error) error {
	if h, ok := errors.AsType[*fleet.Held](err); ok {
		return &waitsForFleet{kind: KindFleetAway, why: h.Why, advice: h.Advice, until: soonest(h.Until)}
	}
	if stray, ok := errors.AsType[*fleet.Refused](err); ok && stray.ID == fleet.NoLease {
		return &waitsForFleet{kind: KindFleetBusy, why: stray.Key + ": " + stray.Why, advice: stray.Next, until: soonest(time.Time{})}
	}
	switch {
	case errors.Is(err, state.ErrLocked), errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, state.ErrAway):
		return &waitsForFleet{kind: KindFleetBusy, why: "another host of the fleet orders: " + err.Error(),
			advice: "nothing: this host takes what the other one gets; mxcert fleet status shows who is at work", until: soonest(time.Time{})}
	case errors.Is(err, state.ErrAway):
		return &waitsForFleet{kind: KindFleetAway, why: fmt.Sprintf("an order is due, and the store of the fleet cannot be used: %v", err),
			advice: "bring etcd back; what is in service stays, and nothing is ordered until then", until: soonest(time.Time{})}
	}
	return err
}

// interrupted says in words of the fleet why an order did not go on: the store went away, or this host has lost the lead, so that the order
// could not be noted for the next host. That is no failure of the order, which whoever leads next goes on with.
func (p *pass) interrupted(err error) error {
	if p.Fleet == nil || !errors.Is(err, state.ErrAway) && !errors.Is(err, state.ErrLocked) {
		return err
	}
	return waiting(err)
}

// soonest returns when to try again: the store may be back, or the other host may be done, before a time that is far away.
func soonest(until time.Time) time.Time {
	again := time.Now().Add(fleetAgain)
	if !until.IsZero() && until.After(time.Now()) && until.Before(again) {
		return until
	}
	return again
}

// danger says how long the certificate still lasts. The store decides with it whether this host may order alone.
func (p *pass) danger(i int) fleet.Danger {
	d := fleet.Danger{Managed: p.want.DANE().Mode == dane.Publish}
	if b := p.have.Bundles[i]; b != nil {
		d.NotAfter, d.Life = b.NotAfter(), b.NotAfter().Sub(b.Leaf().NotBefore)
		d.Serial = b.Serial()
	}
	return d
}

// offer gives the fleet what this pass has ordered. It does not wait: this host's own deployment goes on beside it.
func (p *pass) offer(ctx context.Context, key bundle.KeyType, g state.Generation, b *bundle.Bundle) {
	if p.Fleet == nil {
		return
	}
	before, done := p.along.offers, make(chan struct{})
	p.along.offers, p.along.offered[key] = done, true
	held := p.along.lead
	go func() {
		defer close(done)
		if before != nil {
			<-before
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fleetPatience)
		defer cancel()
		err := p.Fleet.Offer(ctx, held, p.want.Name, g, b)
		if err == nil || errors.Is(err, state.ErrAway) && p.Fleet.Offered(p.want.Name, b) { // the store is away, and had it: nobody waits for it
			return
		}
		p.along.unoffered.Store(true)
		p.say("fleet", fmt.Sprintf("the %s certificate could not be offered to the other hosts yet: %v", key, err))
	}()
}

// endLead lets other hosts order, as soon as what this pass has ordered was offered.
func (p *pass) endLead() {
	held, offers := p.along.lead, p.along.offers
	if held == nil {
		return
	}
	p.along.lead = nil
	if offers == nil {
		held.Release()
		return
	}
	done := make(chan struct{})
	p.along.offers = done
	go func() {
		defer close(done)
		<-offers
		held.Release()
	}()
}

// reseed offers what the fleet's store has lost: it was emptied, or restored from an old backup, or could not be asked after an order.
func (p *pass) reseed(ctx context.Context) {
	if p.Fleet == nil || p.options.DryRun || ctx.Err() != nil || p.have == nil {
		return
	}
	p.TellRevoked(p.lineage)
	for i, key := range p.want.Keys {
		b, slot := p.have.Bundles[i], p.have.Record.Slot(key)
		if b == nil || p.along.offered[key] || slot.RolledBack || p.have.Revoked(key) != "" || time.Now().After(b.NotAfter()) {
			continue
		}
		if g, err := p.have.Current(key); err == nil {
			p.offer(ctx, key, g, b)
		}
	}
}

// endFleet waits until the fleet knows what this pass did. Each call to the store is limited, and the pass has done its work.
func (p *pass) endFleet() {
	p.endLead()
	if p.along.offers != nil {
		<-p.along.offers
	}
	if p.Fleet != nil && !p.options.DryRun && !p.options.Daemon && !p.along.told {
		p.along.told = true
		if err := p.Tell(context.Background()); err != nil && !errors.Is(err, state.ErrAway) {
			p.say("fleet", "the other hosts could not be told what this host serves: "+err.Error())
		}
	}
}
