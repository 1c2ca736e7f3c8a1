package acme_test

import (
	"crypto/tls"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-acme/lego/v4/acme/api"

	"mxcert/acme"
	"mxcert/acme/account"
	"mxcert/acme/bundle"
	"mxcert/acme/state"
	"mxcert/acme/state/disk"
	"mxcert/cmd/mxcert-lab/ca"
	"mxcert/cmd/mxcert-lab/lab"
)

// core speaks to the CA beside mxcert, as the stored account.
func (w *world) core(t *testing.T) (*api.Core, state.Account) {
	t.Helper()
	account := w.account(t)
	key, err := bundle.ParseKey([]byte(account.Key))
	if err != nil {
		t.Fatal(err)
	}
	roots, err := pool(w.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	core, err := api.New(&http.Client{Transport: transport}, "test", w.setup.Directory, account.URL, key)
	if err != nil {
		t.Fatal(err)
	}
	return core, account
}

// again orders once more; what is said to the operator comes back.
func (w *world) again(t *testing.T) (notices string, err error) {
	t.Helper()
	if err := w.lineage(t).DropOrder("ec256"); err != nil {
		t.Fatal(err)
	}
	progress := &tape{}
	_, err = w.issue(t.Context(), func(r *acme.Request) {
		r.Urgent, r.Notice = true, func(text string) { progress.say("notice", text) }
	})
	return strings.Join(progress.lines, "\n"), err
}

func mustHave(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s: %q lacks %q", what, text, part)
		}
	}
}

// TestLostAccount: the CA does not know the account by its URL. Whatever became of it, both URLs are named, because CAA
// may pin the old one.
func TestLostAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{CA: ca.Options{SkipValidation: true}})
	w.order(t, nil)
	before := w.account(t)

	// The CA has it under another URL: the same account.
	moved := before
	moved.URL = strings.TrimSuffix(before.URL, "/"+filepath.Base(before.URL)) + "/none"
	if err := state.New(disk.At(w.State)).SaveAccount(moved); err != nil {
		t.Fatal(err)
	}
	notices, err := w.again(t)
	if err != nil {
		t.Fatal(err)
	}
	if after := w.account(t); after.Key != before.Key || after.URL != before.URL || len(after.Former) != 1 || after.Former[0].URL != moved.URL {
		t.Errorf("moved: %+v", after)
	}
	mustHave(t, "moved", notices, "no longer knows account "+moved.URL, "the same account is now "+before.URL, "accounturi", "replace "+moved.URL+" by "+before.URL)

	// The CA has lost it, key and all: the same key is registered again.
	key, err := bundle.EC256.Generate()
	if err != nil {
		t.Fatal(err)
	}
	text, err := bundle.MarshalKey(key)
	if err != nil {
		t.Fatal(err)
	}
	lost := moved
	lost.Key, lost.Former = string(text), nil
	if err := state.New(disk.At(w.State)).SaveAccount(lost); err != nil {
		t.Fatal(err)
	}
	notices, err = w.again(t)
	if err != nil {
		t.Fatal(err)
	}
	after := w.account(t)
	if after.Key != lost.Key || after.URL == lost.URL || after.URL == before.URL || len(after.Former) != 1 || after.Former[0].URL != lost.URL {
		t.Errorf("lost: %+v", after)
	}
	mustHave(t, "lost", notices, "no longer knows account "+lost.URL, "the same key was registered again as "+after.URL, "replace "+lost.URL+" by "+after.URL)
	if notices, err = w.again(t); err != nil || notices != "" {
		t.Errorf("it is said twice: %q, %v", notices, err)
	}

	// A CA that contradicts itself gets no second account: it does not know the URL, and gives it for the key.
	w.CA.SetWrap(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if ca.EndpointOf(r.URL.Path) == ca.NewOrder {
				rw.WriteHeader(http.StatusBadRequest)
				_, _ = rw.Write([]byte(`{"type":"urn:ietf:params:acme:error:accountDoesNotExist","detail":"no"}`))
				return
			}
			next.ServeHTTP(rw, r)
		})
	})
	_, err = w.again(t)
	if e, ok := errors.AsType[*acme.Error](err); !ok || !e.Temporary() || !strings.Contains(e.Error(), "contradicts itself") {
		t.Errorf("a CA that contradicts itself: %v", err)
	}
	if got := w.account(t); got.URL != after.URL || len(got.Former) != 1 {
		t.Errorf("then: %+v", got)
	}
}

// TestEndedAccount: somebody deactivated it. No other account takes its place until a person wants that.
func TestEndedAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{CA: ca.Options{SkipValidation: true}})
	w.order(t, nil)
	core, before := w.core(t)
	if err := core.Accounts.Deactivate(before.URL); err != nil {
		t.Fatal(err)
	}
	w.CA.ResetRequests()
	unusable := func(what string, err error) {
		t.Helper()
		e, ok := errors.AsType[*acme.Error](err)
		if !ok || e.Kind() != "account" || e.Stage() != "account" || e.Temporary() {
			t.Errorf("%s: %v", what, err)
			return
		}
		mustHave(t, what, e.Error()+" "+e.Hint(), before.URL, "deactivated", "account register --replace")
	}
	_, err := w.again(t)
	unusable("an order", err)
	if info := w.shown(t); info.Status != account.StatusRefused || !info.Asked || info.Err == nil {
		t.Errorf("shown as %+v", info)
	}
	client, _, err := w.client()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, err = client.Registrar(nil, nil).Register(t.Context(), false)
	unusable("register", err)
	if after := w.account(t); after.URL != before.URL || after.Key != before.Key || w.CA.Count(ca.NewAccount) != 0 {
		t.Errorf("it was replaced: %+v, %d requests for an account", after, w.CA.Count(ca.NewAccount))
	}

	// Its URL is lost here, and its key is not.
	half := before
	half.URL = ""
	if err := state.New(disk.At(w.State)).SaveAccount(half); err != nil {
		t.Fatal(err)
	}
	if _, err := w.again(t); err == nil || w.account(t).URL != "" {
		t.Errorf("an ended account without its URL: %v", err)
	}
	if err := state.New(disk.At(w.State)).SaveAccount(before); err != nil {
		t.Fatal(err)
	}

	notices := &tape{}
	changed, err := client.Registrar(nil, func(text string) { notices.say("notice", text) }).Register(t.Context(), true)
	if err != nil || !changed {
		t.Fatalf("replace: %v, %v", changed, err)
	}
	after := w.account(t)
	if after.Key == before.Key || after.URL == before.URL || len(after.Former) != 1 || after.Former[0].URL != before.URL {
		t.Errorf("replaced by %+v", after)
	}
	mustHave(t, "replace", strings.Join(notices.lines, "\n"), after.URL, before.URL, "accounturi")
	kept, err := filepath.Glob(filepath.Join(w.State, "accounts", "*", "account.json.former-*"))
	if err != nil || len(kept) != 1 {
		t.Errorf("kept: %v, %v", kept, err)
	}
	if notices, err := w.again(t); err != nil || notices != "" {
		t.Errorf("an order with the new account: %q, %v", notices, err)
	}
}

// TestDamagedAccount: a broken file does not end the renewals. The account is found by its key where that can be read.
func TestDamagedAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{CA: ca.Options{SkipValidation: true}})
	w.Settings.Account.Email = "postmaster@example.org"
	w.order(t, nil)
	before := w.account(t)
	paths, err := filepath.Glob(filepath.Join(w.State, "accounts", "*", "account.json"))
	if err != nil || len(paths) != 1 {
		t.Fatal(paths, err)
	}
	whole, err := os.ReadFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	damage := func(text string) {
		t.Helper()
		if err := os.WriteFile(paths[0], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	damage(string(whole[:len(whole)-2]))
	if info := w.shown(t); info.Status != account.StatusDamaged || info.Err == nil {
		t.Errorf("shown as %+v", info)
	}
	notices, err := w.again(t)
	if after := w.account(t); err != nil || after.Key != before.Key || after.URL != before.URL || after.Email != before.Email {
		t.Errorf("with its key: %+v, %v", after, err)
	}
	mustHave(t, "with its key", notices, "was damaged", "found the account of that key: "+before.URL)

	damage(`{ half of "url": "` + before.URL + `"`)
	notices, err = w.again(t)
	after := w.account(t)
	if err != nil || after.Key == before.Key || after.URL == before.URL || len(after.Former) != 1 || after.Former[0].URL != before.URL {
		t.Errorf("without its key: %+v, %v", after, err)
	}
	mustHave(t, "without its key", notices, "account.json: the file is damaged", "mxcert registers a new account", "backup", "accounturi")
	if text, err := os.ReadFile(paths[0] + ".damaged"); err != nil || !strings.HasPrefix(string(text), "{ half") {
		t.Errorf("it is not kept: %q, %v", text, err)
	}

	bad := w.account(t)
	bad.Key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
	if err := state.New(disk.At(w.State)).SaveAccount(bad); err != nil {
		t.Fatal(err)
	}
	_, err = w.again(t)
	if e, ok := errors.AsType[*acme.Error](err); !ok || e.Kind() != "account" || !strings.Contains(e.Hint(), "backup") {
		t.Errorf("a key that cannot be read: %v", err)
	}
}

// TestMissingAccount: certificates are there, the account that they came from is not.
func TestMissingAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{CA: ca.Options{SkipValidation: true}})
	notices, err := w.again(t)
	if err != nil || notices != "" {
		t.Errorf("the first account of all: %q, %v", notices, err)
	}
	issued := w.order(t, func(r *acme.Request) { r.Urgent = true })
	if _, err := w.lineage(t).Add(issued.Bundle, w.Names, issued.Directory, issued.Order, time.Now()); err != nil {
		t.Fatal(err)
	}
	before := w.account(t)
	if err := os.RemoveAll(filepath.Join(w.State, "accounts")); err != nil {
		t.Fatal(err)
	}
	if info := w.shown(t); info.Status != account.StatusNone {
		t.Errorf("shown as %+v", info)
	}
	notices, err = w.again(t)
	if after := w.account(t); err != nil || after.URL == before.URL || len(after.Former) != 1 {
		t.Errorf("then: %+v, %v", after, err)
	}
	mustHave(t, "missing", notices, "the account that ordered them is not", "mxcert registers a new account", "backup", "accounturi")
	if notices, err = w.again(t); err != nil || notices != "" {
		t.Errorf("it is said twice: %q, %v", notices, err)
	}
}
