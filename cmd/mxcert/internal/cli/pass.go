package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme"
	"mxcert/acme/bundle"
	"mxcert/acme/dnsprovider"
	"mxcert/acme/resolve"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
	"mxcert/configs"
	"mxcert/hooks/unit"
)

// keepGenerations is how many old generations of each key type stay on disk beside those in use.
const keepGenerations = 3

// sweepPatience bounds the removal of TXT records that an earlier run left.
const sweepPatience = 20 * time.Second

// passOptions say how one pass differs from the daemon's ordinary one.
type passOptions struct {
	force      bool      // --now: do not wait for the renewal time
	asked      time.Time // a certificate issued after this moment satisfies force: somebody else was faster
	newKey     bool      // --new-key
	dryRun     bool      // say what would be done
	daemon     bool      // wait out every backoff; a person's own attempt waits only for the CA's sake
	woken      bool      // by a change of the files
	deployOnly bool      // order nothing
	rollback   bool      // go back to the certificate that was served before
	shorter    bool      // --shorter: the new certificate may end before the one in service

	replaced <-chan struct{} // closed when a newer configuration is in force: what has not begun must not begin
}

// pass brings one certificate from what is wanted to what is served. It reads straight down: run, issue, putInService.
type pass struct {
	*world
	certificate configs.Certificate
	options     passOptions
	say         acme.Progress

	lineage *state.Lineage
	dns     *resolve.Resolver // of this pass: it remembers zones and servers for a minute; see resolver
	record  state.Record
	bundles []*bundle.Bundle // current, in the order of keys; nil where there is none
	plan    deployment
	remote  *helperConn // to the helper that has the plan; nil where this process writes the files itself
	resumes bool        // an order of an earlier run is to be gone on with
	issued  bool        // this pass has issued a certificate
	changed bool
	told    bool // the deploy hooks have run already
	toldErr error
	result  certificateReport

	heldUntil time.Time // not healed before, because somebody fights
	repeats   bool      // that was said before
}

// run makes the pass and gives the report. Everything that goes wrong is in it.
func (p *pass) run(ctx context.Context) certificateReport {
	p.result = certificateReport{Name: p.certificate.Name, Names: p.certificate.Domains, Endpoints: []endpointReport{}, Keys: []keyReport{}, Warnings: []string{}, Files: []string{}}
	p.lineage = p.store.Lineage(p.certificate.Name)
	defer func() {
		if p.remote != nil {
			_ = p.remote.Close()
		}
	}()
	if !p.options.dryRun {
		unlock, err := p.lock(ctx)
		if err != nil {
			return p.fail(at("lock", err))
		}
		defer unlock()
		if p.isReplaced() {
			return p.fail(at("lock", errReplaced))
		}
		defer p.reloader.expect(p, p.units("always", "auto"))()
		defer p.guard.attend(p)()
	}
	if err := p.load(ctx); err != nil {
		return p.fail(at("state", err))
	}
	repairErr := p.repair(ctx)
	p.askRenewalInfo(ctx)
	issueErr := p.issue(ctx)
	if p.options.dryRun {
		return p.conclude(ctx, issueErr, p.planOnly(ctx))
	}
	if ctx.Err() != nil || repairErr != nil && !p.issued {
		return p.conclude(ctx, issueErr, repairErr) // a stop begins nothing, and what has just failed would fail again
	}
	if p.resumes {
		p.sweepTXT(ctx)
	}
	return p.conclude(ctx, issueErr, p.putInService(ctx))
}

// errReplaced says that the configuration of a pass is not in force any more.
var errReplaced = errors.New("a newer configuration is in force")

func (p *pass) isReplaced() bool {
	select {
	case <-p.options.replaced: // nil, and never ready, for one-shots
		return true
	default:
		return false
	}
}

// lock waits for another mxcert that is at work on this certificate, and says so when it takes a while.
func (p *pass) lock(ctx context.Context) (unlock func(), err error) {
	quick, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	unlock, err = p.lineage.Lock(quick)
	if err == nil || !errors.Is(err, state.ErrLocked) || ctx.Err() != nil {
		return unlock, err
	}
	p.say("lock", "waits for another mxcert that is at work on this certificate")
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-p.options.replaced:
			stop()
		case <-ctx.Done():
		}
	}()
	return p.lineage.Lock(ctx)
}

// load reads what is remembered and takes up what a crash left: a certificate that was stored but not yet noted, TXT
// records that may still exist.
func (p *pass) load(ctx context.Context) error {
	read := p.lineage.Load
	if p.options.dryRun {
		read = p.lineage.Look
	}
	record, repaired, err := read()
	if err != nil {
		return err
	}
	p.record = record
	if repaired != "" {
		p.warn(repaired)
		p.record.Log(state.Event{At: time.Now(), Event: "repaired", Message: repaired})
	}
	if p.options.dryRun && !p.options.rollback {
		return p.readBundles()
	}
	if !p.options.dryRun {
		if err := p.adopt(); err != nil {
			return err
		}
	}
	if p.options.rollback {
		if err := p.stepBack(); err != nil {
			return err
		}
	}
	if p.options.dryRun {
		return p.readBundles()
	}
	// The CA may be looking at the records of an order in flight: they go when that has come to its end.
	if p.resumes = slices.ContainsFunc(p.keys(), p.unfinished); !p.resumes {
		p.sweepTXT(ctx)
	}
	return p.readBundles()
}

// adopt makes a generation current whose order is still noted as in flight: the process died in between.
func (p *pass) adopt() error {
	for _, key := range p.keys() {
		order, ok, err := p.lineage.Order(key)
		if err != nil || !ok || order.URL == "" {
			continue
		}
		generations, err := p.lineage.Generations()
		if err != nil {
			return err
		}
		for _, g := range generations {
			if g.Order == order.URL && g.Key == key {
				p.record.Slot(key).Issued(g.ID, time.Time{})
				if err := errors.Join(p.lineage.Save(p.record), p.lineage.DropOrder(key)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// sweepTXT removes TXT records that an earlier run left. Failing that must not keep a certificate from being deployed.
func (p *pass) sweepTXT(ctx context.Context) {
	entries, err := p.lineage.Journal()
	if len(entries) == 0 && err == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sweepPatience)
	defer cancel()
	solver, err := p.solver()
	if err == nil {
		err = acme.CleanUp(ctx, p.lineage, p.certificate.DNS.Provider, solver, p.resolver(), p.say)
	}
	if err != nil {
		p.warn(fmt.Sprintf("TXT records of an earlier run remain: %v", err))
	}
}

// readBundles loads the current certificate of every key type. Where it cannot be read, the one that was served, or else
// the newest that is good, takes its place, and that is said; renewal instants are drawn where they are missing.
func (p *pass) readBundles() error {
	p.bundles = make([]*bundle.Bundle, len(p.keys()))
	for i, key := range p.keys() {
		slot := p.record.Slot(key)
		if slot.Current == "" {
			continue
		}
		b, err := p.lineage.Bundle(slot.Current)
		if err != nil {
			p.warn(fmt.Sprintf("the stored certificate %s cannot be used: %v", slot.Current, err))
			if b = p.fallBack(key); b == nil {
				continue
			}
		}
		p.bundles[i] = b
		if slot.RenewAt.IsZero() {
			slot.RenewAt = schedule.RenewalTime(b.Leaf().NotBefore, b.NotAfter(), b.Leaf().NotBefore)
		}
	}
	return nil
}

// fallBack makes another stored certificate current; nil where none is good.
func (p *pass) fallBack(key bundle.KeyType) *bundle.Bundle {
	slot := p.record.Slot(key)
	candidates := []string{slot.Served, slot.Previous}
	generations, err := p.lineage.Generations()
	if err != nil {
		return nil
	}
	for _, g := range slices.Backward(generations) {
		if g.Key == key {
			candidates = append(candidates, g.ID)
		}
	}
	for _, id := range candidates {
		if _, revoked := p.lineage.Revocation(id); id == "" || revoked {
			continue
		}
		if b, err := p.lineage.Bundle(id); err == nil && time.Now().Before(b.NotAfter()) {
			slot.Current, slot.RenewAt, slot.Renewal = id, time.Time{}, state.RenewalInfo{}
			return b
		}
	}
	return nil
}

// issue orders what is due, one key type after another; the second rides on the authorizations of the first.
func (p *pass) issue(ctx context.Context) error {
	if p.options.deployOnly || p.options.rollback {
		return nil
	}
	for i, key := range p.keys() {
		reason := p.due(i, key)
		if reason == "" {
			continue
		}
		if p.options.dryRun {
			p.result.Plan = append(p.result.Plan, fmt.Sprintf("order: %s certificate for %s: %s", key, strings.Join(p.certificate.Domains, ", "), reason))
			continue
		}
		if err := p.held(i, key); err != nil {
			return at("order", err)
		}
		if !p.issued {
			if err := p.preflight(ctx); err != nil {
				return err
			}
		}
		if err := p.order(ctx, i, key, reason); err != nil {
			return err
		}
	}
	return nil
}

// preflight finds out before anything is asked of the CA that the result could not be put in place, or that the order would
// fail for certain.
func (p *pass) preflight(ctx context.Context) error {
	if err := p.checkPlaces(ctx); err != nil {
		return at("deploy", err)
	}
	for _, name := range p.units("always", "auto") {
		err := p.reloader.check(ctx, name)
		if unit.Misconfigured(err) {
			return at("reload", err) // a mistake in the configuration; what else is wrong with a unit may pass
		}
	}
	if _, err := p.solver(); err != nil {
		return at("dns", err)
	}
	findings := p.cas.Preflight(ctx, acme.PreflightRequest{Names: p.certificate.Domains, Profile: p.config.ACME.Profile, Resolver: p.resolver(),
		Require: resolve.Require(p.certificate.DNS.Propagation.Require)})
	for _, f := range findings {
		if f.Severity == acme.SeverityWarning {
			p.warn(f.Message)
		}
	}
	if err := acme.Blocked(findings); err != nil {
		return at(stageOf(err), err)
	}
	if err := p.lineage.Save(p.record); err != nil { // from now on it is missing only when it was lost
		return at("store", err)
	}
	return at("hook", p.runHooks(ctx, "pre"))
}

// order gets one certificate and stores it before anything of the mail server is touched.
func (p *pass) order(ctx context.Context, i int, key bundle.KeyType, reason string) error {
	p.say("order", fmt.Sprintf("%s certificate: %s", key, reason))
	solver, err := p.solver()
	if err != nil {
		return at("dns", err)
	}
	request := acme.Request{
		Names: p.certificate.Domains, KeyType: key, Profile: p.config.ACME.Profile, Roots: p.chainRoots,
		Lineage: p.lineage, Provider: p.certificate.DNS.Provider, Solver: solver, Resolver: p.resolver(),
		Require: resolve.Require(p.certificate.DNS.Propagation.Require), Patience: p.certificate.DNS.Propagation.Timeout, Progress: p.say, Notice: p.accountNotice,
		Claim: p.claim(i, key), Danger: p.inDanger(i),
	}
	if current := p.bundles[i]; current != nil {
		if p.certificate.ReuseKey && !p.options.newKey && !p.freshKeyWaits(key) && !p.lineage.Compromised(current.SPKI()) {
			request.Key = current.Key()
		}
		if g, err := p.lineage.Generation(p.record.Slot(key).Current); err == nil {
			request.Replaces, request.ReplacesAt = current.Leaf(), g.Directory
		}
	}
	issued, err := p.cas.Issue(ctx, request)
	if err != nil {
		return at(stageOf(err), err)
	}
	for _, warning := range issued.Warnings {
		p.warn(warning)
	}
	generation, err := p.lineage.Add(issued.Bundle, p.certificate.Domains, issued.Directory, issued.Order, time.Now())
	if err != nil {
		return at("store", err)
	}
	slot := p.record.Slot(key)
	slot.Issued(generation.ID, schedule.RenewalTime(generation.NotBefore, generation.NotAfter, generation.Created))
	p.record.Log(state.Event{At: time.Now(), Event: "issued", Key: key, Serial: generation.Serial, Message: reason})
	p.bundles[i], p.issued, p.changed = issued.Bundle, true, true
	if err := errors.Join(p.lineage.Save(p.record), p.lineage.DropOrder(key)); err != nil {
		return at("store", err)
	}
	p.say("issued", fmt.Sprintf("%s, serial %s, valid until %s", key, generation.Serial, generation.NotAfter.Format(time.RFC3339)))
	return nil
}

// freshKeyWaits reports whether the order in flight has a key of its own, which it is to be finished with.
func (p *pass) freshKeyWaits(key bundle.KeyType) bool {
	order, ok, err := p.lineage.Order(key)
	return err == nil && ok && order.Fresh && p.unfinished(key)
}

// putInService makes the mail server use what is current, and proves it.
func (p *pass) putInService(ctx context.Context) error {
	if !p.haveBundle() {
		return nil // nothing was ever issued: the error of the order says why
	}
	p.settle() // before the comparison: what changes after it is found by the guard
	plan, err := p.makePlan(ctx, p.bundles)
	if err != nil {
		return at("deploy", err)
	}
	p.plan = plan
	if plan.Empty() && !p.record.Applying {
		return p.confirm(ctx)
	}
	if !plan.Empty() {
		if err := p.mayHeal(changesText(plan.Changes())); err != nil {
			return at("deploy", err)
		}
	}
	if err := p.checkUnits(ctx); err != nil {
		return at("reload", err)
	}
	if !plan.Empty() {
		p.healed()
	}
	p.record.Applying = true
	if err := p.lineage.Save(p.record); err != nil {
		return at("store", err)
	}
	for _, change := range plan.Changes() {
		p.say("deploy", fmt.Sprintf("%s (%s)", change.Path, change.Why))
	}
	if err := p.write(func() error { return plan.Apply(p.keepDisplaced) }); err != nil {
		return at("deploy", errors.Join(err, p.applied()))
	}
	p.changed = p.changed || !plan.Empty()
	left := p.prints()
	if err := p.activate(ctx); err != nil {
		return errors.Join(p.revert(ctx, p.meanwhile(left, err)), p.applied())
	}
	p.compareAgain(ctx)
	return p.applied()
}

// applied notes that no deployment is half done any more.
func (p *pass) applied() error {
	p.record.Applying = false
	return at("store", p.lineage.Save(p.record))
}

// confirm is for files that are right already: the handshake decides whether the server uses them. If it does not, an
// earlier reload was missed, and it is told again.
func (p *pass) confirm(ctx context.Context) error {
	err := p.awaitServed(ctx, confirmPatience)
	if err == nil || ctx.Err() != nil || !p.servesAnother() {
		return at("verify", err)
	}
	if held := p.mayHeal("the files are right, but the server shows another certificate"); held != nil {
		return at("verify", held)
	}
	p.say("verify", "the files are right, but the server shows another certificate")
	if err := p.checkUnits(ctx); err != nil {
		return at("reload", err)
	}
	p.healed()
	p.changed = true
	return p.activate(ctx)
}

// stageOf names the step in which an order failed.
func stageOf(err error) string {
	if e, ok := errors.AsType[*acme.Error](err); ok {
		return e.Stage
	}
	if _, ok := errors.AsType[*dnsprovider.Error](err); ok {
		return "dns"
	}
	if _, ok := errors.AsType[*resolve.BehindError](err); ok {
		return "propagation"
	}
	if _, ok := errors.AsType[*resolve.Error](err); ok {
		return "dns"
	}
	return "order"
}
