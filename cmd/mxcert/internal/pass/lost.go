package pass

import (
	"context"
	"slices"
	"time"

	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
)

// becauseLost is why a certificate is ordered if the newest one was lost.
const becauseLost = "the one in service is newer than every stored one, so a part of the state was lost"

// lostOnce is how often this may be the reason for an order: if it does not help, something else puts newer certificates in service.
const lostOnce = 7 * 24 * time.Hour

// noticesLost reports whether a deployment failed only because the state is older than the files, and notes the type of key, which is due
// then. A backup was restored, or the newest certificate was damaged and an earlier one has taken its place. The certificate in service is
// one that the same CA issued for the same names, and it must stay (I3), but mxcert cannot renew it without its description. Waiting until
// the earlier one is due would take weeks. A new one ends later than both.
func (p *pass) noticesLost(err error) bool {
	if err == nil || p.renewed() || p.plan == nil || p.options.DeployOnly || p.options.Rollback || p.lost != "" {
		return false
	}
	live, shortens := p.plan.Summary().Longer, p.plan.Summary().Shortens(time.Now())
	if shortens == nil || report.KindOf(err) != report.KindOf(shortens) || !live.SameCA {
		return false
	}
	stored, err := p.have.Current(live.Key)
	if err != nil || live.NotAfter.After(time.Now().Add(stored.NotAfter.Sub(stored.NotBefore))) {
		return false // a new one would not end later
	}
	generations, err := p.have.Generations()
	known := slices.ContainsFunc(generations, func(g state.Generation) bool {
		b, err := p.have.Bundle(g.ID)
		return err == nil && b.Serial() == live.Serial
	})
	recently := slices.ContainsFunc(p.have.Record.Events, func(e state.Event) bool {
		return e.Key == live.Key && e.Message == becauseLost && time.Since(e.At) < lostOnce
	})
	if err != nil || known || recently {
		return false
	}
	p.lost = live.Key
	return true
}

// replaceLost orders a certificate in the place of the lost one, and deploys it. If there is no order, what stays is why the stored one
// cannot be deployed.
func (p *pass) replaceLost(ctx context.Context, serveErr error) (issueErr, err error) {
	if err := p.issue(ctx); err != nil || !p.renewed() {
		return err, serveErr
	}
	return nil, p.serve(ctx)
}
