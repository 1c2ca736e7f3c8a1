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
	case !sameSet(current.Leaf().DNSNames, p.certificate.Domains):
		return "the names have changed"
	case !slices.Contains(p.config.ACME.Directories, g.Directory):
		return "the CA has changed"
	case p.chainRoots != nil && !p.chains(current):
		return "it does not lead to a root in acme.roots_file"
	case now.After(current.NotAfter()):
		return "it has expired"
	case !now.Before(renewalTime(slot, current)):
		return "its renewal time has come"
	case p.options.newKey && g.Created.Before(p.options.asked):
		return "a new key was asked for"
	case p.options.force && g.Created.Before(p.options.asked):
		if slot.Served != slot.Current {
			p.say("order", fmt.Sprintf("the certificate of %s is paid for and not in service yet: it comes first", g.Created.Format(time.RFC3339)))
			return ""
		}
		return "asked for"
	}
	return ""
}

// renewalTime is the instant drawn from the CA's window where it gave one, else that of the lifetime. Whatever the CA
// says, a tenth of the lifetime is kept for the case that the renewal fails.
func renewalTime(slot *state.Slot, b *bundle.Bundle) time.Time {
	if slot.Renewal.At.IsZero() {
		return slot.RenewAt
	}
	latest := b.NotAfter().Add(-b.NotAfter().Sub(b.Leaf().NotBefore) / 10)
	if slot.Renewal.At.After(latest) {
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
	_, err := b.Check(bundle.Want{Roots: p.chainRoots, At: b.Leaf().NotBefore.Add(b.NotAfter().Sub(b.Leaf().NotBefore) / 2)})
	return err == nil
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

// heldError says that an attempt would come too early after a failure.
type heldError struct{ failure state.Failure }

func (e *heldError) Error() string {
	return fmt.Sprintf("waits until %s after %d failed %s, the last: %s", e.failure.NotBefore.UTC().Format(time.RFC3339),
		e.failure.Count, plural(e.failure.Count, "attempt"), e.failure.Message)
}
func (e *heldError) Kind() string    { return "backoff" }
func (e *heldError) Temporary() bool { return true }
func (e *heldError) Hint() string {
	return e.failure.Hint + "; after mending it, `mxcert renew --now` tries at once"
}

// held keeps a failing certificate from using up the CA's limits. The daemon waits out every failure; a person's own
// run waits only where the CA counts failures; --now and a changed configuration do not wait.
func (p *pass) held() error {
	f := p.record.Failure
	if f == nil || p.options.force || p.options.newKey || f.Fingerprint != p.fingerprint || time.Now().After(f.NotBefore) {
		return nil
	}
	if p.options.daemon || f.ChargedToCA {
		return &heldError{failure: *f}
	}
	return nil
}
