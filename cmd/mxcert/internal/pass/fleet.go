package pass

import (
	"context"
	"crypto/x509"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/fleet"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy/served"
)

// A fleet: several hosts share certificates. A pass of a host in a fleet differs from other passes in five places.
//
//   - Names that other hosts want are added to what is wanted here ([pass.mergeWishes]), as optional names. A host whose configuration has
//     a wrong name keeps only itself from a new certificate: it takes none without the name.
//   - What another host has ordered is stored here first, and is then a certificate like one that this host has ordered ([pass.takeAll]).
//   - An order needs the lead: the right of one host to order for all ([pass.lead]). Who has got it looks first whether the host
//     before has ordered already, or has left an order in flight.
//   - What this host has ordered is offered to the others, beside the deployment ([pass.offer]).
//   - At its end, a pass notes what this host has and serves ([pass.noteFleet]), and offers again what the store of the fleet has lost.
//
// Nothing between issued and served asks the store of the fleet: a deployment, its proof, a repair and a rollback need the disk alone.
//
// What commands mean in a fleet:
//
//   - renew --now and --new-key lead, and order once for all.
//   - rollback is about this host. The generation that is rolled back was taken before, so it is not taken again; the next one of the fleet
//     ends the rollback, as a renewal does. A host that was rolled back offers nothing.
//   - deploy and tlsa publish take nothing: they work with what is issued here.
//   - revoke reaches the others by a signed note about the serial number. Each host notes it beside its own copy, which is then due; the
//     first one that leads orders for all. Until then, the revoked certificate stays in service, because no mail server is better off
//     without one.
//   - A certificate with another name in the configuration is another certificate of the fleet. Hosts must agree about names.
//   - Each host takes the key types that it wants, and orders those that nobody has.
//   - A certificate that does not lead to a root in this host's acme.roots_file, or comes from a CA that this host does not list, is not
//     taken, and the report says so. The host then orders for itself when its own is due, and no sooner: two hosts that disagree do not
//     order in turn.

// fleetPatience limits what a pass asks of the fleet's store at once.
const fleetPatience = 6 * time.Second

// alongside is what a pass in a fleet remembers.
type alongside struct {
	lead    *fleet.Lead               // the right to order; nil if this pass has not got it
	offers  chan struct{}             // closed when the last offer has ended; nil if nothing was offered
	offered map[bundle.KeyType]bool   // by this pass
	looked  map[bundle.KeyType]bool   // for what others have ordered, after this pass has got the lead
	answers map[bundle.KeyType]bool   // taken then: that is what a person has asked for
	old     map[bundle.KeyType]bool   // taken before: that is not, however late it has come here
	planned map[bundle.KeyType]string // --dry-run: what would be taken
	own     fleet.Wish

	told      bool        // a command has sent what it has noted
	unoffered atomic.Bool // the other hosts have not got what is issued here
}

func newAlongside() *alongside {
	return &alongside{offered: map[bundle.KeyType]bool{}, looked: map[bundle.KeyType]bool{}, answers: map[bundle.KeyType]bool{}, old: map[bundle.KeyType]bool{},
		planned: map[bundle.KeyType]string{}}
}

// servedFirst is what came of a deployment before an order.
type servedFirst struct {
	done    bool
	bundles []*bundle.Bundle
	err     error
}

// serveFirst puts in service what is issued already, before an order has to ask the fleet's store, which may hang.
func (p *pass) serveFirst(ctx context.Context) (first servedFirst) {
	if p.Fleet == nil || p.options.DryRun || p.options.DeployOnly || p.options.Rollback || p.options.Publish || !p.have.Any() || ctx.Err() != nil {
		return first
	}
	if !p.anyDue() && !p.urgent() {
		return first
	}
	first.bundles = slices.Clone(p.have.Bundles)
	first.err, first.done = p.serve(ctx), true
	return first
}

// serveUnless puts in service what is issued, unless that was done before an order that has come to nothing.
func (p *pass) serveUnless(ctx context.Context, first servedFirst) error {
	if first.done && slices.Equal(first.bundles, p.have.Bundles) {
		return first.err
	}
	return p.serve(ctx)
}

// ownWish is what this host wants, whatever the others do.
func (p *pass) ownWish() fleet.Wish {
	want := p.want
	want.InFleet = false
	want, _, _ = WithFound(want, p.lineage)
	return fleet.Wish{Names: want.Required(), Optional: want.Optional, Keys: want.Keys}
}

// mergeWishes learns which names the other hosts want, and keeps them for those who have no fleet to ask, such as status.
func (p *pass) mergeWishes(ctx context.Context) {
	if p.Fleet == nil {
		return
	}
	p.along.own = p.ownWish()
	if p.options.DryRun {
		return // a merge makes known what this host wants; what the others want is what was last known
	}
	ctx, cancel := context.WithTimeout(ctx, fleetPatience)
	defer cancel()
	merged := p.Fleet.Merge(ctx, p.want.Name, p.along.own)
	names := []state.OtherName{}
	for _, name := range slices.Concat(merged.Names, merged.Optional) {
		if !slices.Contains(p.along.own.Names, name) && !slices.Contains(p.along.own.Optional, name) {
			names = append(names, state.OtherName{Name: name, Reason: state.WantedBy + strings.Join(merged.By[name], ", ")})
		}
	}
	before := p.lineage.Others()
	if slices.Equal(names, before) {
		return
	}
	p.others = names
	if err := p.lineage.SaveOthers(names); err != nil {
		p.warn("what other hosts want could not be stored: " + err.Error())
	}
	p.tellOthers(before, names)
}

// tellOthers says which names other hosts want now, and want no longer.
func (p *pass) tellOthers(before, now []state.OtherName) {
	tell := func(event string, list, other []state.OtherName, what string) {
		for _, o := range list {
			if slices.ContainsFunc(other, func(b state.OtherName) bool { return b.Name == o.Name }) {
				continue
			}
			text := o.Name + " (" + o.Reason + ") " + what
			p.say("names", text)
			p.have.Record.Log(state.Event{At: time.Now(), Event: event, Message: text})
		}
	}
	tell("name-found", now, before, "is wanted now")
	tell("name-gone", before, now, "is not wanted any more; the next certificate does not have it")
}

// withOthers adds the names that only other hosts want.
func withOthers(want wanted.Certificate, names []state.OtherName) (with wanted.Certificate, over []wanted.Found) {
	var list []wanted.Found
	for _, o := range names {
		list = append(list, wanted.Found(o))
	}
	return want.WithOthers(list)
}

// noteFleet says what this host wants, has and was seen to serve. It waits for nobody.
func (p *pass) noteFleet(r report.Certificate) {
	if p.Fleet == nil || p.options.DryRun || p.have == nil {
		return
	}
	note := fleet.Deployed{At: time.Now().UTC(), Wish: p.along.own, Keys: map[string]fleet.Deployment{}, OnDisk: p.keysOnDisk(),
		Certain: len(p.seen) > 0 && !slices.ContainsFunc(p.seen, func(s served.Result) bool { return s.Shown == nil })}
	for i, key := range p.want.Keys {
		g, err := p.have.Current(key)
		if p.have.Bundles[i] == nil || err != nil {
			continue
		}
		d := fleet.Deployment{Serial: g.Serial, NotAfter: g.NotAfter}
		d.Served, d.At = shownOf(p.seen, key, g.Serial)
		note.Keys[string(key)] = d
	}
	for _, s := range p.seen {
		if s.Shown != nil {
			if spki := bundle.SPKIOf(s.Shown.Chain[0].RawSubjectPublicKeyInfo); !slices.Contains(note.Serving, spki) {
				note.Serving = append(note.Serving, spki)
			}
		}
	}
	if r.Error != nil {
		note.Problem = report.OneLine(r.Error.Message)
	}
	p.Fleet.Note(p.want.Name, note)
}

// shownOf returns which serial number the endpoints have shown for a key type, and when: the wanted one only if all have.
func shownOf(seen []served.Result, key bundle.KeyType, wantedSerial string) (serial string, at time.Time) {
	for _, s := range seen {
		if s.Key != string(key) || s.Serial == "" {
			continue
		}
		if serial == "" || s.Serial != wantedSerial {
			serial, at = s.Serial, s.At.UTC()
		}
	}
	return serial, at
}

// keysOnDisk lists the hashes of the keys that this host could serve: those of stored certificates, and the next ones.
func (p *pass) keysOnDisk() (list []string) {
	generations, err := p.have.Generations()
	if err != nil {
		return nil
	}
	add := func(spki string) {
		if !slices.Contains(list, spki) {
			list = append(list, spki)
		}
	}
	for _, g := range generations {
		add(g.SPKI)
	}
	for _, key := range p.want.Keys {
		text, err := p.lineage.Next(key)
		if err != nil {
			continue
		}
		signer, err := bundle.ParseKey(text)
		if err != nil {
			continue
		}
		if der, err := x509.MarshalPKIXPublicKey(signer.Public()); err == nil {
			add(bundle.SPKIOf(der))
		}
	}
	slices.Sort(list)
	return list
}
