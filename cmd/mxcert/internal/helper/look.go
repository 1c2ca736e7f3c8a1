package helper

import (
	"context"
	"sync"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy"
)

// Look compares the bundles with the files in this process, without asking a server.
func Look(want wanted.Certificate, bundles []*bundle.Bundle, known Known) (*deploy.Plan, error) {
	return deploy.Make(want.Name, want.Jobs(bundles), known)
}

// Looker compares the bundles of many certificates with files, and changes nothing. It needs at most one connection to the install helper.
// The zero Looker has no helper. A Looker may be used by several goroutines; close it after use.
type Looker struct {
	client Client

	mu   sync.Mutex
	conn *conn // nil until the helper is needed
	err  error // why there is no connection
}

// Looker returns a Looker that asks the install helper for files of root which this process may not read.
func (c *Client) Looker() *Looker { return &Looker{client: *c} }

// Look returns how the files differ from the bundles, which are in the order of the keys. It does not ask a mail server.
func (l *Looker) Look(ctx context.Context, want wanted.Certificate, bundles []*bundle.Bundle, known Known) (deploy.Summary, error) {
	plan, err := Look(want, bundles, known)
	if err == nil {
		return plan.Summary(), nil
	}
	if !l.client.needed(err) {
		return deploy.Summary{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil && l.err == nil {
		l.conn, l.err = l.client.dial(ctx, Install)
	}
	if l.err != nil {
		return deploy.Summary{}, l.err
	}
	answer, err := l.conn.plan(ctx, want, bundles)
	rest := answer.rest(want)
	if err != nil || len(rest.Places) == 0 {
		return answer.Plan, err
	}
	if plan, err = lookHere(rest, bundles, known); err != nil {
		return deploy.Summary{}, err
	}
	return deploy.Merge(want.Jobs(bundles), answer.Plan, plan.Summary()), nil
}

// Close ends the helper, if there is one.
func (l *Looker) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		_ = l.conn.Close() // nothing was changed that could be lost
	}
}
