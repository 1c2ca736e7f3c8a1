// Package issued is the second of the four truths: which certificates of a lineage are current. It reads the record and the
// stored certificates of one lineage and answers what a pass, status, revoke and doctor ask about them: which certificate is
// current for each key type, when it has to be renewed, whether an order is in flight, and whether it was revoked.
//
// [Look] changes nothing and needs no lock. [Load] repairs what a crash left, and needs the lineage's lock. If a stored
// certificate cannot be read, another good one takes its place, and a note says so.
//
// It decides nothing about orders: whether a certificate is due also depends on what is wanted, which a pass compares.
package issued

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
)

// Lineage is the current state of a lineage. The caller may change Record under the lock; [state.Lineage.Save] stores it.
type Lineage struct {
	*state.Lineage
	Record  state.Record
	Keys    []bundle.KeyType // the wanted key types
	Bundles []*bundle.Bundle // the current certificate of each key type, in the order of Keys; nil if there is no usable one
	Notes   []string         // what was repaired or could not be read, for the operator

	stored      state.Record // as it was read
	generations map[string]state.Generation
	orders      map[bundle.KeyType]state.Order // as they were when this lineage was read
	revocations map[string]revocation
}

// revocation is the note about a revocation, if there is one.
type revocation struct {
	state.Revocation
	exists bool
}

// Look reads a lineage and changes nothing. It fails if the record cannot be read.
func Look(lineage *state.Lineage, keys []bundle.KeyType) (*Lineage, error) {
	l := newLineage(lineage, keys)
	record, repaired, err := lineage.Look()
	if err != nil {
		return l, err
	}
	l.set(record)
	l.note(repaired)
	l.ReadBundles()
	return l, nil
}

// Load reads a lineage under its lock. It makes a lost record again from the stored certificates; a certificate that was stored
// but not noted before a crash becomes current. It does not read the bundles yet: see ReadBundles.
func Load(lineage *state.Lineage, keys []bundle.KeyType) (*Lineage, error) {
	l := newLineage(lineage, keys)
	record, repaired, err := lineage.Load()
	if err != nil {
		return l, err
	}
	l.set(record)
	if l.note(repaired); repaired != "" {
		l.Record.Log(state.Event{At: time.Now(), Event: "repaired", Message: repaired})
	}
	return l, l.adopt()
}

func newLineage(lineage *state.Lineage, keys []bundle.KeyType) *Lineage {
	return &Lineage{Lineage: lineage, Keys: keys, Bundles: make([]*bundle.Bundle, len(keys)), generations: map[string]state.Generation{},
		orders: map[bundle.KeyType]state.Order{}, revocations: map[string]revocation{}}
}

// set takes over a record and remembers what it was.
func (l *Lineage) set(record state.Record) {
	l.Record, l.stored = record, record
	l.stored.Keys, l.stored.Files, l.stored.Heals.At = map[bundle.KeyType]*state.Slot{}, maps.Clone(record.Files), slices.Clone(record.Heals.At)
	l.stored.LeftOut = slices.Clone(record.LeftOut)
	for key, slot := range record.Keys {
		copied := *slot
		l.stored.Keys[key] = &copied
	}
}

// Unchanged reports whether the record is still what was read.
func (l *Lineage) Unchanged() bool { return reflect.DeepEqual(l.Record, l.stored) }

func (l *Lineage) note(text string) {
	if text != "" {
		l.Notes = append(l.Notes, text)
	}
}

// adopt makes a generation current if its order is still noted as in flight: the process died in between.
func (l *Lineage) adopt() error {
	for _, key := range l.Keys {
		order := l.order(key)
		if order.URL == "" {
			continue
		}
		generations, err := l.Generations()
		if err != nil {
			return err
		}
		for _, g := range generations {
			if g.Order == order.URL && g.Key == key {
				l.Record.Slot(key).Issued(g.ID, time.Time{})
				l.orders[key] = state.Order{}
				if err := errors.Join(l.Save(l.Record), l.DropOrder(key)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// ReadBundles reads the current certificate of every key type. If it cannot be read, the one that was served, or else the
// newest good one, takes its place, with a note. It draws missing renewal instants.
func (l *Lineage) ReadBundles() {
	for i, key := range l.Keys {
		l.Bundles[i] = nil
		slot := l.Record.Slot(key)
		if slot.Current == "" {
			continue
		}
		b, err := l.Bundle(slot.Current)
		if err != nil {
			l.note(fmt.Sprintf("the stored certificate %s cannot be used: %v", slot.Current, err))
			if b = l.fallBack(key); b == nil {
				continue
			}
		}
		l.Bundles[i] = b
		if slot.RenewAt.IsZero() {
			slot.RenewAt = schedule.RenewalTime(b.Leaf().NotBefore, b.NotAfter(), b.Leaf().NotBefore)
		}
	}
}

// fallBack makes another stored certificate current; nil if no good one is left.
func (l *Lineage) fallBack(key bundle.KeyType) *bundle.Bundle {
	slot := l.Record.Slot(key)
	candidates := []string{slot.Served, slot.Previous}
	generations, err := l.Generations()
	if err != nil {
		return nil
	}
	for _, g := range slices.Backward(generations) {
		if g.Key == key {
			candidates = append(candidates, g.ID)
		}
	}
	for _, id := range candidates {
		if _, revoked := l.Revocation(id); id == "" || revoked {
			continue
		}
		if b, err := l.Bundle(id); err == nil && time.Now().Before(b.NotAfter()) {
			slot.Current, slot.RenewAt, slot.Renewal = id, time.Time{}, state.RenewalInfo{}
			return b
		}
	}
	return nil
}

// Sources returns the files on which a look at the lineage depends; nil if the store has no files.
func (l *Lineage) Sources() []string {
	if l.Folder() == "" {
		return nil
	}
	files := []string{filepath.Join(l.Folder(), "record.json")}
	for _, key := range l.Keys {
		directory := l.Directory(l.Record.Slot(key).Current)
		for _, name := range []string{"privkey.pem", "fullchain.pem", "meta.json", "revoked.json"} {
			files = append(files, filepath.Join(directory, name))
		}
	}
	return files
}

// Any reports whether there is a usable certificate of some key type.
func (l *Lineage) Any() bool {
	return slices.ContainsFunc(l.Bundles, func(b *bundle.Bundle) bool { return b != nil })
}

// Current returns the description of the current certificate of a key type. It fails if there is none, or if neither the
// description nor the certificate can be read.
func (l *Lineage) Current(key bundle.KeyType) (state.Generation, error) {
	return l.Generation(l.Record.Slot(key).Current)
}

// Generation reads the description of a generation, once: it never changes.
func (l *Lineage) Generation(id string) (state.Generation, error) {
	if g, known := l.generations[id]; known {
		return g, nil
	}
	g, err := l.Lineage.Generation(id)
	if err == nil {
		l.generations[id] = g
	}
	return g, err
}

// WasServed reports whether every current certificate was proven in service before.
func (l *Lineage) WasServed() bool {
	for i, key := range l.Keys {
		if slot := l.Record.Slot(key); l.Bundles[i] != nil && slot.Served != slot.Current {
			return false
		}
	}
	return true
}

// Owns reports whether content is a stored key, chain or combination of this lineage.
func (l *Lineage) Owns(content []byte) (bool, error) {
	generations, err := l.Generations()
	if err != nil {
		return false, err
	}
	for _, g := range generations {
		b, err := l.Bundle(g.ID)
		if err != nil {
			continue
		}
		for _, own := range [][]byte{b.KeyPEM(), b.FullchainPEM(), b.CombinedPEM()} {
			if string(own) == string(content) {
				return true, nil
			}
		}
	}
	return false, nil
}

// Served reads the certificates that were last proven in service, in the order of Keys. It fails if one of them is the current
// one, has expired or cannot be read: then there is no certificate to go back to.
func (l *Lineage) Served() ([]*bundle.Bundle, error) {
	served := make([]*bundle.Bundle, len(l.Keys))
	for i, key := range l.Keys {
		slot := l.Record.Slot(key)
		if slot.Served == "" || slot.Served == slot.Current {
			return nil, errors.New("no other certificate was in service before")
		}
		b, err := l.Bundle(slot.Served)
		if err != nil || time.Now().After(b.NotAfter()) {
			return nil, errors.New("the certificate that was in service has expired or cannot be read")
		}
		served[i] = b
	}
	return served, nil
}

// Reread forgets what was read about an order in flight: another host of the fleet may have left one, or finished it.
func (l *Lineage) Reread(key bundle.KeyType) { delete(l.orders, key) }

// Stored returns the ID of the stored certificate of a key type with a serial number; "" if there is none that can be read.
func (l *Lineage) Stored(key bundle.KeyType, serial string) string {
	return l.newest(key, func(g state.Generation) bool {
		_, err := l.Bundle(g.ID)
		return g.Serial == serial && err == nil
	})
}

// fraction returns a number from 0 to below 1 that is always the same for one certificate and differs between certificates.
func fraction(b *bundle.Bundle) float64 {
	sum := sha256.Sum256([]byte(b.Serial()))
	return float64(binary.BigEndian.Uint32(sum[:4])) / (1 << 32)
}
