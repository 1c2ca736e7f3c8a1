package pass

import (
	"errors"
	"slices"

	"mxcert/deploy/dane"
)

// guarded reports whether some sender may hold TLSA records, or may get those that mxcert has added, or nobody knows.
func (t *tlsa) guarded() bool {
	if t == nil || t.quiet {
		return false
	}
	for _, owner := range t.owners {
		if len(t.state.Memory.Held(owner, t.settings)) > 0 || t.state.Memory.Crowded(owner, t.settings) {
			return true
		}
	}
	return len(t.state.Ours) > 0 || t.unknown() != nil
}

// asks reports whether some sender may check a key, or nobody knows. Records that no sender can use ask for nothing.
func (t *tlsa) asks() bool {
	for _, owner := range t.owners {
		asks := func(c dane.Cached) bool { return c.Asks() }
		if slices.ContainsFunc(t.state.Memory.Held(owner, t.settings), asks) || t.state.Memory.Crowded(owner, t.settings) {
			return true
		}
	}
	return t.unknown() != nil
}

// unknown returns why some owner could not be looked at; nil if all could.
func (t *tlsa) unknown() error {
	for _, v := range t.views {
		if err := unknownOf(v); err != nil {
			return err
		}
	}
	return nil
}

// unknownOf returns why nothing is known about an owner; nil if a server has answered. An error is never "no records".
func unknownOf(v dane.View) error {
	if v.Err != nil {
		return v.Err
	}
	if fault := v.Fault(); fault != "" && len(v.Sets()) == 0 {
		return errors.New(fault)
	}
	return nil
}

// partial reports whether the last look at some owner was not complete: a server that did not answer may give records that no other one has.
func (t *tlsa) partial() bool {
	return t != nil && !t.quiet && slices.ContainsFunc(t.owners, func(o dane.Owner) bool {
		h := t.state.Memory[o.Name()]
		return h != nil && h.Fault != ""
	})
}
