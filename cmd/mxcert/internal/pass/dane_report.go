package pass

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/issued"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
	"mxcert/deploy/dane"
	"mxcert/deploy/served"
)

// report describes the records; nil if there is nothing to say.
func (t *tlsa) report(bundles []*bundle.Bundle, shown []served.Result) *report.TLSA {
	if t == nil || t.quiet || t.look != nil {
		return nil
	}
	if t.settings.Unset && !t.guarded() && !t.remembers() {
		return nil
	}
	sight := report.TLSASight{Mode: t.settings.Mode, State: &t.state, Facts: t.facts(bundles, false), Plan: t.plan, Chains: map[bundle.KeyType][]*x509.Certificate{}, Old: t.old}
	for _, b := range bundles {
		if b != nil {
			sight.Chains[b.KeyType()] = b.Chain()
		}
	}
	r := report.NewTLSA(sight)
	r.Owners = t.ownerReports(shown)
	if len(t.faults) > 0 {
		r.State, r.WaitingFor, r.Until = string(dane.Blocked), t.faults[0], nil
	}
	return r
}

// ownerReports says for each owner whether senders accept what its endpoints show.
func (t *tlsa) ownerReports(shown []served.Result) []report.TLSAOwner {
	list := []report.TLSAOwner{}
	for i, owner := range t.owners {
		o := report.TLSAOwner{Owner: owner.Name(), Host: owner.Host, Port: owner.Port}
		if i < len(t.views) {
			if err := unknownOf(t.views[i]); err != nil {
				o.Reason = err.Error()
			}
			o.Fault = t.views[i].Fault()
		}
		for _, r := range shown {
			if r.Shown == nil || !atPort(r.Address, owner.Port) {
				continue
			}
			why := t.state.Memory.Rejects(owner, []string{owner.Host}, r.Shown.Chain, t.settings, t.at)
			if o.Matches == nil {
				o.Matches = new(true)
			}
			if why != "" {
				*o.Matches, o.Reason = false, why
			}
		}
		list = append(list, o)
	}
	return list
}

// tlsaStatus is a look at the records for status. It stores nothing.
type tlsaStatus struct {
	*tlsa
	warnings []string
}

// tlsaStatusPatience limits that look.
const tlsaStatusPatience = 5 * time.Second

// lookForStatus starts a look at the records.
func lookForStatus(ctx context.Context, want wanted.Certificate, lineage *state.Lineage) (join func() *tlsaStatus) {
	s := &tlsaStatus{}
	if s.tlsa = readTLSA(want, lineage, func(text string) { s.warnings = append(s.warnings, text) }); s.tlsa == nil {
		return func() *tlsaStatus { return nil }
	}
	s.unasked = hasPublisher(want)
	ctx, cancel := context.WithTimeout(ctx, tlsaStatusPatience)
	found := make(chan tlsaLook, 1)
	resolver := want.Resolver()
	go func() {
		look := lookAtTLSA(ctx, resolver, s.owners, s.settings, s.settings.Unset && !s.remembers(), nil)
		together(len(look.views), func(i int) { look.views[i].AskSerials(ctx, resolver) })
		found <- look
	}()
	return func() *tlsaStatus {
		defer cancel()
		look := <-found
		s.at, s.views, s.quiet = look.at, look.views, look.views == nil
		for _, v := range s.views {
			s.state.Memory.Note(v, s.settings)
		}
		return s
	}
}

// tell adds what the look has found to a report.
func (s *tlsaStatus) tell(r *report.Certificate, have *issued.Lineage, seen []served.Result) {
	if s == nil {
		return
	}
	r.Warnings = append(r.Warnings, s.warnings...)
	s.noteServing(seen)
	s.allSeen = len(seen) > 0 && served.All(seen)
	if !s.quiet {
		s.plan = s.state.Plan(s.facts(have.Bundles, have.Record.Applying))
	}
	s.faults = s.rejected(seen)
	if r.TLSA = s.report(have.Bundles, seen); r.TLSA == nil {
		return
	}
	r.Warnings = append(append(r.Warnings, s.faults...), s.plan.Warnings...)
	if err := s.unknown(); err != nil {
		r.Warnings = append(r.Warnings, fmt.Sprintf("what senders know about TLSA records could not be found out: %v", err))
	}
}
