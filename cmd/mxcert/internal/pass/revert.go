package pass

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/helper"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy/served"
	"mxcert/hooks/unit"
)

const (
	// revertPatience limits the proof that the old certificate is back. revertReloads is the part of it for the reloads before that proof;
	// one of these reloads may have to wait for another that hangs.
	revertPatience = 20 * time.Second
	revertReloads  = 10 * time.Second
)

// revert undoes a deployment. It puts back the files that were there before, if they were good. Otherwise it puts back the certificate that
// was last proven. If there is neither, the new files stay. It returns the cause, with what was done added at the end.
func (p *pass) revert(ctx context.Context, cause error) error {
	// If the daemon is stopped, the deployment must not stay half proven. So the way back has its own time limit.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revertPatience+4*time.Second)
	defer cancel()
	if unit.NotRunning(cause) {
		return &takenBack{cause: cause, what: "the new files are in place; the server reads them when it starts"}
	}
	if err := p.putOldBack(ctx); err != nil {
		p.have.Record.Log(state.Event{At: time.Now(), Event: "failed", Message: cause.Error()})
		return &takenBack{cause: cause, what: fmt.Sprintf("the new files stay, because there is nothing better to go back to: %v", err)}
	}
	p.have.Record.Log(state.Event{At: time.Now(), Event: "reverted", Message: cause.Error()})
	p.changed = p.renewed() // the deployment is undone
	p.say("revert", "the files that were there before are back")
	reloads, stop := context.WithTimeout(ctx, revertReloads)
	defer stop()
	for _, unit := range p.reached().Units(wanted.Always, wanted.Auto) {
		if err := p.reload(reloads, unit, true); err != nil {
			p.say("revert", fmt.Sprintf("warning: %v", err))
		}
	}
	if p.hooksRan {
		p.hooksOfOld(ctx)
	}
	if err := p.await(ctx, revertPatience, served.Another); err != nil {
		return &takenBack{cause: cause, what: fmt.Sprintf("the old files are back, but the server does not show the old certificate: %v", err)}
	}
	return &takenBack{cause: cause, what: "the previous certificate is back in service"}
}

// hooksOfOld runs the deploy hooks for the certificate that is back, because they are what makes the server read its files. Before the first
// certificate in service there is none to tell them about.
func (p *pass) hooksOfOld(ctx context.Context) {
	old, err := p.have.Served()
	if err != nil {
		return
	}
	for i, key := range p.want.Keys {
		event := helper.Event{Name: "deploy", Changed: true, Bundle: old[i], Directory: p.lineage.Directory(p.have.Record.Slot(key).Served)}
		if err := p.runHook(ctx, event); err != nil {
			p.say("revert", fmt.Sprintf("warning: %v", err))
		}
	}
}

func (p *pass) putOldBack(ctx context.Context) error {
	if old, err := p.have.Served(); err == nil {
		if err := p.passGate(ctx, old); err != nil && !report.IsTemporary(err) { // the way back must not wait for DNS
			return err
		}
	}
	err := p.plan.Summary().Revertible(time.Now())
	if err == nil && !p.plan.Summary().Empty() {
		return p.write(p.plan.Revert)
	}
	old, nothing := p.have.Served()
	if nothing != nil {
		return errors.Join(err, nothing)
	}
	if err := p.compare(ctx, old); err != nil {
		return err
	}
	return p.write(func() error { return p.plan.Apply(p.keepDisplaced) })
}

// takenBack says why a deployment is not in service, and what mxcert did about it.
type takenBack struct {
	cause error
	what  string
}

func (e *takenBack) Error() string { return e.cause.Error() + "; " + e.what }
func (e *takenBack) Unwrap() error { return e.cause }
