package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/hooks/unit"
)

const (
	// autoPatience is how long a server gets to notice changed files by itself (Exim: 4 to 5 s after the change).
	autoPatience = 8 * time.Second
	// reloadPatience bounds the wait for a reload job.
	reloadPatience = 60 * time.Second
	// revertPatience bounds the proof that the old certificate is back; revertReloads, a part of it, the reloads before, one
	// of which may be waiting for the one that hangs.
	revertPatience = 20 * time.Second
	revertReloads  = 10 * time.Second
)

// checkUnits finds what would keep a deployment from its end before a file is touched: a certificate that is better than the
// new one, places that the server does not read, a broken configuration, a unit that could not be reloaded. A unit that is
// not running is no obstacle: it reads the files when it starts.
func (p *pass) checkUnits(ctx context.Context) error {
	if p.plan != nil && !p.options.rollback && !p.options.shorter && !p.rolledBack() {
		if err := p.plan.Shortens(time.Now()); err != nil {
			return at("deploy", err)
		}
	}
	if err := p.lookAtPlaces(ctx, true); err != nil {
		return at("deploy", err)
	}
	for _, name := range p.units("always", "auto") {
		err := p.reloader.check(ctx, name)
		if err != nil && !unit.NotRunning(err) {
			return err
		}
	}
	return nil
}

// activate tells the servers and waits for the proof.
func (p *pass) activate(ctx context.Context) error {
	inactive, err := p.reloadAll(ctx, p.units("always"))
	if err != nil {
		return err
	}
	if auto := p.units("auto"); len(auto) > 0 {
		if err := p.awaitNoticed(ctx, auto); err == nil || ctx.Err() != nil {
			return at("verify", err)
		}
		more, err := p.reloadAll(ctx, auto)
		if err != nil {
			return err
		}
		inactive = append(inactive, more...)
	}
	units := p.units("always", "auto")
	if len(units) > 0 && len(inactive) == len(units) {
		return errors.Join(inactive...)
	}
	if len(units) == 0 && p.plan != nil && p.plan.ContentChanges() {
		p.tellByHook(ctx)
	}
	err = p.awaitServed(ctx, p.certificate.Verify.Timeout)
	if err != nil && len(units) == 0 && ctx.Err() == nil {
		err = p.cure(ctx, err)
	}
	if err != nil {
		return errors.Join(append([]error{at("verify", err)}, inactive...)...)
	}
	for _, err := range inactive {
		p.warn(err.Error())
	}
	return nil
}

// reloadAll reloads units, each of them. Those that do not run read the files when they start.
func (p *pass) reloadAll(ctx context.Context, units []string) (inactive []error, err error) {
	for _, name := range units {
		err := p.reload(ctx, name, false)
		if err != nil && !unit.NotRunning(err) {
			return nil, at("reload", err)
		}
		if err != nil {
			inactive = append(inactive, at("reload", err))
		}
	}
	return inactive, nil
}

// awaitNoticed gives servers the time to notice changed files by themselves.
func (p *pass) awaitNoticed(ctx context.Context, units []string) error {
	p.say("reload", fmt.Sprintf("waits up to %s for %s to notice by itself", autoPatience, strings.Join(units, ", ")))
	err := p.awaitServed(ctx, autoPatience)
	if err != nil && ctx.Err() == nil {
		err = p.cure(ctx, err)
	}
	return err
}

// cure is for a server that has seen a certificate and key of different times, because it looked between two renames: GnuTLS
// then answers 454 even when the files are right again, until something in their directory changes. Others are left alone.
func (p *pass) cure(ctx context.Context, err error) error {
	if p.plan == nil || !slices.ContainsFunc(p.result.Endpoints, func(e endpointReport) bool { return e.kind == "tls-unavailable" }) {
		return err
	}
	p.say("verify", "the server answers 454 though the files are right; it is made to look at them again")
	if touchErr := p.plan.Touch(); touchErr != nil {
		return errors.Join(err, touchErr)
	}
	return p.awaitServed(ctx, autoPatience)
}

// tellByHook is for targets without a unit to reload: a deploy hook may be what makes the server use the files, so that it
// has to run before the proof, and has then had its turn.
func (p *pass) tellByHook(ctx context.Context) {
	p.told, p.toldErr = true, p.runHooks(ctx, "deploy")
}

// reload has a unit reloaded, by one reload for all certificates that want it now; urgent does not wait for others.
func (p *pass) reload(ctx context.Context, unit string, urgent bool) error {
	start := time.Now()
	if err := p.reloader.reload(ctx, p, unit, urgent); err != nil {
		return err
	}
	p.say("reload", fmt.Sprintf("%s (%s)", unit, time.Since(start).Round(time.Millisecond)))
	return nil
}

// keepDisplaced keeps what is about to be replaced, unless it is one of this lineage's own certificates or keys.
func (p *pass) keepDisplaced(path string, content []byte) error {
	own, err := p.ownContent(content)
	if err != nil || own {
		return err
	}
	copied, err := p.lineage.Displace(path, content, time.Now())
	if err == nil {
		p.say("deploy", fmt.Sprintf("the file that was at %s is kept as %s", path, copied))
	}
	return err
}

func (p *pass) ownContent(content []byte) (bool, error) {
	generations, err := p.lineage.Generations()
	if err != nil {
		return false, err
	}
	for _, g := range generations {
		b, err := p.lineage.Bundle(g.ID)
		if err != nil {
			continue
		}
		for _, own := range [][]byte{b.KeyPEM(), b.FullchainPEM(), b.CombinedPEM()} {
			if string(own) == string(content) {
				return true, nil
			}
		}
	}
	return false, nil
}

// revert takes a deployment back: the files that were there before where they were good, else the certificate that was
// last proven, else the new files stay because there is nothing better. The cause says in its end what was done.
func (p *pass) revert(ctx context.Context, cause error) error {
	// A stop must not leave a deployment half proven: the way back has its own time.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revertPatience+4*time.Second)
	defer cancel()
	if unit.NotRunning(cause) {
		return &takenBack{cause: cause, what: "the new files are in place; the server reads them when it starts"}
	}
	if err := p.putOldBack(ctx); err != nil {
		p.record.Log(state.Event{At: time.Now(), Event: "failed", Message: cause.Error()})
		return &takenBack{cause: cause, what: fmt.Sprintf("the new files stay, because there is nothing better to go back to: %v", err)}
	}
	p.record.Log(state.Event{At: time.Now(), Event: "reverted", Message: cause.Error()})
	p.changed = p.issued // what was deployed is taken back
	p.say("revert", "the files that were there before are back")
	reloads, stop := context.WithTimeout(ctx, revertReloads)
	defer stop()
	for _, unit := range p.units("always", "auto") {
		if err := p.reload(reloads, unit, true); err != nil {
			p.say("revert", fmt.Sprintf("warning: %v", err))
		}
	}
	if err := p.awaitOther(ctx, revertPatience); err != nil {
		return &takenBack{cause: cause, what: fmt.Sprintf("the old files are back, but the server does not show the old certificate: %v", err)}
	}
	return &takenBack{cause: cause, what: "the previous certificate is back in service"}
}

func (p *pass) putOldBack(ctx context.Context) error {
	err := p.plan.Revertible(time.Now())
	if err == nil && !p.plan.Empty() {
		return p.write(p.plan.Revert)
	}
	old := make([]*bundle.Bundle, len(p.bundles))
	for i, key := range p.keys() {
		slot := p.record.Slot(key)
		if slot.Served == "" || slot.Served == slot.Current {
			return errors.Join(err, errors.New("no other certificate was in service before"))
		}
		b, loadErr := p.lineage.Bundle(slot.Served)
		if loadErr != nil || time.Now().After(b.NotAfter()) {
			return fmt.Errorf("the certificate that was in service has expired or cannot be read")
		}
		old[i] = b
	}
	plan, err := p.makePlan(ctx, old)
	if err != nil {
		return err
	}
	return p.write(func() error { return plan.Apply(p.keepDisplaced) })
}

// takenBack is why a deployment is not in service, and what was done about it.
type takenBack struct {
	cause error
	what  string
}

func (e *takenBack) Error() string { return e.cause.Error() + "; " + e.what }
func (e *takenBack) Unwrap() error { return e.cause }

// stepBack makes the certificates current that were served before, of the key types that have one.
func (p *pass) stepBack() error {
	stepped := 0
	for _, key := range p.keys() {
		slot := p.record.Slot(key)
		g, err := p.lineage.Generation(slot.Previous)
		if slot.Previous == "" || err != nil {
			continue
		}
		if time.Now().After(g.NotAfter) {
			return fmt.Errorf("the earlier %s certificate of %s expired at %s: going back would break mail", key, p.certificate.Name, g.NotAfter.Format(time.RFC3339))
		}
		if _, revoked := p.lineage.Revocation(g.ID); revoked {
			return fmt.Errorf("the earlier %s certificate of %s (serial %s) was revoked: it must not go back in service", key, p.certificate.Name, g.Serial)
		}
		slot.Current, slot.Previous, slot.RenewAt, slot.Renewal, slot.RolledBack = slot.Previous, "", time.Time{}, state.RenewalInfo{}, true
		p.record.Log(state.Event{At: time.Now(), Event: "rolled-back", Key: key, Serial: g.Serial, Message: "by hand"})
		stepped++
	}
	if stepped == 0 {
		return fmt.Errorf("there is no earlier certificate of %s to go back to", p.certificate.Name)
	}
	if p.options.dryRun {
		return nil
	}
	return p.lineage.Save(p.record)
}

// repair finishes what a crash left half done, before anything else: certificate and key may be of different times.
func (p *pass) repair(ctx context.Context) error {
	if !p.record.Applying || p.options.dryRun || !p.haveBundle() {
		return nil
	}
	p.say("deploy", "an earlier deployment was broken off; it is finished first")
	return p.putInService(ctx)
}
