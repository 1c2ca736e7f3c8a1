package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// forget notes that an operator has forgotten a host, and removes what it said. The clock of that host may have been ahead: so it was forgotten not
// before its last statement, the number of which is a time.
func (k *Keys) forget(ctx context.Context, host string, at time.Time) error {
	said, err := k.m.shared.Get(ctx, k.says(host))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	known := err == nil
	var text json.RawMessage
	if number, err := k.open(k.says(host), said.Value, &text); known && err == nil && number > at.UnixNano() {
		at = time.Unix(0, number)
	}
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
			if err := k.forget(ctx, host, m.now()); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", k.name, err))
			}
		}
		return errors.Join(errs...)
	})
}
