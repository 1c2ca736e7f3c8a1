package pass

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mxcert/cmd/mxcert/internal/helper"
	"mxcert/cmd/mxcert/internal/report"
)

// successHooks runs the hooks for a new certificate, or for a pass that changed something else. If a hook of a new certificate fails, every
// later pass runs all of them again until they succeed.
func (p *pass) successHooks(ctx context.Context) error {
	due := p.have.Record.HooksDue
	if due {
		err := p.hooksErr
		if !p.hooksRan {
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
	p.have.Record.HooksDue = false
	return nil
}

// failHooks runs the hooks for a failure, even if the pass ran out of time. It runs none if the daemon is being stopped.
func (p *pass) failHooks(ctx context.Context, failure error) {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		ctx = context.WithoutCancel(ctx)
	}
	if err := p.runHooksOf(ctx, helper.Event{Name: "fail", Failure: helper.NewFailure(failure)}); err != nil {
		p.warn(err.Error())
	}
}

// runHooks runs the operator's programs for an event, once for each current certificate.
func (p *pass) runHooks(ctx context.Context, event string) error {
	return p.runHooksOf(ctx, helper.Event{Name: event})
}

func (p *pass) runHooksOf(ctx context.Context, event helper.Event) error {
	var problems []error
	for _, ev := range p.hookEvents(event) {
		problems = append(problems, p.runHook(ctx, ev))
	}
	return errors.Join(problems...)
}

// runHook runs the programs for one certificate.
func (p *pass) runHook(ctx context.Context, event helper.Event) error {
	outcomes, err := p.Helper.RunHooks(ctx, p.want, event)
	for _, o := range outcomes {
		switch {
		case o.Skipped != "":
			p.say("hook", fmt.Sprintf("%s skipped: %s", o.Hook, o.Skipped))
		case !o.Failed:
			p.say("hook", fmt.Sprintf("%s (%s)", o.Hook, o.Duration.Round(time.Millisecond)))
		}
	}
	return err
}

// hookEvents describes the certificates to the hooks; before the first issue there is one event without a certificate.
func (p *pass) hookEvents(base helper.Event) []helper.Event {
	base.Changed = p.changed
	var events []helper.Event
	for i, key := range p.want.Keys {
		if b := p.have.Bundles[i]; b != nil {
			ev := base
			ev.Bundle, ev.Directory = b, p.lineage.Directory(p.have.Record.Slot(key).Current)
			events = append(events, ev)
		}
	}
	if len(events) == 0 {
		events = append(events, base)
	}
	return events
}
