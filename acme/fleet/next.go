package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

func nextPlace(name string, key bundle.KeyType) string { return place{kindNext, name, key}.String() }
func tlsaPlace(name string) string                     { return path.Join("certificate", name, "tlsa") }

// Next returns the next key of a rollover, in PEM, which all hosts share. If there is none, it offers the one that made returns, and returns
// the one that came first; without made it returns nil. The error is ErrAway if the store cannot be asked.
func (m *Member) Next(ctx context.Context, name string, key bundle.KeyType, made func() ([]byte, error)) ([]byte, error) {
	if m == nil {
		return nil, nil
	}
	place := nextPlace(name, key)
	v, err := m.value(ctx, name, place)
	for tries := 0; ; tries++ {
		if err != nil {
			return nil, err
		}
		pem, generation, live, err := m.readNext(name, key, v)
		if err != nil || live || made == nil {
			return pem, err
		}
		if pem, err = made(); err != nil {
			return nil, err
		}
		if v, err = m.get(ctx, place); err != nil { // Run may not know the newest yet
			return nil, err
		}
		if there, _, live, err := m.readNext(name, key, v); err != nil || live {
			return there, err
		}
		value, err := m.vault().sealNext(name, key, generation+1, pem, time.Now())
		if err != nil {
			return nil, err
		}
		err = m.swap(ctx, nil, place, v.Revision, value)
		if err == nil {
			return pem, m.seen(place, mark{Generation: generation + 1})
		}
		if !errors.Is(err, state.ErrChanged) || tries == 5 {
			return nil, fmt.Errorf("offer the next key of %s to the fleet: %w", name, err)
		}
		if v, err = m.get(ctx, place); err != nil {
			return nil, err
		}
	}
}

// readNext reads a next key. live is false if there is none, or none any more; what is damaged counts as none. What a later mxcert wrote is
// an error.
func (m *Member) readNext(name string, key bundle.KeyType, v state.Versioned) (pem []byte, generation int64, live bool, err error) {
	place := nextPlace(name, key)
	known := m.mark(place).Generation
	if v.Revision == 0 {
		return nil, known, false, nil
	}
	pem, _, generation, err = m.vault().openNext(v.Value, name, key, known)
	if err != nil {
		var over endedOrder
		if n, _, noteErr := m.vault().readNote(v.Value, place, known, &over); noteErr == nil {
			return nil, n.Sequence, false, m.seen(place, mark{Generation: n.Sequence})
		}
	}
	m.fault(place, err)
	switch {
	case isRefused(err, LaterVersion), isRefused(err, NotForThisHost):
		return nil, known, false, err
	case err != nil:
		return nil, known, false, nil //nolint:nilerr // it is reported, and replaced
	}
	return pem, generation, true, m.seen(place, mark{Generation: generation})
}

// DropNext removes the next key from the store if it is the one with that SPKI: it is no longer the next one.
func (m *Member) DropNext(ctx context.Context, name string, key bundle.KeyType, spki string) error {
	if m == nil {
		return nil
	}
	place := nextPlace(name, key)
	v, err := m.value(ctx, name, place)
	if err != nil || v.Revision == 0 {
		return err
	}
	_, found, generation, err := m.vault().openNext(v.Value, name, key, 0)
	if err != nil || found != spki {
		return nil //nolint:nilerr // it is not there
	}
	value, err := m.vault().note(place, generation+1, time.Now(), endedOrder{true})
	if err == nil {
		err = m.swap(ctx, nil, place, v.Revision, value)
	}
	if errors.Is(err, state.ErrChanged) {
		return nil // another host was faster
	}
	if err != nil {
		return err
	}
	return m.seen(place, mark{Generation: generation + 1})
}

// TLSA changes what hosts remember together about the TLSA records of a certificate: change gets it, as JSON, nil if there is nothing yet, and
// returns what it is to be; the same bytes, or nil, if nothing is to change. change may be called again, if another host was faster. The error
// is ErrAway if the store cannot be asked. While Run is at work and nothing is to change, the store is not asked.
func (m *Member) TLSA(ctx context.Context, name string, change func(shared []byte) ([]byte, error)) error {
	if m == nil {
		return nil
	}
	place := tlsaPlace(name)
	v, err := m.value(ctx, name, place)
	for tries := 0; ; tries++ {
		if err != nil {
			return err
		}
		before, sequence, err := m.readTLSA(place, v)
		if err != nil {
			return err
		}
		after, err := change(bytes.Clone(before))
		if err != nil || after == nil || bytes.Equal(after, before) {
			return err
		}
		value, err := m.vault().note(place, sequence+1, time.Now(), json.RawMessage(after))
		if err != nil {
			return err
		}
		err = m.swap(ctx, nil, place, v.Revision, value)
		if err == nil {
			return m.seen(place, mark{Generation: sequence + 1})
		}
		if !errors.Is(err, state.ErrChanged) || tries == 5 {
			return fmt.Errorf("share what is known about the TLSA records of %s: %w", name, err)
		}
		if v, err = m.get(ctx, place); err != nil {
			return err
		}
	}
}

func (m *Member) readTLSA(place string, v state.Versioned) (text []byte, sequence int64, err error) {
	known := m.mark(place).Generation
	if v.Revision == 0 {
		return nil, known, nil
	}
	var raw json.RawMessage
	n, _, err := m.vault().readNote(v.Value, place, known, &raw)
	m.fault(place, err)
	if isRefused(err, LaterVersion) {
		return nil, 0, err
	}
	if err != nil {
		return nil, known, nil //nolint:nilerr // it is reported, and written again from what this host has
	}
	return raw, n.Sequence, m.seen(place, mark{Generation: n.Sequence})
}
