package state_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/acme/state"
)

// TestAccountsDoNotMeet: URLs that look alike have a directory each, and a person still finds the CA in its name.
func TestAccountsDoNotMeet(t *testing.T) {
	dir := open(t)
	alike := []string{
		"https://ca.example/a/b", "https://ca.example/a_b", "https://ca.example/a/b/", "http://ca.example/a/b", "https://ca.example/a%2Fb",
		"https://ca.example/a:b", "https://ca.example:443/a/b", "https://ca.example/a/b?x", "https://ca.example_a/b", "https://.ca.example/a/b",
		"https://ca.example/" + strings.Repeat("long/", 60) + "1", "https://ca.example/" + strings.Repeat("long/", 60) + "2", "",
	}
	for i, d := range alike {
		if err := dir.SaveAccount(state.Account{Directory: d, Key: d, Created: time.Unix(int64(i), 0)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range alike {
		if got, ok, err := dir.Account(d); err != nil || !ok || got.Directory != d || got.Key != d {
			t.Errorf("%.80s: %+v, %v, %v", d, got, ok, err)
		}
	}
	accounts, err := dir.Accounts()
	if err != nil || len(accounts) != len(alike) {
		t.Errorf("%d accounts, %v", len(accounts), err)
	}
	entries, err := os.ReadDir(filepath.Join(dir.Path(), "accounts"))
	if err != nil {
		t.Fatal(err)
	}
	plain := 0
	for _, e := range entries {
		if e.Name() == "ca.example_a_b" {
			plain++
		} else if !strings.Contains(e.Name(), "~") || len(e.Name()) > 150 {
			t.Errorf("name %q", e.Name())
		}
	}
	if plain != 1 {
		t.Error("the plain URL has no plain name")
	}
}

// TestAccountsOfEarlierVersions: what they stored under names that two CAs could share is found, and gets its own name
// when the store is opened for writing. What is not of the CA that is asked for stays out of its way.
func TestAccountsOfEarlierVersions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	const mine, other = "https://127.0.0.1:14000/dir", "https://127.0.0.1/14000/dir"
	account := write(t, `{"version":1,"directory":"`+mine+`","url":"u","key":"k"}`, makeDir(t, path, "accounts", "127.0.0.1_14000_dir"), "account.json")
	write(t, `{"version":1,"breaker":{"failures":3}}`, filepath.Dir(account), "usage.json")
	viewed := state.At(path)
	if got, ok, err := viewed.Account(mine); err != nil || !ok || got.URL != "u" {
		t.Errorf("by a reader: %+v, %v, %v", got, ok, err)
	}
	if usage, err := viewed.Usage(mine); err != nil || usage.Breaker.Failures != 3 {
		t.Errorf("by a reader: %+v, %v", usage, err)
	}
	if _, err := os.Stat(account); err != nil {
		t.Error("a reader moved it")
	}
	if got, ok, err := viewed.Account(other); ok || err == nil || !strings.Contains(err.Error(), mine) {
		t.Errorf("another CA got the account: %+v, %v", got, err)
	}
	dir, err := state.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok, err := dir.Account(mine); err != nil || !ok || got.URL != "u" {
		t.Errorf("after the move: %+v, %v, %v", got, ok, err)
	}
	if usage, err := dir.Usage(mine); err != nil || usage.Breaker.Failures != 3 {
		t.Errorf("after the move: %+v, %v", usage, err)
	}
	if _, err := os.Stat(account); err == nil {
		t.Error("it was not moved")
	}
	if _, ok, err := dir.Account(other); ok || err != nil {
		t.Errorf("another CA, whose plain name was taken: %v, %v", ok, err)
	}
	if err := dir.SaveAccount(state.Account{Directory: other, Key: "o"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if dir, err = state.Open(path); err != nil {
			t.Fatal(err)
		}
	}
	if got, ok, err := dir.Account(other); err != nil || !ok || got.Key != "o" {
		t.Errorf("another CA: %+v, %v, %v", got, ok, err)
	}
	if got, ok, err := dir.Account(mine); err != nil || !ok || got.Key != "k" {
		t.Errorf("the first: %+v, %v, %v", got, ok, err)
	}
}

// TestSalvagedAccount: a key that can be read in a damaged file is the account.
func TestSalvagedAccount(t *testing.T) {
	dir := open(t)
	signer, err := bundle.EC256.Generate()
	if err != nil {
		t.Fatal(err)
	}
	text, err := bundle.MarshalKey(signer)
	if err != nil {
		t.Fatal(err)
	}
	key := string(text)
	const ca = "https://ca.example/dir"
	if err := dir.SaveAccount(state.Account{Directory: ca, Email: "a@example.org", URL: "https://ca.example/acct/1", Key: key}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir.Path(), "accounts", "ca.example_dir", "account.json")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	end := strings.Index(string(whole), "-----END") + len("-----END PRIVATE KEY-----")
	for _, tt := range []struct {
		what, text string
		key, url   bool
	}{
		{"without its end", string(whole[:end]), true, true},
		{"the key is cut", string(whole[:end-30]), false, true},
		{"the URL is gone", strings.Replace(string(whole), `"url"`, `"uuu`, 1), true, false},
		{"empty", "", false, false},
		{"zeros", strings.Repeat("\x00", len(whole)), false, false},
		{"the key's letters are changed", strings.Replace(string(whole), "MIG", "XXX", 1) + "}", false, true},
	} {
		write(t, tt.text, path)
		got := dir.SalvageAccount(ca)
		if (got.Key == key) != tt.key || (got.Key != "") != tt.key || (got.URL == "https://ca.example/acct/1") != tt.url || got.Directory != ca {
			t.Errorf("%s: %+v", tt.what, got)
		}
	}
	// A process died after it had set the damaged file aside.
	write(t, string(whole[:end]), path+".damaged")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := dir.SalvageAccount(ca); got.Key != key {
		t.Errorf("set aside: %+v", got)
	}
	if got := dir.SalvageAccount("https://none.example/dir"); got.Key != "" || got.URL != "" {
		t.Errorf("there is none: %+v", got)
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

func makeDir(t *testing.T, elements ...string) string {
	t.Helper()
	path := filepath.Join(elements...)
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}
