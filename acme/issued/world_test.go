package issued_test

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/issued"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
)

const (
	day       = 24 * time.Hour
	directory = "https://ca.example/directory"
)

var names = []string{"mx.example.org", "host7.example.org"}

// world is one lineage on a disk.
type world struct {
	t       *testing.T
	dir     string
	lineage *state.Lineage
	stored  int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: filepath.Join(t.TempDir(), "state")}
	store, err := state.Open(disk.Open(w.dir))
	w.check(err)
	w.lineage = store.Lineage("mx")
	unlock, err := w.lineage.Lock(t.Context())
	w.check(err)
	t.Cleanup(unlock)
	return w
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// sign makes a self-signed certificate: what is stored here was checked before.
func (w *world) sign(keyType bundle.KeyType, key crypto.Signer, from, to time.Duration) *bundle.Bundle {
	w.t.Helper()
	var err error
	if key == nil {
		key, err = keyType.Generate()
		w.check(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	w.check(err)
	template := &x509.Certificate{SerialNumber: serial, DNSNames: names, NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(to)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	w.check(err)
	b, err := bundle.New(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key)
	w.check(err)
	return b
}

// add stores a certificate; each is newer than the one before.
func (w *world) add(b *bundle.Bundle, order string) state.Generation {
	w.t.Helper()
	w.stored++
	g, err := w.lineage.Add(b, names, directory, order, time.Now().Add(time.Duration(w.stored-100)*time.Minute))
	w.check(err)
	return g
}

// good stores a certificate of 90 days, a third of which has passed.
func (w *world) good(keyType bundle.KeyType) state.Generation {
	w.t.Helper()
	return w.add(w.sign(keyType, nil, -30*day, 60*day), "")
}

// remember changes the record.
func (w *world) remember(change func(*state.Record)) {
	w.t.Helper()
	record, _, err := w.lineage.Look()
	w.check(err)
	change(&record)
	w.check(w.lineage.Save(record))
}

// current notes a generation as the current one, and others as what was served last and before.
func (w *world) current(g, served, previous state.Generation) {
	w.t.Helper()
	w.remember(func(r *state.Record) {
		*r.Slot(g.Key) = state.Slot{Current: g.ID, Served: served.ID, Previous: previous.ID}
	})
}

// spoil damages a file of a generation.
func (w *world) spoil(g state.Generation, name string) {
	w.t.Helper()
	w.check(os.WriteFile(filepath.Join(w.lineage.Directory(g.ID), name), []byte("x"), 0o600))
}

func (w *world) look(keys ...bundle.KeyType) *issued.Lineage {
	w.t.Helper()
	l, err := issued.Look(w.lineage, keys)
	w.check(err)
	return l
}

func (w *world) load(keys ...bundle.KeyType) *issued.Lineage {
	w.t.Helper()
	l, err := issued.Load(w.lineage, keys)
	w.check(err)
	return l
}

// text is the record as it is on the disk; "" if there is none.
func (w *world) text() string {
	text, _ := os.ReadFile(filepath.Join(w.dir, "lineages", "mx", "record.json"))
	return string(text)
}
