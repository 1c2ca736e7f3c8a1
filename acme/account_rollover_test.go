package acme_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"mxcert/acme"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
)

// rollOver changes the account's key, and says what was told.
func (w *world) rollOver(t *testing.T) (said string, err error) {
	t.Helper()
	client, _, err := w.client()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	progress := &tape{}
	err = client.Registrar(progress.say, nil).Rollover(t.Context())
	return strings.Join(progress.lines, "\n"), err
}

func TestRollover(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{CA: ca.Options{BadNonces: 30}})
	if _, err := w.rollOver(t); err == nil || !strings.Contains(err.Error(), "no account") {
		t.Errorf("without an account: %v", err)
	}
	w.order(t, nil)
	before := w.account(t)
	stale, _ := w.core(t)
	if _, err := w.rollOver(t); err != nil {
		t.Fatal(err)
	}
	after := w.account(t)
	if after.Key == before.Key || after.NextKey != "" || after.URL != before.URL || len(after.Former) != 0 {
		t.Errorf("the account is now %+v", after)
	}
	if info := w.shown(t); info.Status != "valid" || info.Pending {
		t.Errorf("the CA says %+v", info)
	}
	if _, err := stale.Accounts.Get(before.URL); err == nil {
		t.Error("the old key still works")
	}
	if notices, err := w.again(t); err != nil || notices != "" {
		t.Errorf("an order with the new key: %q, %v", notices, err)
	}
	w.clean(t, "at the end")
}

// refuse answers with a problem document.
func refuse(rw http.ResponseWriter, status int, kind string) {
	rw.Header().Set("Content-Type", "application/problem+json")
	rw.WriteHeader(status)
	_, _ = rw.Write([]byte(`{"type":"urn:ietf:params:acme:error:` + kind + `","detail":"so says the test"}`))
}

// TestRolloverFaults: whatever the CA answers, and whether or not it has changed the key, mxcert ends with the key that
// the CA knows.
func TestRolloverFaults(t *testing.T) {
	t.Parallel()
	type handler = func(rw http.ResponseWriter, r *http.Request, next http.Handler)
	act := func(_ http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(httptest.NewRecorder(), r)
	}
	abort := func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }
	down := func(rw http.ResponseWriter, _ *http.Request, _ http.Handler) {
		rw.WriteHeader(http.StatusServiceUnavailable)
	}
	both := func(first, then handler) handler {
		return func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
			first(rw, r, next)
			then(rw, r, next)
		}
	}
	for _, tt := range []struct {
		what      string
		keyChange handler
		look      handler // at newAccount, from keyChange on
		kind      string  // of the error; "" for none
		says      string
		pending   bool // both keys stay until the CA can be asked
		changed   bool // the CA has the new key in the end
	}{
		{what: "lost answer", keyChange: both(act, abort), changed: true},
		{what: "503 after the change", keyChange: both(act, down), changed: true},
		{what: "refusal after the change", changed: true, keyChange: both(act, func(rw http.ResponseWriter, _ *http.Request, _ http.Handler) {
			refuse(rw, http.StatusUnauthorized, "unauthorized")
		})},
		{what: "lost request", keyChange: abort, kind: "ca-unreachable"},
		{what: "503", keyChange: down, kind: "ca-error"},
		{what: "403", kind: "ca-refused", says: "so says the test", keyChange: func(rw http.ResponseWriter, _ *http.Request, _ http.Handler) {
			refuse(rw, http.StatusForbidden, "unauthorized")
		}},
		{what: "a success that is none", kind: "ca-error", says: "still knows the old one", keyChange: func(http.ResponseWriter, *http.Request, http.Handler) {}},
		{what: "conflict", kind: "conflict", says: "another account already has it: https://ca.example/acct/7", keyChange: func(rw http.ResponseWriter, _ *http.Request, _ http.Handler) {
			rw.Header().Set("Location", "https://ca.example/acct/7")
			rw.WriteHeader(http.StatusConflict)
		}},
		{what: "the CA goes down after the change", keyChange: both(act, abort), look: down, kind: "ca-error", says: "not known whether", pending: true, changed: true},
		{what: "the CA goes down before the change", keyChange: abort, look: down, kind: "ca-error", says: "not known whether", pending: true},
		{what: "the CA loses the account", keyChange: down, kind: "account", says: "by either key",
			look: func(rw http.ResponseWriter, _ *http.Request, _ http.Handler) {
				refuse(rw, http.StatusBadRequest, "accountDoesNotExist")
			}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Options{CA: ca.Options{SkipValidation: true}})
			w.order(t, nil)
			before := w.account(t)
			w.CA.SetWrap(func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					switch endpoint := ca.EndpointOf(r.URL.Path); {
					case endpoint == ca.KeyChange:
						tt.keyChange(rw, r, next)
					case endpoint == ca.NewAccount && tt.look != nil:
						tt.look(rw, r, next)
					default:
						next.ServeHTTP(rw, r)
					}
				})
			})
			_, err := w.rollOver(t)
			e, ok := errors.AsType[*acme.Error](err)
			if (tt.kind == "") != (err == nil) || err != nil && (!ok || e.Kind() != tt.kind || e.Stage() != "account" || e.Hint() == "" || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("%+v", err)
			}
			between := w.account(t)
			if (between.NextKey != "") != tt.pending || between.URL != before.URL || tt.pending && between.Key != before.Key {
				t.Errorf("pending: %v, the key is as before: %v", between.NextKey != "", between.Key == before.Key)
			}
			if tt.pending {
				if e == nil || !e.Temporary() {
					t.Errorf("not temporary: %v", err)
				}
				if info := w.shown(t); !info.Pending || info.Status != "valid" {
					t.Errorf("shown as %+v", info)
				}
			}
			w.CA.SetWrap(nil)
			if notices, err := w.again(t); err != nil || notices != "" {
				t.Errorf("the next order: %q, %v", notices, err)
			}
			after := w.account(t)
			if changed := after.Key != before.Key; changed != tt.changed || after.NextKey != "" || after.URL != before.URL {
				t.Errorf("changed: %v, %+v", changed, after)
			}
		})
	}
}

// TestRolloverGoesOn: what a killed process began counts.
func TestRolloverGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{CA: ca.Options{SkipValidation: true}})
	w.order(t, nil)
	before := w.account(t)
	if _, err := w.rollOver(t); err != nil {
		t.Fatal(err)
	}
	after := w.account(t)

	killed := after // after the CA's answer, before it was stored
	killed.Key, killed.NextKey = before.Key, after.Key
	if err := state.New(disk.At(w.State)).SaveAccount(killed); err != nil {
		t.Fatal(err)
	}
	w.CA.ResetRequests()
	said, err := w.rollOver(t)
	if got := w.account(t); err != nil || got.Key != after.Key || got.NextKey != "" || w.CA.Count(ca.KeyChange) != 0 {
		t.Errorf("the CA had made it: %v, %d changes, said %s", err, w.CA.Count(ca.KeyChange), said)
	}

	killed = after // before the request
	killed.NextKey = before.Key
	if err := state.New(disk.At(w.State)).SaveAccount(killed); err != nil {
		t.Fatal(err)
	}
	said, err = w.rollOver(t)
	if got := w.account(t); err != nil || got.Key == after.Key || got.Key == before.Key || got.NextKey != "" || w.CA.Count(ca.KeyChange) != 1 {
		t.Errorf("the CA had not made it: %v, %d changes, said %s", err, w.CA.Count(ca.KeyChange), said)
	}
	if notices, err := w.again(t); err != nil || notices != "" {
		t.Errorf("then: %q, %v", notices, err)
	}
}

// TestRolloverWaitsForOrders: challenges are answered with the key, so that it must not change under an order.
func TestRolloverWaitsForOrders(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.order(t, nil)
	before := w.account(t)
	rolled := make(chan error, 1)
	_, err := w.issue(t.Context(), func(r *acme.Request) {
		r.Names = r.Names[:1]
		began := false
		r.Progress = func(stage, message string) {
			if began {
				return
			}
			began = true
			client, _, err := w.client()
			if err != nil {
				t.Error(err)
				return
			}
			waits := make(chan struct{})
			go func() {
				defer client.Close()
				rolled <- client.Registrar(func(_, message string) {
					if strings.Contains(message, "waits for the orders under way") {
						close(waits)
					}
				}, nil).Rollover(t.Context())
			}()
			select {
			case <-waits:
			case err := <-rolled:
				t.Errorf("it did not wait: %v", err)
				rolled <- err
			}
		}
	})
	if err != nil {
		t.Errorf("the order: %v", err)
	}
	if err := <-rolled; err != nil || w.account(t).Key == before.Key {
		t.Errorf("the rollover: %v", err)
	}
}
