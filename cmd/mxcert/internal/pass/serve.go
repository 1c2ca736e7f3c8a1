package pass

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy/served"
	"mxcert/hooks/unit"
)

const (
	// confirmPatience is how long to look at a server that nothing has asked to change.
	confirmPatience = 2 * time.Second
	// autoPatience is how long a server may take to notice changed files (Exim: 4 to 5 s after the change).
	autoPatience = 8 * time.Second

	// kindNotRead is the kind of an error that says that a server reads other files than those that are to be written.
	kindNotRead = "not-read"
)

// serve makes the mail server use the current certificates, and proves it. It closes the gaps from issued to deployed to served.
func (p *pass) serve(ctx context.Context) error {
	if !p.have.Any() {
		return nil // nothing was ever issued; the order's own error says why
	}
	if p.options.Publish {
		return report.At("verify", p.await(ctx, confirmPatience, served.Matching))
	}
	if err := incomplete(p.want, p.have.Bundles); err != nil {
		return report.At("deploy", err)
	}
	p.useStaples(ctx)
	p.settle() // before the comparison: the drift watch finds later changes
	if err := p.compare(ctx, p.have.Bundles); err != nil {
		return report.At("deploy", err)
	}
	if p.plan.Summary().StaplesOnly() && !p.have.Record.Applying {
		if !p.mayRepairStaples() {
			return p.confirm(ctx)
		}
		if err := p.refresh(ctx); err != nil {
			return report.At("deploy", err)
		}
	}
	if p.plan.Summary().Empty() && !p.have.Record.Applying {
		p.placedStaples()
		return p.confirm(ctx)
	}
	if err := p.mayStaple(ctx); err != nil {
		return err
	}
	if err := p.mayServe(ctx, p.have.Bundles); err != nil {
		if p.have.Record.Applying && !report.IsTemporary(err) {
			return p.halfDone(ctx, err)
		}
		if !p.have.Record.Applying {
			return err
		}
	}
	if !p.plan.Summary().Empty() {
		if err := p.mayRepair(changesText(p.plan.Summary().Changes)); err != nil {
			return report.At("deploy", err)
		}
	}
	if err := p.ready(ctx); err != nil {
		return report.At("reload", p.writeFirst(err))
	}
	if err := p.deploy(ctx); err != nil {
		return err
	}
	return p.partly(ctx)
}

// writeFirst writes the files that nobody reads yet, if that is what stopped the deployment. So they exist before the operator tells the
// server to read them: a server that is told to read a file that does not exist has no certificate at all.
func (p *pass) writeFirst(err error) error {
	if report.KindOf(err) != kindNotRead || p.plan == nil {
		return err
	}
	return p.write(func() error {
		paths, writeErr := p.plan.ApplyNew()
		if writeErr != nil {
			return errors.Join(err, report.At("deploy", writeErr))
		}
		if len(paths) == 0 {
			return err
		}
		p.changed = true
		return &takenBack{cause: err, what: fmt.Sprintf("mxcert has written %s, which no server reads yet", strings.Join(paths, ", "))}
	})
}

// compare makes the plan: the difference between the bundles, in the order of the keys, and the files.
func (p *pass) compare(ctx context.Context, bundles []*bundle.Bundle) error {
	plan, err := p.Helper.Plan(ctx, p.want, bundles, p.known(), p.say)
	if err != nil {
		return err
	}
	p.closePlan()
	p.plan = plan
	return nil
}

// ready finds problems that would stop a deployment, before mxcert touches a file: the certificate in place is better than the new one, the
// server does not read the files, its configuration is broken, or a unit could not be reloaded. A unit that is not running is not a
// problem, because it reads the files when it starts.
func (p *pass) ready(ctx context.Context) error {
	if p.plan != nil && !p.options.Rollback && !p.options.Shorter && !p.have.RolledBack() {
		plan := p.plan.Summary()
		if err := plan.Shortens(time.Now()); err != nil {
			return report.At("deploy", err)
		}
		if live := plan.Longer; live != nil && live.Fault != "" {
			p.warn(fmt.Sprintf("%s: %s, but mxcert replaces it: %s", live.Path, live, live.Fault))
		}
	}
	notes, err := p.check(ctx, true)
	if p.warnAll(notes); err != nil {
		return report.At("deploy", err)
	}
	for _, name := range p.reached().Units(wanted.Always, wanted.Auto) {
		if err := unit.Check(ctx, name); err != nil && !unit.NotRunning(err) {
			return err
		}
	}
	return nil
}

// deploy applies the plan and makes the servers show the new certificate. If they do not, it undoes the deployment.
func (p *pass) deploy(ctx context.Context) error {
	if !p.plan.Summary().Empty() {
		p.repaired()
	}
	p.have.Record.Applying = true
	if err := p.lineage.Save(p.have.Record); err != nil {
		return report.At("store", err)
	}
	for _, change := range p.plan.Summary().Changes {
		p.say("deploy", fmt.Sprintf("%s (%s)", change.Path, change.Why))
	}
	if err := p.write(func() error { return p.plan.Apply(p.keepDisplaced) }); err != nil {
		return report.At("deploy", errors.Join(err, p.applied()))
	}
	p.wrote = append(p.wrote, p.plan.Summary().Changes...)
	p.changed = p.changed || len(p.wrote) > 0
	p.stapledAnew = p.want.Stapled()
	left := p.prints()
	if err := p.activate(ctx); err != nil {
		return errors.Join(p.revert(ctx, changedSince(left, err)), p.applied())
	}
	p.compareAgain(ctx)
	p.placedStaples()
	return p.applied()
}

// applied records that no deployment is half done any more.
func (p *pass) applied() error {
	p.have.Record.Applying = false
	return report.At("store", p.lineage.Save(p.have.Record))
}

// confirm handles files that are already right. It checks in a handshake whether the server uses them. If the server does not, it missed an
// earlier reload, and confirm reloads it again.
func (p *pass) confirm(ctx context.Context) error {
	err := p.await(ctx, confirmPatience, served.Matching)
	if f := p.have.Record.Failure; err == nil && f != nil && f.Kind == kindNotRead {
		return p.stillUnread(ctx)
	}
	if err == nil || ctx.Err() != nil || !served.Reloadable(p.seen) {
		return report.At("verify", err)
	}
	const what = "the files are right, but the server shows another certificate"
	if held := p.mayRepair(what); held != nil {
		return report.At("verify", held)
	}
	p.say("verify", what)
	if err := p.mayServe(ctx, p.have.Bundles); err != nil {
		return err
	}
	if err := p.ready(ctx); err != nil {
		return report.At("reload", err)
	}
	if p.unread != nil && p.await(ctx, confirmPatience, served.Matching) == nil {
		return p.partly(ctx)
	}
	p.repaired()
	p.changed = true
	if err := p.activate(ctx); err != nil {
		return err
	}
	return p.partly(ctx)
}

// activate reloads the servers and waits until they show the certificate.
func (p *pass) activate(ctx context.Context) error {
	inactive, err := p.reloadAll(ctx, p.reached().Units(wanted.Always))
	if err != nil {
		return err
	}
	if auto := p.reached().Units(wanted.Auto); len(auto) > 0 {
		if err := p.awaitNoticed(ctx, auto); err == nil || ctx.Err() != nil {
			return report.At("verify", err)
		}
		more, err := p.reloadAll(ctx, auto)
		if err != nil {
			return err
		}
		inactive = append(inactive, more...)
	}
	units := p.reached().Units(wanted.Always, wanted.Auto)
	if len(units) > 0 && len(inactive) == len(units) {
		return errors.Join(inactive...)
	}
	if p.want.ReloadedByHook() && p.plan != nil && p.plan.Summary().ContentChanges() {
		p.reloadByHook(ctx)
	}
	patience := p.want.VerifyTimeout
	if len(units) == 0 && len(p.wrote) == 0 && !p.hooksRan {
		patience = min(patience, autoPatience) // nothing has changed, so a server that looks at its files by itself has had its time
	}
	err = p.await(ctx, patience, served.Matching)
	if err != nil && len(units) == 0 && ctx.Err() == nil {
		err = p.cure(ctx, err)
	}
	if err != nil && p.hooksErr != nil {
		err = &hookFailed{hook: p.hooksErr, shown: err}
	}
	if err != nil {
		return errors.Join(append([]error{report.At("verify", err)}, inactive...)...)
	}
	for _, err := range inactive {
		p.warn(err.Error())
	}
	return nil
}

// await makes handshakes with all endpoints in parallel, again and again, until each of them satisfies or the time is up.
func (p *pass) await(ctx context.Context, patience time.Duration, satisfied func(served.Result) bool) error {
	waited := p.announceWait(patience)
	p.seen = served.Await(ctx, p.probes(), patience, p.want.VerifyTimeout, satisfied)
	waited()
	for _, r := range p.seen {
		if satisfied(r) {
			p.say("verify", fmt.Sprintf("%s shows serial %s (%s)", r.Address, r.Serial, r.Shown.Elapsed.Round(time.Millisecond)))
		}
	}
	return served.Problems(p.seen, satisfied, p.want.Kinds()...)
}

// shortWait is how long a server may take before a pass says that it waits for it.
const shortWait = 2 * time.Second

// announceWait says once that the pass waits for the endpoints, if that takes a while. The caller calls over when it has ended.
func (p *pass) announceWait(patience time.Duration) (over func()) {
	endpoints := p.want.Endpoints()
	if patience <= shortWait || len(endpoints) == 0 {
		return func() {}
	}
	said := make(chan struct{})
	timer := time.AfterFunc(shortWait, func() {
		defer close(said)
		p.say("wait", fmt.Sprintf("waits up to %s until %s shows the certificate", patience, strings.Join(endpoints, ", ")))
	})
	return func() {
		if !timer.Stop() {
			<-said
		}
	}
}

// Probes lists the handshakes that prove bundles, in the order of the keys.
func Probes(want wanted.Certificate, bundles []*bundle.Bundle) []served.Probe {
	return served.Probes(want.Endpoints(), want.ServerName(), want.Keys, bundles, want.Has("postfix", "dovecot"))
}

// awaitNoticed gives servers time to notice changed files without a reload.
func (p *pass) awaitNoticed(ctx context.Context, units []string) error {
	p.say("reload", fmt.Sprintf("waits up to %s for %s to notice the files", autoPatience, strings.Join(units, ", ")))
	err := p.await(ctx, autoPatience, served.Matching)
	if err != nil && ctx.Err() == nil {
		err = p.cure(ctx, err)
	}
	return err
}

// cure helps a server that read between two renames and so got a certificate and a key that do not belong together. GnuTLS then answers 454
// until something changes in the directory, even if the files are right again. cure leaves other servers alone.
func (p *pass) cure(ctx context.Context, err error) error {
	if p.plan == nil || !served.Unavailable(p.seen) {
		return err
	}
	p.say("verify", "the server answers 454 although the files are right; mxcert makes it look at them again")
	if touchErr := p.plan.Touch(); touchErr != nil {
		return errors.Join(err, touchErr)
	}
	return p.await(ctx, autoPatience, served.Matching)
}

// reloadByHook is for places that have no unit to reload. A deploy hook may be what makes the server use the files. So the hooks run here,
// before the proof, and do not run a second time.
func (p *pass) reloadByHook(ctx context.Context) {
	p.hooksRan, p.hooksErr = true, p.runHooks(ctx, "deploy")
}

// hookFailed says that a server shows another certificate, and that a hook which may reload it has failed.
type hookFailed struct{ hook, shown error }

func (e *hookFailed) Error() string { return e.hook.Error() + "; " + e.shown.Error() }
func (e *hookFailed) Unwrap() error { return e.shown }

// Hint says what to do.
func (e *hookFailed) Hint() string {
	return "repair that hook, if it is what reloads the mail server; then: mxcert renew"
}

// keepDisplaced saves a file that is about to be replaced, unless it holds one of this lineage's own certificates or keys.
func (p *pass) keepDisplaced(path string, content []byte) error {
	own, err := p.have.Owns(content)
	if err != nil || own {
		return err
	}
	copied, err := p.lineage.Displace(path, content, time.Now())
	if err == nil {
		p.say("deploy", fmt.Sprintf("the previous file at %s is kept as %s", path, copied))
	}
	return err
}
