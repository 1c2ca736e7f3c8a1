package pass

import (
	"context"
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/deploy/dane"
)

// Names that are not wanted yet. A look at MX records may have found names of this host that the certificate does not have yet, because a
// second look has to agree. Their senders get the same certificate. So the gate judges their records, too.

// alsoSeen lists changes for the senders of such names. It waits for a look that runs beside the pass only if the key changes.
func (p *pass) alsoSeen(ctx context.Context, bundles []*bundle.Bundle, old func(dane.Owner, int) [][]*x509.Certificate) (changes []dane.Change) {
	t := p.tlsa
	var owners []dane.Owner
	wait := p.look != nil && p.changesKey(bundles, old)
	for _, s := range slices.Concat(p.found.Seen, p.peek(ctx, wait)) {
		for _, port := range t.settings.Ports {
			owner := dane.Owner{Host: strings.ToLower(s.Name), Port: port}
			if !slices.Contains(t.owners, owner) && !slices.Contains(owners, owner) {
				owners = append(owners, owner)
			}
		}
	}
	if len(owners) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, tlsaPatience)
	defer cancel()
	known := slices.ContainsFunc(owners, func(o dane.Owner) bool { return t.state.Memory[o.Name()] != nil })
	look := lookAtTLSA(ctx, p.resolver, owners, t.settings, !known, nil)
	if look.views == nil { // none of them has records
		return nil
	}
	for _, v := range look.views {
		t.state.Memory.Note(v, t.settings)
	}
	return changesOf(p.want.Keys, owners, look.views, bundles, old)
}

// peek returns what a look that runs beside the pass has found, and leaves it there for the end of the pass. It waits only if wait is set.
func (p *pass) peek(ctx context.Context, wait bool) []state.SeenName {
	if p.look == nil {
		return nil
	}
	patience := time.Duration(0)
	if wait {
		patience = namesPatience
	}
	select {
	case look := <-p.look.done:
		p.look.done <- look
		return look.Names
	case <-time.After(patience):
	case <-ctx.Done():
	}
	return nil
}

// changesKey reports whether senders get another key with bundles than now.
func (p *pass) changesKey(bundles []*bundle.Bundle, old func(dane.Owner, int) [][]*x509.Certificate) bool {
	for _, port := range p.tlsa.settings.Ports {
		for i, b := range bundles {
			if b != nil && slices.ContainsFunc(old(dane.Owner{Port: port}, i), func(chain []*x509.Certificate) bool {
				return bundle.SPKIOf(chain[0].RawSubjectPublicKeyInfo) != b.SPKI()
			}) {
				return true
			}
		}
	}
	return false
}
