package pass

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/helper"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy"
	"mxcert/deploy/served"
)

// keepGenerations is how many old generations of each key type mxcert keeps on disk, in addition to those in use.
const keepGenerations = 3

// noteSuccess is how old the stored time of the last success may become before a pass writes it again.
const noteSuccess = 55 * time.Minute

// ending is how a pass ended, before it is put into words.
type ending struct {
	err          error
	inService    bool // every endpoint has shown the certificate, or the files hold it and no endpoint is configured
	outOfService bool // mxcert could not put what is issued in service
	nextTry      *time.Time
	orderFailed  bool // the order failed, so the next step is another try
}

// failed returns the report of a pass that could not even start.
func (p *pass) failed(err error) report.Certificate {
	r := newReport(p.want)
	r.Warnings = append(r.Warnings, p.warnings...)
	if record, _, err := p.lineage.Look(); err == nil {
		r.LastSuccess = record.LastSuccess
	}
	r.Stage, r.Error, r.Code = report.Failed, report.NewError(err), report.CodeOf(err)
	if report.IsTemporary(err) {
		r.Stage = report.Waiting
	}
	p.say("failed", err.Error())
	return r
}

// KindRefused is the kind of an error that says only that a command was refused: the certificate is as it was.
const KindRefused = "refused"

// refusal says why there is nothing to go back to.
type refusal struct {
	err  error
	name string
}

func (e *refusal) Error() string { return e.err.Error() }
func (e *refusal) Unwrap() error { return e.err }

// Kind is KindRefused.
func (e *refusal) Kind() string { return KindRefused }

// Hint says where the stored certificates are listed.
func (e *refusal) Hint() string {
	return fmt.Sprintf("the certificate in service stays; `mxcert history %s` lists what is stored", e.name)
}

// refused returns the report of a pass that was not carried out: how the certificate is, and why.
func (p *pass) refused(ctx context.Context, err error) report.Certificate {
	files := cmp.Or(p.Helper, helper.NewClient()).Looker()
	defer files.Close()
	r := Look(ctx, files, p.want, p.lineage)
	r.Error, r.Code = report.NewError(report.At("state", err)), report.CodeFailed
	if isDANE(err) {
		_, r.Code = p.verdict(r, err)
	}
	p.say("failed", err.Error())
	return r
}

// conclude records how the pass ended, runs the hooks, and returns the report.
func (p *pass) conclude(ctx context.Context, issueErr, serveErr error) report.Certificate {
	p.reseed(ctx)
	p.advanceTLSA(ctx, serveErr == nil && ctx.Err() == nil && p.have.Any())
	if p.options.DryRun {
		return p.report(ending{err: errors.Join(issueErr, serveErr), inService: served.All(p.seen) && p.unread == nil && p.have.Any() && p.plan != nil && p.plan.Summary().Empty()})
	}
	p.renewal = p.outcome(ctx, issueErr)
	if issueErr == nil && serveErr == nil {
		issueErr = p.lacking()
	}
	if issueErr == nil && serveErr == nil {
		return p.report(p.success(ctx))
	}
	return p.report(p.failure(ctx, issueErr, serveErr))
}

// outcome says how the orders of this pass ended; "" if it placed none, or was stopped, or mxcert or the TLSA gate had them wait.
func (p *pass) outcome(ctx context.Context, issueErr error) report.Outcome {
	_, waits := holdOf(issueErr)
	_, elsewhere := fleetHold(issueErr)
	switch {
	case issueErr != nil && !waits && !elsewhere && !isDANE(issueErr) && !errors.Is(ctx.Err(), context.Canceled):
		return report.DidFail
	case p.issued:
		return report.Succeeded
	}
	return ""
}

// lacking returns an error for key types that never had a certificate, if the pass was not allowed to order.
func (p *pass) lacking() error {
	for i, key := range p.want.Keys {
		if p.have.Bundles[i] == nil {
			return report.At("deploy", fmt.Errorf("there is no usable %s certificate of %s yet: run mxcert renew", key, p.want.Name))
		}
	}
	return nil
}

// success records that every endpoint has shown the current certificates, and runs the hooks.
func (p *pass) success(ctx context.Context) ending {
	p.warnDaily(helper.Remember(&p.have.Record, p.want, p.plan))
	event := "served"
	if len(p.seen) == 0 {
		event = "deployed"
	}
	for i, key := range p.want.Keys {
		slot := p.have.Record.Slot(key)
		if slot.Served != slot.Current {
			if slot.Served != "" {
				slot.Previous = slot.Served
			}
			slot.Served = slot.Current
			p.have.Record.HooksDue = true
			p.have.Record.Log(state.Event{At: time.Now(), Event: event, Key: key, Serial: p.have.Bundles[i].Serial()})
		} else if what := p.healed(i); what != "" {
			p.restored = true
			p.have.Record.Log(state.Event{At: time.Now(), Event: "healed", Key: key, Serial: p.have.Bundles[i].Serial(), Message: what})
		}
	}
	p.have.Record.Failure, p.have.Record.Held = nil, nil
	hookErr := p.successHooks(ctx)
	if hookErr != nil && ctx.Err() == nil {
		p.failHooks(ctx, hookErr)
	}
	if err := p.saveSuccess(); err != nil {
		return ending{err: report.At("store", err)}
	}
	p.lookAtSent(ctx)
	if hookErr == nil {
		hookErr = p.stapleTrouble(ctx)
	}
	return ending{err: hookErr, inService: true}
}

// warnDaily adds warnings about something that may stay as it is for long: in the daemon's passes once a day.
func (p *pass) warnDaily(texts []string) {
	told, now := &p.have.Record.Told, time.Now().UTC()
	text := strings.Join(texts, "\n")
	if text == "" {
		*told = state.Told{}
		return
	}
	if p.options.Daemon && told.Text == text && now.Sub(told.At) < 24*time.Hour && !told.At.After(now) {
		return
	}
	p.warnAll(texts)
	*told = state.Told{Text: text, At: now}
}

// healed says what this pass has put right for the i-th key type, although its certificate is an old one; "" if nothing was wrong.
func (p *pass) healed(i int) string {
	switch {
	case !p.changed:
		return ""
	case len(p.wrote) == 0:
		return "the server showed another certificate"
	}
	own := map[string]bool{}
	for _, place := range p.want.Places {
		for _, path := range place.Targets[i].Files(p.have.Bundles[i]) {
			own[path] = true
		}
	}
	return changesText(slices.DeleteFunc(slices.Clone(p.wrote), func(c deploy.Change) bool { return !own[c.Path] }))
}

// saveSuccess stores the record and removes old generations. Most passes find nothing to do. They write only once an hour, to note the time
// of the last success.
func (p *pass) saveSuccess() error {
	now := time.Now().UTC()
	if p.have.Unchanged() && now.Sub(p.have.Record.LastSuccess) < noteSuccess && !p.have.Record.LastSuccess.After(now) {
		return nil
	}
	p.have.Record.LastSuccess = now
	return errors.Join(p.lineage.Save(p.have.Record), p.lineage.Prune(p.have.Record, keepGenerations))
}

// failure records what went wrong and when the daemon may try again, and runs the hooks.
func (p *pass) failure(ctx context.Context, issueErr, serveErr error) ending {
	// If senders are not served, that is worse than a failed order, so it comes first.
	end := ending{err: errors.Join(serveErr, issueErr), inService: serveErr == nil && p.have.Any() && ctx.Err() == nil, outOfService: serveErr != nil}
	if errors.Is(ctx.Err(), context.Canceled) {
		return end // the pass was stopped, it did not fail: no backoff
	}
	until, waits := holdOf(issueErr)
	again, elsewhere := fleetHold(issueErr)
	p.have.Record.Held = nil
	switch {
	case elsewhere && serveErr == nil:
		end.nextTry = &again
	case waits && serveErr == nil:
		end.nextTry = &until
		if f := p.have.Record.Failure; f == nil || !f.NotBefore.Equal(until) { // of a failure the record knows already
			p.have.Record.Held = &state.Hold{Until: until.UTC(), Message: issueErr.Error(), Hint: report.HintOf(issueErr), Fingerprint: p.want.Fingerprint()}
		}
	case issueErr == nil && p.heldAgain():
		end.nextTry = &p.heldUntil
	case isDANE(end.err):
		end.nextTry = p.gateFailure(ctx, end.err, p.tlsa.nextTLSA())
	case isStaple(end.err):
		end.nextTry = p.gateFailure(ctx, end.err, p.staples.next(p.have.Bundles))
	default:
		failure := end.err
		if issueErr != nil && !p.heldUntil.IsZero() {
			failure = issueErr // the record already shows that mxcert leaves the files alone
		}
		p.recordFailure(failure)
		end.nextTry = &p.have.Record.Failure.NotBefore
		p.failHooks(ctx, failure)
	}
	end.orderFailed = issueErr != nil
	if err := p.lineage.Save(p.have.Record); err != nil {
		p.warn(err.Error())
	}
	return end
}

// gateFailure records that the gate refuses something, and returns when the next pass asks it again. The hooks run once for the same refusal:
// it may stay for days, until somebody publishes a record.
func (p *pass) gateFailure(ctx context.Context, err error, next time.Time) *time.Time {
	again := time.Now().Add(gatePause)
	if !next.IsZero() && next.Before(again) {
		again = next
	}
	f, now := p.have.Record.Failure, report.NewError(err)
	known := f != nil && f.Kind == now.Kind && f.Stage == now.Stage && f.Fingerprint == p.want.Fingerprint()
	p.recordFailure(err)
	p.have.Record.Failure.NotBefore = again.UTC().Truncate(time.Second)
	if known {
		p.have.Record.Failure.At, p.have.Record.Failure.Count = f.At, f.Count
	} else {
		p.failHooks(ctx, err)
	}
	return &p.have.Record.Failure.NotBefore
}

// gatePause is how long the daemon waits before it asks the gate again.
const gatePause = time.Hour

// heldAgain reports whether this pass only found what an earlier pass has recorded: mxcert leaves the files alone for now.
func (p *pass) heldAgain() bool {
	f := p.have.Record.Failure
	return f != nil && f.Kind == kindDrift && !p.heldUntil.IsZero() && !f.NotBefore.Before(p.heldUntil)
}

// report puts the result of the pass into words.
func (p *pass) report(end ending) report.Certificate {
	r := Describe(p.want, p.have)
	r.Changed, r.Plan, r.DryRun, r.Endpoints = p.changed, p.intended, p.dryRun, endpointReports(p.want, p.seen)
	r.Warnings = append(append([]string{}, p.warnings...), r.Warnings...) // in JSON a list, even if it is empty
	p.outOfService = end.outOfService
	r.Renewal, r.Reloads = p.renewal, p.reloaded
	if end.err == nil && end.inService && !p.options.DryRun {
		r.LastSuccess = time.Now().UTC() // the record may have an older one, see noteSuccess
	}
	r.OutOfService, r.NextTry = end.outOfService, end.nextTry
	if end.orderFailed && !p.options.DeployOnly {
		r.NextRenewal = end.nextTry // the order is due: the next step is another try
	}
	r.TLSA, r.NextTLSA = p.tlsa.report(p.have.Bundles, p.seen), p.tlsa.nextTLSA()
	r.NextOCSP = p.staples.next(p.have.Bundles)
	p.tellNeeded(r.Keys)
	if f := p.have.Record.Failure; f != nil && end.err != nil {
		r.Failures, r.Failed = f.Count, &report.Error{Stage: f.Stage, Kind: f.Kind, Message: f.Message, Hint: f.Hint}
	}
	r.HeldUntil = p.heldUntil
	_, r.Elsewhere = fleetHold(end.err)
	r.Elsewhere = r.Elsewhere && !end.outOfService
	r.Issued, r.Repaired, r.Limited = p.orders, p.restored, p.have.Record.Held != nil && end.err != nil
	r.HeldOnly = !p.heldUntil.IsZero() && p.have.Record.Failure != nil && p.have.Record.Failure.Kind == kindDrift || p.stapleDrift != nil && end.inService
	r.Stage = p.stage(end)
	if code, failed := p.unpublished(); failed && end.err == nil {
		r.Code = code
		p.say("failed", "the TLSA records could not be brought up to date")
		return r
	}
	if end.err == nil {
		p.say("done", summary(r, p.tlsa != nil && p.tlsa.edited))
		return r
	}
	r.Error = report.NewError(end.err)
	r.Stage, r.Code = p.verdict(r, end.err)
	p.say("failed", end.err.Error())
	return r
}

// stage returns how far the certificate has come.
func (p *pass) stage(end ending) report.Stage {
	switch {
	case end.inService && len(p.seen) > 0:
		return report.Served
	case end.inService, p.have.Any() && p.filesHold():
		return report.Deployed
	case p.have.Any():
		return report.Issued
	}
	return report.Waiting
}

// verdict returns the stage and the exit code of a pass that ended with an error.
func (p *pass) verdict(r report.Certificate, err error) (report.Stage, report.Code) {
	switch stage := r.Error.Stage; {
	case isDANE(err) && report.IsTemporary(err):
		return r.Stage, report.CodeTemporary
	case slices.Contains([]string{"deploy", "reload", "verify"}, stage) && p.have.Any():
		return r.Stage, report.CodeNotInService
	case stage == stageOCSP:
		return r.Stage, report.CodeFailed
	case stage == "hook" && p.have.Any(): // the next pass tries again, but a person has to fix it
		return r.Stage, report.CodeFailed
	case stage == "hook":
		return report.Failed, report.CodeFailed
	case report.IsTemporary(err) && !slices.Contains([]string{"deploy", "reload", "verify"}, stage):
		return report.Waiting, report.CodeOf(err)
	}
	return report.Failed, report.CodeOf(err)
}

// filesHold reports whether the files hold the current certificates now.
func (p *pass) filesHold() bool {
	plan, err := p.Helper.Plan(context.Background(), p.want, p.have.Bundles, p.known(), p.say)
	if err != nil {
		return false
	}
	defer helper.Close(plan)
	return plan.Summary().Empty()
}

// summary says what a pass did; edited reports whether it changed TLSA records.
func summary(r report.Certificate, edited bool) string {
	if n := len(r.Plan); n > 0 {
		return fmt.Sprintf("%d %s would be taken", n, report.Plural(n, "step"))
	}
	if r.Changed {
		return "changed, and " + string(r.Stage)
	}
	if edited {
		return "changed the TLSA records; the certificate is " + string(r.Stage)
	}
	return "nothing to do, " + string(r.Stage)
}
