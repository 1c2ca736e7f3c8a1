package cli

import (
	"context"
	"slices"

	"mxcert/acme/bundle"
	"mxcert/deploy"
	"mxcert/deploy/discover"
)

// inspect asks the mail servers of the targets, before anything is ordered or written; sound asks whether their configuration is
// in order, too.
func (p *pass) inspect(ctx context.Context, sound bool) error {
	notes, err := discover.Inspect(ctx, p.targets(), clientNames(p.certificate.Domains), p.remembered(), sound)
	for _, note := range notes {
		p.warn(note)
	}
	return err
}

// tryCandidates has Exim open the new files before they are in place.
func tryCandidates(plan *deploy.Plan) {
	if plan.Summary().ContentChanges() {
		plan.Try(func(staged []deploy.Target) error { return discover.TryExim(context.Background(), staged) })
	}
}

// rolledBack reports whether an operator has chosen an earlier certificate.
func (p *pass) rolledBack() bool {
	return slices.ContainsFunc(p.keys(), func(key bundle.KeyType) bool { return p.record.Slot(key).RolledBack })
}
