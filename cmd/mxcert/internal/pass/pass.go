// Package pass brings one certificate from what is wanted to what is served, in order, and back if that fails. It reads straight
// down: Run, issue, serve, conclude.
//
//	wanted ──► issued ──► deployed ──► served
//
// A pass compares the four truths and closes each gap. Success is recorded only after a handshake on every endpoint has shown
// the certificate (invariant I5), so that the next pass finds every kind of half-done work. If a deployment fails, the pass
// goes back to the last certificate that was proven. It never stops or restarts a unit: reload is the only verb (I6).
//
// [Runner.Run] takes the lineage's lock; [Runner.Look] only looks. A pass reports what it has found at its end, in a
// report.Certificate, and remembers it in the lineage's record. It keeps nothing else.
package pass

import (
	"context"
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
	"mxcert/deploy/served"
)

// Options say how one pass differs from the daemon's ordinary one.
type Options struct {
	Force      bool      // --now: do not wait for the renewal time
	Asked      time.Time // a certificate issued after this moment satisfies Force: another process was faster
	NewKey     bool      // --new-key
	DryRun     bool      // say what would be done
	Daemon     bool      // wait out every backoff; a person's own attempt waits only to spare the CA
	Woken      bool      // by a change of the files
	DeployOnly bool      // order nothing
	Rollback   bool      // go back to the certificate that was served before
	Shorter    bool      // --shorter: the new certificate may expire before the one in service

	Replaced <-chan struct{} // closed when a newer configuration is in force: what has not started must not start
}

// pass is one pass over one certificate. Only start makes one.
type pass struct {
	*Runner
	want    wanted.Certificate
	options Options
	say     acme.Progress

	lineage  *state.Lineage
	have     *issued.Lineage   // what is issued; nil until it is read
	plan     helper.Plan       // what deployed lacks; nil until the files are compared
	seen     []served.Result   // what the endpoints showed last
	resolver *resolve.Resolver // of this pass: it remembers zones and servers for a minute

	resumes   bool // there is an order of an earlier run to finish
	issued    bool // this pass has issued a certificate
	changed   bool
	hooksRan  bool // the deploy hooks have run already
	hooksErr  error
	heldUntil time.Time // the daemon leaves files that something else keeps changing alone until then

	outOfService bool // what is issued could not be put in service

	warnings []string
	intended []string       // --dry-run, in words
	dryRun   *report.DryRun // --dry-run, for programs
}

// Run makes a pass and returns its report, which contains everything that went wrong. It reports progress through say.
func (r *Runner) Run(ctx context.Context, want wanted.Certificate, options Options, say acme.Progress) report.Certificate {
	p, leave, err := r.start(ctx, want, options, say)
	if err != nil {
		return p.failed(err)
	}
	defer leave()
	if err := p.load(ctx); err != nil {
		return p.failed(report.At("state", err))
	}
	repairErr := p.finishHalfDone(ctx)
	p.askRenewalInfo(ctx)
	issueErr := p.issue(ctx) // wanted → issued
	if options.DryRun {
		return p.conclude(ctx, issueErr, p.planOnly(ctx))
	}
	if ctx.Err() != nil || repairErr != nil && !p.issued {
		return p.conclude(ctx, issueErr, repairErr) // a stop starts nothing, and what has just failed would fail again
	}
	if p.resumes {
		p.sweepTXT(ctx)
	}
	return p.conclude(ctx, issueErr, p.serve(ctx)) // issued → deployed → served, or back
}

// start locks the certificate and announces the pass to the shared reloads and to the drift watch. leave undoes both.
func (r *Runner) start(ctx context.Context, want wanted.Certificate, options Options, say acme.Progress) (p *pass, leave func(), err error) {
	p = &pass{Runner: r, want: want, options: options, say: say, lineage: r.Store.Lineage(want.Name), resolver: want.Resolver()}
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
		unlock()
		p.closePlan()
	}, nil
}

// errReplaced says that the configuration of a pass is no longer in force.
var errReplaced = errors.New("a newer configuration is in force")

func (p *pass) isReplaced() bool {
	select {
	case <-p.options.Replaced: // nil, and never ready, for one-shots
		return true
	default:
		return false
	}
}

// Lock waits for another mxcert that is at work on a lineage, and says so if it takes a while. The wait ends when replaced is
// closed; replaced may be nil.
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

// load looks at what is issued, and goes back to an earlier certificate if the options say so.
func (p *pass) load(ctx context.Context) (err error) {
	if p.options.DryRun {
		p.have, err = issued.Look(p.lineage, p.want.Keys)
	} else {
		p.have, err = issued.Load(p.lineage, p.want.Keys)
	}
	if err == nil && p.options.Rollback {
		if err = p.have.StepBack(); err == nil && !p.options.DryRun {
			err = p.lineage.Save(p.have.Record)
		}
	}
	if err != nil {
		return err
	}
	if !p.options.DryRun {
		// The CA may be looking at the records of an order in flight: they are removed when it has ended.
		if p.resumes = slices.ContainsFunc(p.want.Keys, p.inFlight); !p.resumes {
			p.sweepTXT(ctx)
		}
	}
	if !p.options.DryRun || p.options.Rollback {
		p.have.ReadBundles()
	}
	p.warnAll(p.have.Notes)
	return nil
}

func (p *pass) inFlight(key bundle.KeyType) bool {
	inFlight, _ := p.have.InFlight(key, p.want.Names, p.want.Directories)
	return inFlight
}

// finishHalfDone finishes a deployment that a crash interrupted, before anything else: certificate and key may not belong
// together.
func (p *pass) finishHalfDone(ctx context.Context) error {
	if !p.have.Record.Applying || p.options.DryRun || !p.have.Any() {
		return nil
	}
	p.say("deploy", "an earlier deployment was interrupted; it is finished first")
	return p.serve(ctx)
}

// known returns owner and mode that earlier deployments gave to the files.
func (p *pass) known() helper.Known { return helper.KnownFiles(p.have.Record) }

func (p *pass) closePlan() {
	if p.plan != nil {
		helper.Close(p.plan)
	}
}

// warn adds a warning to the report and to the progress.
func (p *pass) warn(text string) {
	if slices.Contains(p.warnings, text) {
		return
	}
	p.warnings = append(p.warnings, text)
	p.say("warning", text)
}

func (p *pass) warnAll(texts []string) {
	for _, text := range texts {
		p.warn(text)
	}
}
