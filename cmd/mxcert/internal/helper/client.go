package helper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/cmd/mxcert/internal/wire"
	"mxcert/deploy"
	"mxcert/hooks/unit"
)

// Directory is where systemd listens for the helpers. It belongs to root, so a process that has taken over the service cannot put its own
// socket there.
const Directory = "/run/mxcert-helpers"

// Client does what may need the rights of root: in this process if it has them, otherwise through a helper. The zero Client has no helper
// and does everything in this process.
type Client struct {
	Directory string // of the helpers' sockets; "" if there is no helper
	Root      int    // the user that must be listening there: 0, except in tests
}

// NewClient returns the client that this process needs: with helpers if it is the unprivileged service, or a command that runs
// as the service's user.
func NewClient() *Client {
	if os.Geteuid() == 0 {
		return &Client{}
	}
	if os.Getenv("RUNTIME_DIRECTORY") == "" && os.Geteuid() != uidOf(unit.ServiceUser) {
		return &Client{}
	}
	return &Client{Directory: Directory}
}

// Failed is the kind of an error if there was no answer from a helper.
const Failed = "helper"

// conn is a connection to one helper.
type conn struct {
	*wire.Conn
	kind Kind
}

// dial connects to a helper, which systemd starts for this connection. The caller closes it.
func (c *Client) dial(ctx context.Context, kind Kind) (*conn, error) {
	path := filepath.Join(c.Directory, string(kind)+".sock")
	w, err := wire.Dial(ctx, path)
	if err != nil {
		return nil, unreachable(kind, err)
	}
	if err := w.Admit(c.Root); err != nil { // systemd listens there, as root
		return nil, errors.Join(&Error{Message: fmt.Sprintf("the socket %s does not belong to systemd: %v", path, err), KindText: Failed,
			NextStep: fmt.Sprintf("find out who created it: ls -l %s; then: systemctl restart mxcert-%s.socket", path, kind)}, w.Close())
	}
	return &conn{Conn: w, kind: kind}, nil
}

// unreachable returns the error that says why there is no connection to a helper.
func unreachable(kind Kind, err error) error {
	e := &Error{Message: fmt.Sprintf("the helper that does this as root (mxcert-%s@.service) cannot be reached: %v", kind, err), KindText: Failed,
		NextStep: fmt.Sprintf("systemctl start mxcert-%s.socket (systemctl start mxcert.service does so too)", kind)}
	if errors.Is(err, fs.ErrPermission) {
		e.NextStep = "run it as root, or as the user " + unit.ServiceUser
	}
	return e
}

// ask sends a question and reads the answer. It stops when ctx ends.
func (c *conn) ask(ctx context.Context, question, answer any) error {
	err := c.Ask(ctx, question, answer)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return &Error{Message: fmt.Sprintf("the helper (mxcert-%s@.service) ended without an answer: %v", c.kind, err), KindText: Failed,
		NextStep: fmt.Sprintf("see why: journalctl -u 'mxcert-%s@*' -u mxcert-%[1]s.socket", c.kind)}
}

// Check checks that the files can be written, and that the mail server reads them. If sound is true, it also asks whether the
// server's configuration is in order. If this process lacks rights, the helper checks the files of root, and this process those that
// the helper leaves to it. It is the helper that keeps the plan, if there is one; plan may be nil. Notes are for the operator.
func (c *Client) Check(ctx context.Context, want wanted.Certificate, known Known, plan Plan, sound bool) (notes []string, err error) {
	notes, err = checkHere(ctx, want, known, sound)
	if !c.needed(err) {
		return notes, err
	}
	conn := connOf(plan)
	if conn == nil {
		if conn, err = c.dial(ctx, Install); err != nil {
			return nil, err
		}
		defer conn.Close()
	}
	var answer installAnswer
	if err := conn.ask(ctx, installOrder{Verb: verbCheck, Name: want.Name, Sound: sound, Kinds: want.Kinds()}, &answer); err != nil {
		return nil, err
	}
	rest := answer.rest(want)
	if len(rest.Places) == 0 {
		return answer.Notes, answer.Error.orNil()
	}
	notes, err = checkHere(ctx, rest, known, sound)
	return append(answer.Notes, notes...), errors.Join(answer.Error.orNil(), explained(err))
}

// connOf returns the connection to the helper that keeps a plan, or nil if no helper keeps it.
func connOf(plan Plan) *conn {
	if joint, ok := plan.(*jointPlan); ok {
		plan = joint.there
	}
	if remote, ok := plan.(*remotePlan); ok {
		return remote.conn
	}
	return nil
}

// Plan compares the bundles, in the order of the keys, with the files. It reports through say where the helper keeps replaced files.
// Release the plan with [Close].
func (c *Client) Plan(ctx context.Context, want wanted.Certificate, bundles []*bundle.Bundle, known Known, say func(stage, message string)) (Plan, error) {
	plan, err := Look(want, bundles, known)
	if err == nil && plan.Summary().Empty() {
		return plan, nil // this process has the rights it needs
	}
	if err := deploy.Check(want.Targets(), known); c.needed(err) {
		return c.planThere(ctx, want, bundles, known, say)
	}
	if err != nil {
		return nil, err
	}
	return tryFirst(plan), nil
}

// planThere has the install helper compare the bundles with the files of root. This process compares those that the helper leaves to it.
func (c *Client) planThere(ctx context.Context, want wanted.Certificate, bundles []*bundle.Bundle, known Known, say func(stage, message string)) (Plan, error) {
	conn, err := c.dial(ctx, Install)
	if err != nil {
		return nil, err
	}
	plan := &remotePlan{ctx: context.WithoutCancel(ctx), name: want.Name, conn: conn, say: say}
	if plan.answer, err = conn.plan(ctx, want, bundles); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	rest := plan.answer.rest(want)
	if len(rest.Places) == 0 {
		return plan, nil
	}
	here, err := lookHere(rest, bundles, known)
	if err == nil && !here.Summary().Empty() {
		err = explained(deploy.Check(rest.Targets(), known))
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &jointPlan{there: plan, here: tryFirst(here), summary: deploy.Merge(want.Jobs(bundles), plan.Summary(), here.Summary())}, nil
}

// plan has the install helper at the other end compare the bundles with the files.
func (c *conn) plan(ctx context.Context, want wanted.Certificate, bundles []*bundle.Bundle) (answer installAnswer, err error) {
	order := installOrder{Verb: verbPlan, Name: want.Name, Bundles: make([]installFiles, len(bundles))}
	for i, b := range bundles {
		if b != nil {
			order.Bundles[i] = pemOf(b)
			order.Bundles[i].Staple = want.StapleOf(b)
		}
	}
	if err := c.ask(ctx, order, &answer); err != nil {
		return answer, err
	}
	return answer, answer.Error.orNil()
}

// Close releases a plan that a helper keeps; it does nothing for other plans and for nil.
func Close(plan Plan) {
	if closer, ok := plan.(io.Closer); ok {
		_ = closer.Close() // the helper ends
	}
}

// needed reports whether files cannot be written because this process lacks rights that the helper has.
func (c *Client) needed(err error) bool { return c.Directory != "" && errors.Is(err, fs.ErrPermission) }

// RunHooks runs the hooks for an event: through the helper if there is one, because then this process is sandboxed. The helper believes
// nothing but a bundle that it can prove, and gives the hooks copies of its files.
func (c *Client) RunHooks(ctx context.Context, want wanted.Certificate, event Event) ([]Outcome, error) {
	if c.Directory == "" {
		return runHere(ctx, want, event)
	}
	entries, err := os.ReadDir(hooksOf(want, event.Name))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil, nil // no hooks: no helper needs to start
	}
	conn, err := c.dial(ctx, Hook)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	order := hookOrder{Event: event.Name, Name: want.Name, Changed: event.Changed, Failure: event.Failure}
	if b := event.Bundle; b != nil && covers(want, b) { // all its names may be gone from the configuration
		order.Bundle = pemOf(b)
	}
	var answer hookAnswer
	if err := conn.ask(ctx, order, &answer); err != nil {
		return nil, err
	}
	return answer.Outcomes, answer.Error.orNil()
}
