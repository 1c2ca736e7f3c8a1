package pass

import (
	"context"
	"slices"

	"mxcert/acme/bundle"
	"mxcert/acme/issued"
	"mxcert/cmd/mxcert/internal/wanted"
)

// MayChangeKey returns why another key of a type must not take the place of the current one yet, because senders that use DANE would defer
// mail; nil if it may. It looks at DNS, and changes nothing.
func (r *Runner) MayChangeKey(ctx context.Context, want wanted.Certificate, key bundle.KeyType) error {
	lineage := r.Store.Lineage(want.Name)
	_, found, _ := WithFound(want, lineage)
	want, _ = want.WithFound(foundNames(found.Seen)) // the senders of a name that was found once count, too
	p := &pass{Runner: r, want: want, options: Options{DryRun: true, NewKey: true}, say: func(string, string) {}, lineage: lineage, resolver: want.Resolver()}
	var err error
	if p.have, err = issued.Look(lineage, want.Keys); err != nil {
		return err
	}
	i := slices.Index(want.Keys, key)
	if i < 0 || p.have.Bundles[i] == nil {
		return nil
	}
	if p.startTLSA(ctx); p.tlsa == nil {
		return nil
	}
	p.joinTLSA(ctx)
	if !p.tlsa.guarded() {
		return nil
	}
	next, ok := p.tlsa.keys[key]
	if ok && next.SPKI != p.have.Bundles[i].SPKI() && p.tlsa.ready(next) {
		return nil
	}
	if !p.tlsa.certain(p.have.Bundles[i], next) {
		return nil
	}
	return p.keyWaits(key)
}

// ready reports whether every sender that checks knows a next key.
func (t *tlsa) ready(next nextKey) bool {
	for _, owner := range t.owners {
		if ok, _, _ := t.state.Memory.Ready(owner, next.SPKI, t.settings, t.at); !ok {
			return false
		}
	}
	return t.unknown() == nil
}
