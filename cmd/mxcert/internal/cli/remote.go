package cli

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"mxcert/acme/bundle"
	"mxcert/deploy"
	"mxcert/hooks/script"
)

// deployment is a plan that can be carried out and taken back: *deploy.Plan, or one that a helper has.
type deployment interface {
	Summary() deploy.Summary
	Apply(keep func(path string, content []byte) error) error
	Revert() error
	Touch() error
}

// installVerb is what the install helper can do.
type installVerb string

const (
	verbCheck  installVerb = "check"  // could the files be written?
	verbPlan   installVerb = "plan"   // what would change?
	verbApply  installVerb = "apply"  // of what was planned
	verbRevert installVerb = "revert" // of what was applied
	verbTouch  installVerb = "touch"  // make the server look again
)

// installOrder goes to the install helper.
type installOrder struct {
	Verb    installVerb    `json:"verb"`
	Name    string         `json:"name"`              // of the certificate
	Bundles []installFiles `json:"bundles,omitempty"` // plan: one for each key type, empty where there is none
	Sound   bool           `json:"sound,omitempty"`   // check: is the configuration of the mail server in order, too?
}

// installFiles is a certificate and its key, PEM.
type installFiles struct {
	Chain string `json:"chain"`
	Key   string `json:"key"`
}

// installAnswer comes back.
type installAnswer struct {
	Plan  deploy.Summary `json:"plan,omitzero"`
	Kept  []string       `json:"kept,omitempty"` // where files that were replaced are kept
	Notes []string       `json:"notes,omitempty"`
	Error *helperError   `json:"error,omitempty"`
}

// checkPlaces finds out whether the files can be written and are those that the mail server reads.
func (p *pass) checkPlaces(ctx context.Context) error { return p.lookAtPlaces(ctx, false) }

// lookAtPlaces does so by this process or by the helper; sound asks whether the server could be reloaded, too.
func (p *pass) lookAtPlaces(ctx context.Context, sound bool) error {
	err := deploy.Check(p.targets(), p.remembered())
	if !p.needsHelper(err) {
		if err == nil {
			err = p.inspect(ctx, sound)
		}
		return err
	}
	h, err := p.desk.call(ctx, installHelper)
	if err != nil {
		return err
	}
	defer h.Close()
	var answer installAnswer
	if err := h.ask(ctx, installOrder{Verb: verbCheck, Name: p.certificate.Name, Sound: sound}, &answer); err != nil {
		return err
	}
	for _, note := range answer.Notes {
		p.warn(note)
	}
	return answer.Error.orNil()
}

// makePlan compares the bundles, in the order of the keys, with the files.
func (p *pass) makePlan(ctx context.Context, bundles []*bundle.Bundle) (deployment, error) {
	if err := deploy.Check(p.targets(), p.remembered()); !p.needsHelper(err) {
		return p.planHere(bundles)
	}
	if p.remote != nil {
		_ = p.remote.Close() // of an earlier plan of this pass
	}
	h, err := p.desk.call(ctx, installHelper)
	if err != nil {
		return nil, err
	}
	p.remote = h
	return p.planThere(ctx, h, bundles)
}

// planThere has a helper compare the bundles with the files.
func (p *pass) planThere(ctx context.Context, h *helperConn, bundles []*bundle.Bundle) (deployment, error) {
	order := installOrder{Verb: verbPlan, Name: p.certificate.Name, Bundles: make([]installFiles, len(bundles))}
	for i, b := range bundles {
		if b != nil {
			order.Bundles[i] = installFiles{Chain: string(b.FullchainPEM()), Key: string(b.KeyPEM())}
		}
	}
	plan := &remotePlan{ctx: context.WithoutCancel(ctx), pass: p, conn: h}
	if err := h.ask(ctx, order, &plan.answer); err != nil {
		return nil, err
	}
	return plan, plan.answer.Error.orNil()
}

// planHere compares the bundles with the files in this process.
func (p *pass) planHere(bundles []*bundle.Bundle) (*deploy.Plan, error) {
	plan, err := deploy.Make(p.certificate.Name, p.jobsFor(bundles), p.remembered())
	if err != nil {
		return nil, err
	}
	tryCandidates(plan)
	return plan, nil
}

// needsHelper reports whether files cannot be written for want of rights that the helper has.
func (p *pass) needsHelper(err error) bool {
	return p.world != nil && p.desk != nil && errors.Is(err, fs.ErrPermission)
}

// remotePlan is a plan that the install helper made and keeps, as long as the connection is open.
type remotePlan struct {
	ctx    context.Context //nolint:containedctx // the methods of a plan take none; a deployment is not broken off half way
	pass   *pass
	conn   *helperConn
	answer installAnswer // to the plan
}

// Summary is what the helper said of the plan.
func (r *remotePlan) Summary() deploy.Summary { return r.answer.Plan }

// Apply has the helper make the changes. It keeps what it replaces in a directory of its own: the service may not read it.
func (r *remotePlan) Apply(func(string, []byte) error) error {
	answer, err := r.do(installOrder{Verb: verbApply})
	for _, path := range answer.Kept {
		r.pass.say("deploy", "the file that was there is kept as "+path)
	}
	return err
}

// Revert has the helper put back what it replaced.
func (r *remotePlan) Revert() error {
	_, err := r.do(installOrder{Verb: verbRevert})
	return err
}

// Touch has the helper make the server look at its files again.
func (r *remotePlan) Touch() error {
	_, err := r.do(installOrder{Verb: verbTouch})
	return err
}

func (r *remotePlan) do(order installOrder) (answer installAnswer, err error) {
	ctx, cancel := context.WithTimeout(r.ctx, reloadPatience)
	defer cancel()
	order.Name = r.pass.certificate.Name
	if err := r.conn.ask(ctx, order, &answer); err != nil {
		return answer, err
	}
	return answer, answer.Error.orNil()
}

// hookOrder goes to the hook helper.
type hookOrder struct {
	Event script.Event `json:"event"`
}

// hookAnswer comes back.
type hookAnswer struct {
	Outcomes []hookOutcome `json:"outcomes"`
	Error    *helperError  `json:"error,omitempty"`
}

// hookOutcome is what a report says of one hook.
type hookOutcome struct {
	Hook     string        `json:"hook"`
	Skipped  string        `json:"skipped,omitempty"`
	Failed   bool          `json:"failed,omitempty"`
	Duration time.Duration `json:"duration"`
}

// runScripts runs the hooks of an event, by the helper where this process is sandboxed.
func (p *pass) runScripts(ctx context.Context, dir string, event script.Event) ([]hookOutcome, error) {
	if p.world == nil || p.desk == nil {
		return runHere(ctx, dir, event, p.config.Hooks.Timeout)
	}
	entries, err := readDirNames(dir)
	if err == nil && len(entries) == 0 {
		return nil, nil // nothing to start a helper for
	}
	h, err := p.desk.call(ctx, hookHelper)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	var answer hookAnswer
	if err := h.ask(ctx, hookOrder{Event: event}, &answer); err != nil {
		return nil, err
	}
	return answer.Outcomes, answer.Error.orNil()
}

func runHere(ctx context.Context, dir string, event script.Event, timeout time.Duration) ([]hookOutcome, error) {
	outcomes, err := script.Run(ctx, dir, event, timeout)
	list := make([]hookOutcome, len(outcomes))
	for i, o := range outcomes {
		list[i] = hookOutcome{Hook: o.Hook, Skipped: o.Skipped, Failed: o.Err != nil, Duration: o.Duration}
	}
	return list, err
}
