package pass

import (
	"context"

	"mxcert/acme"
	"mxcert/acme/issued"
	"mxcert/cmd/mxcert/internal/wanted"
)

// Rehearse orders the first key type of a certificate and deploys nothing. One key type is enough, because the proof of the names does not
// depend on the key. The runner's store and CAs must be those of a rehearsal.
func (r *Runner) Rehearse(ctx context.Context, want wanted.Certificate, say acme.Progress) error {
	p := &pass{Runner: r, want: want, say: say, lineage: r.Store.Lineage(want.Name), resolver: want.Resolver(), along: new(alongside)}
	unlock, err := p.lineage.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if p.have, err = issued.Look(p.lineage, want.Keys); err != nil {
		return err
	}
	p.names = want.Names
	for further := 0; ; further++ {
		if err = p.order(ctx, 0, want.Keys[0], "rehearsal"); err == nil || further == mostFurther || !p.fewer(ctx, err, 0, true, true) {
			return err
		}
	}
}
