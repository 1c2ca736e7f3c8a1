package pass

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"mxcert/acme"
	"mxcert/acme/ari"
	"mxcert/acme/bundle"
	"mxcert/acme/issued"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// due returns why the certificate of the i-th key type must be ordered, or "" if it need not be.
func (p *pass) due(i int, key bundle.KeyType) string {
	reason := whyDue(p.have, p.want, i, settled(p.want, p.have.Record))
	if reason != "" {
		return reason
	}
	g, err := p.have.Current(key)
	switch {
	case err != nil:
		return "its description cannot be read"
	case p.want.Roots != nil && !p.chains(key, p.have.Bundles[i]):
		return "it does not lead to a root in acme.roots_file"
	case p.lost == key:
		return becauseLost
	}
	return p.asked(key, g)
}

// whyDue returns why the certificate of the i-th key type must be ordered, as far as the state and the configuration say so; "" if they
// do not. names are those of a new order.
func whyDue(have *issued.Lineage, want wanted.Certificate, i int, names []string) string {
	key, current := want.Keys[i], have.Bundles[i]
	if current == nil {
		return "there is none yet"
	}
	g, err := have.Current(key)
	if err != nil {
		return "its description cannot be read"
	}
	now := time.Now()
	inFlight, _ := have.InFlight(key, names, want.Directories)
	switch {
	case namesDiffer(want, have, key, g): // compares what mxcert asked for: a CA may add names
		return "the names have changed"
	case g.Directory != state.UnknownCA && !slices.Contains(want.Directories, g.Directory):
		return "the CA has changed"
	case current.Complete(want.Roots, now) != nil:
		return "it came without the certificate of its issuer"
	case now.After(current.NotAfter()):
		return "it has expired"
	case have.Revoked(key) != "":
		return have.Revoked(key)
	case inFlight:
		return "an earlier order is not finished"
	case !now.Before(have.RenewalTime(i, want.Windows)):
		return "its renewal time has come"
	}
	return ""
}

// asked returns why a person's request makes a certificate due that is not due otherwise.
func (p *pass) asked(key bundle.KeyType, g state.Generation) string {
	slot := p.have.Record.Slot(key)
	switch {
	case !p.options.Force && !p.options.NewKey:
		return ""
	case p.answers(g):
		p.say("order", fmt.Sprintf("another mxcert was faster: the certificate issued at %s is the one that was asked for", g.Created.Format(time.RFC3339)))
		return ""
	case p.options.NewKey && !p.have.KeyWaits(key):
		return "a new key was asked for"
	case p.options.Force && slot.Served == slot.Current:
		return "asked for"
	}
	p.say("order", fmt.Sprintf("a certificate issued at %s is not in service yet; deploying that one first", g.Created.Format(time.RFC3339)))
	return ""
}

// urgent reports whether a person wants the certificate now.
func (p *pass) urgent() bool {
	return p.options.Force || p.options.NewKey || p.options.Roll != nil || p.tlsa.emergency()
}

// answers reports whether another process issued a certificate after the operator asked for one. A certificate whose time of issue lies in
// the future, by this host's clock, does not count.
func (p *pass) answers(g state.Generation) bool {
	if p.along.answers[g.Key] {
		return true // it was not there when this pass asked for the lead, whatever the clock of the other host says
	}
	return !p.along.old[g.Key] && !g.Created.Before(p.options.Asked) && g.Created.Before(time.Now().Add(time.Minute))
}

// chains reports whether a certificate leads to one of the required roots. The daemon proves it in each pass. A command proves it once a
// day for the same chain and the same roots: the signatures are most of the work of a pass that finds nothing to do.
func (p *pass) chains(key bundle.KeyType, b *bundle.Bundle) bool {
	slot, proven := p.have.Record.Slot(key), p.chainToday(b)
	if slot.Chain == proven && !p.options.Daemon {
		return true
	}
	_, err := b.Check(bundle.Want{Roots: p.want.Roots, At: b.Soon(time.Now())})
	if err == nil {
		slot.Chain = proven
	}
	return err == nil
}

// chainToday identifies a chain, the required roots and the day; "" if no roots are required.
func (p *pass) chainToday(b *bundle.Bundle) string {
	if p.want.Roots == nil {
		return ""
	}
	sum := sha256.Sum256(fmt.Appendf(b.FullchainPEM(), "%s %s", p.want.RootsID, time.Now().UTC().Format(time.DateOnly)))
	return hex.EncodeToString(sum[:16])
}

// askRenewalInfo asks the CAs when they want the current certificates renewed (RFC 9773). If a CA does not say, the lifetime of the
// certificate decides.
func (p *pass) askRenewalInfo(ctx context.Context) {
	if p.options.DryRun || p.options.DeployOnly || p.options.Rollback {
		return
	}
	asked := false
	for i, key := range p.want.Keys {
		client := p.issuer(key)
		if p.have.Bundles[i] == nil || client == nil {
			continue
		}
		slot := p.have.Record.Slot(key)
		before := slot.Renewal
		info, err := client.RenewalInfo(ctx, p.have.Bundles[i].Leaf(), before)
		if err != nil && !errors.Is(err, ari.ErrNone) && ctx.Err() == nil {
			p.say("renewal info", report.OneLine(err.Error()))
		}
		if info.Explanation != "" && info.Explanation != before.Explanation {
			p.warn(fmt.Sprintf("the CA explains its renewal window: %s", info.Explanation))
		}
		slot.Renewal, asked = info, asked || info != before
	}
	if asked {
		if err := p.lineage.Save(p.have.Record); err != nil {
			p.warn(err.Error())
		}
	}
}

// issuer returns the CA that issued the current certificate, or nil if that CA is no longer configured. If it is not known, this is the
// CA that is asked first: another one answers that it does not know the certificate.
func (p *pass) issuer(key bundle.KeyType) *acme.Client {
	g, err := p.have.Current(key)
	if err != nil {
		return nil
	}
	if g.Directory == state.UnknownCA {
		return p.CAs.Clients()[0]
	}
	return p.CAs.At(g.Directory)
}

// held keeps a certificate from using up the CA's limits, whether by failures or by successes. The daemon waits out the backoff of every
// failure. A person's own run waits only after failures that the CA counts. With --now, or after a change of the configuration, nobody
// waits.
func (p *pass) held(i int, key bundle.KeyType) error {
	f := p.have.Record.Failure
	if f != nil && (f.Kind != kindDrift && f.Kind != kindDANE && f.Kind != kindDANEUnknown || f.ChargedToCA) && !p.urgent() && !stale(f) && f.Fingerprint == p.want.Fingerprint() &&
		time.Now().Before(f.NotBefore) && (p.options.Daemon || f.ChargedToCA) {
		return &schedule.Held{Until: f.NotBefore, NextStep: f.Hint, Skippable: true,
			Why: fmt.Sprintf("%d failed %s, the last: %s", f.Count, report.Plural(f.Count, "attempt"), f.Message)}
	}
	return p.CAs.Held(p.claim(i, key))
}

// stale reports whether a failure was recorded while the clock was ahead. Such a failure says nothing about the present.
func stale(f *state.Failure) bool { return f.At.After(time.Now().Add(time.Minute)) }

// claim describes an order to the CA's budget.
func (p *pass) claim(i int, key bundle.KeyType) acme.Claim {
	f := p.have.Record.Failure
	edited := f != nil && f.Fingerprint != p.want.Fingerprint() // since it failed: the edit may have fixed the fault
	claim := acme.Claim{Names: p.names, KeyType: key, New: true, Urgent: p.urgent(), Person: !p.options.Daemon || edited, Placed: p.inFlight(key)}
	g, err := p.have.Current(key)
	if p.have.Bundles[i] == nil || err != nil {
		return claim
	}
	renewal := p.have.Record.Slot(key).Renewal
	claim.New = !issued.SameNames(g.Names, p.names)
	claim.Life, claim.Expires = g.NotAfter.Sub(g.NotBefore), g.NotAfter
	claim.Replacement = !renewal.Start.IsZero() && !time.Now().Before(renewal.Start)
	return claim
}

// holdOf returns the end of a hold if holds are the only reason why no order was placed.
func holdOf(err error) (until time.Time, ok bool) {
	_, asked := errors.AsType[*acme.Error](err)
	held, waits := errors.AsType[*schedule.Held](err)
	if asked || !waits {
		return time.Time{}, false
	}
	return held.Until, true
}
