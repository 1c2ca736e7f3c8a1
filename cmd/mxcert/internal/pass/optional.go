package pass

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme"
	"mxcert/acme/bundle"
	"mxcert/acme/finding"
	"mxcert/acme/issued"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// Optional names. A certificate is ordered without an optional name that cannot be proven, and with it again when it can be. A required
// name is never left out (I13): if an order fails because of one, the pass fails.
//
// An optional name is left out when an order is placed, never before: a certificate that has the name stays in service until a new one
// is due, for its renewal, for other names or because somebody asked. What happens then depends on the failure:
//
//   - If it is not about single names (the CA is down, a limit of the account, a DNS provider that does not work), nothing is left out.
//   - If it is also about a required name, nothing is left out.
//   - If somebody who decides about the name has refused it (the CA judged the proof or the name, a CAA record forbids the CA, the name
//     server refused the update, there is no such zone, DNSSEC does not validate), the name is left out at once. Refusals that DNS answers
//     say are looked up twice.
//   - If something only did not work (a server did not answer, a record did not appear in time), a name that the current certificate has
//     stays, and the order waits, until the certificate is in danger: then the others do not wait any longer. A name that the
//     certificate never had is left out at once, because nothing is lost.
//
// Then the pass places a further order, at most mostFurther of them, and each within the limits of the CA.
//
// A name that is left out is tried again when its time has come: after 10 minutes, 100 minutes, then daily if orders failed, hourly if only
// the look before an order failed. If that look finds nothing, the next order has the name, and the name itself is a reason for an
// order. A failure of such an order is no failure of the pass, because a certificate without the name is in service.

// mostFurther is how many further orders a pass places after orders that failed because of optional names.
const mostFurther = 2

// mostReason limits a stored reason, in bytes: a certificate may have a hundred optional names.
const mostReason = 400

// settled returns the names of an order that tries none again.
func settled(want wanted.Certificate, record state.Record) []string {
	return slices.DeleteFunc(slices.Clone(want.Names), func(name string) bool { return want.IsOptional(name) && leftOut(record, name) >= 0 })
}

// leftOut returns the position of a name among those that are left out, or -1.
func leftOut(record state.Record, name string) int {
	return slices.IndexFunc(record.LeftOut, func(l state.LeftOut) bool { return l.Name == name })
}

// chooseNames decides which names the orders of this pass ask for. An unfinished order decides, if it has names that may be tried.
func (p *pass) chooseNames() {
	record := &p.have.Record
	record.LeftOut = slices.DeleteFunc(record.LeftOut, func(l state.LeftOut) bool { return !p.want.IsOptional(l.Name) })
	if len(record.LeftOut) == 0 {
		record.LeftOut = nil
	}
	p.names, p.retry, p.again = settled(p.want, *record), nil, nil
	for _, l := range record.LeftOut {
		// A time further away than any delay was written while the clock was ahead.
		if due := !time.Now().Before(l.NextTry) || time.Until(l.NextTry) > 8*24*time.Hour; due || p.urgent() || l.Fingerprint != p.want.ProofFingerprint() {
			p.retry = append(p.retry, l.Name)
		}
	}
	if len(p.retry) == 0 {
		return
	}
	if slices.ContainsFunc(p.want.Keys, p.inFlight) {
		p.retry = nil // it is paid for: it comes first
		return
	}
	fewer := p.names
	if p.names = p.with(p.retry); slices.ContainsFunc(p.want.Keys, p.inFlight) {
		p.again, p.retry = p.retry, nil
		return
	}
	p.names = fewer
}

// with returns the names of the orders of this pass, and others, in the order of the configuration.
func (p *pass) with(others []string) []string {
	return slices.DeleteFunc(slices.Clone(p.want.Names), func(name string) bool { return !slices.Contains(p.names, name) && !slices.Contains(others, name) })
}

// without makes the orders of this pass ask for fewer names.
func (p *pass) without(name string) {
	same := func(other string) bool { return other == name }
	p.names, p.again = slices.DeleteFunc(slices.Clone(p.names), same), slices.DeleteFunc(slices.Clone(p.again), same)
}

// tryAgain looks at the names that were left out and whose time has come. Those about which it finds nothing are ordered.
func (p *pass) tryAgain(ctx context.Context) {
	if p.options.DryRun {
		for _, name := range p.retry {
			p.intended = append(p.intended, "look again whether "+name+" can be proven, and order a certificate with it")
		}
		return
	}
	if len(p.retry) == 0 {
		return
	}
	bad := append(p.blocked(ctx, p.resolver, p.retry), p.forbidden(ctx, p.retry)...)
	if ctx.Err() != nil {
		return
	}
	for _, e := range bad {
		p.leave(e, false)
	}
	for _, name := range p.retry {
		switch {
		case slices.ContainsFunc(bad, func(e *acme.NameError) bool { return e.Name == name }):
		case p.certified(name):
			p.takeIn(name) // an order without it was never issued
			p.names = p.with([]string{name})
		default:
			p.say("order", name+" was left out; it is tried again")
			p.again = append(p.again, name)
		}
	}
	p.names, p.retry = p.with(p.again), nil
}

// certified reports whether each current certificate has a name.
func (p *pass) certified(name string) bool {
	return p.have.Any() && !slices.ContainsFunc(p.want.Keys, func(key bundle.KeyType) bool {
		g, err := p.have.Current(key)
		return err != nil || !slices.Contains(g.Names, name)
	})
}

// hasName reports whether a current certificate has a name.
func (p *pass) hasName(name string) bool {
	return slices.ContainsFunc(p.want.Keys, func(key bundle.KeyType) bool {
		g, err := p.have.Current(key)
		return err == nil && slices.Contains(g.Names, name)
	})
}

// comesBack returns why the certificate of a key type must be ordered although it has all names but those that were left out; "" if none
// of them is tried again.
func (p *pass) comesBack(key bundle.KeyType) string {
	g, err := p.have.Current(key)
	lacking := slices.DeleteFunc(slices.Clone(p.again), func(name string) bool { return err != nil || slices.Contains(g.Names, name) })
	if len(lacking) == 0 {
		return ""
	}
	return strings.Join(lacking, ", ") + " was left out and is tried again"
}

// fewer reports whether, after a failure, an order for fewer names is worth a try. It notes which names are left out. essential says that
// the certificate is due whatever becomes of the names that are tried again, and placed that the failure cost an order.
func (p *pass) fewer(ctx context.Context, err error, i int, essential, placed bool) bool {
	if ctx.Err() != nil || len(p.want.Optional) == 0 {
		return false
	}
	if until, held := holdOf(err); held {
		return p.putOff(err, until) || p.leaveFresh(err, i, placed)
	}
	bad := acme.NameErrors(err, p.names)
	if slices.ContainsFunc(bad, func(e *acme.NameError) bool { return !p.want.IsOptional(e.Name) }) {
		bad = nil
	}
	bad = slices.DeleteFunc(bad, func(e *acme.NameError) bool { return p.stays(e, i, essential) })
	for _, e := range bad {
		p.leave(e, placed)
	}
	if len(bad) == 0 {
		return !essential && p.putOff(err, time.Now().Add(schedule.Again(2, true))) ||
			(p.addsOnly(i) || refusedTogether(err)) && p.leaveFresh(err, i, placed)
	}
	p.keepLeftOut(p.want.Keys[i])
	return true
}

// stays reports whether a name that failed stays in the certificate, so that the order has to wait for it.
func (p *pass) stays(e *acme.NameError, i int, essential bool) bool {
	switch {
	case !p.hasName(e.Name):
		return false
	case !essential:
		return true
	case e.Denied || p.have.InDanger(i):
		return false
	}
	leaf := p.have.Bundles[i].Leaf()
	p.warn(fmt.Sprintf("%s is optional, and the certificate in service has it; if it still cannot be proven at %s, mxcert leaves it out",
		e.Name, report.Minute(schedule.Latest(leaf.NotBefore, leaf.NotAfter))))
	return true
}

// putOff orders without the names that are tried again, because of a failure that is not about them.
func (p *pass) putOff(err error, until time.Time) bool {
	if len(p.again) == 0 {
		return false
	}
	for _, name := range p.again {
		if n := leftOut(p.have.Record, name); n >= 0 {
			l := &p.have.Record.LeftOut[n]
			l.NextTry, l.Fingerprint = latest(until, l.NextTry).UTC().Truncate(time.Second), p.want.ProofFingerprint()
		}
		p.names = slices.DeleteFunc(slices.Clone(p.names), func(other string) bool { return other == name })
	}
	p.say("warning", fmt.Sprintf("%s stays left out until %s: %s", strings.Join(p.again, ", "), report.Minute(until), report.OneLine(err.Error())))
	p.again = nil
	return true
}

// leave leaves a name out and notes when it is tried again. ordered says that the failure cost an order.
func (p *pass) leave(e *acme.NameError, ordered bool) {
	now, record := time.Now().UTC().Truncate(time.Second), &p.have.Record
	n := leftOut(*record, e.Name)
	reason := finding.Quote(report.OneLine(e.Error()), mostReason)
	if n < 0 {
		n, record.LeftOut = len(record.LeftOut), append(record.LeftOut, state.LeftOut{Name: e.Name, Since: now})
		record.Log(state.Event{At: now, Event: "left-out", Message: e.Name + ": " + reason})
		p.say("left-out", fmt.Sprintf("%s is left out: %s", e.Name, reason))
	}
	l := &record.LeftOut[n]
	l.Tries, l.Reason, l.Fingerprint = l.Tries+1, reason, p.want.ProofFingerprint()
	delay := schedule.Again(l.Tries, ordered)
	if w, ok := errors.AsType[interface {
		error
		Wait() time.Duration
	}](e.Cause); ok {
		delay = max(delay, w.Wait())
	}
	l.NextTry = now.Add(delay).Truncate(time.Second)
	p.without(e.Name)
}

// keepLeftOut stores what is left out before another order is placed, and forgets the one that failed: whatever happens now, the same
// order is not tried again before its time.
func (p *pass) keepLeftOut(key bundle.KeyType) {
	if err := errors.Join(p.lineage.Save(p.have.Record), p.lineage.DropOrder(key)); err != nil {
		p.warn(err.Error())
	}
}

// takeIn forgets that a name was left out.
func (p *pass) takeIn(name string) {
	n := leftOut(p.have.Record, name)
	if n < 0 {
		return
	}
	p.have.Record.LeftOut = slices.Delete(slices.Clone(p.have.Record.LeftOut), n, n+1)
	if len(p.have.Record.LeftOut) == 0 {
		p.have.Record.LeftOut = nil
	}
	p.have.Record.Log(state.Event{At: time.Now(), Event: "taken-in", Message: name})
	p.say("taken-in", name+" is proven; it is not left out any more")
}

// namesDiffer reports whether a certificate was ordered for other names than are wanted now. Names that are left out may be missing, and
// after a rollback every optional one. A name that looks had found, and find no longer, stays until the next renewal.
func namesDiffer(want wanted.Certificate, have *issued.Lineage, key bundle.KeyType, g state.Generation) bool {
	tolerated := func(name string) bool {
		return want.IsOptional(name) && (leftOut(have.Record, name) >= 0 || have.Record.Slot(key).RolledBack)
	}
	unwanted := func(name string) bool { return !slices.Contains(want.Names, name) && !wasFound(want, g, name) }
	lacking := func(name string) bool { return !slices.Contains(g.Names, name) && !tolerated(name) }
	return slices.ContainsFunc(g.Names, unwanted) || slices.ContainsFunc(want.Names, lacking)
}

// wasFound reports whether looks had found a name when the certificate was ordered. If the description of the certificate was lost, they may
// have.
func wasFound(want wanted.Certificate, g state.Generation, name string) bool {
	_, ok := g.Found[name]
	return ok || g.Directory == state.UnknownCA && len(want.MailDomains) > 0
}
