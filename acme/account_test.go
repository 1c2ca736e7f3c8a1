package acme_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"mxcert/acme"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
)

func (w *world) account(t *testing.T) state.Account {
	t.Helper()
	account, ok, err := state.New(disk.At(w.State)).Account(w.setup.Directory)
	if err != nil || !ok {
		t.Fatalf("account: %v, %v", ok, err)
	}
	return account
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
		w.Settings.Account.EABKeyID, w.Settings.Account.EABKey = tt.kid, tt.key
		_, err := w.issue(t.Context(), nil)
		if tt.kind == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.what, err)
			}
			continue
		}
		e, ok := errors.AsType[*acme.Error](err)
		if !ok || e.Stage() != "account" || e.Kind() != tt.kind || !strings.Contains(e.Error(), tt.says) || !strings.Contains(e.Hint(), tt.hint) || e.Temporary() {
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
	if e, ok := errors.AsType[*acme.Error](err); !ok || e.Kind() != "tls" || e.Stage() != "directory" || !strings.Contains(e.Hint(), "acme.ca_file") || e.Temporary() {
		t.Errorf("got %v", err)
	}
}
