package pass

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/dane"
	"mxcert/deploy/mx"
	"mxcert/deploy/served"
)

// fleetWaits says why another key is not served yet because of other hosts.
type fleetWaits struct{ why, advice string }

func (e *fleetWaits) Error() string { return e.why }

// Kind is that of the gate.
func (*fleetWaits) Kind() string { return kindDANE }

// Hint says what to do.
func (e *fleetWaits) Hint() string { return e.advice }

// Temporary is true: the key takes over by itself.
func (*fleetWaits) Temporary() bool { return true }

// soonFleet is when a pass is made again that waits for other hosts, if nothing wakes it before.
const soonFleet = time.Minute

// fleetMayServe stands before the gate if another key is to be served: the key has to be on every host that is at work, this host has to say that
// it is about to serve the key, and no other host must be changing records that the key depends on. The look at DNS comes after that.
func (p *pass) fleetMayServe(ctx context.Context, bundles []*bundle.Bundle) error {
	t := p.tlsa
	if t == nil || t.fleet == nil || !p.fleetGuards() {
		return nil
	}
	spkis := p.otherKeys(bundles)
	if len(spkis) == 0 {
		return nil
	}
	p.hearFleet(ctx)
	wait := p.fleetWaitsFor(ctx, spkis)
	switch {
	case wait == nil:
	case p.ignoresDANE(bundles):
		p.warn("--ignore-dane: mxcert changes what is served, although " + wait.why)
		_ = p.sayKeys(ctx, false, spkis) // so that nobody removes the record; a person did not want to wait for the store
	default:
		t.again = time.Now().Add(soonFleet)
		return report.At("deploy", wait)
	}
	t.outdated = true
	return nil
}

// fleetGuards reports whether some sender to a host of the fleet may hold records, or may get some soon.
func (p *pass) fleetGuards() bool {
	t := p.tlsa
	return t.guarded() || t.partial() || t.settings.Mode == dane.Publish || t.elsewhere().Publishes()
}

// fleetWaitsFor says what the keys wait for; nil if for nothing. Then this host has said that it serves them.
func (p *pass) fleetWaitsFor(ctx context.Context, spkis []string) *fleetWaits {
	t := p.tlsa
	if why := t.fleet.unknown; why != "" {
		return &fleetWaits{"the key is not changed yet, because " + why + ", and it is not known whether every host of the fleet has it",
			"bring etcd back; renewals with the same key go on until then"}
	}
	for _, spki := range spkis {
		if lacks := t.elsewhere().Lacks(spki); len(lacks) > 0 {
			if !p.options.DryRun {
				_ = p.sayKeys(ctx, false, nil) // the others wait for this host likewise; if they do not hear it, the next pass says it
			}
			return &fleetWaits{fmt.Sprintf("the key is not changed yet, because not every host of the fleet has it on its disk: %s", strings.Join(lacks, ", ")),
				"nothing: those hosts take it at their next pass; mxcert fleet status shows how far they are, and mxcert fleet forget takes out a host that is gone"}
		}
	}
	if p.options.DryRun {
		return nil
	}
	if err := p.sayKeys(ctx, false, spkis); err != nil {
		return &fleetWaits{"the key is not changed yet, because the other hosts of the fleet could not be told: " + report.OneLine(err.Error()),
			"bring etcd back; renewals with the same key go on until then"}
	}
	if p.hearFleet(ctx); t.fleet.unknown != "" {
		return &fleetWaits{"the key is not changed yet, because " + t.fleet.unknown, "bring etcd back; renewals with the same key go on until then"}
	}
	for _, spki := range spkis {
		if by := t.fleet.shared.Forbids(t.fleet.keys.Host(), spki); by != "" {
			return &fleetWaits{fmt.Sprintf("the key is not changed yet, because host %s of the fleet is changing the TLSA records", by),
				fmt.Sprintf("nothing: mxcert tries again in a minute; if %s never comes back: mxcert fleet forget %s", by, by)}
		}
		if t.settings.Mode == dane.Publish && t.state.Withdrawn(t.owners, spki) {
			return &fleetWaits{"the key is not changed yet, because its TLSA record was removed before, and servers that still give it will not do so for long",
				"nothing: mxcert adds the record again, and changes the key when senders know it"}
		}
	}
	return nil
}

// otherKeys lists the keys of bundles that are not in service here already.
func (p *pass) otherKeys(bundles []*bundle.Bundle) (list []string) {
	for i, b := range bundles {
		if b == nil || p.inService(i, b.SPKI()) {
			continue
		}
		list = append(list, b.SPKI())
	}
	return list
}

// inService reports whether the key of the i-th type was proven last, or is in the files if nothing was.
func (p *pass) inService(i int, spki string) bool {
	slot := p.have.Record.Slot(p.want.Keys[i])
	if slot.Served != "" {
		old, err := p.have.Bundle(slot.Served)
		return err == nil && old.SPKI() == spki
	}
	files := p.filesHad(i)
	return len(files) > 0 && !slices.ContainsFunc(files, otherKeyThan(spki))
}

// sayKeys says which keys this host serves and has. proven says that every endpoint has shown the current certificates; more are keys that it is
// about to serve. It does nothing if that was said already.
func (p *pass) sayKeys(ctx context.Context, proven bool, more []string) error {
	t := p.tlsa
	s := p.statement(proven, more)
	if said := t.state.Said; said != nil && said.Number == t.fleet.number && s.Says(*said) {
		return nil
	}
	s.Number = max(time.Now().UnixNano(), t.fleet.number+1)
	if said := t.state.Said; said != nil {
		s.Number = max(s.Number, said.Number+1)
	}
	t.state.Said = &s
	if err := p.saveTLSA(); err != nil {
		return err
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, fleetPatience)
	defer cancel()
	if err := t.fleet.keys.Say(ctx, s.Number, text); err != nil {
		return err
	}
	t.fleet.number = s.Number
	return nil
}

// statement is what this host says about its keys.
func (p *pass) statement(proven bool, more []string) dane.Statement {
	t := p.tlsa
	s := dane.Statement{Version: state.Version, Host: t.fleet.keys.Host(), At: time.Now().UTC(), Mode: t.settings.Mode, Has: p.keysOnDisk(),
		Certain: proven && !p.have.Record.Applying && !slices.ContainsFunc(p.seen, func(r served.Result) bool { return r.Shown == nil })}
	serves := slices.Clone(more)
	for _, r := range p.seen {
		if r.Shown != nil {
			serves = append(serves, bundle.SPKIOf(r.Shown.Chain[0].RawSubjectPublicKeyInfo))
		}
	}
	for i, key := range p.want.Keys {
		if old, err := p.have.Bundle(p.have.Record.Slot(key).Served); err == nil && !(s.Certain && len(p.seen) > 0) {
			serves = append(serves, old.SPKI())
		}
		if b := p.have.Bundles[i]; b != nil { // in service, or as soon as the gate lets it
			serves = append(serves, b.SPKI())
		}
	}
	if !s.Certain && t.state.Said != nil {
		serves = append(serves, t.state.Said.Serves...)
	}
	slices.Sort(serves)
	s.Serves = slices.Compact(serves)
	if own, err := mx.Own(p.want.PublicAddresses); err == nil {
		for _, a := range own {
			if a.IsGlobalUnicast() && !a.IsPrivate() {
				s.Addresses = append(s.Addresses, a.Unmap().String())
			}
		}
	}
	s.Clean()
	return s
}
