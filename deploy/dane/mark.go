package dane

import (
	"slices"
	"time"
)

// Mark describes what a plan takes away: while it is carried out, no other host begins to serve a key that depends on it.
func (p *Plan) Mark(at time.Time) Mark {
	m := Mark{At: at}
	for _, e := range p.Remove {
		for _, spki := range e.Keys {
			if spki != "" && !slices.Contains(m.Without, spki) {
				m.Without = append(m.Without, spki)
			}
		}
	}
	if len(p.Narrows) > 0 {
		m.Only = slices.Clone(p.Narrows)
	}
	return m
}

// Covered reports whether a mark describes a plan: so that what was announced is all that happens.
func (p *Plan) Covered(m Mark) bool {
	now := p.Mark(m.At)
	for _, spki := range now.Without {
		if !slices.Contains(m.Without, spki) {
			return false
		}
	}
	if now.Only == nil {
		return true
	}
	return m.Only != nil && !slices.ContainsFunc(m.Only, func(spki string) bool { return !slices.Contains(now.Only, spki) })
}
