package state_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

func TestAccountsOfSeveralCAs(t *testing.T) {
	dir := open(t)
	directories := []string{"https://acme-v02.api.letsencrypt.org/directory", "https://127.0.0.1:14000/dir", "https://ca.example/../../etc", "not a URL", "https://[::1]:1/"}
	for i, d := range directories {
		if _, ok, err := dir.Account(d); ok || err != nil {
			t.Fatalf("%s: there is one: %v", d, err)
		}
		if err := dir.SaveAccount(state.Account{Directory: d, Email: "a@example.org", URL: d + "/acct", Key: "key", Created: time.Unix(int64(i), 0).UTC()}); err != nil {
			t.Fatal(err)
		}
	}
	for i, d := range directories {
		got, ok, err := dir.Account(d)
		if want := (state.Account{Version: 1, Directory: d, Email: "a@example.org", URL: d + "/acct", Key: "key", Created: time.Unix(int64(i), 0).UTC()}); err != nil || !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v, %v", d, got, ok, err)
		}
	}
	if entries, err := os.ReadDir(filepath.Join(dir.Path(), "accounts")); err != nil || len(entries) != len(directories) {
		t.Errorf("%v, %v", entries, err)
	}
}

// TestDamagedAccountIsSetAside: the key may still be of use to somebody.
func TestDamagedAccountIsSetAside(t *testing.T) {
	dir := open(t)
	account := state.Account{Directory: "https://ca.example/dir", Key: "key"}
	if err := dir.SaveAccount(account); err != nil {
		t.Fatal(err)
	}
	path := write(t, "{ damaged", dir.Path(), "accounts", "ca.example_dir", "account.json")
	if _, ok, err := dir.Account(account.Directory); ok || !errors.Is(err, state.ErrDamaged) || !strings.Contains(err.Error(), path) {
		t.Fatalf("%v, %v", ok, err)
	}
	if err := dir.SaveAccount(account); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path + ".damaged"); err != nil || string(text) != "{ damaged" {
		t.Errorf("set aside: %q, %v", text, err)
	}
	if _, ok, err := dir.Account(account.Directory); !ok || err != nil {
		t.Errorf("then: %v, %v", ok, err)
	}
	if err := dir.SaveAccount(account); err != nil { // a good one is just replaced
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path + ".damaged"); err != nil || string(text) != "{ damaged" {
		t.Errorf("set aside: %q, %v", text, err)
	}
}

func TestOrderRoundtrip(t *testing.T) {
	dir := open(t)
	l := dir.Lineage("mx")
	order := state.Order{URL: "https://ca.example/o/1", Directory: "d", Account: "a", Names: []string{"mx.example.org"}, KeyType: bundle.RSA2048, Key: "k", Fresh: true, Profile: "p", Created: time.Unix(1, 0).UTC()}
	if err := l.SaveOrder(order); err != nil {
		t.Fatal(err)
	}
	order.Version = 1
	if got, ok, err := l.Order(bundle.RSA2048); err != nil || !ok || !reflect.DeepEqual(got, order) {
		t.Errorf("%+v, %v, %v", got, ok, err)
	}
	if _, ok, err := l.Order(bundle.EC256); err != nil || ok {
		t.Errorf("another key type has an order: %v", err)
	}
	if _, ok, err := dir.Lineage("mx.rsa2048").Order(bundle.RSA2048); err != nil || ok {
		t.Errorf("another lineage has an order: %v", err)
	}
	write(t, `{"version":1,"names":`, dir.Path(), "orders", "mx.rsa2048.json")
	if got, ok, err := l.Order(bundle.RSA2048); err != nil || ok || got.URL != "" {
		t.Errorf("damaged: %+v, %v, %v", got, ok, err)
	}
	for range 2 {
		if err := l.DropOrder(bundle.RSA2048); err != nil {
			t.Error(err)
		}
	}
	if _, ok, _ := l.Order(bundle.RSA2048); ok {
		t.Error("it is still there")
	}
}

func TestDaemonNotes(t *testing.T) {
	dir := open(t)
	if err := dir.SaveDaemon(map[string]int{"pid": 7}); err != nil {
		t.Fatal(err)
	}
	var got map[string]int
	if err := dir.Daemon(&got); err != nil || got["pid"] != 7 {
		t.Errorf("%v, %v", got, err)
	}
	if err := dir.SaveRunningConfig([]byte("acme: {}\n")); err != nil {
		t.Fatal(err)
	}
	if name, text, err := dir.RunningConfig(); err != nil || string(text) != "acme: {}\n" || name != filepath.Join(dir.Path(), "running.yaml") {
		t.Errorf("%s: %q, %v", name, text, err)
	}
}

// TestAccountThatWasMoved: a CA does not get the account of another, whose record somebody has put in its folder.
func TestAccountThatWasMoved(t *testing.T) {
	dir := open(t)
	const mine, other = "https://ca.example/dir", "https://other.example/dir"
	if err := dir.SaveAccount(state.Account{Directory: mine, Key: "k"}); err != nil {
		t.Fatal(err)
	}
	accounts := filepath.Join(dir.Path(), "accounts")
	if err := os.Rename(filepath.Join(accounts, "ca.example_dir"), filepath.Join(accounts, "other.example_dir")); err != nil {
		t.Fatal(err)
	}
	if got, ok, err := dir.Account(other); ok || err == nil || !strings.Contains(err.Error(), mine) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, ok, err := dir.Account(mine); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}

func TestRetiredAccount(t *testing.T) {
	dir := open(t)
	const ca = "https://ca.example/dir"
	if _, err := dir.RetireAccount(ca, time.Now()); err == nil {
		t.Error("there was nothing to set aside")
	}
	for _, key := range []string{"one", "two"} {
		if err := dir.SaveAccount(state.Account{Directory: ca, Key: key}); err != nil {
			t.Fatal(err)
		}
		kept, err := dir.RetireAccount(ca, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(kept); err != nil || !strings.Contains(string(text), key) {
			t.Errorf("%s: %s, %v", key, text, err)
		}
		if _, ok, err := dir.Account(ca); ok || err != nil {
			t.Errorf("%s is still there: %v", key, err)
		}
	}
}

// TestAccountLock: many use an account; who changes its key is alone.
func TestAccountLock(t *testing.T) {
	dir := open(t)
	const ca = "https://ca.example:8443/dir"
	soon := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	one, err := dir.ShareAccount(t.Context(), ca)
	if err != nil {
		t.Fatal(err)
	}
	two, err := dir.ShareAccount(soon(), ca)
	if err != nil {
		t.Fatalf("a second user: %v", err)
	}
	one()
	if _, err := dir.HoldAccount(soon(), ca); !errors.Is(err, state.ErrLocked) {
		t.Errorf("beside a user: %v", err)
	}
	two()
	alone, err := dir.HoldAccount(soon(), ca)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dir.ShareAccount(soon(), ca); !errors.Is(err, state.ErrLocked) {
		t.Errorf("a user beside: %v", err)
	}
	if other, err := dir.ShareAccount(soon(), "https://ca.example/dir"); err != nil {
		t.Errorf("another CA: %v", err)
	} else {
		other()
	}
	alone()
	if again, err := dir.ShareAccount(soon(), ca); err != nil {
		t.Errorf("afterwards: %v", err)
	} else {
		again()
	}
}

func TestHasIssued(t *testing.T) {
	dir := open(t)
	if dir.HasIssued("https://ca.example/dir") {
		t.Error("nothing was issued")
	}
	l := dir.Lineage("mx")
	unlock, err := l.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	add(t, l, newBundle(t, "ec256", 1), 1)
	if !dir.HasIssued("https://ca.example/dir") || dir.HasIssued("https://ca.example/other") {
		t.Error("a stored certificate is not seen, or is taken for another CA's")
	}
}
