package state

import (
	"errors"
	"io/fs"
	"time"
)

// Revocation notes that a generation's certificate was revoked, or is about to be. It is a record of its own beside the files
// of the generation, which never change. It survives a lost record of the lineage, and a new order.
type Revocation struct {
	Version int       `json:"version"`
	Reason  string    `json:"reason"`        // in the words of RFC 5280 section 5.3.1
	Asked   time.Time `json:"asked"`         // by the operator
	Done    time.Time `json:"done,omitzero"` // when the CA confirmed it; zero if it has not, or if the certificate had expired
	// KeyCompromised forbids any further use of the generation's key.
	KeyCompromised bool `json:"key_compromised,omitempty"`
}

// SaveRevocation notes a revocation, durably. Call it under the lock.
func (l *Lineage) SaveRevocation(id string, r Revocation) error {
	r.Version = version
	return l.book.write(l.revocationKey(id), r)
}

// DropRevocation removes a note after the CA has refused. Call it under the lock.
func (l *Lineage) DropRevocation(id string) error {
	return l.book.store.Remove(l.revocationKey(id))
}

// Revocation reads what was noted about a generation; ok is false if nothing was noted. A damaged note counts as the worst that
// it could say.
func (l *Lineage) Revocation(id string) (r Revocation, ok bool) {
	err := l.book.read(l.revocationKey(id), &r)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Revocation{}, false
	case err != nil:
		return Revocation{Reason: "keyCompromise", KeyCompromised: true}, true
	}
	return r, true
}

// Compromised reports whether a key, named by its SPKI hash as in [Generation], may not be used again.
func (l *Lineage) Compromised(spki string) bool {
	generations, err := l.Generations()
	if err != nil {
		return false // the store cannot be read, so there is no key to use
	}
	for _, g := range generations {
		if r, ok := l.Revocation(g.ID); ok && r.KeyCompromised && g.SPKI == spki {
			return true
		}
	}
	return false
}

func (l *Lineage) revocationKey(id string) string { return l.generationKey(id, "revoked.json") }
