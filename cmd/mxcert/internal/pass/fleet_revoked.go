package pass

import (
	"context"
	"fmt"
	"slices"
	"time"

	"mxcert/acme/fleet"
	"mxcert/acme/state"
)

// learnRevoked notes, beside what is stored here, which certificates other hosts have revoked. Those that are current are due then. The
// fleet's store is not asked.
func (p *pass) learnRevoked() {
	if p.Fleet == nil || p.options.DryRun {
		return
	}
	revoked := p.Fleet.Revocations(p.want.Name)
	if len(revoked) == 0 {
		return
	}
	generations, err := p.lineage.Generations()
	if err != nil {
		return // reading them for the pass says why
	}
	for _, g := range generations {
		at := slices.IndexFunc(revoked, func(r fleet.Revoked) bool { return r.Serial == g.Serial })
		if at < 0 || !worse(p.lineage, g, revoked[at].Revocation) {
			continue
		}
		r := revoked[at]
		if err := p.lineage.SaveRevocation(g.ID, r.Revocation); err != nil {
			p.warn(err.Error())
			continue
		}
		text := fmt.Sprintf("%s, by %s", r.Revocation.Reason, r.Host)
		p.have.Record.Log(state.Event{At: time.Now(), Event: "revoked", Key: g.Key, Serial: g.Serial, Message: text})
		p.say("revoke", fmt.Sprintf("%s, serial %s, is revoked (%s)", g.Key, g.Serial, text))
	}
}

// worse reports whether a revocation says more than what is noted about a generation.
func worse(lineage *state.Lineage, g state.Generation, r state.Revocation) bool {
	known, noted := lineage.Revocation(g.ID)
	return !noted || r.KeyCompromised && !known.KeyCompromised || known.Done.IsZero() && !r.Done.IsZero()
}

// TellRevoked tells the other hosts of a fleet which certificates of a lineage were revoked, as far as they do not know it yet. It waits for
// nobody: see [Runner.Tell]. Without a fleet it does nothing.
func (r *Runner) TellRevoked(lineage *state.Lineage) {
	if r.Fleet == nil {
		return
	}
	generations, err := lineage.Generations()
	if err != nil {
		return // the next pass says why
	}
	told := r.Fleet.Revocations(lineage.Name())
	for _, g := range generations {
		note, noted := lineage.Revocation(g.ID)
		if !noted || note.Done.IsZero() && !note.KeyCompromised {
			continue // the CA may refuse it
		}
		known := slices.ContainsFunc(told, func(t fleet.Revoked) bool {
			return t.Serial == g.Serial && (t.Revocation.KeyCompromised || !note.KeyCompromised) && (note.Done.IsZero() || !t.Revocation.Done.IsZero())
		})
		if !known {
			r.Fleet.Revoke(lineage.Name(), g.Serial, g.SPKI, note)
		}
	}
}

// Tell sends what was noted for the fleet, for a command: a daemon does that by itself. It ends soon; what could not be sent is sent by a later
// pass. Without a fleet it does nothing.
func (r *Runner) Tell(ctx context.Context) error {
	if r.Fleet == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, fleetPatience)
	defer cancel()
	return r.Fleet.Flush(ctx)
}
