package helper

import (
	"context"
	"time"

	"mxcert/deploy"
	"mxcert/deploy/discover"
)

// Plan is the difference between bundles and files, which can be applied and reverted: a *deploy.Plan of this process, a plan that
// the install helper has made and keeps, or one of both parts.
type Plan interface {
	Summary() deploy.Summary
	Apply(keep func(path string, content []byte) error) error
	ApplyNew() (paths []string, err error)
	Revert() error
	Touch() error
}

// Known holds the owners and modes that earlier deployments gave to files, by path. They are restored if the configuration does
// not set others.
type Known = map[string]deploy.Access

// tryFirst makes Exim open new files before they are in place.
func tryFirst(plan *deploy.Plan) *deploy.Plan {
	plan.Settle(settle)
	if plan.Summary().ContentChanges() {
		plan.Try(func(staged []deploy.Target) error { return discover.TryExim(context.Background(), staged) })
	}
	return plan
}

// settle is how long Exim may take to open its files for a connection. It takes milliseconds, and more on a busy machine.
const settle = 300 * time.Millisecond

// remotePlan is a plan that the install helper has made, and keeps as long as the connection is open.
type remotePlan struct {
	ctx    context.Context //nolint:containedctx // the methods of a plan take no context; a deployment is not interrupted half way
	name   string
	conn   *conn
	say    func(stage, message string)
	answer installAnswer // to the plan
}

// Summary returns what the helper said about the plan.
func (r *remotePlan) Summary() deploy.Summary { return r.answer.Plan }

// Apply makes the helper apply the changes. The helper keeps what it replaces in a directory of its own, which the service may
// not read.
func (r *remotePlan) Apply(func(string, []byte) error) error {
	answer, err := r.do(installOrder{Verb: verbApply})
	for _, path := range answer.Kept {
		r.say("deploy", "the previous file is kept as "+path)
	}
	return err
}

// ApplyNew makes the helper write the files that replace nothing.
func (r *remotePlan) ApplyNew() ([]string, error) {
	answer, err := r.do(installOrder{Verb: verbApplyNew})
	return answer.Written, err
}

// Revert makes the helper restore what it replaced.
func (r *remotePlan) Revert() error {
	_, err := r.do(installOrder{Verb: verbRevert})
	return err
}

// Undo makes the helper restore everything, and remove what it wrote where nothing was.
func (r *remotePlan) Undo() error {
	_, err := r.do(installOrder{Verb: verbUndo})
	return err
}

// Touch makes the helper touch the files, so that the server looks at them again.
func (r *remotePlan) Touch() error {
	_, err := r.do(installOrder{Verb: verbTouch})
	return err
}

// Close closes the connection, which ends the helper.
func (r *remotePlan) Close() error { return r.conn.Close() }

func (r *remotePlan) do(order installOrder) (answer installAnswer, err error) {
	ctx, cancel := context.WithTimeout(r.ctx, stepPatience)
	defer cancel()
	order.Name = r.name
	if err := r.conn.ask(ctx, order, &answer); err != nil {
		return answer, err
	}
	return answer, answer.Error.orNil()
}

// stepPatience limits one step of the helper.
const stepPatience = 60 * time.Second
