package pass

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"mxcert/acme/dnsprovider"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy"
	"mxcert/deploy/served"
)

// planOnly ends a dry run: it reports the difference between what is and what would be.
func (p *pass) planOnly(ctx context.Context) error {
	p.dryRun = &report.DryRun{Orders: append([]string{}, p.intended...), Files: []deploy.Change{}, Reloads: []report.Reload{}, Handshakes: []report.Handshake{}}
	if err := p.planProofs(ctx); err != nil {
		return report.At("dns", err)
	}
	lacksIssuer := incomplete(p.want, p.have.Bundles)
	if lacksIssuer != nil && len(p.intended) == 0 {
		return report.At("deploy", lacksIssuer)
	}
	if !p.have.Any() || lacksIssuer != nil {
		notes, err := p.check(ctx, false)
		p.warnAll(notes)
		return report.At("deploy", errors.Join(err, p.unreadError()))
	}
	plan, err := p.Helper.Plan(ctx, p.want, p.have.Bundles, p.known(), p.say)
	if err != nil {
		return report.At("deploy", err)
	}
	p.plan = plan
	for _, change := range plan.Summary().Changes {
		p.dryRun.Files = append(p.dryRun.Files, change)
		p.intended = append(p.intended, changeText(change))
	}
	if !plan.Summary().Empty() {
		if err := p.mayServe(ctx, p.have.Bundles); err != nil {
			return err
		}
	}
	readyErr := p.ready(ctx)
	if plan.Summary().ContentChanges() {
		p.planProof()
	}
	if readyErr != nil {
		return report.At("reload", readyErr)
	}
	err = p.await(ctx, confirmPatience, served.Matching)
	if err != nil && plan.Summary().Empty() && served.Reloadable(p.seen) {
		p.intended = append(p.intended, "reload, because the server shows another certificate")
	}
	return report.At("deploy", p.unreadError())
}

// planProofs tells which DNS account would prove which names, if the places of the challenges decide. Names whose places cannot be found are
// left out: the order will say why.
func (p *pass) planProofs(ctx context.Context) error {
	accounts := p.want.Accounts(p.resolver)
	if len(p.dryRun.Orders) == 0 || !accounts.Zoned() {
		return nil
	}
	shares, err := accounts.Divide(dnsprovider.Challenges(ctx, p.resolver, p.want.Names))
	for _, share := range shares {
		p.dryRun.Proofs = append(p.dryRun.Proofs, report.Proof{Zone: share.Zone, Provider: share.Provider, Names: share.Domains()})
		p.intended = append(p.intended, fmt.Sprintf("prove %s by %s", strings.Join(share.Domains(), ", "), share.Account))
	}
	return err
}

// planProof lists the steps that would follow the change of the files.
func (p *pass) planProof() {
	for _, way := range []wanted.Reload{wanted.Always, wanted.Auto} {
		for _, unit := range p.reached().Units(way) {
			p.dryRun.Reloads = append(p.dryRun.Reloads, report.Reload{Unit: unit, When: string(way)})
			text := "reload " + unit
			if way == wanted.Auto {
				text += ", unless it notices the files"
			}
			p.intended = append(p.intended, text)
		}
	}
	for _, pr := range p.probes() {
		p.dryRun.Handshakes = append(p.dryRun.Handshakes, report.Handshake{Address: pr.Address, ServerName: pr.ServerName, Key: pr.Key})
		p.intended = append(p.intended, fmt.Sprintf("shake hands with %s as %s until it shows serial %s (%s)", pr.Address, pr.ServerName, pr.Want.Serial(), pr.Key))
	}
}

// changeText describes one file: owner, group and mode as they are and as they would be.
func changeText(c deploy.Change) string {
	after := attributesText(c.After)
	text := fmt.Sprintf("write %s (%s), %s", c.Path, c.Why, after)
	if c.Before == nil {
		return text
	}
	if before := attributesText(*c.Before); before != after {
		text = fmt.Sprintf("write %s (%s), %s → %s", c.Path, c.Why, before, after)
	}
	return text
}

func attributesText(a deploy.Attributes) string {
	if a.Link != "" {
		return "link to " + a.Link
	}
	return fmt.Sprintf("%s:%s mode %s", a.Owner, a.Group, a.Mode)
}
