package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"mxcert/acme/bundle"
)

// Keys is what hosts share about the keys of one certificate and its TLSA records:
//
//	certificate/NAME/tlsa        what they remember together; only package pass knows what is in it
//	certificate/NAME/keys/HOST   which keys a host serves and has, as it says itself
//	certificate/NAME/next/KEY    the next key of a rollover
//
// Its methods ask the store, and wait for it as long as the store has patience. So they are called only when a record or a key is to change: a
// renewal with the same key needs none of them. If the store cannot be asked, the errors are [state.ErrAway].
type Keys struct {
	name string // of the certificate
	m    *Member
}

// Keys returns what hosts share about the keys of a certificate; nil without a fleet.
func (m *Member) Keys(name string) *Keys {
	if m == nil {
		return nil
	}
	return &Keys{name, m}
}

// Host is the name of this host.
func (k *Keys) Host() string { return k.m.set.Host }

// Forget is how long a host that is away counts.
func (k *Keys) Forget() time.Duration { return k.m.set.Forget }

// The places of these values.
func (k *Keys) together() string        { return "certificate/" + k.name + "/tlsa" }
func (k *Keys) says(host string) string { return "certificate/" + k.name + "/keys/" + host }
func (k *Keys) next(key bundle.KeyType) string {
	return "certificate/" + k.name + "/next/" + string(key)
}

// Say replaces what this host says. The number grows with each time.
func (k *Keys) Say(ctx context.Context, number int64, text []byte) error {
	value, err := k.close(k.says(k.Host()), number, json.RawMessage(text))
	if err != nil {
		return err
	}
	return k.m.ask(ctx, func(context.Context) error { return k.m.shared.Replace(k.says(k.Host()), value) })
}

// Unsay takes back what this host says.
func (k *Keys) Unsay(ctx context.Context) error {
	return k.m.ask(ctx, func(context.Context) error { return k.m.shared.Remove(k.says(k.Host())) })
}

// later reports whether an older mxcert must not touch a value.
func later(err error) bool {
	r, ok := errors.AsType[*Refused](err)
	return ok && r.ID == LaterVersion
}

// close signs a value for its place.
func (k *Keys) close(place string, sequence int64, value any) ([]byte, error) {
	return k.m.vault().note(place, sequence, k.m.now(), value)
}

// open reads a value that a host of this fleet has signed for this place.
func (k *Keys) open(place string, text []byte, value any) (sequence int64, err error) {
	n, _, err := k.m.vault().readNote(text, place, 0, value)
	if err != nil {
		return 0, err
	}
	return n.Sequence, nil
}
