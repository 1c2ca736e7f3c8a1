package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"mxcert/acme/state"
)

// togetherValue is the value of the place together.
type togetherValue struct {
	Forgotten map[string]time.Time `json:"forgotten,omitempty"`
	Text      json.RawMessage      `json:"tlsa,omitempty"`
}

// Change changes what hosts remember together. change gets the text (nil if there is none that can be believed) and the hosts that an operator
// has forgotten, and returns the new text; nil for no change. It is called again if somebody else was faster.
func (k *Keys) Change(ctx context.Context, change func(text []byte, forgotten map[string]time.Time) ([]byte, error)) error {
	return k.m.ask(ctx, func(ctx context.Context) error {
		return k.swap(ctx, func(r *togetherValue) (bool, error) {
			text, err := change(r.Text, r.Forgotten)
			if err != nil || text == nil {
				return false, err
			}
			r.Text = text
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

// forget notes that an operator has forgotten a host, and removes what it said.
func (k *Keys) forget(ctx context.Context, host string, at time.Time) error {
	_, err := k.m.shared.Get(ctx, k.says(host))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	known := err == nil
	err = k.swap(ctx, func(r *togetherValue) (bool, error) {
		if !known && r.Text == nil {
			return false, nil // nobody looks after records of this certificate
		}
		if r.Forgotten == nil {
			r.Forgotten = map[string]time.Time{}
		}
		r.Forgotten[host] = at.UTC()
		return true, nil
	})
	if err != nil {
		return err
	}
	return k.m.shared.Remove(k.says(host))
}

// ForgetTLSA notes for all certificates that an operator has forgotten a host. What is missing because the store was lost is not forgotten.
func (m *Member) ForgetTLSA(ctx context.Context, host string) error {
	if m == nil {
		return refusal("", "this host is in no fleet")
	}
	return m.ask(ctx, func(ctx context.Context) error {
		names, err := m.shared.List("certificate")
		if err != nil {
			return err
		}
		var errs []error
		for _, name := range names {
			k := m.Keys(strings.TrimSuffix(name, "/"))
			if err := k.forget(ctx, host, time.Now()); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", k.name, err))
			}
		}
		return errors.Join(errs...)
	})
}
