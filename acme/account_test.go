package acme_test

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mxcert/acme"
	"mxcert/acme/state"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
)

func (w *world) account(t *testing.T) state.Account {
	t.Helper()
	account, ok, err := state.At(w.State).Account(w.setup.Directory)
	if err != nil || !ok {
		t.Fatalf("account: %v, %v", ok, err)
	}
	return account
}

// TestLostAccount: the CA forgot it. That is said, because CAA may pin the old one, and the same key is registered.
func TestLostAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.order(t, nil)
	if err := w.lineage(t).DropOrder("ec256"); err != nil {
		t.Fatal(err)
	}
	before := w.account(t)
	lost := before
	lost.URL = strings.TrimSuffix(before.URL, "/"+filepath.Base(before.URL)) + "/none"
	if err := state.At(w.State).SaveAccount(lost); err != nil {
		t.Fatal(err)
	}
	progress := &tape{}
	w.order(t, func(r *acme.Request) { r.Progress = progress.say })
	if after := w.account(t); after.Key != before.Key || after.URL != before.URL {
		t.Errorf("the account is now %s, the key is the same: %v", after.URL, after.Key == before.Key)
	}
	if !progress.has("warning: ") || !progress.has("no longer knows account "+lost.URL) {
		t.Errorf("it is not said: %q", progress.lines)
	}
	w.clean(t, "at the end")
}

// TestDamagedAccount: a broken file must not end all renewals.
func TestDamagedAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.order(t, nil)
	before := w.account(t)
	paths, err := filepath.Glob(filepath.Join(w.State, "accounts", "*", "account.json"))
	if err != nil || len(paths) != 1 {
		t.Fatal(paths, err)
	}
	if err := os.WriteFile(paths[0], []byte("{ half"), 0o600); err != nil {
		t.Fatal(err)
	}
	progress := &tape{}
	w.order(t, func(r *acme.Request) { r.Progress = progress.say })
	if after := w.account(t); after.Key == before.Key || after.URL == "" || !progress.has("account.json: the file is damaged") {
		t.Errorf("account %s, said %q", after.URL, progress.lines)
	}
	if text, err := os.ReadFile(paths[0] + ".damaged"); err != nil || string(text) != "{ half" {
		t.Errorf("it is not kept: %q, %v", text, err)
	}
	bad := w.account(t)
	bad.Key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
	if err := state.At(w.State).SaveAccount(bad); err != nil {
		t.Fatal(err)
	}
	_, err = w.issue(t.Context(), nil)
	if e, ok := errors.AsType[*acme.Error](err); !ok || e.Kind() != "account" || !strings.Contains(e.Hint(), "backup") {
		t.Errorf("a key that cannot be read: %v", err)
	}
}

func TestExternalAccountBinding(t *testing.T) {
	t.Parallel()
	key := base64.RawURLEncoding.EncodeToString([]byte("thirty-two bytes of a shared key"))
	other := base64.RawURLEncoding.EncodeToString([]byte("thirty-two bytes of another key!"))
	for _, tt := range []struct {
		what, kid, key, kind, says, hint string
	}{
		{"right", "kid-1", key, "", "", ""},
		{"right, with padding", "kid-1", key + "=", "", "", ""},
		{"none", "", "", "ca-refused", "externalAccountRequired", "acme.eab.kid"},
		{"another key", "kid-1", other, "ca-refused", "unauthorized", ""},
		{"another kid", "kid-2", key, "ca-refused", "unauthorized", ""},
		{"broken key", "kid-1", key[:10] + "§" + key, "account", "acme.eab.hmac_key", "copy"},
		{"no key", "kid-1", "", "account", "acme.eab.hmac_key", "copy"},
	} {
		w := newWorld(t, lab.Options{CA: ca.Options{EAB: map[string]string{"kid-1": key}}})
		w.Settings.EABKeyID, w.Settings.EABKey = tt.kid, tt.key
		_, err := w.issue(t.Context(), nil)
		if tt.kind == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.what, err)
			}
			continue
		}
		e, ok := errors.AsType[*acme.Error](err)
		if !ok || e.Stage != "account" || e.Kind() != tt.kind || !strings.Contains(e.Error(), tt.says) || !strings.Contains(e.Hint(), tt.hint) || e.Temporary() {
			t.Errorf("%s: %v", tt.what, err)
		} else if strings.Contains(e.Error()+e.Hint(), key) {
			t.Errorf("%s: the key is in %v", tt.what, e)
		}
	}
}

func TestUntrustedCA(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.CAFile = w.RootsFile
	_, err := w.issue(t.Context(), nil)
	if e, ok := errors.AsType[*acme.Error](err); !ok || e.Kind() != "tls" || e.Stage != "directory" || !strings.Contains(e.Hint(), "acme.ca_file") || e.Temporary() {
		t.Errorf("got %v", err)
	}
}
