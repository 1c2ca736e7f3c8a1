package state_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
