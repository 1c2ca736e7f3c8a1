package fleet

import (
	"errors"
	"maps"

	"mxcert/acme/fleet/seal"
	"mxcert/acme/state"
)

// A host whose identity cannot be read takes no part in the fleet, and goes on with its disk as if the store were away: a file with a wrong mode
// must not keep mail from being served. The identity is read again before each first look at the store, so the host comes back without a restart.

// recipient returns the recipient of this host; "" as long as its identity cannot be read.
func (m *Member) recipient() seal.Recipient {
	if identity := m.self.Load(); identity != nil {
		return identity.Recipient()
	}
	return ""
}

// knowsSelf reads the identity if it could not be read before. The error is ErrAway.
func (m *Member) knowsSelf() error {
	if m.self.Load() != nil {
		return nil
	}
	m.reading.Lock()
	defer m.reading.Unlock()
	if m.self.Load() != nil {
		return nil
	}
	identity, err := m.set.Identity, error(nil)
	if identity == nil {
		identity, err = m.set.Identify()
	}
	if err == nil && identity == nil {
		err = errNoIdentity()
	}
	if err != nil {
		return state.Unasked(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trust.Store(m.trust.Load().of(identity.Recipient()))
	m.self.Store(identity)
	return nil
}

func errNoIdentity() error { return errors.New("the identity of this host could not be read yet") }

// of returns the trust of the host with a recipient. Its own recipient belongs to it.
func (t *trust) of(own seal.Recipient) *trust {
	next := t.clone()
	next.own, next.configured = own, maps.Clone(t.configured)
	next.configured[own] = true
	next.effective = next.conclude()
	return next
}
