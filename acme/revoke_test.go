package acme_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mxcert/acme"
	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
)

func TestRevoke(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{CA: ca.Options{SkipValidation: true}})
	client, _, err := w.client()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	issue := func(name string, key bundle.KeyType) *bundle.Bundle {
		t.Helper()
		b := w.order(t, func(r *acme.Request) { r.Names, r.KeyType = []string{name}, key }).Bundle
		if err := w.lineage(t).DropOrder(key); err != nil {
			t.Fatal(err)
		}
		return b
	}
	revoke := func(what string, r acme.Revocation, wantAlready bool, wantReason acme.Reason) {
		t.Helper()
		already, err := client.Revoke(t.Context(), r)
		if err != nil || already != wantAlready {
			t.Errorf("%s: already %v, %v", what, already, err)
		}
		if reason, revoked := w.CA.Revoked(r.Certificate.SerialNumber); !revoked || reason != uint(wantReason) {
			t.Errorf("%s: revoked %v, reason %d", what, revoked, reason)
		}
	}
	for i, reason := range []acme.Reason{acme.Unspecified, acme.KeyCompromise, acme.Superseded, acme.CessationOfOperation} {
		b := issue([]string{"a", "b", "c", "d"}[i]+".example.org", bundle.EC256)
		revoke("by the account", acme.Revocation{Certificate: b.Leaf(), Reason: reason}, false, reason)
		revoke("again", acme.Revocation{Certificate: b.Leaf(), Reason: acme.Superseded}, true, reason)
		revoke("again, by its own key", acme.Revocation{Certificate: b.Leaf(), Reason: acme.KeyCompromise, Key: b.Key()}, true, reason)
	}
	for _, key := range []bundle.KeyType{bundle.EC256, bundle.EC384, bundle.RSA2048} {
		b := issue(string(key)+".example.org", key)
		revoke("by its own key", acme.Revocation{Certificate: b.Leaf(), Reason: acme.KeyCompromise, Key: b.Key()}, false, acme.KeyCompromise)
	}

	// Another account, a wrong key, a reason that the CA does not take.
	b, other := issue("other.example.org", bundle.EC256), issue("yet.example.org", bundle.EC256)
	failed := func(what string, r acme.Revocation, byOther bool, part string) {
		t.Helper()
		_, err := client.Revoke(t.Context(), r)
		if err == nil || r.ByOtherKey(err) != byOther || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: by the other key %v, %v", what, r.ByOtherKey(err), err)
		}
		if _, revoked := w.CA.Revoked(r.Certificate.SerialNumber); revoked {
			t.Errorf("%s: it is revoked", what)
		}
	}
	failed("a wrong key", acme.Revocation{Certificate: b.Leaf(), Reason: acme.KeyCompromise, Key: other.Key()}, true, "unauthorized")
	failed("no such reason", acme.Revocation{Certificate: b.Leaf(), Reason: 7}, false, "badRevocationReason")
	if _, err := client.Registrar(nil, nil).Register(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	failed("another account", acme.Revocation{Certificate: b.Leaf(), Reason: acme.Superseded}, true, "unauthorized")
	mend := w.fail(ca.RevokeCert, http.StatusServiceUnavailable)
	failed("a CA that is away", acme.Revocation{Certificate: b.Leaf()}, false, "503")
	mend()
	if err := os.RemoveAll(filepath.Join(w.State, "accounts")); err != nil {
		t.Fatal(err)
	}
	w.CA.ResetRequests()
	failed("no account", acme.Revocation{Certificate: b.Leaf()}, true, "no account")
	if n := w.CA.Count(ca.NewAccount); n != 0 {
		t.Errorf("%d accounts were registered to revoke", n)
	}
	revoke("no account, its own key", acme.Revocation{Certificate: b.Leaf(), Key: b.Key(), Reason: acme.KeyCompromise}, false, acme.KeyCompromise)

	w.CA.SetWrap(withoutRevocation)
	fresh, _, err := w.client()
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	_, err = fresh.Revoke(t.Context(), acme.Revocation{Certificate: other.Leaf(), Key: other.Key()})
	if e, ok := errors.AsType[*acme.Error](err); !ok || e.Stage() != "revoke" || !strings.Contains(e.Error(), "does not revoke certificates") {
		t.Errorf("a CA without revocation: %v", err)
	}
}

// withoutRevocation is a CA whose directory has no revokeCert.
func withoutRevocation(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if ca.EndpointOf(r.URL.Path) != ca.Directory {
			next.ServeHTTP(rw, r)
			return
		}
		base := "https://" + r.Host
		_, _ = rw.Write([]byte(`{"newNonce":"` + base + `/nonce-plz","newAccount":"` + base + `/sign-me-up","newOrder":"` + base + `/order-plz"}`))
	})
}
