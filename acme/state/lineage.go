package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"mxcert/acme/bundle"
)

// Lineage is what is stored under one certificate's name: its generations and a record about them.
type Lineage struct {
	book *Book
	name string

	justRead sync.Map // descriptions that Look or Load has read, by ID, until somebody asks for them
}

// Record is what mxcert remembers about a lineage beside its generations.
type Record struct {
	Version     int                      `json:"version"`
	Keys        map[bundle.KeyType]*Slot `json:"keys"`
	Applying    bool                     `json:"applying,omitempty"`  // a deployment was started and not concluded
	HooksDue    bool                     `json:"hooks_due,omitempty"` // deploy hooks failed and must run again
	Failure     *Failure                 `json:"failure,omitempty"`   // the last pass failed
	Held        *Hold                    `json:"held,omitempty"`      // nil if no order waits
	LeftOut     []LeftOut                `json:"left_out,omitempty"`  // optional names that could not be proven
	LastSuccess time.Time                `json:"last_success,omitzero"`
	Heals       Heals                    `json:"heals,omitzero"`
	Told        Told                     `json:"told,omitzero"`
	Files       map[string]File          `json:"files,omitempty"`  // files that were written for a mail server, by path
	Events      []Event                  `json:"events,omitempty"` // oldest first, at most maxEvents
}

// Told is a warning that the daemon repeats once a day, and not in every pass.
type Told struct {
	Text string    `json:"text"`
	At   time.Time `json:"at"`
}

// Slot is the part of a record about one key type. The values are generation IDs, "" for none.
type Slot struct {
	Current  string    `json:"current,omitempty"`  // what should be served
	Served   string    `json:"served,omitempty"`   // what a handshake last proved (or was deployed, if nothing serves it)
	Previous string    `json:"previous,omitempty"` // what was served before that
	RenewAt  time.Time `json:"renew_at,omitzero"`  // drawn once for Current, for CAs without renewal information

	RolledBack bool `json:"rolled_back,omitempty"` // Current was chosen by an operator over a newer one

	Renewal RenewalInfo `json:"renewal_info,omitzero"` // what the CA said about Current

	Chain string `json:"chain,omitempty"` // which chain was proven to lead to which roots, and on which day
}

// Issued makes a generation current.
func (s *Slot) Issued(id string, renewAt time.Time) {
	s.Current, s.RenewAt, s.Renewal, s.RolledBack = id, renewAt, RenewalInfo{}, false
}

// RenewalInfo is what mxcert remembers about a CA's renewal information (RFC 9773).
type RenewalInfo struct {
	Start       time.Time `json:"start,omitzero"` // the window
	End         time.Time `json:"end,omitzero"`
	At          time.Time `json:"at,omitzero"` // the instant drawn from it
	Explanation string    `json:"explanation_url,omitempty"`
	NextCheck   time.Time `json:"next_check,omitzero"` // mxcert does not ask the CA again before
}

// Failure says why the last pass did not converge.
type Failure struct {
	Stage       string    `json:"stage"`
	Kind        string    `json:"kind"`
	Message     string    `json:"message"`
	Hint        string    `json:"hint,omitempty"`
	At          time.Time `json:"at"`
	Count       int       `json:"count"`                 // failures in a row
	NotBefore   time.Time `json:"not_before,omitzero"`   // the daemon does not try again before
	ChargedToCA bool      `json:"charged_to_ca"`         // the CA counts it against its limits: one-shots wait, too
	Fingerprint string    `json:"fingerprint,omitempty"` // of the configuration that failed; a changed one may try at once
}

// Hold says why an order that is due waits, although nothing has failed: it would not fit the limits of the CA.
type Hold struct {
	Until       time.Time `json:"until"`
	Message     string    `json:"message"`
	Hint        string    `json:"hint,omitempty"`
	Fingerprint string    `json:"fingerprint"` // of the configuration: another one is judged anew
}

// LeftOut is an optional name that is not ordered for now, because it could not be proven.
type LeftOut struct {
	Name        string    `json:"name"`
	Since       time.Time `json:"since"`                 // when it was left out first
	Reason      string    `json:"reason"`                // why the last try failed
	Tries       int       `json:"tries"`                 // that failed, in a row
	NextTry     time.Time `json:"next_try"`              // the daemon does not try again before
	Fingerprint string    `json:"fingerprint,omitempty"` // of the settings of the proof: with others it is tried at once
}

// Heals records when the daemon repaired what others had changed, in the hour that started with the first repair.
type Heals struct {
	At          []time.Time `json:"at"`
	Fingerprint string      `json:"fingerprint"` // of the configuration; if it changes, counting starts again
}

// IsZero reports whether there were no repairs.
func (h Heals) IsZero() bool { return len(h.At) == 0 }

// File records mode and owner of a deployed file. The zero File means that they are unknown.
type File struct {
	Mode fs.FileMode `json:"mode,omitempty"`
	UID  int         `json:"uid"`
	GID  int         `json:"gid"`
}

// Event is one line of history.
type Event struct {
	At      time.Time      `json:"at"`
	Event   string         `json:"event"` // issued, taken, served, deployed, left-out, taken-in, name-found, name-gone, reverted, rolled-back, rolled-forward, healed, failed, repaired, account, revoked
	Key     bundle.KeyType `json:"key,omitempty"`
	Serial  string         `json:"serial,omitempty"`
	Message string         `json:"message,omitempty"`
}

const maxEvents = 200

const (
	recordFile = "record.json"
	displaced  = "displaced"
)

// Lineage returns a lineage by name; it reads and makes nothing.
func (b *Book) Lineage(name string) *Lineage { return &Lineage{book: b, name: name} }

// Name returns the lineage's name.
func (l *Lineage) Name() string { return l.name }

// Lock waits until this process alone may change the lineage, or ctx ends (ErrLocked).
func (l *Lineage) Lock(ctx context.Context) (unlock func(), err error) {
	return l.book.store.Lock(ctx, l.key("lock"))
}

// key returns the lineage's folder, or a key below it.
func (l *Lineage) key(elements ...string) string {
	return path.Join("lineages", l.name, path.Join(elements...))
}

func (l *Lineage) recordKey() string { return l.key(recordFile) }

// Slot returns the slot of a key type, made if it is missing.
func (r *Record) Slot(keyType bundle.KeyType) *Slot {
	if r.Keys == nil {
		r.Keys = map[bundle.KeyType]*Slot{}
	}
	if r.Keys[keyType] == nil {
		r.Keys[keyType] = &Slot{}
	}
	return r.Keys[keyType]
}

// mostMessage limits a message in the record, in bytes: a record must stay smaller than what a store reads.
const mostMessage = 2048

func short(message string) string {
	if len(message) <= mostMessage {
		return message
	}
	return strings.ToValidUTF8(message[:mostMessage], "") + "…"
}

// Log appends to the history. It cuts a message that is longer than 2 KiB.
func (r *Record) Log(event Event) {
	event.At, event.Message = event.At.UTC(), short(event.Message)
	r.Events = append(r.Events, event)
	if extra := len(r.Events) - maxEvents; extra > 0 {
		r.Events = append([]Event(nil), r.Events[extra:]...)
	}
}

// Load reads the record. If it is missing or damaged, Load makes it again from the stored generations, and repaired says so in
// words; it sets a damaged record aside. It does the same with the descriptions of current generations. A lineage that does not
// exist yet has an empty record.
func (l *Lineage) Load() (record Record, repaired string, err error) {
	record, repaired, err = l.load()
	if err != nil {
		return record, repaired, err
	}
	for _, g := range l.lostDescriptions(record) {
		key := l.generationKey(g.ID, metaFile)
		_, _ = l.book.setAside(key) // there may be nothing
		text := " was missing or damaged; it was made again from the certificate beside it, which does not say which CA issued it"
		if err := l.book.write(key, g); err != nil { // a full disk is no reason to serve no certificate
			text = readFromCertificate
		}
		repaired = also(repaired, l.book.name(key)+text)
	}
	return record, repaired, nil
}

// readFromCertificate is what a note says of a lost description that is not stored again.
const readFromCertificate = " is missing or damaged; this was read from the certificate beside it"

// also adds to a note.
func also(note, next string) string {
	if note == "" {
		return next
	}
	return note + "; " + next
}

// load reads the record, or makes it again.
func (l *Lineage) load() (record Record, repaired string, err error) {
	place := l.book.name(l.recordKey())
	record, err = l.read()
	switch {
	case err == nil:
		return record, "", nil
	case errors.Is(err, ErrDamaged):
		aside, err := l.book.setAside(l.recordKey())
		if err != nil {
			return Record{}, "", err
		}
		repaired = fmt.Sprintf("%s was damaged; it was made again from the generations on disk", place)
		if aside != "" {
			repaired += ", and the damaged file is kept as " + aside
		}
	case !errors.Is(err, fs.ErrNotExist):
		return Record{}, "", err
	}
	record, err = l.rebuild()
	if repaired == "" && len(record.Keys) > 0 {
		repaired = fmt.Sprintf("%s was missing; it was made again from the generations on disk", place)
	}
	return record, repaired, err
}

// Look does what Load does without changing anything: what is damaged stays where it is.
func (l *Lineage) Look() (record Record, repaired string, err error) {
	record, err = l.read()
	if errors.Is(err, ErrDamaged) {
		repaired = fmt.Sprintf("%s is damaged; this was read from the generations on disk", l.book.name(l.recordKey()))
	}
	if repaired != "" || errors.Is(err, fs.ErrNotExist) {
		record, err = l.rebuild()
	}
	if err != nil {
		return record, repaired, err
	}
	for _, g := range l.lostDescriptions(record) {
		repaired = also(repaired, l.book.name(l.generationKey(g.ID, metaFile))+readFromCertificate)
	}
	return record, repaired, nil
}

// read reads the record; slots that are null are left out.
func (l *Lineage) read() (record Record, err error) {
	err = l.book.read(l.recordKey(), &record)
	maps.DeleteFunc(record.Keys, func(_ bundle.KeyType, slot *Slot) bool { return slot == nil })
	return record, err
}

// rebuild makes the newest readable generation of each key type the current one. It is not known what was served, so the next
// pass looks at files and handshakes.
func (l *Lineage) rebuild() (Record, error) {
	var record Record
	generations, err := l.Generations()
	if err != nil {
		return record, err
	}
	for _, g := range generations {
		if _, err := l.Bundle(g.ID); err == nil {
			record.Slot(g.Key).Current = g.ID
		}
	}
	return record, nil
}

// Save stores the record durably.
func (l *Lineage) Save(record Record) error {
	record.Version = version
	if record.Failure != nil {
		failure := *record.Failure
		failure.Message = short(failure.Message)
		record.Failure = &failure
	}
	record.LeftOut = slices.Clone(record.LeftOut)
	for i := range record.LeftOut {
		record.LeftOut[i].Reason = short(record.LeftOut[i].Reason)
	}
	return l.book.write(l.recordKey(), record)
}

// Displace keeps a copy of a file that a deployment is about to replace and that is not mxcert's own, so that the operator
// loses nothing. It returns where the copy is. This may be an earlier copy with the same content, so that a program that fights
// over the file cannot fill the disk.
func (l *Lineage) Displace(original string, content []byte, at time.Time) (string, error) {
	ending := "-" + path.Base(original)
	names, err := l.book.store.List(l.key(displaced))
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ending) {
			continue
		}
		if kept, err := l.book.store.Read(l.key(displaced, name)); err == nil && bytes.Equal(kept, content) {
			return l.book.name(l.key(displaced, name)), nil
		}
	}
	key := l.key(displaced, uniqueID(at)+ending)
	return l.book.name(key), l.book.store.Replace(key, content)
}
