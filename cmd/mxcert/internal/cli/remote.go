package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"time"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert/internal/wire"
	"mxcert/deploy"
	"mxcert/hooks/script"
	"mxcert/hooks/unit"
)

// helpersDir is where systemd listens for the helpers. It belongs to root: a process that has taken over the service cannot
// put a socket of its own there.
const helpersDir = "/run/mxcert-helpers"

// helpers are the two programs of root, as an unprivileged process reaches them. They are units of their own, because the
// service's sandbox would hold what it starts itself.
type helpers struct {
	dir  string // of their sockets
	root int    // the user who must be listening there: 0 but in tests
}

// neededHelpers returns the helpers if this process is the unprivileged service, or a command of its user; else nil.
func neededHelpers() *helpers {
	if os.Geteuid() == 0 {
		return nil
	}
	me, err := user.Current()
	if os.Getenv("RUNTIME_DIRECTORY") == "" && (err != nil || me.Username != unit.ServiceUser) {
		return nil
	}
	return &helpers{dir: helpersDir}
}

// helperConn is a connection to one helper.
type helperConn struct {
	*wire.Conn
	kind helperKind
}

// call connects to a helper, which systemd starts for this connection. The caller closes it.
func (h *helpers) call(ctx context.Context, kind helperKind) (*helperConn, error) {
	path := filepath.Join(h.dir, string(kind)+".sock")
	conn, err := wire.Dial(ctx, path)
	if err != nil {
		return nil, unreachable(kind, err)
	}
	if err := conn.Admit(h.root); err != nil { // who listens: systemd, which did so as root
		return nil, errors.Join(&helperError{Message: fmt.Sprintf("%s is not systemd's: %v", path, err), KindText: "helper",
			NextStep: fmt.Sprintf("find out who made it: ls -l %s; then: systemctl restart mxcert-%s.socket", path, kind)}, conn.Close())
	}
	return &helperConn{Conn: conn, kind: kind}, nil
}

// unreachable is why there is no connection to a helper.
func unreachable(kind helperKind, err error) error {
	e := &helperError{Message: fmt.Sprintf("the program of root that this needs (mxcert-%s@.service) cannot be reached: %v", kind, err), KindText: "helper",
		NextStep: fmt.Sprintf("systemctl start mxcert-%s.socket (systemctl start mxcert.service does so too)", kind)}
	if errors.Is(err, fs.ErrPermission) {
		e.NextStep = "run it as root, or as the user " + unit.ServiceUser
	}
	return e
}

// ask sends a question and reads the answer; the end of ctx ends it.
func (h *helperConn) ask(ctx context.Context, question, answer any) error {
	err := h.Ask(ctx, question, answer)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return &helperError{Message: fmt.Sprintf("the program of root (mxcert-%s@.service) ended without an answer: %v", h.kind, err), KindText: "helper",
		NextStep: fmt.Sprintf("see why: journalctl -u 'mxcert-%s@*' -u mxcert-%[1]s.socket", h.kind)}
}

// deployment is a plan that can be applied and reverted: a *deploy.Plan, or a *remotePlan.
type deployment interface {
	Empty() bool
	Changes() []deploy.Change
	ContentChanges() bool
	Apply(keep func(path string, content []byte) error) error
	Revert() error
	Revertible(at time.Time) error
	Shortens(at time.Time) error
	Touch() error
}

// checkPlaces finds out whether the files can be written and are those that the mail server reads.
func (p *pass) checkPlaces(ctx context.Context) error { return p.lookAtPlaces(ctx, false) }

// lookAtPlaces does so by this process or by the helper; sound asks whether the server could be reloaded, too.
func (p *pass) lookAtPlaces(ctx context.Context, sound bool) error {
	err := deploy.Check(p.targets())
	if !p.needsHelper(err) {
		if err == nil {
			err = p.inspect(ctx, sound)
		}
		return err
	}
	h := p.remote // the helper that has a plan answers this, too
	if h == nil {
		if h, err = p.helpers.call(ctx, installHelper); err != nil {
			return err
		}
		defer h.Close()
	}
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
	if err := deploy.Check(p.targets()); !p.needsHelper(err) {
		return p.planHere(bundles)
	}
	if p.remote != nil {
		_ = p.remote.Close() // of an earlier plan of this pass
	}
	h, err := p.helpers.call(ctx, installHelper)
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
	plan, err := deploy.Make(p.certificate.Name, p.jobsFor(bundles))
	if err != nil {
		return nil, err
	}
	p.tryCandidates(plan, bundles)
	return plan, nil
}

// needsHelper reports whether files cannot be written for want of rights that the helper has.
func (p *pass) needsHelper(err error) bool {
	return p.world != nil && p.helpers != nil && errors.Is(err, fs.ErrPermission)
}

// remotePlan is a plan that the install helper made and keeps, as long as the connection is open.
type remotePlan struct {
	ctx    context.Context //nolint:containedctx // the methods of a plan take none; a deployment is not broken off half way
	pass   *pass
	conn   *helperConn
	answer installAnswer // to the plan
}

// Empty reports that the files are as they should be.
func (r *remotePlan) Empty() bool { return len(r.answer.Changes) == 0 }

// ContentChanges reports whether the content of a file changes.
func (r *remotePlan) ContentChanges() bool { return r.answer.Content }

// Changes lists the plan.
func (r *remotePlan) Changes() []deploy.Change {
	list := make([]deploy.Change, len(r.answer.Changes))
	for i, c := range r.answer.Changes {
		list[i] = c.Change
		list[i].Mode = c.FileMode
	}
	return list
}

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

// Revertible is what the helper said when it made the plan: why there is nothing worth going back to.
func (r *remotePlan) Revertible(time.Time) error { return r.answer.Revertible.orNil() }

// Shortens is what the helper said when it made the plan: whether a live certificate is valid for longer.
func (r *remotePlan) Shortens(time.Time) error { return r.answer.Shortens.orNil() }

// Touch has the helper make the server look at its files again.
func (r *remotePlan) Touch() error {
	_, err := r.do(installOrder{Verb: verbTouch})
	return err
}

// do has the helper do something with its plan.
func (r *remotePlan) do(order installOrder) (answer installAnswer, err error) {
	ctx, cancel := context.WithTimeout(r.ctx, reloadPatience)
	defer cancel()
	order.Name = r.pass.certificate.Name
	if err := r.conn.ask(ctx, order, &answer); err != nil {
		return answer, err
	}
	return answer, answer.Error.orNil()
}

// runScripts runs the hooks of an event: in this process, or by the helper if this process has no privileges.
func (p *pass) runScripts(ctx context.Context, dir string, event script.Event) ([]hookOutcome, error) {
	if p.world == nil || p.helpers == nil {
		return runHere(ctx, dir, event, p.config.Hooks.Timeout)
	}
	entries, err := readDirNames(dir)
	if err == nil && len(entries) == 0 {
		return nil, nil // nothing to start a helper for
	}
	h, err := p.helpers.call(ctx, hookHelper)
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

// readDirNames lists a directory; one that is missing is empty.
func readDirNames(dir string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}
