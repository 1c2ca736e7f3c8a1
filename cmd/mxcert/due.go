package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mxcert/acme"
	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// due says why a certificate has to be ordered, "" when it has not.
func (p *pass) due(i int, key bundle.KeyType) string {
	slot, current := p.record.Slot(key), p.bundles[i]
	if current == nil {
		return "there is none yet"
	}
	g, err := p.lineage.Generation(slot.Current)
	if err != nil {
		return "its description is damaged"
	}
	now := time.Now()
	switch {
	case !sameSet(g.Names, p.certificate.Domains): // what was asked for: a CA may add names
		return "the names have changed"
	case !slices.Contains(p.config.ACME.Directories, g.Directory):
		return "the CA has changed"
	case p.chainRoots != nil && !p.chains(current):
		return "it does not lead to a root in acme.roots_file"
	case now.After(current.NotAfter()):
		return "it has expired"
	case p.unfinished(key):
		return "an order that was begun is not finished"
	case !now.Before(renewalTime(slot, current)):
		return "its renewal time has come"
	case p.options.newKey && !p.answers(g) && !p.keyWaits(key, g):
		return "a new key was asked for"
	case p.options.force && !p.answers(g) && slot.Served == slot.Current:
		return "asked for"
	case (p.options.newKey || p.options.force) && !p.answers(g):
		p.say("order", fmt.Sprintf("the certificate of %s is paid for and not in service yet: it comes first", g.Created.Format(time.RFC3339)))
	}
	return ""
}

// keyWaits reports whether the key of the current certificate was never in service: it is as good as a new one.
func (p *pass) keyWaits(key bundle.KeyType, current state.Generation) bool {
	slot := p.record.Slot(key)
	if slot.Served == "" || slot.Served == slot.Current {
		return slot.Served == ""
	}
	served, err := p.lineage.Generation(slot.Served)
	return err == nil && served.SPKI != current.SPKI
}

// answers reports whether a certificate was issued after the operator asked for one, by another process. One that was
// issued in the future, as this clock sees it, does not.
func (p *pass) answers(g state.Generation) bool {
	return !g.Created.Before(p.options.asked) && g.Created.Before(time.Now().Add(time.Minute))
}

// unfinished reports whether an order for these names was placed and paid for, but not collected.
func (p *pass) unfinished(key bundle.KeyType) bool {
	order, ok, err := p.lineage.Order(key)
	return err == nil && ok && order.URL != "" && sameSet(order.Names, p.certificate.Domains) && slices.Contains(p.config.ACME.Directories, order.Directory)
}

// renewalTime is the instant drawn from the CA's window where it gave one, else that of the lifetime. Whatever the CA
// says, a tenth of the lifetime is kept for the case that the renewal fails. Until then an operator's rollback stands.
func renewalTime(slot *state.Slot, b *bundle.Bundle) time.Time {
	latest := b.NotAfter().Add(-b.NotAfter().Sub(b.Leaf().NotBefore) / 10)
	switch {
	case slot.RolledBack:
		return latest
	case slot.Renewal.At.IsZero():
		return slot.RenewAt
	case slot.Renewal.At.After(latest):
		return latest
	}
	return slot.Renewal.At
}

// askRenewalInfo learns when the CA wants the current certificates renewed. Not to learn it is no failure: the lifetime
// decides then.
func (p *pass) askRenewalInfo(ctx context.Context) {
	if p.options.dryRun || p.options.deployOnly || p.options.rollback {
		return
	}
	asked := false
	for i, key := range p.keys() {
		if p.bundles[i] == nil || !p.issuedHere(key) {
			continue
		}
		slot := p.record.Slot(key)
		before := slot.Renewal
		info, err := p.client.RenewalInfo(ctx, p.bundles[i].Leaf(), before)
		if err != nil && !errors.Is(err, acme.ErrNoRenewalInfo) && ctx.Err() == nil {
			p.say("renewal info", oneLine(err.Error()))
		}
		if info.Explanation != "" && info.Explanation != before.Explanation {
			p.warn(fmt.Sprintf("the CA explains its renewal window: %s", info.Explanation))
		}
		slot.Renewal, asked = info, asked || info != before
	}
	if asked {
		if err := p.lineage.Save(p.record); err != nil {
			p.warn(err.Error())
		}
	}
}

// issuedHere reports whether the current certificate came from the configured CA.
func (p *pass) issuedHere(key bundle.KeyType) bool {
	g, err := p.lineage.Generation(p.record.Slot(key).Current)
	return err == nil && slices.Contains(p.config.ACME.Directories, g.Directory)
}

// chains reports whether a certificate leads to one of the demanded roots.
func (p *pass) chains(b *bundle.Bundle) bool {
	_, err := b.Check(bundle.Want{Roots: p.chainRoots, At: time.Now()})
	return err == nil
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

// heldError says that an attempt would come too early.
type heldError struct {
	until time.Time
	why   string
	hint  string
}

func (e *heldError) Error() string {
	return fmt.Sprintf("waits until %s: %s", e.until.UTC().Format(time.RFC3339), e.why)
}
func (e *heldError) Kind() string    { return "backoff" }
func (e *heldError) Temporary() bool { return true }
func (e *heldError) Hint() string    { return e.hint + "; `mxcert renew --now` tries at once" }

// held keeps a certificate from using up the CA's limits, by failures or by successes. The daemon waits out every
// failure; a person's own run waits only where the CA counts failures; --now and a changed configuration do not wait.
func (p *pass) held(key bundle.KeyType) error {
	if p.options.force || p.options.newKey {
		return nil
	}
	f := p.record.Failure
	if f != nil && !stale(f) && f.Fingerprint == p.fingerprint && time.Now().Before(f.NotBefore) && (p.options.daemon || f.ChargedToCA) {
		return &heldError{until: f.NotBefore, hint: f.Hint,
			why: fmt.Sprintf("%d failed %s, the last: %s", f.Count, plural(f.Count, "attempt"), f.Message)}
	}
	return p.overBudget(key)
}

// stale reports that a failure was recorded while the clock was ahead: it says nothing about now.
func stale(f *state.Failure) bool { return f.At.After(time.Now().Add(time.Minute)) }

// Let's Encrypt gives 5 certificates of one exact set of names in 7 days. One is left for the operator.
const (
	maxOrders   = 4
	orderWindow = 7 * 24 * time.Hour
)

// overBudget stops orders that come one upon the other, whatever makes them due: a CA that delivers what is due again
// at once, a window that always lies in the past. For short-lived certificates the window is a third of their life.
func (p *pass) overBudget(key bundle.KeyType) error {
	window := orderWindow
	slot := p.record.Slot(key)
	if g, err := p.lineage.Generation(slot.Current); err == nil {
		window = min(window, g.NotAfter.Sub(g.NotBefore)/3)
	}
	var recent []time.Time
	for _, at := range slot.Orders {
		if since := time.Since(at); since >= 0 && since < window {
			recent = append(recent, at)
		}
	}
	if len(recent) < maxOrders {
		return nil
	}
	return &heldError{until: recent[len(recent)-maxOrders].Add(window), hint: "`mxcert history` shows why they were ordered",
		why: fmt.Sprintf("%d certificates were ordered within %s", len(recent), span(window))}
}
