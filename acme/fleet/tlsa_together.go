package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"time"

	"mxcert/acme/state"
)

// togetherValue is the value of the place together.
type togetherValue struct {
	Forgotten map[string]time.Time `json:"forgotten,omitempty"`
	Text      json.RawMessage      `json:"tlsa,omitempty"`
}

// Change changes what hosts remember together. change gets the text (nil if there is none that can be believed) and the hosts that an operator
// has forgotten and that have not changed anything since, and returns the new text; nil for no change. It is called again if somebody else was
// faster.
func (k *Keys) Change(ctx context.Context, change func(text []byte, forgotten map[string]time.Time) ([]byte, error)) error {
	return k.m.ask(ctx, func(ctx context.Context) error {
		return k.swap(ctx, func(r *togetherValue) (bool, error) {
			text, err := change(r.Text, r.Forgotten)
			if err != nil || text == nil {
				return false, err
			}
			r.Text = text
			delete(r.Forgotten, k.Host()) // it is back
			return true, nil
		})
	})
}

func (k *Keys) swap(ctx context.Context, change func(*togetherValue) (bool, error)) error {
	for {
		v, err := k.m.shared.Get(ctx, k.together())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		var r togetherValue
		var sequence int64
		if v.Revision > 0 {
			if sequence, err = k.open(k.together(), v.Value, &r); later(err) {
				return err
			} else if err != nil {
				r = togetherValue{} // what hosts have on their disks takes its place
			}
		}
		changed, err := change(&r)
		if err != nil || !changed {
			return err
		}
		value, err := k.close(k.together(), sequence+1, r)
		if err != nil {
			return err
		}
		_, err = k.m.shared.Swap(ctx, k.together(), v.Revision, value)
		if !errors.Is(err, state.ErrChanged) || ctx.Err() != nil {
			return err
		}
	}
}
