package pass

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/deploy/dane"
)

// nextKey is a stored next key.
type nextKey struct {
	signer crypto.Signer
	dane.KeyOf
}

// readNext reads the stored next key of a type.
func readNext(lineage *state.Lineage, key bundle.KeyType) (nextKey, error) {
	text, err := lineage.Next(key)
	if err != nil {
		return nextKey{}, err
	}
	signer, err := bundle.ParseKey(text)
	if err != nil {
		return nextKey{}, err
	}
	return newNextKey(key, signer)
}

func newNextKey(key bundle.KeyType, signer crypto.Signer) (nextKey, error) {
	found, err := bundle.TypeOf(signer.Public())
	if err != nil {
		return nextKey{}, err
	}
	if found != key {
		return nextKey{}, fmt.Errorf("the stored next key is of type %s, not %s", found, key)
	}
	der, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return nextKey{}, err
	}
	return nextKey{signer, dane.KeyOf{Type: key, SPKI: bundle.SPKIOf(der), DER: der}}, nil
}

// makeAll stores the next keys that the plan asks for, and reports whether one was made.
func (p *pass) makeAll(ctx context.Context) (made bool) {
	for _, key := range p.tlsa.plan.Make {
		made = p.makeNext(ctx, key) || made
	}
	return made
}

// makeNext stores a next key of a type if the plan asks for one: first the key, then what is said about it. If the process is killed in
// between, the next pass finds the key and uses it. In mode check there is one only if somebody wants another key.
func (p *pass) makeNext(ctx context.Context, key bundle.KeyType) bool {
	t := p.tlsa
	if p.options.DryRun || !slices.Contains(t.plan.Make, key) {
		return false
	}
	roll := t.state.Keys[key]
	if roll == nil {
		roll = &dane.Roll{}
		t.state.Keys[key] = roll
	}
	if t.settings.Mode == dane.Check && roll.Asked == nil {
		return false
	}
	if t.fleet != nil {
		return p.shareNext(ctx, key)
	}
	next, err := p.storeNext(key)
	if err != nil {
		p.warn(fmt.Sprintf("the next %s key could not be stored, so no record of it is published: %v", key, err))
		return false
	}
	roll.Next, roll.Made = next.SPKI, time.Now().UTC()
	t.keys[key] = next
	p.keepTLSA()
	p.planTLSA()
	return true
}

// dropFree removes next keys that no record names and that nobody needs.
func (p *pass) dropFree() {
	t := p.tlsa
	for _, key := range t.plan.Free {
		t.state.Keys[key].Next, t.state.Keys[key].Made = "", time.Time{}
		if err := p.saveTLSA(); err != nil {
			p.tlsaFault("a next key that is not needed any more stays", err)
			return
		}
		if err := p.lineage.DropNext(key); err != nil {
			p.tlsaFault("a next key that is not needed any more stays", err)
		}
		delete(t.keys, key)
	}
}

// storeNext makes a key and stores it.
func (p *pass) storeNext(key bundle.KeyType) (nextKey, error) {
	signer, err := key.Generate()
	if err != nil {
		return nextKey{}, err
	}
	text, err := bundle.MarshalKey(signer)
	if err != nil {
		return nextKey{}, err
	}
	if err := p.lineage.SaveNext(key, text); err != nil {
		return nextKey{}, err
	}
	p.say("tlsa", fmt.Sprintf("a next %s key is stored", key))
	return newNextKey(key, signer)
}
