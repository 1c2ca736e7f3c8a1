package pass

import (
	"context"
	"crypto"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/dane"
)

// planTLSA derives what to do next from what is known by now.
func (p *pass) planTLSA() {
	t := p.tlsa
	if t.quiet || p.have == nil {
		t.plan = dane.Plan{}
		return
	}
	t.plan = t.state.Plan(t.facts(p.have.Bundles, p.have.Record.Applying))
}

// facts are what a plan is made from.
func (t *tlsa) facts(bundles []*bundle.Bundle, applying bool) dane.Facts {
	f := dane.Facts{Name: t.name, Unasked: t.unasked, At: t.at, Settings: t.planned(), Owners: t.owners, Views: t.views, Places: t.places, Listed: t.listed, Serving: t.serving, Names: t.names,
		AllSeen: t.allSeen, Probed: t.probed, Applying: applying, Types: t.types, Unread: t.unread}
	for _, b := range bundles {
		if b != nil {
			f.Current = append(f.Current, dane.KeyOf{Type: b.KeyType(), SPKI: b.SPKI(), DER: b.Leaf().RawSubjectPublicKeyInfo})
		}
	}
	for _, key := range t.types {
		if next, ok := t.keys[key]; ok && t.shares(key) {
			f.Next = append(f.Next, next.KeyOf)
		}
	}
	f.Elsewhere = t.elsewhere()
	return f
}

// planned are the settings to plan with. In mode check mxcert only guards, until somebody wants another key: the operator then publishes its
// record, as with mode gate.
func (t *tlsa) planned() dane.Settings {
	s := t.settings
	if s.Mode != dane.Check || t.state.Leaving(s) {
		return s
	}
	for _, roll := range t.state.Keys {
		if roll != nil && roll.Asked != nil {
			s.Mode = dane.ByHand
		}
	}
	return s
}

// takeAsked notes that a person wants another key.
func (p *pass) takeAsked() {
	if p.options.Roll == nil {
		return
	}
	for _, key := range p.want.Keys {
		p.tlsa.state.Ask(key, *p.options.Roll)
	}
}

// emergency reports whether a leaked key has to be replaced.
func (t *tlsa) emergency() bool {
	if t == nil {
		return false
	}
	for _, roll := range t.state.Keys {
		if roll != nil && roll.Asked != nil && roll.Asked.Emergency {
			return true
		}
	}
	return false
}

// ask notes that another key is wanted, once.
func (p *pass) ask(key bundle.KeyType, reason string) {
	t := p.tlsa
	if roll := t.state.Keys[key]; roll != nil && roll.Asked != nil {
		return
	}
	t.state.Ask(key, dane.Asked{At: time.Now().UTC(), Reason: reason, Ignore: p.options.IgnoreDANE})
	p.keepTLSA()
	p.planTLSA()
}

// rollDue returns why a certificate with the next key is to be ordered now; "" if it is not. It waits for the look only if a roll may be due.
func (p *pass) rollDue(ctx context.Context, key bundle.KeyType) string {
	t := p.tlsa
	if t == nil {
		if p.options.Roll != nil {
			return p.newKeyAsked(key)
		}
		return ""
	}
	if roll := t.state.Keys[key]; (roll == nil || roll.Asked == nil) && p.options.Roll == nil {
		return ""
	}
	p.joinTLSA(ctx)
	p.hearOnce(ctx)
	if p.options.Roll != nil && !t.guarded() || t.settings.Mode == dane.Check && !t.asks() {
		return p.newKeyAsked(key) // without records that senders check, there is nothing to wait for
	}
	p.makeNext(ctx, key) // does nothing if there is one; an emergency with a third key must not wait for another pass
	next, ok := t.keys[key]
	if !ok || !slices.Contains(t.plan.Roll, key) || p.certifies(key, next.SPKI) {
		return ""
	}
	if roll := t.state.Keys[key]; roll != nil && roll.Asked != nil {
		return "the next key takes over: " + roll.Asked.Reason
	}
	return "the next key takes over"
}

// newKeyAsked is the reason for an order with a new key where no TLSA record has to be waited for.
func (p *pass) newKeyAsked(key bundle.KeyType) string {
	if p.have.KeyWaits(key) {
		return ""
	}
	p.options.NewKey = true
	if t := p.tlsa; t != nil && t.quiet { // nothing else has noted which key is to be replaced: when another one is proven, the request is over
		for _, b := range p.have.Bundles {
			if roll := t.state.Keys[key]; roll != nil && roll.Asked != nil && b != nil && b.KeyType() == key {
				roll.Current = b.SPKI()
			}
		}
	}
	return "a new key was asked for"
}

// certifies reports whether the current certificate of a key type is for a key.
func (p *pass) certifies(key bundle.KeyType, spki string) bool {
	return slices.ContainsFunc(p.have.Bundles, func(b *bundle.Bundle) bool { return b != nil && b.KeyType() == key && b.SPKI() == spki })
}

// chooseKey decides which key the order for the i-th key type certifies. Where senders may hold TLSA records, a change of keys uses the stored
// next key, once its record is held long enough. Otherwise an order keeps the key; one that must not keep it waits. The error says so.
func (p *pass) chooseKey(ctx context.Context, i int, key bundle.KeyType) error {
	delete(p.orderKeys, key)
	if _, fresh := p.have.InFlight(key, p.names, p.want.Directories); p.tlsa == nil || fresh || p.options.DryRun && p.tlsa.look == nil {
		return nil
	}
	p.joinTLSA(ctx)
	p.hearOnce(ctx)
	t, current := p.tlsa, p.have.Bundles[i]
	if !t.guarded() {
		if next, ok := t.keys[key]; ok && p.options.NewKey && current != nil && p.unused(key, next.SPKI) {
			p.use(key, next.signer) // its record may have been shown to the operator, who publishes it in this moment
		}
		return nil
	}
	reason, must := p.changeReason(key, current)
	if reason != "" && current != nil && t.settings.Mode != dane.Off { // with mode off, no later pass would change the key
		p.ask(key, reason)
	}
	p.makeNext(ctx, key)
	next, stored := t.keys[key]
	stored = stored && !slices.Contains(t.plan.Make, key) && !p.certifies(key, next.SPKI)
	ready, ignores := stored && slices.Contains(t.plan.Roll, key), p.options.IgnoreDANE || p.rollIgnores(key)
	switch {
	case ready, stored && must && (ignores || current != nil && !t.certain(current, next) && p.signedLongEnough(current)):
		p.use(key, next.signer)
		return nil
	case must && (ignores || current == nil && !slices.Contains(t.plan.Wait, key)):
		return nil
	case must:
		return report.At("deploy", p.keyWaits(key))
	case reason != "":
		p.warn(fmt.Sprintf("the %s certificate keeps its key: %s", key, p.keyWaits(key).Error()))
	}
	p.use(key, current.Key())
	return nil
}

// unused reports whether a stored next key may become the current one: it was not served before, and has not leaked.
func (p *pass) unused(key bundle.KeyType, spki string) bool {
	roll := p.tlsa.state.Keys[key]
	if roll == nil || roll.Next != spki || p.certifies(key, spki) || p.lineage.Compromised(spki) {
		return false
	}
	return roll.Asked == nil || !roll.Asked.Fresh && !slices.Contains(roll.Asked.Leaked, spki)
}

// use says which key an order certifies.
func (p *pass) use(key bundle.KeyType, signer crypto.Signer) {
	if p.orderKeys == nil {
		p.orderKeys = map[bundle.KeyType]crypto.Signer{}
	}
	p.orderKeys[key] = signer
}

// changeReason returns why another key is wanted than the current one, and whether the order must not keep the current one; "" if the key may
// stay.
func (p *pass) changeReason(key bundle.KeyType, current *bundle.Bundle) (reason string, must bool) {
	switch {
	case current == nil:
		return fmt.Sprintf("there is no %s certificate yet", key), true
	case p.lineage.Compromised(current.SPKI()):
		return "the key was revoked as compromised", true
	case p.options.NewKey:
		return "a new key was asked for", true
	case !p.want.ReuseKey:
		return "reuse_key is false", false
	}
	return "", false
}

// certain reports whether a certificate with the next key could certainly not be deployed yet: some sender may hold a set that accepts the
// current chain by its key alone, and that does not name the next key. A record of usage 2 may accept the new chain, too, and a set without a
// usable record asks for nothing.
func (t *tlsa) certain(current *bundle.Bundle, next nextKey) bool {
	if t.unknown() != nil {
		return true
	}
	for _, owner := range t.owners {
		for _, set := range t.state.Memory.Held(owner, t.settings) {
			if !set.Asks() || slices.ContainsFunc(set.Records, func(r string) bool { return strings.HasPrefix(r, "2 ") }) {
				continue
			}
			if !slices.Contains(set.Records, dane.Record(next.SPKI).String()) && set.Rejects([]string{owner.Host}, current.Chain(), t.at.At) == "" {
				return true
			}
		}
	}
	return false
}

// signedLongEnough reports whether the signatures on the records outlive a change of keys, or it is urgent.
func (p *pass) signedLongEnough(current *bundle.Bundle) bool {
	return p.tlsa.plan.Expiring == "" || p.lineage.Compromised(current.SPKI())
}

// keyRefused notes that a CA refuses to certify the current key, and reports whether the next one can be tried at once.
func (p *pass) keyRefused(ctx context.Context, key bundle.KeyType, signer crypto.Signer) bool {
	t := p.tlsa
	if t == nil { // dane.mode is off: nobody knows which records there are
		return false
	}
	if t.look == nil && !t.guarded() {
		return p.refusedFreely(key)
	}
	if next, ok := t.keys[key]; ok && next.signer == signer {
		return false
	}
	p.warn(fmt.Sprintf("the CA refuses to certify the current %s key: mxcert changes to the next key", key))
	p.ask(key, "the CA refuses the current key")
	p.makeNext(ctx, key)
	return slices.Contains(t.plan.Roll, key)
}

// refusedFreely notes that a CA refuses the current key where no TLSA record names it: another one can be made at once. It reports whether the
// order is worth another try.
func (p *pass) refusedFreely(key bundle.KeyType) bool {
	kept := p.want.ReuseKey && !p.options.NewKey && p.have.Bundles[slices.Index(p.want.Keys, key)] != nil
	if !kept || slices.Contains(p.unwelcome, key) {
		return false
	}
	p.warn(fmt.Sprintf("the CA refuses to certify the current %s key: mxcert makes another", key))
	p.unwelcome = append(p.unwelcome, key)
	return true
}
