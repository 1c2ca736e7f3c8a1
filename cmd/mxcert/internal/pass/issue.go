package pass

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"mxcert/acme"
	"mxcert/acme/bundle"
	"mxcert/acme/dnsprovider"
	"mxcert/acme/finding"
	"mxcert/acme/preflight"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/hooks/unit"
)

// sweepPatience limits the time for removing TXT records that an earlier run left.
const sweepPatience = 20 * time.Second

// issue orders what is due, one key type after another. The order for the second key type uses the authorizations of the first.
func (p *pass) issue(ctx context.Context) error {
	if p.options.DeployOnly || p.options.Rollback {
		return nil
	}
	for i, key := range p.want.Keys {
		reason := p.due(i, key)
		if reason == "" {
			continue
		}
		if p.options.DryRun {
			p.intended = append(p.intended, fmt.Sprintf("order: %s certificate for %s: %s", key, strings.Join(p.want.Names, ", "), reason))
			continue
		}
		if err := p.held(i, key); err != nil {
			return report.At("order", err)
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

// preflight checks three things before mxcert asks the CA for anything: that the new certificate could be put in place, that the order is
// not certain to fail, and that the DNS provider has what it needs.
func (p *pass) preflight(ctx context.Context) error {
	notes, err := p.Helper.Check(ctx, p.want, p.known(), nil, false)
	if p.warnAll(notes); err != nil {
		return report.At("deploy", err)
	}
	for _, name := range p.want.Units(wanted.Always, wanted.Auto) {
		if err := unit.Check(ctx, name); unit.Misconfigured(err) || unit.Away(err) {
			return report.At("reload", err) // other faults of a unit do not stop the order
		}
	}
	solver, err := p.want.Solver(p.resolver)
	if err != nil {
		return report.At("dns", err)
	}
	findings := p.CAs.Preflight(ctx, preflight.Request{Names: p.want.Names, Profile: p.want.Profile, Resolver: p.resolver, Require: p.want.Require})
	for _, f := range findings {
		if f.Severity == finding.Warning {
			p.warn(f.Message)
		}
	}
	if err := acme.Blocked(findings); err != nil {
		return report.At(stageOf(err), err)
	}
	if preparer, ok := solver.(dnsprovider.Preparer); ok {
		if err := preparer.Prepare(ctx, dnsprovider.Challenges(ctx, p.resolver, p.want.Names)); err != nil {
			return report.At("dns", err)
		}
	}
	if err := p.lineage.Save(p.have.Record); err != nil { // if the record is missing after this, it was lost
		return report.At("store", err)
	}
	return report.At("hook", p.runHooks(ctx, "pre"))
}

// order gets one certificate and stores it before mxcert touches anything of the mail server.
func (p *pass) order(ctx context.Context, i int, key bundle.KeyType, reason string) error {
	p.say("order", fmt.Sprintf("%s certificate: %s", key, reason))
	solver, err := p.want.Solver(p.resolver)
	if err != nil {
		return report.At("dns", err)
	}
	got, err := p.CAs.Issue(ctx, p.demand(i, key, solver))
	if err != nil {
		return report.At(stageOf(err), err)
	}
	p.warnAll(got.Warnings)
	generation, err := p.lineage.Add(got.Bundle, p.want.Names, got.Directory, got.Order, time.Now())
	if err != nil {
		return report.At("store", err)
	}
	p.have.Record.Slot(key).Issued(generation.ID, schedule.RenewalTime(generation.NotBefore, generation.NotAfter, generation.Created))
	p.have.Record.Slot(key).Chain = p.chainToday(got.Bundle)
	p.have.Record.Log(state.Event{At: time.Now(), Event: "issued", Key: key, Serial: generation.Serial, Message: reason})
	p.have.Bundles[i], p.issued, p.changed = got.Bundle, true, true
	if err := errors.Join(p.lineage.Save(p.have.Record), p.lineage.DropOrder(key)); err != nil {
		return report.At("store", err)
	}
	p.say("issued", fmt.Sprintf("%s, serial %s, valid until %s", key, generation.Serial, generation.NotAfter.Format(time.RFC3339)))
	return nil
}

// demand returns what to order. It keeps the key of the current certificate, unless a new key is wanted or the old one must not be used.
func (p *pass) demand(i int, key bundle.KeyType, solver dnsprovider.Solver) acme.Demand {
	demand := acme.Demand{Danger: p.have.InDanger(i), Request: acme.Request{
		Claim: p.claim(i, key), Profile: p.want.Profile, Roots: p.want.Roots,
		Lineage: p.lineage, Provider: p.want.Provider, Solver: solver, Resolver: p.resolver,
		Require: p.want.Require, Patience: p.want.Patience, Progress: p.say, Notice: p.accountNotice,
	}}
	current := p.have.Bundles[i]
	if current == nil {
		return demand
	}
	_, fresh := p.have.InFlight(key, p.want.Names, p.want.Directories)
	if p.want.ReuseKey && !p.options.NewKey && !fresh && !p.lineage.Compromised(current.SPKI()) {
		demand.Key = current.Key()
	}
	if g, err := p.have.Current(key); err == nil {
		demand.Replaces, demand.ReplacesAt = current.Leaf(), g.Directory
	}
	return demand
}

// accountNotice puts something that the operator must know about the account into the report and the history.
func (p *pass) accountNotice(text string) {
	p.warn(text)
	p.have.Record.Log(state.Event{At: time.Now(), Event: "account", Message: text})
}

// sweepTXT removes TXT records that an earlier run left. If this fails, mxcert still deploys the certificate.
func (p *pass) sweepTXT(ctx context.Context) {
	entries, err := p.lineage.Journal()
	if len(entries) == 0 && err == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sweepPatience)
	defer cancel()
	solver, err := p.want.Solver(p.resolver)
	if err == nil {
		err = acme.CleanUp(ctx, p.lineage, p.want.Provider, solver, p.resolver, p.say)
	}
	if err != nil {
		p.warn(fmt.Sprintf("TXT records of an earlier run remain: %v", err))
	}
}

// stageOf names the step in which an order failed.
func stageOf(err error) string { return cmp.Or(report.StageOf(err), "order") }
