package fleet

import (
	"encoding/json"
	"errors"
	"strings"
	"syscall"
	"testing"

	"mxcert/acme/state"
)

// unreadable is a disk of which one file cannot be read.
type unreadable struct {
	state.Store
	key string
}

func (d unreadable) Read(key string) ([]byte, error) {
	if key == d.key {
		return nil, &state.Error{Op: "read", Path: key, Err: syscall.EMFILE}
	}
	return d.Store.Read(key)
}

// What a host remembers of removed recipients counts for good: a host that cannot read it takes no part, and writes nothing over it.
func TestATrustThatCannotBeRead(t *testing.T) {
	w := newWorld(t, 3)
	h := w.host(0, "")
	_, err := h.RemoveRecipient(t.Context(), w.all[2])
	must(t, err)
	w.stranger().wipe() // nobody but the disk knows now who was removed
	before, err := h.disk.Read(trustFile)
	must(t, err)

	again := w.host(0, h.dir)
	m, err := New(again.set, again.shared, unreadable{again.disk, trustFile}, nil)
	if err == nil {
		err = m.Join(t.Context())
	}
	if !errors.Is(err, syscall.EMFILE) && (err == nil || !strings.Contains(err.Error(), "too many open files")) {
		t.Errorf("not readable: %v", err)
	}
	if m != nil && m.trust.Load().trusts(w.all[2]) && !m.isDown() {
		t.Error("not readable: the host that was removed is trusted again")
	}

	var kept map[string]any
	must(t, json.Unmarshal(before, &kept))
	kept["version"], kept["new"] = 2, "what only a later mxcert knows"
	later, err := json.Marshal(kept)
	must(t, err)
	must(t, h.disk.Replace(trustFile, later))
	again = w.host(0, h.dir)
	if err := again.Join(t.Context()); err == nil || !strings.Contains(err.Error(), "later mxcert") {
		t.Errorf("of a later version: %v", err)
	}
	_ = again.AddRecipient(t.Context(), newIdentity(t).Recipient(), "mx9")
	if now, _ := h.disk.Read(trustFile); string(now) != string(later) {
		t.Errorf("of a later version: it was written over: %s", now)
	}
}
