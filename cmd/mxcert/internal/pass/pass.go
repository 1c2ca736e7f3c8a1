// Package pass brings one certificate from what is wanted to what is served, step by step. If a step fails, it goes back. Read the code
// from top to bottom: Run, issue, serve, conclude.
//
//	wanted ──► issued ──► deployed ──► served
//
// A pass compares these four truths and closes each gap between them:
//
//   - wanted: what the configuration asks for
//   - issued: the certificates in the state directory
//   - deployed: the files that the mail server reads
//   - served: what the mail server shows in a handshake
//
// A pass records success only after every endpoint has shown the certificate in a handshake (invariant I5). If a pass is interrupted, the
// next one finds what is left to do. If a deployment fails, the pass puts back the last certificate that was proven to work. A pass never
// stops or restarts a mail server; it only reloads it (I6).
//
// If the host is in a fleet, hosts share what is issued; see fleet.go.
//
// [Runner.Run] locks the lineage, which is the series of certificates under one name, and does the work. [Look] changes nothing and
// takes no lock. At its end a pass reports what it found in a report.Certificate, and stores in the lineage's record what a later pass must
// know. It keeps nothing else. A pass does not decide when it runs; package daemon and the commands do.
package pass

import (
	"context"
	"crypto"
	"errors"
	"slices"
	"time"

	"mxcert/acme"
	"mxcert/acme/bundle"
	"mxcert/acme/issued"
	"mxcert/acme/resolve"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/helper"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy"
	"mxcert/deploy/dane"
	"mxcert/deploy/served"
)

// Options say how one pass differs from an ordinary pass of the daemon.
type Options struct {
	Force      bool      // --now: do not wait for the renewal time
	Asked      time.Time // a certificate issued after this time satisfies Force: another process was faster
	NewKey     bool      // --new-key
	DryRun     bool      // only say what would be done
	Daemon     bool      // wait out every backoff; a person's run waits only for the CA
	Woken      bool      // a change of the files started this pass
	DeployOnly bool      // order nothing
	Rollback   bool      // go back to the certificate that was served before this one
	Shorter    bool      // --shorter: the new certificate may end before the one in service

	IgnoreDANE bool        // --ignore-dane: deploy although senders may defer mail, and say so
	Roll       *dane.Asked // tlsa roll, or --new-key with TLSA records: change the key, safely; nil otherwise
	Publish    bool        // tlsa publish: bring the records up to date, order and deploy nothing
	Adopt      bool        // tlsa publish --adopt: records of others that fit our keys become ours

	Replaced <-chan struct{} // closed when a newer configuration is in force, or nobody wants the pass any more: it then must not start
}

// pass is one pass over one certificate. Only start makes one.
type pass struct {
	*Runner
	want    wanted.Certificate
	options Options
	say     acme.Progress

	lineage  *state.Lineage
	have     *issued.Lineage   // what is issued; nil until it is read
	plan     helper.Plan       // what deployed lacks; nil until files are compared
	seen     []served.Result   // what the endpoints showed last
	resolver *resolve.Resolver // of this pass: it remembers zones and servers for a minute

	found    state.Names // what looks have found
	look     *namesLook  // that runs; nil if there is none
	names    []string    // that orders of this pass ask for
	retry    []string    // names that were left out and whose time has come; nil once the pass has looked at them
	again    []string    // those of names that were left out until now
	prepared bool        // the preflight has found nothing

	resumes   bool              // this pass has to finish an order of an earlier run
	issued    bool              // this pass has issued a certificate
	orders    []report.Issuance // that it has issued
	restored  bool              // it has put back into service what something else had changed
	changed   bool
	wrote     []deploy.Change   // what this pass has changed in the files
	reloaded  []report.Reloaded // the reloads that this pass has started
	renewal   report.Outcome    // of its orders; "" if it placed none
	unread    *unread           // the servers that read other files, if others read these; nil if there are none
	hooksRan  bool              // the deploy hooks have run already
	hooksErr  error
	heldUntil time.Time // something else keeps changing the files: leave them alone until then

	tlsa     *tlsa    // the TLSA records; nil if nothing is to be done about them
	staples  *staples // the OCSP responses; nil if servers get none from mxcert
	stapling *string  // Exim's tls_ocsp_file; nil until it is asked

	stapleDrift *driftError // something else keeps changing the files with responses; nil if not

	stapledAnew bool // this pass has changed the files beside an OCSP response, or the response

	orderKeys map[bundle.KeyType]crypto.Signer // the keys that orders certify, if TLSA records decide
	along     *alongside                       // what a pass in a fleet remembers
	others    []state.OtherName                // names that only other hosts of the fleet want, if they are not those that are stored
	taken     bool                             // this pass has stored what another host has ordered

	unwelcome []bundle.KeyType // whose current key the CA has refused, and no TLSA record names it

	lost         bundle.KeyType // the stored certificate of this type is older than the one in service: the state lacks a part
	outOfService bool           // mxcert could not put what is issued in service

	warnings []string
	intended []string       // --dry-run, in words
	dryRun   *report.DryRun // --dry-run, for programs
}

// Run makes a pass and returns its report, which contains every error. It calls say to report progress.
func (r *Runner) Run(ctx context.Context, want wanted.Certificate, options Options, say acme.Progress) report.Certificate {
	p, leave, err := r.start(ctx, want, options, say)
	if err != nil {
		return p.failed(err)
	}
	defer leave()
	result := p.run(ctx)
	p.endLook(ctx, &result)
	p.noteFleet(result)
	p.unsayKeys()
	p.endFleet()
	if p.along.unoffered.Load() {
		result.NextOffer = time.Now().Add(offerAgain)
	}
	return result
}

// run carries out the steps of a pass that has started.
func (p *pass) run(ctx context.Context) report.Certificate {
	options := p.options
	if err := p.load(ctx); err != nil {
		if _, refused := errors.AsType[*refusal](err); refused || isDANE(err) {
			return p.refused(ctx, err)
		}
		return p.failed(report.At("state", err))
	}
	p.startTLSA(ctx)
	repairErr := p.finishHalfDone(ctx)
	p.takeAll(ctx)
	p.startLook(ctx)
	if !p.taken { // what is taken is put in service first: neither DNS nor the CA is waited for
		p.askRenewalInfo(ctx)
		p.useLook(ctx)
	}
	first := p.serveFirst(ctx)
	issueErr := p.issue(ctx) // wanted → issued
	if options.DryRun {
		planErr := p.planOnly(ctx)
		if p.noticesLost(planErr) {
			return p.conclude(ctx, p.issue(ctx), nil)
		}
		return p.conclude(ctx, issueErr, planErr)
	}
	if ctx.Err() != nil && issueErr == nil && repairErr == nil {
		issueErr = p.unproven(ctx)
	}
	if ctx.Err() != nil || repairErr != nil && !p.renewed() {
		return p.conclude(ctx, issueErr, repairErr) // after a stop nothing starts; what just failed would fail again
	}
	if p.resumes {
		p.sweepTXT(ctx)
	}
	serveErr := p.serveUnless(ctx, first) // issued → deployed → served, or back
	if p.noticesLost(serveErr) && issueErr == nil {
		issueErr, serveErr = p.replaceLost(ctx, serveErr)
	}
	if p.renewed() && ctx.Err() == nil {
		p.askRenewalInfo(ctx) // now, so that the report has the time that the next pass will find
	}
	return p.conclude(ctx, issueErr, serveErr)
}

// renewed reports whether this pass has got another certificate: by an order, or from another host of the fleet.
func (p *pass) renewed() bool { return p.issued || p.taken }

// unproven returns the error of a pass that was stopped before it looked at files and servers. Such a pass is not a success, even if
// nothing failed (I5).
func (p *pass) unproven(ctx context.Context) error {
	if p.renewed() {
		return report.At("deploy", ctx.Err())
	}
	return report.At("order", ctx.Err())
}

// start locks the certificate and announces the pass to the drift watch and the shared reloads. leave undoes both.
func (r *Runner) start(ctx context.Context, want wanted.Certificate, options Options, say acme.Progress) (p *pass, leave func(), err error) {
	p = &pass{Runner: r, want: want, options: options, say: say, lineage: r.Store.Lineage(want.Name), resolver: want.Resolver()}
	p.want.InFleet = r.Fleet != nil
	p.along = new(alongside)
	if r.Fleet != nil {
		p.along = newAlongside()
	}
	if options.DryRun {
		return p, p.closePlan, nil
	}
	unlock, err := Lock(ctx, p.lineage, options.Replaced, say)
	if err != nil {
		return p, nil, report.At("lock", err)
	}
	if p.isReplaced() {
		unlock()
		return p, nil, report.At("lock", errReplaced)
	}
	arrive := r.reloads.expect(p, want.Units(wanted.Always, wanted.Auto))
	r.driftBegins(want.Name)
	return p, func() {
		r.driftEnds(want.Name, p.outOfService)
		arrive()
		p.endFleet()
		unlock()
		p.closePlan()
	}, nil
}

// errReplaced says that a pass is not to start any more.
var errReplaced = errors.New("a newer configuration is in force, or the command that asked has exited")

func (p *pass) isReplaced() bool {
	select {
	case <-p.options.Replaced: // nil, and so never ready, without a daemon
		return true
	default:
		return false
	}
}

// Lock waits for another mxcert that works on the same lineage, and says so if it takes a while. It stops waiting when replaced is closed;
// replaced may be nil.
func Lock(ctx context.Context, lineage *state.Lineage, replaced <-chan struct{}, say acme.Progress) (unlock func(), err error) {
	quick, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	unlock, err = lineage.Lock(quick)
	if err == nil || !errors.Is(err, state.ErrLocked) || ctx.Err() != nil {
		return unlock, err
	}
	say("lock", "waits for another mxcert that is at work on this certificate")
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-replaced:
			stop()
		case <-ctx.Done():
		}
	}()
	return lineage.Lock(ctx)
}

// load reads what is issued. If the operator asked for that, it goes back to an earlier certificate, or ends a rollback.
func (p *pass) load(ctx context.Context) (err error) {
	if p.options.DryRun {
		p.have, err = issued.Look(p.lineage, p.want.Keys)
	} else {
		p.have, err = issued.Load(p.lineage, p.want.Keys)
	}
	stepped := false
	switch {
	case err != nil:
	case p.options.Rollback:
		if err, stepped = p.have.StepBack(), true; err != nil {
			return &refusal{err: err, name: p.want.Name}
		}
	case p.options.DeployOnly:
		stepped = p.have.StepForward()
	}
	if err == nil {
		p.learnRevoked()
		p.mergeWishes(ctx)
		p.takeFound() // the gate judges the records of these names, too
	}
	if err == nil && stepped {
		err = p.mayStep(ctx)
	}
	if err == nil && stepped && !p.options.DryRun {
		err = p.lineage.Save(p.have.Record)
	}
	if err != nil {
		return err
	}
	p.chooseNames()
	if !p.options.DryRun {
		// The CA may still be reading the records of an unfinished order. mxcert removes them when that order has ended.
		if p.resumes = slices.ContainsFunc(p.want.Keys, p.inFlight); !p.resumes {
			p.sweepTXT(ctx)
		}
	}
	if !p.options.DryRun || stepped {
		p.have.ReadBundles()
	}
	p.warnAll(p.have.Notes)
	return nil
}

func (p *pass) inFlight(key bundle.KeyType) bool {
	inFlight, _ := p.have.InFlight(key, p.names, p.want.Directories)
	return inFlight
}

// finishHalfDone finishes a deployment that a crash interrupted. It comes first, because the certificate and the key in the files may not
// belong together.
func (p *pass) finishHalfDone(ctx context.Context) error {
	if !p.have.Record.Applying || p.options.DryRun || !p.have.Any() {
		return nil
	}
	p.say("deploy", "an earlier deployment was interrupted; it is finished first")
	return p.serve(ctx)
}

// known returns the owners and modes that earlier deployments gave to the files.
func (p *pass) known() helper.Known { return helper.KnownFiles(p.have.Record) }

func (p *pass) closePlan() {
	if p.plan != nil {
		helper.Close(p.plan)
	}
}

// warn adds a warning to the report and to the progress.
func (p *pass) warn(text string) { p.warnOf("warning", text) }

// warnOf is warn with another word for the progress, which says what the warning is about.
func (p *pass) warnOf(stage, text string) {
	text = report.OneLine(text)
	if slices.Contains(p.warnings, text) {
		return
	}
	p.warnings = append(p.warnings, text)
	p.say(stage, text)
}

func (p *pass) warnAll(texts []string) {
	for _, text := range texts {
		p.warn(text)
	}
}
