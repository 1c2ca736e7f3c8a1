package fleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// NextKey is a next key that hosts share.
type NextKey struct {
	SPKI       string
	Generation int64 // grows with each next key of this type
	PEM        []byte
}

// openNext proves that a next key is what it says, and for this place.
func (k *Keys) openNext(key bundle.KeyType, value []byte) (NextKey, error) {
	pem, spki, generation, err := k.m.vault().openNext(value, k.name, key, 0)
	return NextKey{SPKI: spki, Generation: generation, PEM: pem}, err
}

// Offer gives all hosts a next key that is on this host's disk, in the place of one of an earlier generation. The error is [state.ErrChanged]
// if there is one of the same or a later generation: then look again.
func (k *Keys) Offer(ctx context.Context, key bundle.KeyType, n NextKey) error {
	place := k.next(key)
	value, err := k.m.vault().sealNext(k.name, key, n.Generation, n.PEM, k.m.now())
	if err != nil {
		return err
	}
	return k.m.ask(ctx, func(ctx context.Context) error {
		v, err := k.m.shared.Get(ctx, place)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if v.Revision > 0 {
			if before, err := k.openNext(key, v.Value); err == nil && before.Generation >= n.Generation {
				return fmt.Errorf("the fleet has another next key: %w", state.ErrChanged)
			} else if later(err) {
				return err
			}
		}
		_, err = k.m.shared.Swap(ctx, place, v.Revision, value)
		return err
	})
}
