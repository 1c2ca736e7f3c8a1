package pass

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"time"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/deploy/dane"
)

// otherKeyThan reports whether a chain has another key.
func otherKeyThan(spki string) func([]*x509.Certificate) bool {
	return func(chain []*x509.Certificate) bool {
		return len(chain) == 0 || bundle.SPKIOf(chain[0].RawSubjectPublicKeyInfo) != spki
	}
}

// tellFleet tells the other hosts what this one serves, at the end of a pass, and hears what they say.
func (p *pass) tellFleet(ctx context.Context, proven bool) {
	t := p.tlsa
	if t == nil || t.fleet == nil || p.options.DryRun || ctx.Err() != nil {
		return
	}
	if t.quiet && t.state.Said != nil && p.statement(proven, nil).Says(*t.state.Said) && time.Since(t.state.Said.At).Abs() < quietStatement {
		return // without records nobody waits for it
	}
	p.hearFleet(ctx)
	if t.fleet.unknown != "" {
		return
	}
	if err := p.sayKeys(ctx, proven, nil); err != nil {
		p.fleetAway(err)
	}
}

// unsayKeys takes back what this host has said about its keys before it was told to leave TLSA records alone: nobody brings that up to date any
// more, and a change of the key would wait for it.
func (p *pass) unsayKeys() {
	if p.Fleet == nil || p.tlsa != nil || p.options.DryRun || p.want.DANE().Mode != dane.Off {
		return
	}
	var remembered dane.State
	if err := p.lineage.TLSA(&remembered); err != nil || remembered.Said == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), fleetPatience)
	defer cancel()
	if err := p.keysOf(p.want.Name).Unsay(ctx); err != nil {
		return // a later pass does it
	}
	remembered.Said = nil
	if err := p.lineage.SaveTLSA(&remembered); err != nil {
		p.say("tlsa", "that the other hosts do not wait for this one any more could not be stored: "+report.OneLine(err.Error()))
	}
}

// quietStatement is after how long a host repeats what it says where no name has TLSA records.
const quietStatement = 24 * time.Hour

// shareTLSA gives the other hosts what this one remembers, and with it the mark of this host.
func (p *pass) shareTLSA(ctx context.Context) error {
	t := p.tlsa
	mark, host := t.fleet.mark, t.fleet.keys.Host()
	ctx, cancel := context.WithTimeout(ctx, fleetPatience)
	defer cancel()
	return t.fleet.keys.Change(ctx, func(text []byte, forgotten map[string]time.Time) ([]byte, error) {
		var shared dane.Shared
		if text != nil {
			if err := readShared(text, &shared); err != nil {
				return nil, err
			}
		}
		before, err := json.Marshal(shared)
		if err != nil {
			return nil, err
		}
		t.state.Give(&shared)
		t.state.GiveLooks(&shared, host, t.settings)
		for by := range shared.Marks {
			if _, gone := forgotten[by]; gone { // if it comes back and changes records, it is not among them any more
				delete(shared.Marks, by)
			}
		}
		if delete(shared.Marks, host); mark != nil {
			if shared.Marks == nil {
				shared.Marks = map[string]dane.Mark{}
			}
			shared.Marks[host] = *mark
		}
		after, err := json.Marshal(shared)
		if err != nil || text != nil && string(before) == string(after) {
			return nil, err
		}
		return after, nil
	})
}

// beginFleetEdit announces the changes of records in the plan, and then looks again whether they are still right. It reports whether they may
// be carried out.
func (p *pass) beginFleetEdit(ctx context.Context) bool {
	t := p.tlsa
	if t.fleet == nil {
		return true
	}
	switch {
	case t.fleet.outside: // the records are no longer a matter of this host
		return false
	case t.fleet.unknown != "": // what is missing is added even so: no sender accepts less because of that
		return len(t.plan.Remove) == 0
	}
	mark := t.plan.Mark(time.Now().UTC())
	t.fleet.mark = &mark
	err := p.shareTLSA(ctx)
	if err == nil {
		p.hearFleet(ctx)
	}
	switch {
	case err != nil:
		p.tlsaFault("no TLSA record is changed, because the other hosts of the fleet could not be told", err)
	case t.fleet.unknown != "":
		p.warn("no TLSA record is changed, because " + t.fleet.unknown)
	case !t.plan.Covered(mark):
		p.say("tlsa", "another host of the fleet was about to change its key: the records are changed at the next pass")
		t.again = time.Now().Add(soonFleet)
	default:
		return true
	}
	p.endFleetEdit(ctx)
	return false
}

// endFleetEdit says that the changes are over, and what has become of them. Until the store takes that, other hosts serve no key that depends on
// them.
func (p *pass) endFleetEdit(ctx context.Context) {
	t := p.tlsa
	if t == nil || t.fleet == nil || t.fleet.unknown != "" || p.options.DryRun {
		return
	}
	if !t.unsure { // what the service has not answered may still happen
		t.fleet.mark = nil
	}
	if err := p.shareTLSA(ctx); err != nil {
		p.warn(fmt.Sprintf("the other hosts of the fleet could not be told about the TLSA records: %s", report.OneLine(err.Error())))
	}
	p.keepTLSA() // when they were told about looks
}

// claimForFleet gives the other hosts the claims of records that are about to be added, so that each of them can remove these later. If the store is
// away, the disk has them.
func (p *pass) claimForFleet(ctx context.Context) error {
	t := p.tlsa
	if t.fleet == nil || t.fleet.unknown != "" {
		return nil
	}
	return p.shareTLSA(ctx)
}

// speaksFor reports whether a host of the fleet speaks for an address: one that is at work and certain, or one that was forgotten.
func (t *tlsa) speaksFor(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil || t.fleet == nil || t.fleet.unknown != "" {
		return false
	}
	for _, peer := range t.state.Peers {
		if slices.Contains(peer.Addresses, host) && (peer.Forgotten || peer.Alive && peer.Certain && !peer.Replayed) {
			return true
		}
	}
	return false
}
