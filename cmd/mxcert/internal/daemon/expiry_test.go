package daemon

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/schedule"
	"mxcert/acme/state"
)

// signed is a self-signed certificate that ends then.
func signed(t *testing.T, key crypto.Signer, notAfter time.Time) *bundle.Bundle {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(notAfter.UnixNano()), Subject: pkix.Name{CommonName: "mx.example.org"}, DNSNames: []string{"mx.example.org"},
		NotBefore: notAfter.Add(-24 * time.Hour), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.New(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// stored stores a lineage with a current certificate for each key type that ends at a time; the zero time is one that is gone.
func stored(t *testing.T, store *state.Book, name string, ends map[bundle.KeyType]time.Time, change func(*state.Record)) *state.Lineage {
	t.Helper()
	lineage := store.Lineage(name)
	record, _, err := lineage.Load()
	if err != nil {
		t.Fatal(err)
	}
	for keyType, end := range ends {
		slot := record.Slot(keyType)
		if slot.Current = "20200101T000000Z-gone"; end.IsZero() {
			continue
		}
		key, err := keyType.Generate()
		if err != nil {
			t.Fatal(err)
		}
		g, err := lineage.Add(signed(t, key, end), []string{"mx.example.org"}, "https://ca.example/directory", "https://ca.example/order/1", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		slot.Current = g.ID
	}
	if change != nil {
		change(&record)
	}
	if err := lineage.Save(record); err != nil {
		t.Fatal(err)
	}
	return lineage
}

// Passes go first whose certificates a crash has left half deployed, then those whose certificates end first, and at last those
// that have none.
func TestWhoGoesFirst(t *testing.T) {
	t.Parallel()
	store := storeAt(t, t.TempDir())
	now := time.Now().UTC().Truncate(time.Second)
	soon, later := now.Add(time.Hour), now.Add(48*time.Hour)
	for _, tt := range []struct {
		what    string
		ends    map[bundle.KeyType]time.Time
		applies bool
		want    time.Time
	}{
		{"new", nil, false, time.Time{}},
		{"one", map[bundle.KeyType]time.Time{"ec256": later}, false, later},
		{"the soonest of two", map[bundle.KeyType]time.Time{"ec256": later, "ec384": soon}, false, soon},
		{"one of two is gone", map[bundle.KeyType]time.Time{"ec256": soon, "ec384": {}}, false, time.Time{}},
		{"half", map[bundle.KeyType]time.Time{"ec256": later}, true, time.Unix(0, 0)},
		{"expired", map[bundle.KeyType]time.Time{"ec256": now.Add(-time.Hour)}, false, now.Add(-time.Hour)},
	} {
		if got := expiry(stored(t, storeAt(t, t.TempDir()), "mx", tt.ends, func(r *state.Record) { r.Applying = tt.applies })); !got.Equal(tt.want) {
			t.Errorf("%s: %v ends at %v, want %v", tt.what, tt.ends, got, tt.want)
		}
	}
	lineages := map[string]*state.Lineage{
		"half deployed": stored(t, store, "half", map[bundle.KeyType]time.Time{"ec256": later}, func(r *state.Record) { r.Applying = true }),
		"expired":       stored(t, store, "expired", map[bundle.KeyType]time.Time{"ec256": now.Add(-365 * 24 * time.Hour)}, nil),
		"soon":          stored(t, store, "soon", map[bundle.KeyType]time.Time{"ec256": soon}, nil),
		"new":           stored(t, store, "new", nil, nil),
	}
	gate := schedule.NewGate(1)
	leave, err := gate.Enter(t.Context(), now)
	if err != nil {
		t.Fatal(err)
	}
	entered := make(chan string, len(lineages))
	for _, what := range []string{"new", "soon", "expired", "half deployed"} {
		go func() {
			leave, err := gate.Enter(t.Context(), expiry(lineages[what]))
			if err != nil {
				t.Error(err)
				return
			}
			entered <- what
			leave()
		}()
	}
	time.Sleep(100 * time.Millisecond) // until all wait
	leave()
	for _, want := range []string{"half deployed", "expired", "soon"} {
		if got := <-entered; got != want {
			t.Errorf("%q goes before %q", got, want)
		}
	}
}
