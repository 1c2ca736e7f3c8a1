package pass

import (
	"context"
	"slices"
	"strings"
	"time"

	"mxcert/acme/bundle"
	"mxcert/deploy/dane"
)

// freshLook is how old a look may be when something is changed because of it.
const freshLook = 30 * time.Second

// freshTLSA waits for a look that is young enough to change something because of it. An order takes minutes, and others may change the records
// meanwhile: so mxcert looks again after one.
func (p *pass) freshTLSA(ctx context.Context) {
	p.joinTLSA(ctx)
	t := p.tlsa
	if t == nil || p.options.DryRun || ctx.Err() != nil || t.quiet && !t.closer { // then lookCloser asks if it matters
		return
	}
	if owners := p.want.Owners(); !slices.Equal(owners, t.owners) { // a look at MX records has found or lost a name
		t.owners, t.outdated = owners, true
	}
	if age := now().After(t.at); !t.outdated && 0 <= age && age < freshLook {
		return
	}
	t.outdated = false
	p.beginLook(ctx)
	p.joinTLSA(ctx)
}

// lookCloser is for certificates for which the configuration does not mention TLSA records. Their looks ask a resolver only, which may not know
// records yet that were just published. If another key is to be served, every server is asked.
func (p *pass) lookCloser(ctx context.Context, bundles []*bundle.Bundle) {
	t := p.tlsa
	if kept, proven := p.keepsKeys(bundles); t == nil || !t.quiet || t.closer || kept || !proven {
		return
	}
	t.owners, t.closer = p.want.Owners(), true
	p.beginLook(ctx)
	p.joinTLSA(ctx)
}

// keepsKeys reports whether bundles have the keys that were proven last, and whether any was.
func (p *pass) keepsKeys(bundles []*bundle.Bundle) (kept, proven bool) {
	kept = true
	for i, b := range bundles {
		slot := p.have.Record.Slot(p.want.Keys[i])
		old, err := p.have.Bundle(slot.Served)
		kept, proven = kept && err == nil && b != nil && b.SPKI() == old.SPKI(), proven || slot.Served != ""
	}
	return kept, proven
}

// indifferent reports whether senders cannot tell bundles from what they get now: the keys are the same, and the records name keys only.
func (p *pass) indifferent(bundles []*bundle.Bundle) bool {
	kept, proven := p.keepsKeys(bundles)
	return kept && proven && !slices.ContainsFunc(p.tlsa.owners, func(o dane.Owner) bool {
		return slices.ContainsFunc(p.tlsa.state.Memory.Held(o, p.tlsa.settings), func(c dane.Cached) bool {
			return slices.ContainsFunc(c.Records, func(r string) bool { return !strings.HasPrefix(r, "3 1 ") })
		})
	})
}

// denied reports whether a resolver says that there are no records, and no server gives any.
func (l *tlsaLook) denied() bool {
	return !slices.ContainsFunc(l.views, func(v dane.View) bool {
		return !v.Recursive.Denied() || slices.ContainsFunc(v.Sets(), func(s dane.Set) bool { return len(s.Records) > 0 })
	})
}
