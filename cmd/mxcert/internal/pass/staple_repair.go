package pass

import (
	"crypto/sha256"
	"encoding/hex"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert/internal/report"
	"mxcert/cmd/mxcert/internal/wanted"
)

// A file with an OCSP response changes when a newer response comes, or when the old one ends. If it is to hold what an earlier pass has put
// there and does not, something else has changed it. mxcert then repairs it as often as it repairs certificates and keys ([MaxRepairs]), but counts
// separately: a fight over a response must not keep mxcert from repairing a key.

// printOf stands for a response, or for none.
func printOf(der []byte) string {
	if der == nil {
		return "none"
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// drifted reports whether all files with responses are to hold what an earlier pass has put there. If they do not, something else has changed
// them.
func (s *staples) drifted(want wanted.Certificate, bundles []*bundle.Bundle) bool {
	for _, b := range bundles {
		if b != nil && s.of(b).Placed != printOf(want.StapleOf(b)) {
			return false
		}
	}
	return true
}

// contention returns the error that stops the repairs, or nil while there were only a few.
func (s *staples) contention(want wanted.Certificate, bundles []*bundle.Bundle, what string) *driftError {
	if !s.drifted(want, bundles) {
		return nil
	}
	return contention(s.Heals, want.Name, want.Fingerprint(), what)
}

// placedStaples remembers that the files hold what they should.
func (p *pass) placedStaples() {
	if p.staples == nil {
		return
	}
	changed := false
	for _, b := range p.have.Bundles {
		if b == nil {
			continue
		}
		if one, print := p.staples.of(b), printOf(p.want.StapleOf(b)); one.Placed != print {
			one.Placed, changed = print, true
		}
	}
	if changed {
		p.saveStaples()
	}
}

// mayRepairStaples keeps the daemon from fighting another program over the files with responses. It counts the repair that follows.
func (p *pass) mayRepairStaples() bool {
	if !p.repairs() || !p.staples.drifted(p.want, p.have.Bundles) {
		return true
	}
	what := changesText(p.plan.Summary().Changes)
	if drift := p.staples.contention(p.want, p.have.Bundles, what); drift != nil {
		p.stapleDrift, p.heldUntil = drift, drift.until
		return false
	}
	p.staples.Heals = oneMore(p.staples.Heals, p.want.Fingerprint())
	p.saveStaples()
	return true
}

// saveStaples stores what is remembered about responses. If that fails, mxcert asks again and counts anew.
func (p *pass) saveStaples() {
	if err := p.lineage.SaveStaples(p.staples); err != nil {
		p.warn("what is known about the OCSP responses could not be stored: " + report.OneLine(err.Error()))
	}
}
