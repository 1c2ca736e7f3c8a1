package state_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

func TestRevocation(t *testing.T) {
	dir := open(t)
	l := dir.Lineage("mx")
	unlock, err := l.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	one, two := newBundle(t, bundle.EC256, 1), newBundle(t, bundle.EC256, 2)
	first, again, other := add(t, l, one, 1), add(t, l, one, 2), add(t, l, two, 3)
	if _, ok := l.Revocation(first.ID); ok || l.Compromised(first.SPKI) {
		t.Error("nothing was revoked yet")
	}
	note := state.Revocation{Reason: "superseded", Asked: time.Unix(1, 0).UTC()}
	if err := l.SaveRevocation(first.ID, note); err != nil {
		t.Fatal(err)
	}
	note.Version = 1
	if got, ok := l.Revocation(first.ID); !ok || got != note || l.Compromised(first.SPKI) {
		t.Errorf("superseded: %+v, %v, compromised %v", got, ok, l.Compromised(first.SPKI))
	}
	if err := l.DropRevocation(first.ID); err != nil {
		t.Fatal(err)
	}
	if _, ok := l.Revocation(first.ID); ok {
		t.Error("it was taken back")
	}
	note.Reason, note.KeyCompromised = "keyCompromise", true
	if err := l.SaveRevocation(first.ID, note); err != nil {
		t.Fatal(err)
	}
	if !l.Compromised(again.SPKI) || l.Compromised(other.SPKI) {
		t.Error("the key of a compromised certificate is used again, or another one is not")
	}
	if _, ok := l.Revocation(again.ID); ok {
		t.Error("another certificate of the key is revoked")
	}
	// A lost record and a damaged note forget nothing.
	if record, _, err := l.Load(); err != nil || record.Slot(bundle.EC256).Current != other.ID {
		t.Errorf("the record made again: %+v, %v", record, err)
	}
	for _, text := range []string{"", "{", "null", `{"version":2}`} {
		if err := os.WriteFile(filepath.Join(l.Directory(other.ID), "revoked.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, ok := l.Revocation(other.ID); !ok || !got.KeyCompromised || !l.Compromised(other.SPKI) {
			t.Errorf("a damaged note %q: %+v, %v", text, got, ok)
		}
	}
	if err := l.Prune(state.Record{}, 0); err != nil {
		t.Error(err)
	}
}
