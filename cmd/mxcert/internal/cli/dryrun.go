package cli

import (
	"context"
	"fmt"
	"slices"

	"mxcert/deploy"

	"mxcert/cmd/mxcert/internal/report"
)

// planOnly is the end of a dry run: the difference between what is and what would be.
func (p *pass) planOnly(ctx context.Context) error {
	p.result.DryRun = &report.DryRun{Orders: append([]string{}, p.result.Plan...), Files: []deploy.Change{}, Reloads: []report.Reload{}, Handshakes: []report.Handshake{}}
	if !p.haveBundle() {
		return report.At("deploy", p.checkPlaces(ctx))
	}
	plan, err := deploy.Make(p.certificate.Name, p.jobs(), p.remembered())
	if err != nil {
		return report.At("deploy", err)
	}
	p.plan = plan
	for _, change := range plan.Summary().Changes {
		p.result.DryRun.Files = append(p.result.DryRun.Files, change)
		p.result.Plan = append(p.result.Plan, changeText(change))
	}
	if plan.Summary().ContentChanges() {
		p.planProof()
	}
	if err := p.checkUnits(ctx); err != nil {
		return report.At("reload", err)
	}
	err = p.awaitServed(ctx, confirmPatience)
	if err != nil && plan.Summary().Empty() && p.servesAnother() {
		p.result.Plan = append(p.result.Plan, "reload, because the server shows another certificate")
	}
	return nil
}

// planProof lists what comes after the files.
func (p *pass) planProof() {
	for _, way := range []string{"always", "auto"} {
		for _, unit := range p.units(way) {
			p.result.DryRun.Reloads = append(p.result.DryRun.Reloads, report.Reload{Unit: unit, When: way})
			text := "reload " + unit
			if way == "auto" {
				text += ", unless it notices by itself"
			}
			p.result.Plan = append(p.result.Plan, text)
		}
	}
	for _, pr := range p.probes() {
		p.result.DryRun.Handshakes = append(p.result.DryRun.Handshakes, report.Handshake{Address: pr.address, ServerName: pr.serverName, Key: string(pr.key)})
		p.result.Plan = append(p.result.Plan, fmt.Sprintf("shake hands with %s as %s until it shows serial %s (%s)", pr.address, pr.serverName, pr.want.Serial(), pr.key))
	}
}

// changeText is one file: owner, group and mode as they are and as they would be.
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

// places are the paths of all targets, with the serial numbers of the current certificates.
func (p *pass) places() []string {
	var paths []string
	for i, t := range p.targets() {
		key := i / len(p.certificate.Deploy)
		if key < len(p.bundles) {
			paths = append(paths, t.Places(p.bundles[key])...)
		} else {
			paths = append(paths, t.Places(nil)...)
		}
	}
	var once []string // a map is shared
	for _, path := range paths {
		if !slices.Contains(once, path) {
			once = append(once, path)
		}
	}
	return once
}
