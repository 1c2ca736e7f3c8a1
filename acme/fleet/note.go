package fleet

import (
	"encoding/json"
	"fmt"
	"time"

	"mxcert/acme/fleet/seal"
)

// note is a signed value without a secret: what a host says in a place of the store.
type note struct {
	Version  int             `json:"version"`
	Fleet    string          `json:"fleet"`
	Key      string          `json:"key"`      // the place
	Host     string          `json:"host"`     // that wrote it
	Sequence int64           `json:"sequence"` // grows with each note in this place
	At       time.Time       `json:"at"`       // by the clock of that host
	Value    json.RawMessage `json:"value"`
}

// note signs a value for a place. The sequence grows with each note there: an earlier one is refused as replayed.
func (v vault) note(key string, sequence int64, at time.Time, value any) ([]byte, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encode %s for the fleet: %w", key, err)
	}
	return wrap(v.identity, kindNote, note{version, v.fleet, key, v.host, sequence, at.UTC(), text})
}

// readNote reads a note in a place into a value. known is the highest sequence that this host has seen there. It returns the note, and who
// signed it.
func (v vault) readNote(text []byte, key string, known int64, into any) (*note, seal.Recipient, error) {
	var n note
	signer, err := unwrap(text, key, kindNote, v.trust.trusts, &n)
	switch {
	case err != nil:
		return nil, "", err
	case n.Fleet != v.fleet || n.Key != key:
		return nil, "", refused(Swapped, key, "it was written for %.80q of the fleet %.80q", n.Key, n.Fleet)
	case n.Sequence < known:
		return nil, "", refused(Replayed, key, "it is note %d of %.80q, and this host has seen note %d", n.Sequence, n.Host, known)
	}
	if err := json.Unmarshal(n.Value, into); err != nil {
		return nil, "", refused(Truncated, key, "a field of it has another type than mxcert writes")
	}
	return &n, signer, nil
}
