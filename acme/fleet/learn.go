package fleet

import (
	"bytes"
	"context"
	"maps"
	"path"
	"slices"
	"strings"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// differs reports whether the store has something else of a certificate than before, or lacks what this host has.
func (m *Member) differs(name string, before map[string]state.Versioned) bool {
	m.mu.Lock()
	values := maps.Clone(m.values)
	m.mu.Unlock()
	for place, v := range values {
		of, _ := certificateOf(place)
		if of == name && !bytes.Equal(v.Value, before[place].Value) {
			return true
		}
	}
	l := m.book.Lineage(name)
	record, _, err := l.Look()
	if err != nil {
		return false
	}
	for key, slot := range record.Keys {
		place := bundlePlace(name, key)
		b, err := l.Bundle(slot.Current)
		if err != nil {
			continue
		}
		theirs, err := m.vault().openBundle(values[place].Value, name, key, 0)
		if err != nil || m.betterThan(place, theirs, b) {
			return true
		}
	}
	return false
}

// learnAll reads what the store has of a certificate.
func (m *Member) learnAll(ctx context.Context, name string) error {
	keys := []string{tlsaPlace(name)}
	for _, key := range keyTypes() {
		keys = append(keys, bundlePlace(name, key), nextPlace(name, key))
	}
	var serials []string
	if err := m.ask(ctx, func(context.Context) (err error) {
		serials, err = m.shared.List(path.Join("certificate", name, "revoked"))
		return err
	}); err != nil {
		return err
	}
	for _, serial := range first(serials, mostRevoked) {
		if !strings.HasSuffix(serial, "/") {
			keys = append(keys, revokedPlace(name, serial))
		}
	}
	m.mu.Lock()
	m.interest[name] = true
	m.mu.Unlock()
	for part := range slices.Chunk(keys, 100) {
		values, err := m.many(ctx, part)
		if err != nil {
			return err
		}
		for _, v := range values {
			m.learnValue(name, v)
		}
	}
	m.mu.Lock()
	m.loaded[name] = true
	m.mu.Unlock()
	return nil
}

// learnValue takes in a value of a certificate of this host. It reports whether it is something new.
func (m *Member) learnValue(name string, v state.Versioned) bool {
	if strings.HasPrefix(v.Key, path.Join("certificate", name, "revoked")+"/") {
		if v.Revision == 0 || v.Value == nil {
			return false
		}
		r, err := m.readRevoked(name, v)
		return err == nil && m.learnRevoked(name, r)
	}
	if v.Value == nil {
		v.Revision = 0 // it was removed
	}
	if strings.HasPrefix(v.Key, path.Join("certificate", name, "keys")+"/") {
		return true // whoever wants to know it asks
	}
	if !isKept(name, v.Key) {
		return false // nothing of mxcert is there: strangers must not fill the memory of this host
	}
	m.mu.Lock()
	before, known := m.values[v.Key]
	if known && before.Revision > v.Revision && v.Revision != 0 {
		m.mu.Unlock()
		return false
	}
	m.values[v.Key] = v
	m.mu.Unlock()
	return before.Revision != v.Revision
}

// isKept reports whether a key is that of a value that this host keeps in its memory.
func isKept(name, place string) bool {
	return place == tlsaPlace(name) || slices.ContainsFunc(keyTypes(), func(key bundle.KeyType) bool {
		return place == bundlePlace(name, key) || place == nextPlace(name, key)
	})
}

// learnCertificates takes in changes below certificate/.
func (m *Member) learnCertificates(values []state.Versioned) {
	var names []string
	for _, v := range values {
		name, ok := certificateOf(v.Key)
		m.mu.Lock()
		ok = ok && m.interest[name]
		m.mu.Unlock()
		if !ok || len(v.Value) > maxValue {
			continue
		}
		own := false
		if e, err := parse(v.Value, v.Key); err == nil {
			own = e.Signer == m.recipient()
		}
		if m.learnValue(name, v) && !own && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	m.changedNames(names...)
}

// learnOrders wakes the certificates that this host waits to order.
func (m *Member) learnOrders(values []state.Versioned) {
	var names []string
	for _, v := range values {
		name, _, _ := strings.Cut(strings.TrimPrefix(v.Key, "order/"), "/")
		m.mu.Lock()
		waits := m.waiting[name]
		m.mu.Unlock()
		if !waits || v.Value == nil {
			continue
		}
		var over endedOrder
		if _, _, err := m.vault().readNote(v.Value, v.Key, 0, &over); err == nil && over.Ended && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	m.changedNames(names...)
}

func (m *Member) changedNames(names ...string) {
	m.mu.Lock()
	changed := m.onChange
	m.mu.Unlock()
	if changed != nil && len(names) > 0 {
		changed(names)
	}
}

// certificateOf returns the certificate that a key belongs to.
func certificateOf(place string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(place, "certificate/")
	name, _, found := strings.Cut(rest, "/")
	return name, ok && found && name != ""
}

func nextPlace(name string, key bundle.KeyType) string { return place{kindNext, name, key}.String() }

func tlsaPlace(name string) string { return path.Join("certificate", name, "tlsa") }
