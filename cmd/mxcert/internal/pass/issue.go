package pass

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme"
	"mxcert/acme/bundle"
	"mxcert/acme/dnsprovider"
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
	if p.options.DeployOnly || p.options.Rollback || p.options.Publish {
		return nil
	}
	defer p.endLead()
	p.tryAgain(ctx)
	var waits error
	for i, key := range p.want.Keys {
		err := p.issueKey(ctx, i, key)
		if isDANE(err) {
			waits = errors.Join(waits, err) // the other key types do not wait for it
			continue
		}
		if err != nil {
			return errors.Join(err, waits)
		}
	}
	return waits
}

// issueKey orders the certificate of one key type if it is due, if necessary without optional names.
func (p *pass) issueKey(ctx context.Context, i int, key bundle.KeyType) (failed error) {
	for further := 0; ; {
		reason := cmp.Or(p.due(i, key), p.rollDue(ctx, key))
		essential := reason != ""
		if !essential {
			reason = p.comesBack(key)
		}
		if reason == "" {
			return nil
		}
		p.warnOfNewName(key)
		switch {
		case p.along.planned[key] != "":
			return nil // what would be taken comes first
		case p.options.DryRun:
			p.intended = append(p.intended, fmt.Sprintf("order: %s certificate for %s: %s", key, strings.Join(p.names, ", "), reason)+p.elsewhere(ctx))
			return nil
		case further > mostFurther:
			return failed
		}
		if took, err := p.lead(ctx, i, key); err != nil {
			return err
		} else if took {
			continue
		}
		if err := p.chooseKey(ctx, i, key); err != nil {
			return err
		}
		placed := false
		if failed = report.At("order", p.held(i, key)); failed == nil {
			failed = p.preflight(ctx)
		}
		if failed == nil {
			placed, failed = true, p.order(ctx, i, key, reason)
		}
		if placed && acme.KeyRefused(failed) && p.keyRefused(ctx, key, p.orderKeys[key]) && further <= mostFurther {
			further++
			continue
		}
		if failed == nil || !p.fewer(ctx, failed, i, essential, placed) {
			return failed
		}
		if placed {
			further++
		}
	}
}

// preflight checks three things before mxcert asks the CA for anything: that the new certificate could be put in place, that the order is
// not certain to fail, and that the DNS provider has what it needs. A pass does this until it has found nothing, and then not again.
func (p *pass) preflight(ctx context.Context) error {
	if p.prepared || p.issued {
		return nil
	}
	notes, err := p.check(ctx, false)
	if p.warnAll(notes); err != nil {
		return report.At("deploy", err)
	}
	for _, name := range p.reached().Units(wanted.Always, wanted.Auto) {
		if err := unit.Check(ctx, name); unit.Misconfigured(err) || unit.Away(err) {
			return report.At("reload", err) // other faults of a unit do not stop the order
		}
	}
	accounts := p.want.Accounts(p.resolver)
	if err := setUp(accounts); err != nil {
		return report.At("dns", err)
	}
	if err := p.foresee(ctx, accounts); err != nil {
		return err
	}
	if err := p.lineage.Save(p.have.Record); err != nil { // if the record is missing after this, it was lost
		return report.At("store", err)
	}
	p.prepared = true
	return report.At("hook", p.runHooks(ctx, "pre"))
}

// order gets one certificate and stores it before mxcert touches anything of the mail server.
func (p *pass) order(ctx context.Context, i int, key bundle.KeyType, reason string) error {
	p.say("due", fmt.Sprintf("%s certificate: %s", key, reason))
	accounts := p.want.Accounts(p.resolver)
	if err := setUp(accounts); err != nil {
		return report.At("dns", err)
	}
	if p.tlsa != nil {
		p.tlsa.outdated = true
	}
	got, err := p.CAs.Issue(ctx, p.demand(i, key, accounts))
	if err != nil {
		return report.At(stageOf(err), p.interrupted(err))
	}
	p.warnAll(got.Warnings)
	generation, err := p.lineage.AddFound(got.Bundle, p.names, p.foundOf(p.names), got.Directory, got.Order, time.Now())
	if err != nil {
		return report.At("store", err)
	}
	p.have.Record.Slot(key).Issued(generation.ID, schedule.RenewalTime(generation.NotBefore, generation.NotAfter, generation.Created))
	p.have.Record.Slot(key).Chain = p.chainToday(got.Bundle)
	p.have.Record.Log(state.Event{At: time.Now(), Event: "issued", Key: key, Serial: generation.Serial, Message: reason})
	p.have.Bundles[i], p.issued, p.changed = got.Bundle, true, true
	p.orders = append(p.orders, report.Issuance{Key: string(key), Serial: generation.Serial, Order: got.Order, NotAfter: generation.NotAfter})
	for _, name := range p.names {
		p.takeIn(name)
	}
	if err := errors.Join(p.lineage.Save(p.have.Record), p.lineage.DropOrder(key)); err != nil {
		return report.At("store", err)
	}
	p.say("issued", fmt.Sprintf("%s, serial %s, valid until %s", key, generation.Serial, generation.NotAfter.Format(time.RFC3339)))
	p.offer(ctx, key, generation, got.Bundle)
	return nil
}

// setUp sets up the account of a certificate without dns.zones. Otherwise only those that the places of the challenges need are set up, when
// these are known.
func setUp(accounts dnsprovider.Accounts) error {
	if accounts.Zoned() {
		return nil
	}
	for _, account := range accounts {
		if _, err := account.Solver(); err != nil {
			return err
		}
	}
	return nil
}

// demand returns what to order. It keeps the key of the current certificate, unless a new key is wanted or the old one must not be used.
func (p *pass) demand(i int, key bundle.KeyType, accounts dnsprovider.Accounts) acme.Demand {
	demand := acme.Demand{Danger: p.have.InDanger(i), Request: acme.Request{
		Claim: p.claim(i, key), Optional: p.optional(), Profile: p.want.Profile, Roots: p.want.Roots,
		Lineage: p.lineage, Accounts: accounts, Resolver: p.resolver,
		Require: p.want.Require, Patience: p.want.Patience, Progress: p.say, Notice: p.accountNotice,
	}}
	current := p.have.Bundles[i]
	if current == nil {
		return demand
	}
	_, fresh := p.have.InFlight(key, p.names, p.want.Directories)
	if signer, chosen := p.orderKeys[key]; chosen {
		demand.Key = signer
	} else if p.want.ReuseKey && !p.options.NewKey && !fresh && !p.lineage.Compromised(current.SPKI()) && !slices.Contains(p.unwelcome, key) {
		demand.Key = current.Key()
	}
	if g, err := p.have.Current(key); err == nil {
		demand.Replaces, demand.ReplacesAt = current.Leaf(), g.Directory
	}
	return demand
}

// accountNotice puts something that the operator must know about the account into the report and the history.
func (p *pass) accountNotice(text string) {
	p.warnOf("account-changed", text)
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
	if err := acme.CleanUp(ctx, p.lineage, p.want.Accounts(p.resolver), p.resolver, p.say); err != nil {
		p.warnOf("txt-remain", fmt.Sprintf("TXT records of an earlier run remain: %v", err))
	}
}

// stageOf names the step in which an order failed.
func stageOf(err error) string { return cmp.Or(report.StageOf(err), "order") }
