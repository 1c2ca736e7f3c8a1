package pass

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy/dane"
	"mxcert/deploy/served"
)

// The kinds of errors of the gate.
const (
	kindDANE        = "dane"         // senders that use DANE would defer mail
	kindDANEUnknown = "dane-unknown" // it is not known what they hold
)

// isDANE reports whether an error is a refusal of the gate.
func isDANE(err error) bool {
	kind := report.KindOf(err)
	return err != nil && (kind == kindDANE || kind == kindDANEUnknown)
}

// mayServe is the gate of invariant I4: whoever changes what a mail server shows asks it first. It returns why senders that use DANE would
// not accept the bundles, in the order of the keys, although they accept what they get now; nil if nothing gets worse.
func (p *pass) mayServe(ctx context.Context, bundles []*bundle.Bundle) error {
	if p.joinTLSA(ctx); p.tlsa != nil && !p.indifferent(bundles) {
		if err := p.fleetMayServe(ctx, bundles); err != nil {
			return err
		}
		p.freshTLSA(ctx)
		p.lookCloser(ctx, bundles)
	}
	return p.passGate(ctx, bundles)
}

// passGate asks the gate about bundles with what the last look has found.
func (p *pass) passGate(ctx context.Context, bundles []*bundle.Bundle) error {
	t := p.tlsa
	own := t.guarded() || t.partial()
	if t == nil || !own && p.look == nil && len(p.found.Seen) == 0 {
		return nil
	}
	chains := sync.OnceValue(func() func(dane.Owner, int) [][]*x509.Certificate { return p.oldChains(ctx) })
	old := func(owner dane.Owner, i int) [][]*x509.Certificate { return chains()(owner, i) }
	changes := p.alsoSeen(ctx, bundles, old)
	if own {
		changes = append(changes, changesOf(p.want.Keys, t.owners, t.views, bundles, old)...)
	}
	refusal := t.expected().Gate(changes, t.settings, t.at)
	switch {
	case refusal == nil:
		return nil
	case p.ignoresDANE(bundles):
		p.warn(fmt.Sprintf("--ignore-dane: mxcert changes what is served although senders that use DANE may defer mail: %s", refusal.Error()))
		return nil
	}
	refusal.Name = p.want.Name
	return report.At("deploy", refusal)
}

// expected is what senders may hold, together with what they may get at any moment: records that mxcert has added, or was about to add, and
// that no look has seen yet, beside those that a server gives.
func (t *tlsa) expected() dane.Memory {
	memory := maps.Clone(t.state.Memory)
	for _, owner := range t.owners {
		var ours []string
		for _, o := range t.state.Ours {
			if o.For == owner.Name() {
				ours = append(ours, o.Record)
			}
		}
		held := memory.Held(owner, t.settings)
		ours = slices.DeleteFunc(ours, func(r string) bool {
			return slices.ContainsFunc(held, func(c dane.Cached) bool { return slices.Contains(c.Records, r) })
		})
		if len(ours) == 0 {
			continue
		}
		h := dane.History{First: t.at, Last: t.at}
		if known := memory[owner.Name()]; known != nil {
			h = *known
		}
		h.Known = slices.Concat(h.Known, beside(held, ours, t.settings.TTL))
		memory[owner.Name()] = &h
	}
	return memory
}

// beside are the sets that come of those that a server gives when records are added.
func beside(held []dane.Cached, added []string, ttl time.Duration) (sets []dane.Cached) {
	for _, c := range held {
		if c.Given {
			records := slices.Concat(c.Records, added)
			slices.Sort(records)
			sets = append(sets, dane.Cached{Set: dane.Set{Records: records, TTL: c.TTL}, Given: true})
		}
	}
	if len(sets) == 0 {
		slices.Sort(added)
		sets = append(sets, dane.Cached{Set: dane.Set{Records: added, TTL: ttl}, Given: true})
	}
	return sets
}

// ignoresDANE reports whether a person has taken it upon him to serve bundles: now, or with the roll that is under way, if they are its own.
func (p *pass) ignoresDANE(bundles []*bundle.Bundle) bool {
	return p.options.IgnoreDANE || slices.ContainsFunc(bundles, func(b *bundle.Bundle) bool {
		return b != nil && p.rollIgnores(b.KeyType()) && p.tlsa.state.Keys[b.KeyType()].Next == b.SPKI()
	})
}

// rollIgnores reports whether a roll of a key type is under way that does not wait.
func (p *pass) rollIgnores(key bundle.KeyType) bool {
	roll := p.tlsa.state.Keys[key]
	return roll != nil && roll.Asked != nil && roll.Asked.Ignore
}

// changesOf describes what bundles, in the order of the keys, change for the senders of each owner. The views are in the order of the owners;
// none if no look has met a record.
func changesOf(keys []bundle.KeyType, owners []dane.Owner, views []dane.View, bundles []*bundle.Bundle, old func(dane.Owner, int) [][]*x509.Certificate) (list []dane.Change) {
	for n, owner := range owners {
		var unknown error
		if n < len(views) {
			unknown = unknownOf(views[n])
		}
		for i, b := range bundles {
			if b == nil {
				continue
			}
			list = append(list, dane.Change{Owner: owner, Names: []string{owner.Host}, Key: string(keys[i]), Old: old(owner, i), New: b.Chain(), Unknown: unknown})
		}
	}
	return list
}

// oldChains makes handshakes with the endpoints, and returns what the senders of an owner get now for the i-th key type: what the endpoints at
// its port show, or else what the files have. A key type that no endpoint shows is new: its senders get a certificate of another type now.
func (p *pass) oldChains(ctx context.Context) func(dane.Owner, int) [][]*x509.Certificate {
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	seen := served.Look(ctx, p.looks())
	p.tlsa.noteServing(seen)
	return func(owner dane.Owner, i int) [][]*x509.Certificate {
		var same, all [][]*x509.Certificate
		for _, r := range seen {
			if r.Shown == nil || !atPort(r.Address, owner.Port) {
				continue
			}
			all = append(all, r.Shown.Chain)
			if r.Key == string(p.want.Keys[i]) {
				same = append(same, r.Shown.Chain)
			}
		}
		switch {
		case len(same) > 0:
			return same
		case len(all) > 0:
			return all
		}
		return p.filesHad(i)
	}
}

// looks lists handshakes with all endpoints for all key types, also for those that have no certificate yet.
func (p *pass) looks() (probes []served.Probe) {
	for _, address := range p.want.Endpoints() {
		for i, key := range p.want.Keys {
			probes = append(probes, served.Probe{Address: address, ServerName: p.want.ServerName(), Key: string(key), Ask: served.Ask(p.want.Keys, i), Want: p.have.Bundles[i]})
		}
	}
	return probes
}

func atPort(address string, port int) bool {
	_, text, err := net.SplitHostPort(address)
	return err == nil && text == strconv.Itoa(port)
}

// filesHad returns the chains that the files have for the i-th key type, or that the last proven certificate has.
func (p *pass) filesHad(i int) (chains [][]*x509.Certificate) {
	for _, place := range p.want.Places {
		target := place.Targets[i]
		for _, path := range []string{target.Certificate, target.Combined} {
			if path == "" {
				continue
			}
			text, err := os.ReadFile(path)
			if err != nil {
				continue
			}
			if chain, err := bundle.ParseChain(text); err == nil {
				chains = append(chains, chain)
			}
		}
	}
	if len(chains) > 0 {
		return chains
	}
	if old, err := p.have.Served(); err == nil && old[i] != nil {
		return [][]*x509.Certificate{old[i].Chain()}
	}
	return nil
}

// noteServing takes what handshakes have shown.
func (t *tlsa) noteServing(seen []served.Result) {
	for _, r := range seen {
		if r.Shown != nil {
			t.serving[bundle.SPKIOf(r.Shown.Chain[0].RawSubjectPublicKeyInfo)] = true
			for _, name := range r.Shown.Chain[0].DNSNames {
				if name = strings.ToLower(name); !slices.Contains(t.names, name) {
					t.names = append(t.names, name)
				}
			}
		}
	}
}

// mayStep is the gate before a rollback, or before the end of one, is stored: a refused one changes nothing.
func (p *pass) mayStep(ctx context.Context) error {
	p.have.ReadBundles()
	p.takeFound() // senders may know a key by these names, too
	if p.startTLSA(ctx); p.tlsa == nil {
		return nil
	}
	return p.mayServe(ctx, p.have.Bundles)
}

// judgeTLSA finds out whether senders accept what is served now: each key that an endpoint has shown must fit every set that some sender may
// hold.
func (p *pass) judgeTLSA() {
	p.tlsa.faults = p.tlsa.rejected(p.seen)
	p.warnAll(p.tlsa.faults)
}

// rejected says which of the shown certificates some sender would not accept.
func (t *tlsa) rejected(seen []served.Result) (faults []string) {
	if !t.guarded() {
		return nil
	}
	for _, owner := range t.owners {
		for _, r := range seen {
			if r.Shown == nil || !atPort(r.Address, owner.Port) {
				continue
			}
			if why := t.state.Memory.Rejects(owner, []string{owner.Host}, r.Shown.Chain, t.settings, t.at); why != "" {
				text := fmt.Sprintf("senders that use DANE do not accept the %s certificate that %s shows for %s: %s", r.Key, r.Address, owner.Name(), why)
				if _, until, _ := t.state.Memory.Ready(owner, bundle.SPKIOf(r.Shown.Chain[0].RawSubjectPublicKeyInfo), t.settings, t.at); !until.IsZero() {
					text += fmt.Sprintf("; that concerns those that still hold older records, until %s", report.Minute(until))
				}
				faults = append(faults, text)
			}
		}
	}
	slices.Sort(faults)
	return slices.Compact(faults)
}

// halfDone ends a deployment that a crash interrupted and that the gate refuses by now: certificate and key in the files may not belong
// together, so the pair that was proven last comes back.
func (p *pass) halfDone(ctx context.Context, refusal error) error {
	old, nothing := p.have.Served()
	if nothing != nil {
		return refusal
	}
	if err := p.compare(ctx, old); err != nil {
		return errors.Join(refusal, err)
	}
	if p.plan.Summary().Empty() {
		return errors.Join(refusal, p.applied())
	}
	if err := p.mayServe(ctx, old); err != nil {
		return errors.Join(refusal, err)
	}
	if err := p.write(func() error { return p.plan.Apply(p.keepDisplaced) }); err != nil {
		return errors.Join(refusal, report.At("deploy", err))
	}
	p.have.Record.Log(state.Event{At: p.tlsa.at.At, Event: "reverted", Message: refusal.Error()})
	_, err := p.reloadAll(ctx, p.reached().Units(wanted.Always, wanted.Auto))
	return errors.Join(&takenBack{cause: refusal, what: "the files that were there before the interrupted deployment are back"}, err, p.applied())
}
