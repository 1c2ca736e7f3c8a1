package fleet

import (
	"context"
	"maps"
	"path"
	"slices"

	"mxcert/acme/state"
)

// Revoked says that a certificate of the fleet was revoked.
type Revoked struct {
	Serial     string           `json:"serial"`
	SPKI       string           `json:"spki_sha256"`
	Revocation state.Revocation `json:"revocation"`
	Host       string           `json:"host"` // that has revoked it
}

// Revoke tells the fleet that a certificate was revoked, soon; it waits for nobody.
func (m *Member) Revoke(name, serial, spki string, r state.Revocation) {
	if m == nil {
		return
	}
	revoked := Revoked{Serial: serial, SPKI: spki, Revocation: r, Host: m.set.Host}
	m.mu.Lock()
	m.queue[revokedPlace(name, serial)] = revoked
	m.mu.Unlock()
	m.learnRevoked(name, revoked)
	m.nudge()
}

// Revocations lists the certificates of a name that hosts have revoked, as far as this host knows.
func (m *Member) Revocations(name string) []Revoked {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.revoked[name])
}

func revokedPlace(name, serial string) string {
	return path.Join("certificate", name, "revoked", serial)
}

// mostRevoked bounds how many revocations of a certificate are believed.
const mostRevoked = 200

// learnRevoked reports whether a revocation is new.
func (m *Member) learnRevoked(name string, r Revoked) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.revoked[name]
	i := slices.IndexFunc(list, func(o Revoked) bool { return o.Serial == r.Serial })
	switch {
	case i < 0 && len(list) < mostRevoked:
		m.revoked[name] = append(list, r)
		return true
	case i >= 0 && list[i] != r && !list[i].Revocation.KeyCompromised: // it can only become worse
		m.revoked[name][i] = r
		return true
	}
	return false
}

func (m *Member) isRevoked(name, serial string) bool {
	return slices.ContainsFunc(m.Revocations(name), func(r Revoked) bool { return r.Serial == serial })
}

// sendQueue sends revocations.
func (m *Member) sendQueue(ctx context.Context) error {
	m.mu.Lock()
	waiting := maps.Clone(m.queue)
	m.mu.Unlock()
	for place, r := range waiting {
		value, err := m.vault().note(place, 1, m.now(), r)
		if err == nil {
			err = m.replace(ctx, place, value)
		}
		if err != nil {
			return err
		}
		m.mu.Lock()
		if m.queue[place] == r {
			delete(m.queue, place)
		}
		m.mu.Unlock()
	}
	return nil
}

// readRevoked reads the revocation in a place of the store.
func (m *Member) readRevoked(name string, v state.Versioned) (r Revoked, err error) {
	_, _, err = m.vault().readNote(v.Value, v.Key, 0, &r)
	if err == nil && revokedPlace(name, r.Serial) != v.Key {
		err = refused(Swapped, v.Key, "it is about the serial number %.80q", r.Serial)
	}
	m.fault(v.Key, err)
	return r, err
}
