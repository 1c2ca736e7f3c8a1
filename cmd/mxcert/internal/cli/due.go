package cli

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"mxcert/acme"
	"mxcert/acme/ari"
	"mxcert/acme/bundle"
	"mxcert/acme/schedule"
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
	case p.revoked(key) != "":
		return p.revoked(key)
	case p.unfinished(key):
		return "an order that was begun is not finished"
	case !now.Before(p.renewalTime(slot, current)):
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

// renewalTime is the instant drawn from the CA's window where it gave one, else that of the lifetime, moved into a
// maintenance window; never so late that the certificate would be in danger. Until then an operator's rollback stands.
func (p *pass) renewalTime(slot *state.Slot, b *bundle.Bundle) time.Time {
	latest := schedule.Latest(b.Leaf().NotBefore, b.NotAfter())
	if slot.RolledBack {
		return latest
	}
	wanted := schedule.Wanted{At: slot.RenewAt, Latest: latest, Fraction: fraction(b)}
	if !slot.Renewal.At.IsZero() {
		wanted.At, wanted.Start, wanted.End = slot.Renewal.At, slot.Renewal.Start, slot.Renewal.End
	}
	spans := make([]schedule.Span, len(p.certificate.Renewal.Spans))
	for i, s := range p.certificate.Renewal.Spans {
		spans[i] = schedule.Span(s)
	}
	return wanted.In(spans, time.Local, time.Now())
}

// fraction is a number from 0 to below 1 that is always the same for one certificate and differs between certificates.
func fraction(b *bundle.Bundle) float64 {
	sum := sha256.Sum256([]byte(b.Serial()))
	return float64(binary.BigEndian.Uint32(sum[:4])) / (1 << 32)
}

// inDanger reports whether there is no certificate, or not for long any more.
func (p *pass) inDanger(i int) bool {
	b := p.bundles[i]
	return b == nil || time.Now().After(schedule.Latest(b.Leaf().NotBefore, b.NotAfter()))
}

// askRenewalInfo learns when the CA wants the current certificates renewed. Not to learn it is no failure: the lifetime
// decides then.
func (p *pass) askRenewalInfo(ctx context.Context) {
	if p.options.dryRun || p.options.deployOnly || p.options.rollback {
		return
	}
	asked := false
	for i, key := range p.keys() {
		client := p.issuer(key)
		if p.bundles[i] == nil || client == nil {
			continue
		}
		slot := p.record.Slot(key)
		before := slot.Renewal
		info, err := client.RenewalInfo(ctx, p.bundles[i].Leaf(), before)
		if err != nil && !errors.Is(err, ari.ErrNone) && ctx.Err() == nil {
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

// issuer is the CA that the current certificate came from; nil where it is not configured any more.
func (p *pass) issuer(key bundle.KeyType) *acme.Client {
	g, err := p.lineage.Generation(p.record.Slot(key).Current)
	if err != nil {
		return nil
	}
	return p.cas.At(g.Directory)
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
func (p *pass) held(i int, key bundle.KeyType) error {
	f := p.record.Failure
	if f != nil && (f.Kind != kindDrift || f.ChargedToCA) && !p.urgent() && !stale(f) && f.Fingerprint == p.fingerprint && time.Now().Before(f.NotBefore) && (p.options.daemon || f.ChargedToCA) {
		return &heldError{until: f.NotBefore, hint: f.Hint,
			why: fmt.Sprintf("%d failed %s, the last: %s", f.Count, plural(f.Count, "attempt"), f.Message)}
	}
	err := p.cas.Held(p.claim(i, key))
	if held, ok := errors.AsType[*schedule.Held](err); ok && !p.urgent() {
		return &heldError{until: held.Until, hint: held.NextStep, why: held.Why}
	}
	return err
}

// urgent reports whether a person wants it now.
func (p *pass) urgent() bool { return p.options.force || p.options.newKey }

// stale reports that a failure was recorded while the clock was ahead: it says nothing about now.
func stale(f *state.Failure) bool { return f.At.After(time.Now().Add(time.Minute)) }

// claim says what the CA's budget has to know of an order.
func (p *pass) claim(i int, key bundle.KeyType) acme.Claim {
	edited := p.record.Failure != nil && p.record.Failure.Fingerprint != p.fingerprint // since it failed: the fault may be fixed
	claim := acme.Claim{Names: p.certificate.Domains, KeyType: key, New: true, Urgent: p.urgent(), Person: !p.options.daemon || edited}
	slot := p.record.Slot(key)
	g, err := p.lineage.Generation(slot.Current)
	if p.bundles[i] == nil || err != nil {
		return claim
	}
	claim.New = !sameSet(g.Names, p.certificate.Domains)
	claim.Life = g.NotAfter.Sub(g.NotBefore)
	claim.Replacement = !slot.Renewal.Start.IsZero() && !time.Now().Before(slot.Renewal.Start)
	return claim
}

// holdOf gives the end of a hold where nothing but holds kept an order from being placed.
func holdOf(err error) (until time.Time, ok bool) {
	if held, ok := errors.AsType[*heldError](err); ok {
		return held.until, true
	}
	_, asked := errors.AsType[*acme.Error](err)
	held, waits := errors.AsType[*schedule.Held](err)
	if asked || !waits {
		return time.Time{}, false
	}
	return held.Until, true
}
