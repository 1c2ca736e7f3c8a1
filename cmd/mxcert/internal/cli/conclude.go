package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"mxcert/acme/schedule"
	"mxcert/acme/state"
	"mxcert/hooks/script"

	"mxcert/cmd/mxcert/internal/report"
)

// fail ends a pass that could not even begin.
func (p *pass) fail(err error) report.Certificate {
	p.result.Stage, p.result.Error = report.Failed, report.NewError(err)
	if report.IsTemporary(err) {
		p.result.Stage = report.Waiting
	}
	p.result.Code = report.CodeOf(err)
	p.say("failed", err.Error())
	return p.result
}

// warn is for the report and the progress both.
func (p *pass) warn(text string) {
	if slices.Contains(p.result.Warnings, text) {
		return
	}
	p.result.Warnings = append(p.result.Warnings, text)
	p.say("warning", text)
}

// conclude records how the pass ended and makes the report.
func (p *pass) conclude(ctx context.Context, issueErr, serviceErr error) report.Certificate {
	p.describe()
	if p.options.dryRun {
		return p.finish(errors.Join(issueErr, serviceErr), p.shownEverywhere())
	}
	if issueErr == nil && serviceErr == nil {
		issueErr = p.lacking()
	}
	if issueErr == nil && serviceErr == nil {
		p.succeeded()
		hookErr := p.successHooks(ctx)
		if hookErr != nil && ctx.Err() == nil {
			if err := p.failHooks(ctx); err != nil {
				p.warn(err.Error())
			}
		}
		if err := errors.Join(p.lineage.Save(p.record), p.lineage.Prune(p.record, keepGenerations)); err != nil {
			return p.finish(report.At("store", err), false)
		}
		return p.finish(hookErr, true)
	}
	// That senders are not served is the worse news of the two.
	err := errors.Join(serviceErr, issueErr)
	inService := serviceErr == nil && p.haveBundle()
	p.result.OutOfService = serviceErr != nil
	if errors.Is(ctx.Err(), context.Canceled) {
		return p.finish(err, inService) // stopped, not failed: nothing to back off from
	}
	until, waits := holdOf(issueErr)
	switch {
	case waits && serviceErr == nil:
		p.result.NextTry = &until
	case issueErr == nil && p.heldAgain():
		p.result.NextTry = &p.heldUntil
	default:
		failure := err
		if issueErr != nil && !p.heldUntil.IsZero() {
			failure = issueErr // that the files are left alone is seen from the record without it
		}
		p.recordFailure(failure)
		if hookErr := p.failHooks(ctx); hookErr != nil {
			p.warn(hookErr.Error())
		}
	}
	if issueErr != nil {
		p.result.NextRenewal = p.result.NextTry // the order is due: what comes next is another try
	}
	if saveErr := p.lineage.Save(p.record); saveErr != nil {
		p.warn(saveErr.Error())
	}
	return p.finish(err, inService)
}

// lacking is the error for key types of which nothing was ever issued, where a pass was not to order.
func (p *pass) lacking() error {
	for i, key := range p.keys() {
		if p.bundles[i] == nil {
			return report.At("deploy", fmt.Errorf("there is no usable %s certificate of %s yet: run mxcert renew", key, p.certificate.Name))
		}
	}
	return nil
}

// describe fills in what is known of the certificates.
func (p *pass) describe() {
	p.result.Changed = p.changed
	for i, key := range p.keys() {
		b := p.bundles[i]
		if b == nil {
			continue
		}
		if why := p.revoked(key); why != "" {
			p.result.Warnings = append(p.result.Warnings, fmt.Sprintf("the %s certificate with serial %s has to be replaced: %s", key, b.Serial(), why))
		}
		leaf := b.Leaf()
		p.result.Keys = append(p.result.Keys, report.Key{Key: string(key), Serial: b.Serial(), NotBefore: leaf.NotBefore.UTC(),
			NotAfter: leaf.NotAfter.UTC(), Issuer: leaf.Issuer.CommonName, SPKI: b.SPKI()})
		if renew := p.renewalTime(p.record.Slot(key), b).UTC(); p.result.NextRenewal == nil || renew.Before(*p.result.NextRenewal) {
			p.result.NextRenewal = &renew
		}
	}
	p.result.Files = append(p.result.Files, p.places()...)
}

// succeeded notes that every endpoint has shown the current certificates.
func (p *pass) succeeded() {
	p.remember()
	event := "served"
	if len(p.result.Endpoints) == 0 {
		event = "deployed"
	}
	for i, key := range p.keys() {
		slot := p.record.Slot(key)
		if slot.Served != slot.Current {
			if slot.Served != "" {
				slot.Previous = slot.Served
			}
			slot.Served = slot.Current
			p.record.HooksDue = true
			p.record.Log(state.Event{At: time.Now(), Event: event, Key: key, Serial: p.bundles[i].Serial()})
		} else if p.changed {
			p.record.Log(state.Event{At: time.Now(), Event: "healed", Key: key, Serial: p.bundles[i].Serial()})
		}
	}
	p.record.Failure, p.record.LastSuccess = nil, time.Now().UTC()
}

// finish gives the report its stage, error and exit code.
func (p *pass) finish(err error, inService bool) report.Certificate {
	switch {
	case inService && len(p.result.Endpoints) > 0:
		p.result.Stage = report.Served
	case inService:
		p.result.Stage = report.Deployed
	case p.plan != nil && p.filesHold():
		p.result.Stage = report.Deployed
	case p.haveBundle():
		p.result.Stage = report.Issued
	}
	if err == nil {
		if p.result.Stage == "" {
			p.result.Stage = report.Waiting
		}
		p.say("done", p.summary())
		return p.result
	}
	p.result.Error = report.NewError(err)
	p.result.Code = report.CodeOf(err)
	switch stage := p.result.Error.Stage; {
	case stage == "deploy" || stage == "reload" || stage == "verify":
		if p.haveBundle() {
			p.result.Code = report.CodeNotInService
			break
		}
		p.result.Stage = report.Failed
	case stage == "hook": // tried again at the next pass, but a person has to mend it
		p.result.Code = report.CodeFailed
		if !p.haveBundle() {
			p.result.Stage = report.Failed
		}
	case report.IsTemporary(err):
		p.result.Stage = report.Waiting
	default:
		p.result.Stage = report.Failed
	}
	p.say("failed", err.Error())
	return p.result
}

// shownEverywhere reports whether the last look at the endpoints found the certificate at each of them.
func (p *pass) shownEverywhere() bool {
	for _, e := range p.result.Endpoints {
		if !e.Matches {
			return false
		}
	}
	return p.haveBundle() && p.plan != nil && p.plan.Summary().Empty()
}

// filesHold looks whether the files hold the current certificates now.
func (p *pass) filesHold() bool {
	plan, err := p.makePlan(context.Background(), p.bundles)
	return err == nil && plan.Summary().Empty()
}

func (p *pass) summary() string {
	if n := len(p.result.Plan); n > 0 {
		return fmt.Sprintf("%d %s would be taken", n, report.Plural(n, "step"))
	}
	if p.result.Changed {
		return "changed, and " + string(p.result.Stage)
	}
	return "nothing to do, " + string(p.result.Stage)
}

// heldAgain reports whether the pass found what an earlier one has recorded: that the files are left alone for now.
func (p *pass) heldAgain() bool {
	f := p.record.Failure
	return f != nil && f.Kind == kindDrift && !p.heldUntil.IsZero() && !f.NotBefore.Before(p.heldUntil)
}

// recordFailure notes the failure and when the daemon may try again, up to a tenth later, so that hosts do not come
// back together. What the CA asks for is a minimum.
func (p *pass) recordFailure(err error) {
	count := 1
	if p.record.Failure != nil && p.record.Failure.Fingerprint == p.fingerprint {
		count = p.record.Failure.Count + 1
	}
	delay := schedule.Backoff(count)
	if w, ok := errors.AsType[interface {
		error
		Wait() time.Duration
	}](err); ok {
		delay = max(delay, schedule.Spread(w.Wait()))
	}
	charged, ok := errors.AsType[interface {
		error
		ChargedToCA() bool
	}](err)
	r, notBefore := report.NewError(err), time.Now().Add(delay)
	if r.Kind == kindDrift {
		notBefore = p.heldUntil
	}
	isCharged := ok && charged.ChargedToCA()
	if f := p.record.Failure; f != nil && !stale(f) && f.ChargedToCA && time.Now().Before(f.NotBefore) {
		// A failure of another kind must not shorten the CA's peace.
		isCharged = true
		if f.NotBefore.After(notBefore) {
			notBefore = f.NotBefore
		}
	}
	p.record.Failure = &state.Failure{Stage: r.Stage, Kind: r.Kind, Message: r.Message, Hint: r.Hint, At: time.Now().UTC(), Count: count,
		NotBefore: notBefore.UTC().Truncate(time.Second), ChargedToCA: isCharged, Fingerprint: p.fingerprint}
	p.result.NextTry = &p.record.Failure.NotBefore
	p.record.Log(state.Event{At: time.Now(), Event: "failed", Message: fmt.Sprintf("%s: %s", r.Stage, r.Message)})
}

// successHooks runs the hooks of a new certificate, all of them again at every pass until they succeed, and those of a
// pass that changed something else.
func (p *pass) successHooks(ctx context.Context) error {
	due := p.record.HooksDue
	if due {
		err := p.toldErr
		if !p.told {
			err = p.runHooks(ctx, "deploy")
		}
		if err != nil {
			return report.At("hook", err)
		}
	}
	if due || p.changed {
		if err := p.runHooks(ctx, "post"); err != nil {
			return report.At("hook", err)
		}
	}
	p.record.HooksDue = false
	return nil
}

// failHooks runs the hooks of a failure, also of a pass that ran out of time, but not against a stop of the daemon.
func (p *pass) failHooks(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		ctx = context.WithoutCancel(ctx)
	}
	return p.runHooks(ctx, "fail")
}

// runHooks runs the operator's programs for an event, once for each current certificate.
func (p *pass) runHooks(ctx context.Context, event string) error {
	dir := filepath.Join(p.config.Hooks.Directory, event+".d")
	var problems []error
	for _, ev := range p.hookEvents(event) {
		outcomes, err := p.runScripts(ctx, dir, ev)
		problems = append(problems, err)
		for _, o := range outcomes {
			switch {
			case o.Skipped != "":
				p.say("hook", fmt.Sprintf("%s skipped: %s", o.Hook, o.Skipped))
			case !o.Failed:
				p.say("hook", fmt.Sprintf("%s (%s)", o.Hook, o.Duration.Round(time.Millisecond)))
			}
		}
	}
	return errors.Join(problems...)
}

// hookEvents describes the certificates to the hooks; before the first issue there are only names.
func (p *pass) hookEvents(event string) []script.Event {
	base := script.Event{Event: event, Name: p.certificate.Name, Domains: p.certificate.Domains, Changed: p.changed}
	var events []script.Event
	for i, key := range p.keys() {
		b := p.bundles[i]
		if b == nil {
			continue
		}
		ev, dir := base, p.lineage.Directory(p.record.Slot(key).Current)
		ev.Fullchain, ev.PrivateKey = filepath.Join(dir, "fullchain.pem"), filepath.Join(dir, "privkey.pem")
		ev.Serial, ev.NotAfter = b.Serial(), b.NotAfter().UTC()
		events = append(events, ev)
	}
	if len(events) == 0 {
		events = append(events, base)
	}
	return events
}
