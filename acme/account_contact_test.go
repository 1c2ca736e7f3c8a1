package acme_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"mxcert/acme"
	"mxcert/acme/account"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
)

// shown is what the CA says of the account, over a client of its own.
func (w *world) shown(t *testing.T) account.Info {
	t.Helper()
	client, _, err := w.client()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	return client.Registrar(nil, nil).Info(t.Context())
}

// fail makes the CA answer the requests to an endpoint with a status, until mend is called.
func (w *world) fail(endpoint ca.Endpoint, status int) (mend func()) {
	w.CA.SetWrap(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if ca.EndpointOf(r.URL.Path) == endpoint {
				rw.WriteHeader(status)
				return
			}
			next.ServeHTTP(rw, r)
		})
	})
	return func() { w.CA.SetWrap(nil) }
}

// TestContact: an order tells the CA a changed address, once, and never fails for it.
func TestContact(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{CA: ca.Options{SkipValidation: true}})
	order := func() *tape {
		t.Helper()
		progress := &tape{}
		w.order(t, func(r *acme.Request) { r.Progress, r.Urgent = progress.say, true })
		if err := w.lineage(t).DropOrder("ec256"); err != nil {
			t.Fatal(err)
		}
		return progress
	}
	contact := func(email string, want ...string) {
		t.Helper()
		w.Settings.Account.Email = email
		if got := w.shown(t); !slices.Equal(got.Contact, want) || got.Status != "valid" || !got.Asked {
			t.Errorf("the CA has the contact %v (%s, %v), want %v", got.Contact, got.Status, got.Err, want)
		}
	}
	w.Settings.Account.Email = "one@example.org"
	order()
	contact("two@example.org", "mailto:one@example.org")

	mend := w.fail(ca.Account, http.StatusInternalServerError)
	if progress := order(); !progress.has("warning: the contact of the account is still one@example.org") || w.account(t).Email != "one@example.org" {
		t.Errorf("said %q, stored %s", progress.lines, w.account(t).Email)
	}
	mend()

	w.CA.ResetRequests()
	if progress := order(); !progress.has("the contact is two@example.org now") || w.account(t).Email != "two@example.org" {
		t.Errorf("said %q, stored %s", progress.lines, w.account(t).Email)
	}
	order()
	if n := w.CA.Count(ca.Account); n != 1 {
		t.Errorf("%d requests for one change", n)
	}
	contact("", "mailto:two@example.org")
	if progress := order(); !progress.has("the contact is none now") || w.account(t).Email != "" {
		t.Errorf("said %q, stored %s", progress.lines, w.account(t).Email)
	}
	if got := w.shown(t); len(got.Contact) > 0 {
		t.Errorf("the CA still has the contact %v", got.Contact)
	}
}

// TestRegister: it says whether anything changed, and what a contact that the CA refuses has to do with it.
func TestRegister(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	register := func() (changed bool, said string, err error) {
		t.Helper()
		client, _, err := w.client()
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		progress := &tape{}
		changed, err = client.Registrar(progress.say, nil).Register(context.Background(), false)
		return changed, strings.Join(progress.lines, "\n"), err
	}
	expect := func(what string, want bool, part string) {
		t.Helper()
		changed, said, err := register()
		if err != nil || changed != want || !strings.Contains(said, part) {
			t.Errorf("%s: changed %v, %v, said %q", what, changed, err, said)
		}
	}
	w.Settings.Account.Email = "one@example.org"
	expect("first", true, "registered at")
	expect("again", false, "")
	w.Settings.Account.Email = "two@example.org"
	expect("another contact", true, "two@example.org")
	if account := w.account(t); account.Terms == "" || account.Email != "two@example.org" {
		t.Errorf("stored: %+v", account)
	}
	w.Settings.Account.Email = "not an address"
	if changed, _, err := register(); err == nil || changed || w.account(t).Email != "two@example.org" {
		t.Errorf("a contact that the CA refuses: changed %v, %v", changed, err)
	}
	w.Settings.Account.Email = "two@example.org"

	// A process was killed after the CA had registered the account: the same key finds it again.
	half := w.account(t)
	url := half.URL
	half.URL = ""
	if err := state.New(disk.At(w.State)).SaveAccount(half); err != nil {
		t.Fatal(err)
	}
	expect("half", true, "")
	if got := w.account(t); got.URL != url || got.Key != half.Key {
		t.Errorf("found again as %s, want %s", got.URL, url)
	}
}
