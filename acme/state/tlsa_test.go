package state_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
)

type remembered struct {
	Version int    `json:"version"`
	Text    string `json:"text"`
	cleaned bool
}

func (r *remembered) Clean() { r.cleaned = true }

func tlsaLineage(t *testing.T) (dir string, book *state.Book, l *state.Lineage) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "state")
	book, err := state.Open(disk.Open(dir))
	if err != nil {
		t.Fatal(err)
	}
	return dir, book, book.Lineage("mx")
}

// TestTLSA stores and reads what is remembered, and keeps a damaged file.
func TestTLSA(t *testing.T) {
	t.Parallel()
	dir, book, l := tlsaLineage(t)
	var got remembered
	if err := l.TLSA(&got); !errors.Is(err, fs.ErrNotExist) || got.cleaned {
		t.Errorf("nothing is stored: %v, %+v", err, got)
	}
	if err := l.SaveTLSA(remembered{Version: state.Version, Text: "a"}); err != nil {
		t.Fatal(err)
	}
	if err := l.TLSA(&got); err != nil || got.Text != "a" || !got.cleaned {
		t.Errorf("%v, %+v", err, got)
	}
	file := filepath.Join(dir, "lineages/mx/tlsa.json")
	if l.TLSAFile() != file {
		t.Errorf("it is in %s", l.TLSAFile())
	}
	if err := os.WriteFile(file, []byte(`{"version": 1, "ours`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.TLSA(&got); !errors.Is(err, state.ErrDamaged) {
		t.Errorf("it is damaged: %v", err)
	}
	found, err := book.Inspect()
	if err != nil || len(found) != 1 || found[0].Subject != file || !strings.Contains(found[0].Hint, "--adopt") {
		t.Errorf("%v, %+v", err, found)
	}
	if err := l.SaveTLSA(remembered{Version: state.Version, Text: "b"}); err != nil {
		t.Fatal(err)
	}
	if kept, err := os.ReadFile(file + ".damaged"); err != nil || string(kept) != `{"version": 1, "ours` {
		t.Errorf("the damaged file was not kept: %v, %q", err, kept)
	}
	if err := os.WriteFile(file, []byte(`{"version": 99}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.SaveTLSA(remembered{Version: state.Version}); err == nil || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("a record of a later mxcert was replaced: %v", err)
	}
}

// TestNextKeys are no generations, and stay when generations are pruned.
func TestNextKeys(t *testing.T) {
	t.Parallel()
	dir, book, l := tlsaLineage(t)
	unlock, err := l.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := l.Next(bundle.EC256); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is no next key: %v", err)
	}
	signer, err := bundle.EC256.Generate()
	if err != nil {
		t.Fatal(err)
	}
	pem, err := bundle.MarshalKey(signer)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SaveNext(bundle.EC256, pem); err != nil {
		t.Fatal(err)
	}
	// A description that fits would make a folder a generation.
	if err := os.WriteFile(filepath.Join(dir, "lineages/mx/next/meta.json"), []byte(`{"version": 1, "id": "next", "key": "ec256"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := l.Generations(); err != nil || len(list) > 0 {
		t.Errorf("%v, %+v", err, list)
	}
	if err := os.Remove(filepath.Join(dir, "lineages/mx/next/meta.json")); err != nil {
		t.Fatal(err)
	}
	if err := l.Save(state.Record{LastSuccess: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if err := l.Prune(state.Record{}, 0); err != nil {
		t.Fatal(err)
	}
	if got, err := l.Next(bundle.EC256); err != nil || string(got) != string(pem) {
		t.Errorf("the next key was pruned: %v", err)
	}
	if info, err := os.Stat(filepath.Join(dir, "lineages/mx/next/ec256.pem")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", err, info)
	}
	if found, err := book.Inspect(); err != nil || len(found) > 0 {
		t.Errorf("all is well: %v, %+v", err, found)
	}
	if err := l.SaveNext(bundle.RSA2048, []byte("-----BEGIN PRIVATE KEY-----\n")); err != nil {
		t.Fatal(err)
	}
	if found, err := book.Inspect(); err != nil || len(found) != 1 || found[0].ID != "state-next-key" {
		t.Errorf("a damaged next key: %v, %+v", err, found)
	}
	for range 2 {
		if err := l.DropNext(bundle.EC256); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Next(bundle.EC256); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the next key is still there: %v", err)
	}
}
